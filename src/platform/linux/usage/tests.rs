//! On real processes.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use super::*;
use crate::domain::Scheduling;

/// A shell whose children end with it, and the first line it wrote.
struct Shell(Child);

impl Shell {
    fn run(script: &str) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "here\n");
        Self(child)
    }

    fn pid(&self) -> Pid {
        Pid(i32::try_from(self.0.id()).unwrap())
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

fn me() -> Pid {
    Pid(i32::try_from(std::process::id()).unwrap())
}

/// Burns CPU in a shell for a while.
const BURN: &str = "i=0; while [ $i -lt 40000 ]; do i=$((i+1)); done;";

#[test]
fn a_tree_is_found_whole() {
    // Each shell reads its input, which ends when the outermost one is told to.
    let shell = Shell::run("(sh -c 'sleep 1000 & echo here; read x; kill $!') ; exit 0");
    let pids = tree(shell.pid());
    assert_eq!(pids.len(), 3, "{pids:?}");
    let usage = Meter::tree(shell.pid()).measure(Depth::Full, None).unwrap();
    assert_eq!((usage.processes, usage.threads), (3, 3));
    assert!(usage.rss_bytes > 300_000, "{usage:?}");
    assert!(usage.fds >= 9, "{usage:?}");
    shell.end();
}

#[test]
fn a_childs_time_stays_when_it_ends() {
    let shell = Shell::run(&format!("echo here; read x; ({BURN} exit 0); echo burnt; read x"));
    let mut meter = Meter::tree(shell.pid());
    let before = meter.measure(Depth::Full, None).unwrap().cpu;
    let mut shell = shell;
    let stdin = shell.0.stdin.as_mut().unwrap();
    std::io::Write::write_all(stdin, b"go\n").unwrap();
    let mut line = String::new();
    BufReader::new(shell.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "burnt\n");
    let after = meter.measure(Depth::Full, None).unwrap();
    assert!(after.cpu >= before + Duration::from_millis(10), "{before:?} {after:?}");
    assert_eq!(after.processes, 1);
    assert_eq!(after.user.unwrap() + after.system.unwrap(), after.cpu);
    shell.end();
}

#[test]
fn both_speeds_agree_and_never_fall() {
    let mut meter = Meter::tree(me());
    let mut last = Duration::ZERO;
    for turn in 0..200 {
        let depth = if turn % 10 == 0 { Depth::Full } else { Depth::Cpu };
        let usage = meter.measure(depth, None).unwrap();
        assert!(usage.cpu >= last);
        assert_eq!(usage.user.unwrap() + usage.system.unwrap(), usage.cpu);
        last = usage.cpu;
    }
    // Ours is one process among the children other tests start.
    assert!(last >= process_cpu(me()).unwrap() / 2);
}

#[test]
fn what_is_booked_counts_and_adds_up() {
    let mut meter = Meter::tree(me());
    let mut last = Usage::default();
    // More than we ever used, then less, as of books that begin anew.
    for (booked, cpu) in [(900, 900), (901, 901), (300, 901), (1000, 1000)] {
        let hours = |it| Duration::from_hours(it);
        for depth in [Depth::Full, Depth::Cpu] {
            let booked = Booked { cpu: hours(booked), scheduling: Scheduling::default() };
            let usage = meter.measure(depth, Some(booked)).unwrap();
            assert_eq!(usage.cpu, hours(cpu));
            assert_eq!(usage.user.unwrap() + usage.system.unwrap(), usage.cpu);
            assert!(usage.user >= last.user && usage.system >= last.system);
            last = usage;
        }
    }
}

#[test]
fn what_a_cgroup_knows_and_the_books_do_not_is_not_lost() {
    let folder = TestCgroup::new("books", 9_000_000);
    let mut meter = Meter::cgroup(me(), &folder.0);
    let seconds = Duration::from_secs;
    // The books begin when 9 s were used, 2 of which they could find.
    for (depth, stat, booked, cpu) in [
        (Depth::Cpu, 9, 2, 9),
        (Depth::Cpu, 9, 3, 10),
        (Depth::Full, 12, 4, 11),
        (Depth::Cpu, 12, 5, 12),
    ] {
        folder.used(stat * 1_000_000);
        let booked = Booked { cpu: seconds(booked), scheduling: Scheduling::default() };
        let usage = meter.measure(depth, Some(booked)).unwrap();
        assert_eq!(usage.cpu, seconds(cpu));
        assert_eq!(usage.user.unwrap() + usage.system.unwrap(), usage.cpu);
    }
    // Books that are lost take nothing away.
    assert_eq!(meter.measure(Depth::Cpu, None).unwrap().cpu, seconds(12));
}

#[test]
fn without_clocks_proc_will_do() {
    let shell = Shell::run(&format!("echo here; read x; {BURN} echo burnt; read x"));
    let mut meter = Meter::tree(shell.pid()).by(Clock::Stat);
    let before = meter.measure(Depth::Full, None).unwrap().cpu;
    let mut shell = shell;
    std::io::Write::write_all(shell.0.stdin.as_mut().unwrap(), b"go\n").unwrap();
    let mut line = String::new();
    BufReader::new(shell.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let clock = process_cpu(shell.pid()).unwrap();
    for depth in [Depth::Cpu, Depth::Full] {
        let after = meter.measure(depth, None).unwrap().cpu;
        assert_eq!(after.as_millis() % 10, 0, "{after:?}");
        assert!(after > before, "{before:?} {after:?}");
        assert!(after.abs_diff(clock) <= Duration::from_millis(20), "{after:?} {clock:?}");
    }
    shell.end();
}

#[test]
fn nothing_is_left_to_measure() {
    let shell = Shell::run("echo here; read x");
    let mut meter = Meter::tree(shell.pid());
    assert!(meter.measure(Depth::Cpu, None).is_some());
    shell.end();
    assert_eq!(meter.measure(Depth::Cpu, None), None);
    assert_eq!(meter.measure(Depth::Full, None), None);
}

#[test]
fn a_zombie_is_no_process() {
    let mut shell = Shell::run("echo here; read x");
    let mut meter = Meter::tree(shell.pid());
    drop(shell.0.stdin.take());
    // Wait for its end without reaping it.
    let id = rustix::process::Pid::from_child(&shell.0);
    let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    rustix::process::waitid(rustix::process::WaitId::Pid(id), options).unwrap();
    assert_eq!(meter.measure(Depth::Full, None), None);
    shell.0.wait().unwrap();
}

/// A folder with the files of a cgroup that we are in.
struct TestCgroup(PathBuf);

impl TestCgroup {
    fn new(name: &str, used_micros: u64) -> Self {
        let name = format!("bunpilot-cgroup-{}-{name}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).unwrap();
        fs::write(folder.0.join("cgroup.procs"), format!("{}\n0\n", me())).unwrap();
        folder.used(used_micros);
        folder
    }

    fn used(&self, micros: u64) {
        let text = format!("usage_usec {micros}\nuser_usec 7\nsystem_usec 5\n");
        fs::write(self.0.join("cpu.stat"), text).unwrap();
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn a_cgroups_files_are_read() {
    let folder = TestCgroup::new("files", 12);
    let mut meter = Meter::cgroup(me(), &folder.0);
    for depth in [Depth::Cpu, Depth::Full, Depth::Cpu] {
        let usage = meter.measure(depth, None).unwrap();
        assert_eq!(usage.cpu, Duration::from_micros(12));
        assert_eq!(usage.user, Some(Duration::from_micros(7)));
        assert_eq!(usage.system, Some(Duration::from_micros(5)));
        assert_eq!(usage.processes, 1);
    }
}

#[test]
fn who_is_in_a_cgroup_of_the_workers_own_is_counted() {
    let folder = TestCgroup::new("deep", 0);
    let shell = Shell::run("echo here; read x");
    let deeper = folder.0.join("a/b");
    fs::create_dir_all(&deeper).unwrap();
    fs::write(deeper.join("cgroup.procs"), format!("{}\n", shell.pid())).unwrap();
    let usage = Meter::cgroup(me(), &folder.0).measure(Depth::Full, None).unwrap();
    assert_eq!(usage.processes, 2);
    shell.end();
}

/// How much one look costs. Run with `--ignored --nocapture` on a quiet machine.
#[test]
#[ignore = "a measurement, not a check"]
fn cost() {
    let shells: Vec<_> = (0..100).map(|_| Shell::run("echo here; read x")).collect();
    let mut meters: Vec<_> = shells.iter().map(|shell| Meter::tree(shell.pid())).collect();
    for depth in [Depth::Full, Depth::Cpu, Depth::Full, Depth::Cpu] {
        let before = process_cpu(me()).unwrap();
        for _ in 0..20 {
            for meter in &mut meters {
                meter.measure(depth, None).unwrap();
            }
        }
        let spent = process_cpu(me()).unwrap().saturating_sub(before);
        let mut out = std::io::stdout();
        std::io::Write::write_fmt(
            &mut out,
            format_args!("{depth:?}: {:?} a worker\n", spent / 2000),
        )
        .unwrap();
    }
    shells.into_iter().for_each(Shell::end);
}
