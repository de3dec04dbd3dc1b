//! Children that are not what they should be, or nearly.

use std::{io::Read as _, os::fd::AsFd as _};

use rustix::{
    io::{FdFlags, fcntl_getfd},
    pipe::{PipeFlags, pipe_with},
};

use super::*;

fn words(words: &[&str]) -> Vec<CString> {
    words.iter().map(|word| CString::new(*word).unwrap()).collect()
}

fn plan<'a>(script: &str, fds: Vec<BorrowedFd<'a>>) -> Plan<'a> {
    Plan {
        programs: words(&["/nowhere/sh", "/bin/sh"]),
        argv: words(&["sh", "-c", script]),
        env: words(&["PATH=/usr/bin:/bin"]),
        pid_entries: Vec::new(),
        cwd: None,
        fds,
        limits: Vec::new(),
        user: None,
        cgroup: None,
        parent: Parent::Caller,
        bind: Bind::Free,
    }
}

fn output(mut change: impl FnMut(&mut Plan<'_>), script: &str) -> String {
    let null = std::fs::File::open("/dev/null").unwrap();
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut plan = plan(script, vec![null.as_fd(), write.as_fd()]);
    change(&mut plan);
    let pid = spawn(plan).unwrap().pid;
    drop(write);
    let mut text = String::new();
    std::fs::File::from(read).read_to_string(&mut text).unwrap();
    let pid = rustix::process::Pid::from_raw(pid.0);
    rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap();
    text
}

#[test]
fn the_child_knows_its_own_pid_and_leads_a_session() {
    let text = output(
        |plan| {
            plan.env.push(CString::new(format!("ME={}", Plan::PID_ROOM)).unwrap());
            plan.pid_entries.push(1);
        },
        r#"set -- $(cat /proc/$$/stat); echo "$ME = $$, session $6""#,
    );
    let me: i32 = text.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(text, format!("{me} = {me}, session {me}\n"));
}

#[test]
fn only_the_wanted_descriptors_and_default_signals() {
    let stray = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&stray, FdFlags::empty()).unwrap();
    assert_eq!(fcntl_getfd(&stray), Ok(FdFlags::empty()));
    let script = "echo /proc/self/fd/*; grep -E 'Sig(Blk|Ign)' /proc/self/status";
    let text = output(|_| {}, script);
    let zero = "0000000000000000";
    // 2 is the folder the shell itself reads
    assert_eq!(
        text,
        format!(
            "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2\nSigBlk:\t{zero}\nSigIgn:\t{zero}\n"
        )
    );
}

#[test]
fn failures_name_their_step() {
    #[track_caller]
    fn check(step: Step, errno: Errno, change: impl Fn(&mut Plan<'_>)) {
        let mut plan = plan("exit 0", Vec::new());
        change(&mut plan);
        let error = spawn(plan).unwrap_err();
        assert_eq!((error.step, error.source.raw_os_error()), (step, Some(errno.raw_os_error())));
    }
    check(Step::Execute, Errno::NOENT, |plan| plan.programs = words(&["/nowhere/sh"]));
    check(Step::Execute, Errno::ACCESS, |plan| {
        plan.programs = words(&["/etc/passwd", "/nope"]);
    });
    check(Step::Trap, Errno::MFILE, |plan| {
        let few = Rlimit { current: Some(0), maximum: Some(64) };
        plan.limits.push((Resource::Nofile, few));
        plan.bind = Bind::Trapped;
    });
    check(Step::Directory, Errno::NOENT, |plan| plan.cwd = words(&["/nowhere"]).pop());
}
