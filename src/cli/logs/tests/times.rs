//! Lines by the time they were written.

use super::*;
use crate::logs::query::DISORDER_MICROS;

/// Ten o'clock on a day in November.
const TEN: u64 = 1_795_514_400_000_000;
const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;

/// A home in which `api:0` wrote a line at 10:00, 10:01, … over three files with an index, the
/// oldest packed.
fn hourly(how: Option<Compression>) -> Home {
    let home = Home::new();
    for file in 0..3 {
        let mut entries = Vec::new();
        for line in 0..20 {
            let number = file * 20 + line;
            home.append("api-0-out.log", &format!("line {number:03}\n"));
            entries.push((line * 9, TEN + number * MINUTE));
        }
        home.dated("api-0-out.log", &entries);
        if file < 2 {
            home.rotate("api-0-out.log");
        }
    }
    if let Some(how) = how {
        home.pack("api-0-out.log", 2, how);
    }
    home
}

fn lines(range: std::ops::Range<u64>) -> String {
    range.map(|number| format!("line {number:03}\n")).collect::<Vec<_>>().concat()
}

fn between(since: u64, until: u64, lines: Lines) -> Options<'static> {
    Options { window: Window { since, until }, lines, ..last(0) }
}

#[test]
fn a_window_is_exact_where_an_index_is() {
    for how in [None, Some(Compression::Gzip), Some(Compression::Zstd)] {
        let home = hourly(how);
        for (since, until) in [(0, 60), (5, 6), (19, 21), (20, 40), (41, 59), (59, 60), (30, 30)] {
            let window = (TEN + since * MINUTE, TEN + until * MINUTE);
            check(&home, &between(window.0, window.1, Lines::All), &lines(since..until));
            for count in [0, 1, 15, 25, 99] {
                let from = since.max(until.saturating_sub(count));
                let asked = between(window.0, window.1, Lines::Last(count));
                check(&home, &asked, &lines(from..until));
            }
        }
        let since = between(TEN + 7 * MINUTE + 1, u64::MAX, Lines::All);
        check(&home, &since, &lines(8..60));
        check(&home, &between(0, TEN, Lines::All), "");
        check(&home, &between(TEN + 60 * MINUTE, u64::MAX, Lines::All), "");
    }
}

#[test]
fn lines_that_tell_their_time_need_no_index() {
    let home = Home::new();
    let mut face = Face::utc();
    let mut all = Vec::new();
    for number in 0..5000 {
        let mut line = Vec::new();
        face.write(TEN + number * SECOND, &mut line);
        line.extend_from_slice(format!(" line {number}\n").as_bytes());
        home.append("api-0-out.log", std::str::from_utf8(&line).unwrap());
        all.push(String::from_utf8(line).unwrap());
        if number == 2000 {
            home.rotate("api-0-out.log");
        }
    }
    for (since, until) in [(0, 5000), (1990, 2010), (2001, 2001), (4000, 4001), (0, 10)] {
        let asked = between(TEN + since * SECOND, TEN + until * SECOND, Lines::All);
        let range = usize::try_from(since).unwrap()..usize::try_from(until).unwrap();
        check(&home, &asked, &all[range.clone()].concat());
        let three = Options { lines: Lines::Last(3), ..asked };
        check(
            &home,
            &three,
            &all[range.end.saturating_sub(3).max(range.start)..range.end].concat(),
        );
    }
    let timed = Options { shape: text(Label::Hidden, Some(Face::utc())), ..last(2) };
    check(&home, &timed, &all[4998..].concat());
}

#[test]
fn times_in_disorder_are_all_found() {
    let home = Home::new();
    let mut face = Face::utc();
    let mut expected = String::new();
    for number in 0..2000_u64 {
        // The clock goes back by up to half of what is allowed for.
        let back = number * 7919 % (DISORDER_MICROS / 2);
        let at = TEN + number * SECOND - back;
        let mut line = Vec::new();
        face.write(at, &mut line);
        line.extend_from_slice(b" x\n");
        let line = String::from_utf8(line).unwrap();
        let at = at / 1000 * 1000;
        if (TEN + 500 * SECOND..TEN + 1500 * SECOND).contains(&at) {
            expected.push_str(&line);
        }
        home.append("api-0-out.log", &line);
    }
    check(&home, &between(TEN + 500 * SECOND, TEN + 1500 * SECOND, Lines::All), &expected);
}

#[test]
fn workers_are_merged_in_the_order_they_wrote() {
    let home = Home::new();
    for worker in 0..4_u64 {
        let name = format!("api-{worker}-out.log");
        let mut entries = Vec::new();
        for line in 0..50 {
            home.append(&name, &format!("{:03}\n", line * 4 + (worker * 3) % 4));
            entries.push((line * 4, TEN + line * 40_000 + (worker * 3) % 4 * 10_000));
        }
        home.dated(&name, &entries);
    }
    let hidden = Options { shape: text(Label::Hidden, None), ..last(u64::MAX) };
    let expected = (0..200).map(|number| format!("{number:03}\n")).collect::<Vec<_>>().concat();
    check(&home, &hidden, &expected);
    let few = Options { shape: text(Label::Shown, None), ..last(1) };
    check(&home, &few, "api:0 │ 196\napi:3 │ 197\napi:2 │ 198\napi:1 │ 199\n");
}

#[test]
fn a_time_that_was_not_kept_is_not_made_up() {
    let home = Home::new();
    home.write("api-0-out.log", "before\nafter\n");
    home.dated("api-0-out.log", &[(7, TEN)]);
    let timed = Options { shape: text(Label::Hidden, Some(Face::utc())), ..last(9) };
    let expected = "-                        before\n2026-11-24T10:00:00.000Z after\n";
    check(&home, &timed, expected);
    // What is known of it: it was earlier than the first time that is.
    check(&home, &between(TEN, TEN + 1, Lines::All), "after\n");
    check(&home, &between(0, TEN, Lines::All), "before\n");
    check(&home, &between(TEN + 1, u64::MAX, Lines::All), "");
}

#[test]
fn a_follower_ends_when_its_time_is_over() {
    let home = Home::new();
    home.write("api-0-out.log", "line\n");
    let until = unix_micros() + SECOND / 2;
    let window = Window { since: 0, until };
    let mut follower = Follower::start(&home, Options { window, ..labelled(9) });
    follower.expect("api:0 │ line\n");
    follower.expect("");
    follower.hang_up();
}
