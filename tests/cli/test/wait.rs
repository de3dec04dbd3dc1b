//! Waiting for facts. The only clock and the only sleep of the tests are here.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Longest wait for anything: far beyond what a loaded machine needs, short of what a
/// person waits for.
const WAIT_MAX: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// Asks again and again until `fact` has an answer; panics with `what` if it never has.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, fact: impl FnMut() -> Option<T>) -> T {
    match poll(WAIT_MAX, fact) {
        Some(answer) => answer,
        None => panic!("waited {WAIT_MAX:?} in vain for {what}"),
    }
}

/// Asks again and again until `fact` has an answer or `limit` is over.
pub(super) fn poll<T>(limit: Duration, mut fact: impl FnMut() -> Option<T>) -> Option<T> {
    let since = now();
    while since.elapsed() < limit {
        let answer = fact();
        if answer.is_some() {
            return answer;
        }
        pause();
    }
    None
}

/// Asserts that `fact` stays true for `time`: the way to see that something does *not* happen.
#[track_caller]
pub(crate) fn holds_for(time: Duration, what: &str, mut fact: impl FnMut() -> bool) {
    let since = now();
    while since.elapsed() < time {
        assert!(fact(), "after {:?} no longer: {what}", since.elapsed());
        pause();
    }
}

/// How long something took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

#[expect(clippy::disallowed_methods, reason = "real programs live in real time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "polls a fact; nothing depends on its length")]
pub(super) fn pause() {
    thread::sleep(PAUSE);
}

#[expect(clippy::disallowed_methods, reason = "a client rests; nothing depends on its length")]
pub(super) fn rest(time: Duration) {
    if !time.is_zero() {
        thread::sleep(time);
    }
}

#[test]
fn holds_for_sees_a_change() {
    let mut asked = 0;
    let broken = std::panic::catch_unwind(move || {
        holds_for(Duration::from_secs(5), "fewer than three", || {
            asked += 1;
            asked < 3
        });
    });
    assert!(broken.is_err());
}
