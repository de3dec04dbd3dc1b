//! How long the pump rests between two turns.
//!
//! A wake-up costs as much as moving kilobytes, so output is let come together; but a pipe that
//! runs full stops its worker. The rest grows while batches are small and shrinks as soon as a
//! pipe was nearly full, so a batch settles between a quarter and three quarters of a pipe.

use std::time::Duration;

/// Shortest rest; a timer is not worth less.
const REST_MIN: Duration = Duration::from_micros(125);

/// Longest rest: what a line may be late.
const REST_MAX: Duration = Duration::from_millis(5);

/// What the fullest pipe of a turn brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Batch {
    /// Nothing.
    None,
    /// Less than a quarter of what it holds.
    Small,
    /// Less than three quarters of it.
    Medium,
    /// Nearly all of it: its worker may be waiting.
    Full,
}

impl Batch {
    pub(super) fn of(bytes: usize, capacity: usize) -> Self {
        if bytes >= capacity / 4 * 3 {
            Self::Full
        } else if bytes >= capacity / 4 {
            Self::Medium
        } else {
            Self::Small
        }
    }
}

/// How to go on after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// End: nobody is left to give commands.
    Stop,
    /// Look for more at once.
    Go,
    /// Let more come together first.
    Nap(Duration),
}

/// The length of the rest, found by trying.
#[derive(Debug)]
pub(super) struct Pacer {
    rest: Duration,
}

impl Default for Pacer {
    fn default() -> Self {
        Self { rest: REST_MIN }
    }
}

impl Pacer {
    pub(super) fn after(&mut self, batch: Batch) -> Pace {
        match batch {
            Batch::None => Pace::Go,
            Batch::Small => {
                self.rest = (self.rest * 2).min(REST_MAX);
                Pace::Nap(self.rest)
            }
            Batch::Medium => Pace::Nap(self.rest),
            Batch::Full => {
                self.rest = (self.rest / 2).max(REST_MIN);
                Pace::Go
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_worker_is_looked_at_rarely_a_loud_one_at_once() {
        let mut pacer = Pacer::default();
        let quiet = (0..20).map(|_| pacer.after(Batch::Small)).last();
        assert_eq!(quiet, Some(Pace::Nap(REST_MAX)));
        assert_eq!(pacer.after(Batch::Medium), Pace::Nap(REST_MAX));
        assert_eq!(pacer.after(Batch::None), Pace::Go);
        for _ in 0..20 {
            assert_eq!(pacer.after(Batch::Full), Pace::Go);
        }
        assert_eq!(pacer.after(Batch::Small), Pace::Nap(REST_MIN * 2));
    }

    #[test]
    fn a_steady_stream_is_taken_by_a_fair_part_of_the_pipe() {
        let capacity = 256 << 10;
        for bytes_per_micro in [20, 50, 100, 400] {
            let mut pacer = Pacer::default();
            let (mut waiting, mut batches) = (1, Vec::new());
            for _ in 0..50 {
                batches.push(waiting);
                let rest = match pacer.after(Batch::of(waiting, capacity)) {
                    Pace::Nap(rest) => usize::try_from(rest.as_micros()).unwrap(),
                    Pace::Go | Pace::Stop => 20,
                };
                waiting = (rest * bytes_per_micro).min(capacity);
            }
            let fair = |bytes: &&usize| (capacity / 4..capacity / 4 * 3).contains(*bytes);
            let settled = batches.iter().skip(20).filter(fair).count();
            assert!(settled >= 20, "{bytes_per_micro} B/µs: {batches:?}");
        }
    }
}
