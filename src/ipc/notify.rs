//! `sd_notify(3)`: what a worker sends to the socket `NOTIFY_SOCKET` names.
//!
//! Decides what a datagram says and what of it is refused. Never acts, and never sees the file
//! descriptors that may come with one: whoever reads the socket closes them, and that is all
//! `BARRIER=1` asks for.

use std::time::Duration;

/// Longest datagram looked at, in bytes, as in systemd (`NOTIFY_BUFFER_MAX`).
///
/// A longer one is cut here, and with it the line the cut falls into.
pub const DATAGRAM_MAX: usize = 4096;

/// Most characters kept of a status text: one line of a table.
const STATUS_MAX: usize = 256;

/// One assignment of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It serves.
    Ready,
    /// It is shutting down.
    Stopping,
    /// It reads its configuration again; [`Notice::Ready`] follows.
    Reloading,
    /// What it says about itself: one line without control characters.
    Status(String),
    /// It is alive.
    Watchdog,
    /// It declares itself hung.
    WatchdogTrigger,
    /// How often [`Notice::Watchdog`] must come from now on.
    WatchdogPeriod(Duration),
    /// It needs this much longer to start, reload or stop.
    ExtendTimeout(Duration),
    /// It failed with this `errno(3)`.
    Errno(i32),
    /// It waits until all before this is seen and its descriptor closed.
    Barrier,
    /// An assignment that is understood but not granted: `MAINPID`, `FDSTORE`, `NOTIFYACCESS` and
    /// what belongs to them. A worker is the process bunpilot spawned, and nobody else.
    Refused(&'static str),
}

/// Reads a datagram. Lines that make no sense are passed over, as `sd_notify(3)` asks for.
#[must_use]
pub fn parse(datagram: &[u8]) -> Vec<Notice> {
    let whole = match datagram.get(..DATAGRAM_MAX) {
        Some(head) if datagram.len() > DATAGRAM_MAX => {
            &head[..memchr::memrchr(b'\n', head).unwrap_or(0)]
        }
        Some(_) | None => datagram,
    };
    whole.split(|byte| *byte == b'\n').filter_map(notice).collect()
}

const REFUSED: [&str; 8] = [
    "MAINPID",
    "MAINPIDFD",
    "MAINPIDFDID",
    "FDSTORE",
    "FDSTOREREMOVE",
    "FDNAME",
    "FDPOLL",
    "NOTIFYACCESS",
];

fn notice(line: &[u8]) -> Option<Notice> {
    let line = String::from_utf8_lossy(line);
    let (key, value) = line.split_once('=')?;
    match (key, value) {
        ("READY", "1") => Some(Notice::Ready),
        ("STOPPING", "1") => Some(Notice::Stopping),
        ("RELOADING", "1") => Some(Notice::Reloading),
        ("WATCHDOG", "1") => Some(Notice::Watchdog),
        ("WATCHDOG", "trigger") => Some(Notice::WatchdogTrigger),
        ("BARRIER", "1") => Some(Notice::Barrier),
        ("STATUS", text) => Some(Notice::Status(status(text))),
        ("WATCHDOG_USEC", micros) => duration(micros).map(Notice::WatchdogPeriod),
        ("EXTEND_TIMEOUT_USEC", micros) => duration(micros).map(Notice::ExtendTimeout),
        ("ERRNO", number) => number.parse().ok().map(Notice::Errno),
        (key, _) => REFUSED.into_iter().find(|refused| *refused == key).map(Notice::Refused),
    }
}

fn duration(micros: &str) -> Option<Duration> {
    micros.parse().ok().map(Duration::from_micros)
}

fn status(text: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(STATUS_MAX).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(datagram: &[u8], expected: &[Notice]) {
        assert_eq!(parse(datagram), expected, "{}", datagram.escape_ascii());
    }

    #[test]
    fn every_assignment() {
        let ms = Duration::from_millis;
        check(b"READY=1", &[Notice::Ready]);
        check(b"STOPPING=1\n", &[Notice::Stopping]);
        check(b"RELOADING=1\nMONOTONIC_USEC=12\n", &[Notice::Reloading]);
        check(b"WATCHDOG=1", &[Notice::Watchdog]);
        check(b"WATCHDOG=trigger", &[Notice::WatchdogTrigger]);
        check(b"WATCHDOG_USEC=2000", &[Notice::WatchdogPeriod(ms(2))]);
        check(b"EXTEND_TIMEOUT_USEC=9000", &[Notice::ExtendTimeout(ms(9))]);
        check(b"ERRNO=2", &[Notice::Errno(2)]);
        check(b"BARRIER=1", &[Notice::Barrier]);
        check(b"STATUS=42 jobs = busy", &[Notice::Status("42 jobs = busy".into())]);
    }

    #[test]
    fn haproxy_says_who_it_is_and_is_not_believed() {
        check(b"READY=1\nMAINPID=7\n", &[Notice::Ready, Notice::Refused("MAINPID")]);
        check(b"FDSTORE=1\nFDNAME=x", &[Notice::Refused("FDSTORE"), Notice::Refused("FDNAME")]);
    }

    #[test]
    fn nonsense_is_passed_over() {
        for line in [
            &b""[..],
            b"\n\n\n",
            b"READY",
            b"READY=0",
            b"READY=11",
            b" READY=1",
            b"ready=1",
            b"=",
            b"ERRNO=many",
            b"WATCHDOG_USEC=-1",
            b"WATCHDOG_USEC=99999999999999999999999",
            b"X_MINE=1",
        ] {
            check(line, &[]);
        }
    }

    #[test]
    fn a_status_is_one_short_line_of_text() {
        check(b"STATUS=\x1b[31mred\xff", &[Notice::Status(" [31mred\u{fffd}".into())]);
        let long = [&b"STATUS="[..], &b"x".repeat(2000)].concat();
        check(&long, &[Notice::Status("x".repeat(STATUS_MAX))]);
    }

    #[test]
    fn a_datagram_too_long_is_cut_at_a_line() {
        let mut long = b"READY=1\nSTATUS=".to_vec();
        long.resize(DATAGRAM_MAX, b'x');
        assert_eq!(parse(&long).len(), 2);
        long.push(b'x');
        check(&long, &[Notice::Ready]);
        check(&vec![b'x'; DATAGRAM_MAX + 1], &[]);
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..6000)) {
            prop_assert!(parse(&bytes).len() <= DATAGRAM_MAX);
        }
    }
}
