//! The memory the program's own code takes, and what it has used and freed.

#![expect(unsafe_code, reason = "madvise(2) of pages that are not ours to name in safe code")]

use std::fs;

use rustix::mm::{Advice, madvise};

/// Lets go of the code, and the constants before it, that this process has touched so far.
///
/// Starting runs much that never runs again: loader, parsers, migrations. Its pages are the
/// page cache's and unchanged; unmapped, they count for this process no longer and are the first
/// the kernel can use otherwise. What is needed again comes back from the cache at its next use,
/// 64 KiB at a time and without I/O. Does what it can: without `/proc`, nothing.
pub fn forget_code() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, end) in maps.lines().filter_map(code) {
        let (address, length) = (std::ptr::without_provenance_mut(start), end - start);
        // SAFETY: these pages are a file's, mapped privately and never written to (see `code`), so
        // that what comes back is what was there; no reference can see a difference.
        let advised = unsafe { madvise(address, length, Advice::LinuxDontNeed) };
        // Pages locked into memory are refused, and stay.
        drop(advised.map_err(std::io::Error::from));
    }
}

/// Gives back what was allocated and freed: loading programs into the kernel reads all its types,
/// which is many times what a daemon needs ever after. `malloc_trim(3)`, where the allocator has it.
pub fn forget_heap() {
    // SAFETY: takes a number; only memory nobody has is given back.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Reads a line of `proc_pid_maps(5)`: the range of a file's code, or of what its file has before
/// that: the beginning of the file, mapped only to be read.
///
/// Not of what comes after the code: those pages are shown as read-only as well, but hold
/// addresses the loader wrote into them.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, rights, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let file = fields.nth(2).is_some_and(|it| it.starts_with('/'));
    let constants = rights == "r--p" && offset.bytes().all(|it| it == b'0');
    if !file || !(rights == "r-xp" || constants) {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some((number(start)?, number(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_wrote_to_is_forgotten() {
        #[track_caller]
        fn check(line: &str, expected: Option<(usize, usize)>) {
            assert_eq!(code(line), expected, "{line}");
        }
        let range = Some((0x1000, 0x3000));
        check("1000-3000 r--p 00000000 fe:00 6065470        /usr/bin/bunpilot", range);
        check("1000-3000 r-xp 0021e000 fe:00 6065470        /usr/bin/bunpilot", range);
        check("1000-3000 r--p 00c04000 fe:00 6065470        /usr/bin/bunpilot", None);
        check("1000-3000 rw-p 00c42000 fe:00 6065470        /usr/bin/bunpilot", None);
        check("1000-3000 rwxp 0021e000 fe:00 6065470        /usr/bin/bunpilot", None);
        check("1000-3000 r--s 00000000 fe:00 6065470        /usr/bin/bunpilot", None);
        check("1000-3000 r--p 00000000 00:00 0", None);
        check("1000-3000 r-xp 00000000 00:00 0              [vdso]", None);
        check("", None);
    }

    #[test]
    fn code_that_was_forgotten_runs_all_the_same() {
        let resident_kib = || -> u64 {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|it| it.strip_prefix("RssFile:")).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let before = resident_kib();
        forget_code();
        let after = resident_kib();
        assert!(after < before, "{after} KiB of files are resident, {before} were");
    }
}
