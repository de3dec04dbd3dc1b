//! Whether a worker is well: its probes and its heartbeats.
//!
//! Decides when to probe and what answers and silences mean; never what follows from that.

use std::time::Duration;

use crate::{
    domain::{Health, Moment},
    world::Probe,
};

/// A process needs about this long to open its port; earlier probes only cost it time.
const FIRST_PROBE: Duration = Duration::from_millis(50);

/// Pause before the second probe of a starting worker; doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(100);

/// A worker that is slow to start is found ready at most this late.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// The world reports a probe's timeout itself; this much later we no longer believe it will.
const PROBE_GRACE: Duration = Duration::from_millis(250);

/// Without a heartbeat for this long a worker hangs, unless it named its own interval. The
/// original's value; its SDKs beat every 5 to 10 s.
const HEARTBEAT_STALE: Duration = Duration::from_secs(30);

/// Shortest interval a worker may name; less would be a busy loop of its making and ours.
const WATCHDOG_MIN: Duration = Duration::from_millis(100);

/// The probes of one worker.
#[derive(Debug)]
pub(super) struct Probes {
    standing: Standing,
    next: Next,
    /// Failures in a row.
    failures: u32,
    pause: Duration,
    /// When the last probe that succeeded was sent.
    well: Moment,
    /// What the last probe that failed saw.
    complaint: Option<String>,
}

/// What probes have to say about readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing: there are none, or they cannot reach this worker.
    Aside,
    /// None has succeeded yet.
    Unproven,
    /// One has succeeded.
    Proven,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Never,
    At(Moment),
    Answer { sent: Moment },
}

/// What became of a worker's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing to act upon.
    Well,
    /// Too many failures in a row; what the last one saw.
    Sick(String),
}

impl Probes {
    pub(super) fn none() -> Self {
        Self {
            standing: Standing::Aside,
            next: Next::Never,
            failures: 0,
            pause: PAUSE,
            well: Moment::START,
            complaint: None,
        }
    }

    /// Probes of a process that was just spawned.
    pub(super) fn of_starting(now: Moment) -> Self {
        let next = Next::At(now.after(FIRST_PROBE));
        Self { standing: Standing::Unproven, next, ..Self::none() }
    }

    /// Probes of a worker that was online before this daemon was.
    pub(super) fn of_online(now: Moment) -> Self {
        Self { standing: Standing::Proven, next: Next::At(now), well: now, ..Self::none() }
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    pub(super) fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn deadline(&self, rule: &Health) -> Option<Moment> {
        match self.next {
            Next::Never => None,
            Next::At(moment) => Some(moment),
            Next::Answer { sent } => Some(overdue(sent, rule)),
        }
    }

    /// Whether a probe is to be sent now; it counts as sent then.
    pub(super) fn is_due(&mut self, now: Moment) -> bool {
        let due = matches!(self.next, Next::At(moment) if moment <= now);
        if due {
            self.next = Next::Answer { sent: now };
        }
        due
    }

    /// Counts a probe as failed whose answer is long overdue.
    pub(super) fn tick(&mut self, now: Moment, rule: &Health) -> Finding {
        match self.next {
            Next::Answer { sent } if overdue(sent, rule) <= now => {
                self.failed(now, sent, "no answer", rule)
            }
            Next::Answer { .. } | Next::At(_) | Next::Never => Finding::Well,
        }
    }

    pub(super) fn answered(&mut self, now: Moment, probe: &Probe, rule: &Health) -> Finding {
        let Next::Answer { sent } = self.next else { return Finding::Well }; // late: counted already
        match probe {
            Probe::Healthy => {
                self.standing = Standing::Proven;
                self.failures = 0;
                self.well = sent;
                self.next = Next::At(now.max(sent.after(rule.interval)));
                Finding::Well
            }
            Probe::Sick(complaint) => self.failed(now, sent, complaint, rule),
            Probe::Unreachable => {
                *self = Self::none();
                Finding::Well
            }
        }
    }

    fn failed(&mut self, now: Moment, sent: Moment, why: &str, rule: &Health) -> Finding {
        self.failures = self.failures.saturating_add(1);
        self.complaint = Some(why.to_owned());
        let next = match self.standing {
            Standing::Unproven | Standing::Aside => {
                let next = sent.after(self.pause);
                self.pause = self.pause.saturating_mul(2).min(PAUSE_MAX);
                next
            }
            Standing::Proven => self.retry(sent, rule),
        };
        self.next = Next::At(now.max(next));
        if self.standing == Standing::Proven && self.failures >= rule.unhealthy_threshold.get() {
            return Finding::Sick(why.to_owned());
        }
        Finding::Well
    }

    /// Early enough that all failures still missing fit in before `interval * threshold` is over,
    /// each as long as a timeout: a hung worker is found out by then.
    fn retry(&self, sent: Moment, rule: &Health) -> Moment {
        let threshold = rule.unhealthy_threshold.get();
        let missing = rule.timeout.saturating_mul(threshold.saturating_sub(self.failures));
        let verdict = self.well.after(rule.interval.saturating_mul(threshold)).since_boot();
        let latest = Moment::from_boot(verdict.saturating_sub(missing));
        sent.after(rule.interval).min(latest)
    }
}

fn overdue(sent: Moment, rule: &Health) -> Moment {
    sent.after(rule.timeout).after(PROBE_GRACE)
}

/// The heartbeats of one worker, monitored from the first one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pulse {
    last: Option<Moment>,
    stale: Duration,
}

impl Pulse {
    /// A worker that never beat.
    pub(super) const SILENT: Self = Self { last: None, stale: HEARTBEAT_STALE };

    /// A worker that beat `every` so often before this daemon was.
    pub(super) fn resume(now: Moment, every: Duration) -> Self {
        Self { last: Some(now), stale: every.max(WATCHDOG_MIN) }
    }

    pub(super) fn beat(&mut self, now: Moment) {
        self.last = Some(now);
    }

    pub(super) fn expect_every(&mut self, interval: Duration) {
        self.stale = interval.max(WATCHDOG_MIN);
    }

    /// The longest silence allowed, once monitored.
    pub(super) fn monitored(&self) -> Option<Duration> {
        self.last.map(|_| self.stale)
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.last.map(|last| last.after(self.stale))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn rule(interval: u64, timeout: u64, threshold: u32) -> Health {
        Health {
            path: "/health".to_owned(),
            interval: Duration::from_millis(interval),
            timeout: Duration::from_millis(timeout),
            unhealthy_threshold: NonZeroU32::new(threshold).unwrap(),
        }
    }

    /// Hangs right after the healthy answer at 0 ms; every probe runs into its timeout.
    #[track_caller]
    fn check(rule: &Health, sent: &[u64], found: u64) {
        let mut probes = Probes::of_online(Moment::START);
        assert!(probes.is_due(Moment::START));
        probes.answered(Moment::START, &Probe::Healthy, rule);
        let mut seen = Vec::new();
        loop {
            let now = probes.deadline(rule).unwrap();
            assert!(probes.is_due(now));
            seen.push(now.millis());
            let now = now.after(rule.timeout);
            if probes.answered(now, &Probe::Sick("hung".to_owned()), rule) != Finding::Well {
                assert_eq!((seen.as_slice(), now.millis()), (sent, found));
                return;
            }
        }
    }

    #[test]
    fn a_hung_worker_is_found_within_interval_times_threshold() {
        check(&rule(30_000, 5_000, 3), &[30_000, 60_000, 85_000], 90_000);
        check(&rule(1_000, 500, 3), &[1_000, 2_000, 2_500], 3_000);
        check(&rule(1_000, 500, 2), &[1_000, 1_500], 2_000);
        // These cannot be told sooner: the probes fill the time from the first one on.
        check(&rule(1_000, 900, 2), &[1_000, 1_900], 2_800);
        check(&rule(1_000, 500, 1), &[1_000], 1_500);
    }

    #[test]
    fn a_probe_never_answered_fails_by_itself() {
        let rule = rule(1_000, 500, 1);
        let mut probes = Probes::of_online(Moment::START);
        assert!(probes.is_due(Moment::START));
        assert_eq!(probes.tick(Moment::from_millis(749), &rule), Finding::Well);
        let found = probes.tick(Moment::from_millis(750), &rule);
        assert_eq!(found, Finding::Sick("no answer".to_owned()));
    }

    #[test]
    fn heartbeats_count_from_the_first() {
        let mut pulse = Pulse::SILENT;
        pulse.expect_every(Duration::from_secs(2));
        assert_eq!(pulse.deadline(), None);
        pulse.beat(Moment::from_millis(100));
        assert_eq!(pulse.deadline(), Some(Moment::from_millis(2_100)));
    }
}
