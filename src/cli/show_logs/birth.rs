//! When a process began, as its kernel says: the daemon hears of it later, the later the busier
//! the machine is.

use std::fs;

use crate::cli::clock;

/// Ticks in a second: `USER_HZ` is 100 wherever Linux runs.
const TICKS: u64 = 100;

/// Milliseconds since the Unix epoch at which a process had surely begun, at most two ticks too
/// late; `None` if it is gone, or where there is no `proc(5)`.
pub(super) fn unix_millis(pid: i32) -> Option<u64> {
    let now = clock::unix_millis();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let age = uptime_millis(&uptime)?.checked_sub(started_millis(&stat)?)?;
    Some(now.checked_sub(age)? + 1000 / TICKS)
}

/// Milliseconds after boot, from `/proc/<pid>/stat`. The name of the program may hold anything.
fn started_millis(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    ticks.checked_mul(1000 / TICKS)
}

/// Milliseconds since boot, from `/proc/uptime`.
fn uptime_millis(uptime: &str) -> Option<u64> {
    let (seconds, hundredths) = uptime.split_whitespace().next()?.split_once('.')?;
    let (seconds, hundredths): (u64, u64) = (seconds.parse().ok()?, hundredths.parse().ok()?);
    seconds.checked_mul(1000)?.checked_add(hundredths * 10)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_began_when_it_was_spawned() {
        let before = clock::unix_millis();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let after = clock::unix_millis();
        let born = unix_millis(i32::try_from(child.id()).unwrap()).unwrap();
        assert!((before..=after + 2 * 1000 / TICKS).contains(&born), "{before} {born} {after}");
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn odd_names_do_not_confuse() {
        let stat = "7 (a) b 1 (c) S 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        assert_eq!(started_millis(stat), Some(123_450));
        assert_eq!(started_millis("7 (a) S 1"), None);
        assert_eq!(uptime_millis("17123.05 30000.00\n"), Some(17_123_050));
    }
}
