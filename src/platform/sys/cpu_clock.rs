//! CPU clocks of other processes, which no safe crate reads.

#![expect(unsafe_code, reason = "clock_getcpuclockid and clock_gettime take plain pointers")]

use std::time::Duration;

use crate::domain::Pid;

/// `PID_MAX_LIMIT` of the kernel.
const PID_MAX: i32 = 1 << 22;

/// Time all threads of process `pid`, ended ones included, have spent on a CPU; children do not
/// count.
///
/// Needs no privilege. A zombie still answers; `None` means there is no such process. Follows
/// `clock_getcpuclockid(3)`.
#[must_use]
pub fn process_cpu(pid: Pid) -> Option<Duration> {
    // The clock of 0 would be our own, and a clock id has no room for the bits of a larger pid.
    if !(1..=PID_MAX).contains(&pid.0) {
        return None;
    }
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` outlives the call, which writes at most one `clockid_t` to it.
    let status = unsafe { libc::clock_getcpuclockid(pid.0, &raw mut clock) };
    if status != 0 {
        return None;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call, which writes at most one `timespec` to it.
    let status = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if status != 0 {
        return None;
    }
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_clock_runs_while_we_work() {
        let me = Pid(i32::try_from(std::process::id()).unwrap());
        let before = process_cpu(me).unwrap();
        let worked = (0..3_000_000_u64).fold(0, |sum, n| std::hint::black_box(sum ^ n));
        std::hint::black_box(worked);
        assert!(process_cpu(me).unwrap() > before);
    }

    #[test]
    fn nobody_has_no_clock() {
        for pid in [0, -1, i32::MIN, i32::MAX] {
            assert_eq!(process_cpu(Pid(pid)), None, "{pid}");
        }
    }
}
