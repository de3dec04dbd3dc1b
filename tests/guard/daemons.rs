//! Daemons that are killed, signalled, or never come up.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use bunpilot::{
    domain::{Pid, Signal},
    guard::{Grip, strays},
    platform::sys::{kill, monotonic_now},
};

use crate::{
    house::{Folder, alive, guard_argv},
    roles::RECORDED,
};

/// A guard in the foreground; a failed test leaves nothing of it behind.
struct Guard<'a> {
    home: &'a Folder,
    process: Child,
}

impl Guard<'_> {
    fn pid(&self) -> Pid {
        Pid(i32::try_from(self.process.id()).unwrap())
    }

    fn code(&mut self) -> Option<i32> {
        self.process.wait().unwrap().code()
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.process.kill());
            for stray in strays(&self.home.0) {
                drop(kill(stray.life.pid, Signal::KILL));
            }
        }
    }
}

fn start<'a>(home: &'a Folder, grip: Grip, role: &str) -> (Guard<'a>, BufReader<ChildStdout>) {
    let argv = guard_argv(&home.0, grip, role);
    let mut guard = Command::new(&argv[0]);
    let guard = guard.args(&argv[1..]).arg("foreground").stdout(Stdio::piped());
    let mut guard = guard.stderr(Stdio::null()).spawn().unwrap();
    let output = BufReader::new(guard.stdout.take().unwrap());
    (Guard { home, process: guard }, output)
}

/// The next line a daemon says: a word and its pid.
fn hear(output: &mut BufReader<ChildStdout>) -> (String, Pid) {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let (word, pid) = line.trim_end().split_once(' ').unwrap_or_else(|| panic!("{line:?}"));
    (word.to_owned(), Pid(pid.parse().unwrap()))
}

pub(crate) fn fifty_kills_of_the_daemon() {
    for grip in [Grip::Best, Grip::Session] {
        kills_of_the_daemon(grip);
    }
}

fn kills_of_the_daemon(grip: Grip) {
    let home = Folder::new();
    let (mut guard, mut output) = start(&home, grip, "as-recorder");
    let mut back = Vec::new();
    let mut kills = 0_u64;
    let (mut word, mut daemon) = hear(&mut output);
    while word == "ready" {
        if kills < 50 {
            // its workers must exist, or there is nothing to lose
            crate::house::until("all workers exist", || pids(&home).len() == RECORDED);
            // a different moment each time: when the files have grown by another amount
            let size = written(&home);
            let more = kills * 9_770 % 50_000;
            crate::house::until("more was written", || {
                written(&home) >= size + more || !alive(daemon.0)
            });
            let begin = monotonic_now();
            kill(daemon, Signal::KILL).unwrap();
            kills += 1;
            (word, daemon) = hear(&mut output);
            back.push(monotonic_now() - begin);
        } else {
            fs::write(home.0.join("stop"), "").unwrap();
            (word, daemon) = hear(&mut output);
        }
    }
    assert_eq!(word, "done");
    assert_eq!(guard.code(), Some(0));
    let mut lines = 0;
    for n in 0..RECORDED {
        let text = fs::read_to_string(home.0.join(format!("w{n}.out"))).unwrap();
        let (numbers, end) = text.rsplit_once("end ").unwrap();
        let wrong = numbers.lines().zip(0_u64..).find(|(line, n)| *line != n.to_string());
        assert_eq!(wrong, None, "a line of w{n} is lost, torn or doubled");
        lines += numbers.lines().count();
        assert_eq!(end, format!("{}\n", numbers.lines().count()));
    }
    assert_eq!(pids(&home).len(), RECORDED, "a worker was started twice: {:?}", pids(&home));
    let exits = fs::read_to_string(home.0.join("exits")).unwrap();
    let exits: BTreeSet<_> = exits.lines().collect();
    let expected: BTreeSet<_> = (0..RECORDED).map(|n| format!("w{n} Code(7)")).collect();
    assert_eq!(exits, expected.iter().map(String::as_str).collect());
    back.sort_unstable();
    let (median, worst) = (back[back.len() / 2], back[back.len() - 1]);
    crate::say(&format!(
        "{grip:?}: {kills} kills in {lines} lines; a new daemon had the inventory after {median:?}, at worst {worst:?}"
    ));
    assert!(median < Duration::from_millis(500));
}

/// Every pid each worker was ever seen with; one entry per (label, pid).
fn pids(home: &Folder) -> BTreeSet<(String, String)> {
    let text = fs::read_to_string(home.0.join("pids")).unwrap_or_default();
    let pair = |line: &str| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
    text.lines().filter_map(pair).collect()
}

fn written(home: &Folder) -> u64 {
    let size = |n| fs::metadata(home.0.join(format!("w{n}.out"))).map_or(0, |file| file.len());
    (0..RECORDED).map(size).sum()
}

/// What a daemon ordered with its last breath is done, though its guard read it only later.
pub(crate) fn last_words_are_obeyed() {
    let home = Folder::new();
    let (mut guard, mut output) = start(&home, Grip::Best, "as-speaker");
    let (word, daemon) = hear(&mut output);
    assert_eq!(word, "said");
    crate::house::until("it is dead", || !alive(daemon.0));
    kill(guard.pid(), Signal(libc::SIGCONT)).unwrap();
    let (word, second) = hear(&mut output);
    assert_eq!((&*word, second == daemon), ("heard", false));
    assert_eq!(guard.code(), Some(0));
}

pub(crate) fn signals_reach_the_daemon() {
    let home = Folder::new();
    let (mut guard, mut output) = start(&home, Grip::Best, "as-waiter");
    assert_eq!(hear(&mut output).0, "ready");
    kill(guard.pid(), Signal::TERM).unwrap();
    assert_eq!(guard.code(), Some(5));
    // a signal that comes too early waits for a daemon that can take it
    let (mut guard, _output) = start(&home, Grip::Best, "as-waiter");
    let pid = guard.pid();
    let blocked = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("SigBlk:") && !line.ends_with("00000000"))
    };
    crate::house::until("the guard takes signals", blocked);
    kill(pid, Signal::TERM).unwrap();
    assert_eq!(guard.code(), Some(5));
}

pub(crate) fn a_daemon_that_cannot_start_ends_the_guard() {
    let home = Folder::new();
    let (mut guard, _output) = start(&home, Grip::Best, "as-failure");
    assert_eq!(guard.code(), Some(33));
}
