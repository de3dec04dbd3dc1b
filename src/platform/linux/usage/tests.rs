//! On real processes.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use super::*;

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
    let split = after.user.unwrap() + after.system.unwrap();
    assert!(split.abs_diff(after.cpu) <= Duration::from_millis(20), "{after:?}");
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
            let usage = meter.measure(depth, Some(hours(booked))).unwrap();
            assert_eq!(usage.cpu, hours(cpu));
            assert_eq!(usage.user.unwrap() + usage.system.unwrap(), usage.cpu);
            assert!(usage.user >= last.user && usage.system >= last.system);
            last = usage;
        }
    }
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

#[test]
fn a_cgroups_files_are_read() {
    let folder = std::env::temp_dir().join(format!("bunpilot-cgroup-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("cgroup.procs"), format!("{}\n0\n", me())).unwrap();
    fs::write(folder.join("cpu.stat"), "usage_usec 9000000000\nuser_usec 7\nsystem_usec 5\n")
        .unwrap();
    let mut meter = Meter::cgroup(me(), &folder);
    for depth in [Depth::Cpu, Depth::Full, Depth::Cpu] {
        let usage = meter.measure(depth, None).unwrap();
        assert_eq!(usage.cpu, Duration::from_mins(150));
        assert_eq!(usage.user, Some(Duration::from_micros(7)));
        assert_eq!(usage.processes, 1);
    }
    fs::remove_dir_all(&folder).unwrap();
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
