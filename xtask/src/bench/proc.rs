//! What `/proc` says of processes: names, parents, memory, CPU.

use std::{fs, time::Duration};

/// Clock ticks per second, which Linux promises to programs (`USER_HZ`).
const TICKS_PER_SECOND: u32 = 100;

/// Memory of one process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kibibytes {
    /// Resident, shared pages included: `VmRSS`.
    pub(super) rss: u32,
    /// Resident, each shared page divided by the number of its users: `Pss`.
    pub(super) pss: u32,
    /// Written by this process alone: `Private_Dirty`.
    pub(super) dirty: u32,
}

/// Reads the memory of a process; zero if it is gone.
pub(super) fn memory(pid: i32) -> Kibibytes {
    let status = read(pid, "status");
    let rollup = read(pid, "smaps_rollup");
    Kibibytes {
        rss: field(&status, "VmRSS:").unwrap_or(0),
        pss: field(&rollup, "Pss:").unwrap_or(0),
        dirty: field(&rollup, "Private_Dirty:").unwrap_or(0),
    }
}

/// What all threads of a process did up to now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    /// Time on a CPU, exact (`schedstat`).
    pub(super) cpu: Duration,
    /// How often one of them went to sleep.
    pub(super) sleeps: u32,
}

impl Work {
    /// Adds up every thread.
    pub(super) fn of(pid: i32) -> Self {
        Self::of_threads(pid, &threads(pid))
    }

    /// Adds up the threads whose names begin with `name`, and what the kernel does for them.
    pub(super) fn of_named(pid: i32, name: &str) -> Self {
        let named: Vec<_> = threads(pid).into_iter().map(|it| (it, thread_name(pid, it))).collect();
        let ours: Vec<_> = named.iter().filter(|(_, it)| it.starts_with(name)).collect();
        let kernel = ours.iter().map(|(thread, _)| format!("iou-wrk-{thread}"));
        let kernel: Vec<_> = kernel.collect();
        let counts = |it: &str| it.starts_with(name) || kernel.iter().any(|other| other == it);
        let counted = named.iter().filter(|(_, it)| counts(it)).map(|(thread, _)| *thread);
        Self::of_threads(pid, &counted.collect::<Vec<_>>())
    }

    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, sleeps: self.sleeps + other.sleeps }
    }

    fn of_threads(pid: i32, threads: &[i32]) -> Self {
        let mut work = Self::default();
        for thread in threads {
            let file = |name: &str| format!("task/{thread}/{name}");
            let nanos = read(pid, &file("schedstat"));
            let nanos = nanos.split(' ').next().and_then(|it| it.parse().ok());
            work.cpu += Duration::from_nanos(nanos.unwrap_or(0));
            work.sleeps +=
                field(&read(pid, &file("status")), "voluntary_ctxt_switches:").unwrap_or(0);
        }
        work
    }
}

/// Children of every thread of `pid`, oldest first.
pub(super) fn children(pid: i32) -> Vec<i32> {
    let list = |thread: i32| read(pid, &format!("task/{thread}/children"));
    let lists = threads(pid).into_iter().map(list);
    lists.flat_map(|it| numbers(&it)).collect()
}

/// The name of the program a process runs, cut to 15 bytes.
pub(super) fn program(pid: i32) -> String {
    read(pid, "comm").trim_end().to_owned()
}

fn thread_name(pid: i32, thread: i32) -> String {
    read(pid, &format!("task/{thread}/comm")).trim_end().to_owned()
}

/// The parent of a process.
pub(super) fn parent(pid: i32) -> Option<i32> {
    stat(pid, 1)?.parse().ok()
}

/// When a process was forked, on the clock since boot, in steps of 10 ms; `None` if it is gone.
pub(super) fn born(pid: i32) -> Option<Duration> {
    let ticks: u32 = stat(pid, 19)?.parse().ok()?;
    Some(Duration::from_secs(1) * ticks / TICKS_PER_SECOND)
}

/// How many processes ran or wanted to, on average over the last minute.
pub(super) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or_default()
}

/// A field of `proc_pid_stat(5)`, counted from the state, which is 0: names may hold blanks.
fn stat(pid: i32, field: usize) -> Option<String> {
    let stat = read(pid, "stat");
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(field).map(str::to_owned)
}

fn threads(pid: i32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|it| it.file_name().to_str()?.parse().ok()).collect()
}

fn read(pid: i32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

fn numbers(text: &str) -> Vec<i32> {
    text.split_ascii_whitespace().filter_map(|it| it.parse().ok()).collect()
}

fn field(text: &str, name: &str) -> Option<u32> {
    let line = text.lines().find_map(|it| it.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    #[test]
    fn a_process_sees_itself() {
        let memory = memory(own());
        assert!(memory.rss >= memory.pss && memory.pss >= memory.dirty);
        assert!(memory.dirty > 0, "{memory:?}");
        assert!(Work::of(own()).cpu > Duration::ZERO);
        assert!(born(own()).unwrap() <= super::super::clock::since_boot());
        let helper = std::thread::Builder::new().name("busybody".into());
        let helper = helper.spawn(|| {
            // what a thread did is counted when it stops
            super::super::clock::sleep(Duration::from_millis(1));
            Work::of_named(own(), "busy").cpu
        });
        let helper = helper.unwrap();
        assert!(helper.join().unwrap() > Duration::ZERO);
        assert_eq!(Work::of_named(own(), "nobody").cpu, Duration::ZERO);
        assert!(children(parent(own()).unwrap()).contains(&own()));
    }

    #[test]
    fn nobody_has_nothing() {
        assert_eq!((born(0), parent(0), children(0)), (None, None, Vec::new()));
        assert_eq!(memory(0).rss, 0);
    }
}
