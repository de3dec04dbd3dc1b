//! Whether a crashed worker comes back, and when.

use std::{collections::VecDeque, time::Duration};

use crate::domain::{Moment, Restart};

/// The crashes one place has seen.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Crashes within the window, oldest first. Never longer than `max_restarts + 1`.
    recent: VecDeque<Moment>,
    in_a_row: u32,
}

/// What to do after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    ComeBack(Moment),
    GiveUp,
}

impl History {
    /// Takes up what an earlier daemon wrote down.
    pub(super) fn resume(recent: impl IntoIterator<Item = Moment>, in_a_row: u32) -> Self {
        Self { recent: recent.into_iter().collect(), in_a_row }
    }

    /// Records a crash and judges it.
    pub(super) fn crash(&mut self, now: Moment, rule: &Restart) -> Verdict {
        self.recent.retain(|&at| now.since(at) <= rule.window);
        self.recent.push_back(now);
        self.in_a_row = self.in_a_row.saturating_add(1);
        match u32::try_from(self.recent.len()) {
            Ok(crashes) if crashes <= rule.max_restarts => {
                Verdict::ComeBack(now.after(delay(self.in_a_row, rule)))
            }
            Ok(_) | Err(_) => Verdict::GiveUp,
        }
    }

    /// When a place left empty by its last crash is due, if it had one.
    pub(super) fn due(&self, rule: &Restart) -> Option<Moment> {
        let last = self.recent.back()?;
        (self.in_a_row > 0).then(|| last.after(delay(self.in_a_row, rule)))
    }

    /// The worker stayed up long enough: the next crash starts small again.
    pub(super) fn stable(&mut self) {
        self.in_a_row = 0;
    }

    pub(super) fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// The crashes that still count, oldest first; the window is cut only by the next crash.
    pub(super) fn recent(&self) -> impl ExactSizeIterator<Item = Moment> {
        self.recent.iter().copied()
    }
}

/// `min(initial * growth^(crashes - 1), max)`.
fn delay(crashes: u32, rule: &Restart) -> Duration {
    let mut delay = rule.initial;
    for _ in 1..crashes {
        // Also bounds the loop: what grows reaches `max` quickly, and what does not never will.
        if delay >= rule.max || delay.is_zero() || rule.growth_percent <= 100 {
            break;
        }
        delay = delay.saturating_mul(rule.growth_percent) / 100;
    }
    delay.min(rule.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Restart = Restart {
        max_restarts: 3,
        window: Duration::from_mins(1),
        initial: Duration::from_secs(1),
        growth_percent: 200,
        max: Duration::from_secs(5),
    };

    fn at(seconds: u64) -> Moment {
        Moment::START.after(Duration::from_secs(seconds))
    }

    #[track_caller]
    fn check(rule: &Restart, expected: [u64; 5]) {
        let delays: Vec<u64> = (1..=5).map(|n| delay(n, rule).as_secs()).collect();
        assert_eq!(delays, expected);
    }

    #[test]
    fn delay_grows_up_to_max() {
        check(&RULE, [1, 2, 4, 5, 5]);
        check(&Restart { growth_percent: 100, ..RULE }, [1, 1, 1, 1, 1]);
        check(&Restart { growth_percent: 1000, ..RULE }, [1, 5, 5, 5, 5]);
        check(&Restart { initial: Duration::ZERO, ..RULE }, [0, 0, 0, 0, 0]);
    }

    #[test]
    fn an_endless_row_is_counted_quickly() {
        let still = Restart { initial: Duration::ZERO, ..RULE };
        let one = Restart { growth_percent: 100, ..RULE };
        // `initial: 0` never reaches `max`; a crash loop of days must not make this slow.
        assert_eq!(delay(u32::MAX, &still), Duration::ZERO);
        assert_eq!(delay(u32::MAX, &one), RULE.initial);
        assert_eq!(delay(u32::MAX, &RULE), RULE.max);
    }

    #[test]
    fn gives_up_on_the_crash_beyond_max() {
        let mut history = History::default();
        assert_eq!(history.crash(at(0), &RULE), Verdict::ComeBack(at(1)));
        assert_eq!(history.crash(at(1), &RULE), Verdict::ComeBack(at(3)));
        assert_eq!(history.crash(at(3), &RULE), Verdict::ComeBack(at(7)));
        assert_eq!(history.crash(at(7), &RULE), Verdict::GiveUp);
    }

    #[test]
    fn old_crashes_slide_out_of_the_window() {
        let mut history = History::default();
        for second in [0, 1, 2] {
            history.crash(at(second), &RULE);
        }
        history.stable();
        assert_eq!(history.crash(at(61), &RULE), Verdict::ComeBack(at(62)));
    }

    #[test]
    fn a_resumed_history_goes_on() {
        let mut history = History::resume([at(0), at(1), at(3)], 3);
        assert_eq!(history.due(&RULE), Some(at(7)));
        assert_eq!(history.crash(at(7), &RULE), Verdict::GiveUp);
        assert_eq!(History::resume([], 0).due(&RULE), None);
        assert_eq!(History::resume([at(3)], 0).due(&RULE), None, "stable since");
    }
}
