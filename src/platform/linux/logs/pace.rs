//! How long the pump rests between two turns.
//!
//! A wake-up costs as much as moving kilobytes, so output is let come together; but a pipe that
//! runs full stops its worker. The rest grows while batches are small and shrinks as soon as a
//! pipe was nearly full, so a batch settles between a quarter and three quarters of a pipe. Many
//! quiet pipes are rested for longer than few.

use std::time::Duration;

/// Shortest rest; a timer is not worth less.
const REST_MIN: Duration = Duration::from_micros(125);

/// Longest rest when few pipes have something: what a line may be late.
const REST_MAX: Duration = Duration::from_millis(5);

/// What each of many quiet pipes adds to a rest, and the longest it comes to: a hundred workers
/// that write a line now and then cost a wake-up of the pump for all of them, not one for each.
const REST_PER_PIPE: Duration = Duration::from_micros(250);
const REST_OF_MANY_MAX: Duration = Duration::from_millis(25);

/// What the fullest pipe of a turn brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Batch {
    /// Nothing.
    None,
    /// Less than a quarter of what it holds.
    Small,
    /// Less than three quarters of it.
    Medium,
    /// Nearly all of it: its worker was waiting, perhaps. Now it is empty.
    Full,
    /// More than may be moved in one turn: there is more.
    Endless,
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
    /// What to do after a turn in which the fullest of `pipes` brought `batch`.
    pub(super) fn after(&mut self, batch: Batch, pipes: usize) -> Pace {
        match batch {
            Batch::None => Pace::Go,
            Batch::Small => {
                self.rest = (self.rest * 2).min(REST_MAX);
                let pipes = u32::try_from(pipes).unwrap_or(u32::MAX);
                let of_many = REST_PER_PIPE.saturating_mul(pipes).min(REST_OF_MANY_MAX);
                Pace::Nap(self.rest.max(of_many))
            }
            Batch::Medium => Pace::Nap(self.rest),
            Batch::Full => {
                self.rest = (self.rest / 2).max(REST_MIN);
                Pace::Nap(self.rest)
            }
            Batch::Endless => {
                self.rest = REST_MIN;
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
        let quiet = (0..20).map(|_| pacer.after(Batch::Small, 1)).last();
        assert_eq!(quiet, Some(Pace::Nap(REST_MAX)));
        assert_eq!(pacer.after(Batch::Medium, 1), Pace::Nap(REST_MAX));
        assert_eq!(pacer.after(Batch::None, 1), Pace::Go);
        assert_eq!(pacer.after(Batch::Full, 1), Pace::Nap(REST_MAX / 2));
        let full = (0..20).map(|_| pacer.after(Batch::Full, 1)).last();
        assert_eq!(full, Some(Pace::Nap(REST_MIN)));
        assert_eq!(pacer.after(Batch::Endless, 1), Pace::Go);
        assert_eq!(pacer.after(Batch::Small, 1), Pace::Nap(REST_MIN * 2));
    }

    #[test]
    fn many_quiet_workers_are_let_come_together() {
        let rest = |batch, pipes| Pacer::default().after(batch, pipes);
        assert_eq!(rest(Batch::Small, 20), Pace::Nap(REST_PER_PIPE * 20));
        assert_eq!(rest(Batch::Small, 1_000), Pace::Nap(REST_OF_MANY_MAX));
        assert_eq!(rest(Batch::Medium, 1_000), Pace::Nap(REST_MIN), "one of them is loud");
    }

    /// Bytes of each batch of a worker that writes so many in a microsecond.
    fn batches(bytes_per_micro: usize, capacity: usize) -> Vec<usize> {
        let mut pacer = Pacer::default();
        let (mut waiting, mut batches) = (1, Vec::new());
        for _ in 0..50 {
            batches.push(waiting);
            let rest = match pacer.after(Batch::of(waiting, capacity), 1) {
                Pace::Nap(rest) => usize::try_from(rest.as_micros()).unwrap(),
                Pace::Go | Pace::Stop => 20,
            };
            waiting = (rest * bytes_per_micro).min(capacity);
        }
        batches
    }

    #[test]
    fn a_steady_stream_is_taken_by_a_fair_part_of_the_pipe() {
        let capacity = 256 << 10;
        for bytes_per_micro in [20, 50, 100, 400, 1_000] {
            let batches = batches(bytes_per_micro, capacity);
            let fair = |bytes: &&usize| (capacity / 4..capacity / 4 * 3).contains(*bytes);
            let settled = batches.iter().skip(20).filter(fair).count();
            assert!(settled >= 20, "{bytes_per_micro} B/µs: {batches:?}");
        }
    }
}
