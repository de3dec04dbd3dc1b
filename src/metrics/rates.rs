//! CPU time as a share of one CPU.

use std::time::Duration;

use crate::domain::{Moment, Usage};

/// Two readings closer than this say nothing: clocks of processes tick.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// The share of one CPU a worker used between its last two readings.
///
/// A process tree may shrink and a measurement may err: a reading below the one before counts as
/// no use at all, never as a negative one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    last: Option<(Moment, Duration)>,
    millipercent: Option<u32>,
}

impl Rate {
    /// Takes in that `cpu` had been used at `now`; returns [`Rate::millipercent`].
    pub fn observe(&mut self, now: Moment, cpu: Duration) -> Option<u32> {
        if let Some((then, before)) = self.last {
            let passed = now.since(then);
            if passed < INTERVAL_MIN {
                return self.millipercent;
            }
            self.millipercent = Some(share(cpu.saturating_sub(before), passed));
        }
        let highest = self.last.map_or(cpu, |(_, before)| before.max(cpu));
        self.last = Some((now, highest));
        self.millipercent
    }

    /// Share of one CPU in thousandths of a percent: 150,000 is one and a half CPUs; `None` before
    /// the second reading.
    #[must_use]
    pub const fn millipercent(&self) -> Option<u32> {
        self.millipercent
    }
}

fn share(used: Duration, passed: Duration) -> u32 {
    let share = used.as_nanos().saturating_mul(100_000) / passed.as_nanos().max(1);
    u32::try_from(share).unwrap_or(u32::MAX)
}

/// CPU use as the original's JSON says it: `cpu {user, system, percentage}`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpu {
    /// Time in user mode since the worker began, in microseconds; all of it where only the sum is
    /// known.
    pub user_micros: u64,
    /// Time in kernel mode since the worker began, in microseconds.
    pub system_micros: u64,
    /// Share of one CPU in percent, to one decimal; 0 before the second reading.
    pub percentage: f64,
}

impl Cpu {
    /// Says `usage` and the newest rate in the original's words.
    #[must_use]
    pub fn new(usage: &Usage, millipercent: Option<u32>) -> Self {
        let (user, system) = match (usage.user, usage.system) {
            (Some(user), Some(system)) => (user, system),
            (Some(_) | None, None) | (None, Some(_)) => (usage.cpu, Duration::ZERO),
        };
        Self {
            user_micros: micros(user),
            system_micros: micros(system),
            percentage: f64::from(millipercent.unwrap_or(0).saturating_add(50) / 100) / 10.0,
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(readings: &[(u64, u64)], expected: Option<u32>) {
        let mut rate = Rate::default();
        for &(at, cpu) in readings {
            rate.observe(Moment::from_millis(at), Duration::from_millis(cpu));
        }
        assert_eq!(rate.millipercent(), expected, "{readings:?}");
    }

    #[test]
    fn a_rate_needs_two_readings() {
        check(&[], None);
        check(&[(1_000, 700)], None);
        check(&[(1_000, 700), (6_000, 3_200)], Some(50_000));
        check(&[(0, 0), (1_000, 4_000)], Some(400_000));
    }

    #[test]
    fn readings_in_a_row_do_not_jump() {
        check(&[(0, 0), (1_000, 500), (1_001, 510)], Some(50_000));
        check(&[(0, 0), (1_000, 500), (1_000, 510), (2_000, 600)], Some(10_000));
    }

    #[test]
    fn a_tree_that_shrinks_used_nothing() {
        check(&[(0, 900), (1_000, 400)], Some(0));
        // And does not make up for it later.
        check(&[(0, 900), (1_000, 400), (2_000, 950)], Some(5_000));
    }

    #[test]
    fn the_original_s_numbers() {
        let usage = Usage {
            user: Some(Duration::from_micros(2_500)),
            system: Some(Duration::from_micros(40)),
            cpu: Duration::from_micros(2_600),
            ..Usage::default()
        };
        let cpu = Cpu::new(&usage, Some(12_345));
        assert_eq!(cpu, Cpu { user_micros: 2_500, system_micros: 40, percentage: 12.3 });
        let sum = Usage { user: None, ..usage };
        let cpu = Cpu::new(&sum, None);
        assert_eq!(cpu, Cpu { user_micros: 2_600, system_micros: 0, percentage: 0.0 });
    }

    proptest! {
        #[test]
        fn shares_add_up(steps in proptest::collection::vec((10_u32..100_000, 0_u32..100_000), 1..20)) {
            let (mut rate, mut at, mut cpu, mut sum) = (Rate::default(), 0_u64, 0_u64, 0_u128);
            rate.observe(Moment::START, Duration::ZERO);
            for (passed, used) in steps {
                at += u64::from(passed);
                cpu += u64::from(used);
                let now = rate.observe(Moment::from_millis(at), Duration::from_millis(cpu));
                sum += u128::from(now.unwrap()) * u128::from(passed);
            }
            // Each step rounds down by less than one thousandth of a percent.
            let exact = u128::from(cpu) * 100_000;
            prop_assert!(sum <= exact && exact - sum <= u128::from(at));
        }
    }
}
