//! Clocks.

#![expect(unsafe_code, reason = "clock_getcpuclockid(3) is in no safe crate")]

use std::time::Duration;

use crate::domain::Pid;

/// Reads the time since boot (`clock_gettime(2)`, `CLOCK_MONOTONIC`).
pub fn monotonic_now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    duration(now.tv_sec, now.tv_nsec)
}

/// Reads the CPU time all threads of `pid` have used, without opening anything.
///
/// `None` if there is no such process. Follows `clock_getcpuclockid(3)`.
pub fn process_cpu(pid: Pid) -> Option<Duration> {
    if !(1..=PID_MAX).contains(&pid.0) {
        return None; // 0 is ourselves, and others would make another kind of clock
    }
    let mut clock: libc::clockid_t = 0;
    // SAFETY: writes one `clockid_t` to `clock`, which outlives the call.
    if unsafe { libc::clock_getcpuclockid(pid.0, &raw mut clock) } != 0 {
        return None;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one `timespec` to `time`, which outlives the call.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return None;
    }
    Some(duration(time.tv_sec, time.tv_nsec))
}

/// Highest number a process can have (`proc(5)`, `pid_max`).
const PID_MAX: i32 = 1 << 22;

fn duration(seconds: i64, nanos: i64) -> Duration {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Duration::new(seconds, u32::try_from(nanos).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_cpu_clock_runs() {
        let me = Pid(i32::try_from(std::process::id()).unwrap());
        let before = process_cpu(me).unwrap();
        let spun = (0..200_000_u64).fold(0_u64, |sum, n| std::hint::black_box(sum ^ n));
        assert!(process_cpu(me).unwrap() > before, "{spun}");
    }

    #[test]
    fn nobody_has_no_cpu_clock() {
        assert_eq!(process_cpu(Pid(i32::MAX)), None);
    }

    #[test]
    fn the_clock_never_goes_back() {
        let before = monotonic_now();
        assert!(monotonic_now() >= before && before > Duration::ZERO);
    }
}
