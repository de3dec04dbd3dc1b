//! Starting a process: clone3(2), a few calls between fork and exec, execve(2).
//!
//! Decides the order of those calls; everything they need is prepared before the fork, because
//! the child may neither allocate nor lock.

#![expect(unsafe_code, reason = "clone3(2), execve(2) and what must happen between them")]

mod report;

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
};

use rustix::{
    fs::{Mode, OFlags},
    io::{Errno, fcntl_dupfd_cloexec},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    process::{Resource, Rlimit},
};

use self::report::{Report, read_report};
use super::seccomp;
use crate::domain::{Pid, User};

/// Who becomes the parent of the new process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The caller.
    Caller,
    /// The caller's own parent; the caller never hears of the child's end.
    Callers,
}

/// Who decides about the new process's bind(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// The kernel, as usual.
    Free,
    /// Whoever holds [`Born::trap`], for it and all its descendants.
    Trapped,
}

/// All there is to say about a new process.
///
/// It leads a new session, its signals have their default effect, and it gets no descriptors but
/// those in `fds`.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Paths to try in this order; the next is tried only if one is missing or not permitted.
    pub programs: Vec<CString>,
    /// Arguments, the program's name first.
    pub argv: Vec<CString>,
    /// The whole environment, `name=value`.
    pub env: Vec<CString>,
    /// Entries of `env`, by index, that end in [`Plan::PID_ROOM`]: the child puts its pid there.
    pub pid_entries: Vec<usize>,
    /// Working directory; `None` keeps the caller's.
    pub cwd: Option<CString>,
    /// Become descriptors 0, 1, 2, …
    pub fds: Vec<BorrowedFd<'a>>,
    /// Limits to set while still privileged.
    pub limits: Vec<(Resource, Rlimit)>,
    /// Whom to become, without supplementary groups but `gid`.
    pub user: Option<User>,
    /// Directory of the cgroup (version 2) to be born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Whose child it will be.
    pub parent: Parent,
    /// Who decides about its bind(2).
    pub bind: Bind,
}

impl Plan<'_> {
    /// Placeholder for a pid in an entry of the environment: as long as the longest pid.
    pub const PID_ROOM: &'static str = "##########";
}

/// A process that runs its program.
#[derive(Debug)]
pub struct Born {
    /// Its number.
    pub pid: Pid,
    /// Where it asks before each bind(2), see [`seccomp::receive`]; with [`Bind::Trapped`].
    pub trap: Option<OwnedFd>,
}

/// What was being done for the new process when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Copying descriptors out of the way, before the fork.
    Prepare,
    /// clone3(2).
    Fork,
    /// Entering the cgroup.
    Cgroup,
    /// setsid(2).
    Session,
    /// setrlimit(2).
    Limit,
    /// Putting the descriptors in place.
    Descriptors,
    /// Having its bind(2) asked about.
    Trap,
    /// Becoming another user.
    User,
    /// chdir(2).
    Directory,
    /// execve(2).
    Execute,
}

impl Step {
    const ALL: [Self; 10] = [
        Self::Prepare,
        Self::Fork,
        Self::Cgroup,
        Self::Session,
        Self::Limit,
        Self::Descriptors,
        Self::Trap,
        Self::User,
        Self::Directory,
        Self::Execute,
    ];

    fn code(self) -> u8 {
        let index = Self::ALL.iter().position(|step| *step == self);
        index.and_then(|index| u8::try_from(index).ok()).unwrap_or(u8::MAX)
    }
}

/// The process was not started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start a process: {step:?}: {source}")]
pub struct SpawnError {
    /// What failed.
    pub step: Step,
    /// Why.
    pub source: io::Error,
}

type Failure = (Step, Errno);

impl From<Failure> for SpawnError {
    fn from((step, errno): Failure) -> Self {
        Self { step, source: errno.into() }
    }
}

/// Starts a process and returns once its program runs, or says why it does not.
///
/// A child of a failed start has been reaped. Safe in a process with many threads.
pub fn spawn(plan: Plan<'_>) -> Result<Born, SpawnError> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let (report, child_report) =
        socketpair(family, kind, SocketFlags::CLOEXEC, None).map_err(at(Step::Prepare))?;
    let bind = plan.bind;
    let child = Child::prepare(plan, &child_report)?;
    let Some(pid) = child.fork()? else { child.run() };
    drop(child);
    drop(child_report);
    let Report { trap, failure } = read_report(&report);
    let failure = failure.or_else(|| {
        if bind == Bind::Free || trap.is_some() {
            return None;
        }
        // its binds would all fail: nobody could ever answer them
        let _already_dead = super::kill(pid, crate::domain::Signal::KILL);
        Some((Step::Trap, Errno::MFILE))
    });
    match failure {
        None => Ok(Born { pid, trap }),
        Some(failure) => {
            // the child exits right after its report; with `Parent::Callers` others reap it
            let pid = rustix::process::Pid::from_raw(pid.0);
            let _reaped = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
            Err(failure.into())
        }
    }
}

fn at(step: Step) -> impl Fn(Errno) -> Failure {
    move |errno| (step, errno)
}

/// A [`Plan`] in the form the child needs: nothing is allocated after the fork.
struct Child<'a> {
    plan: Plan<'a>,
    /// The entries of the environment, each ending in NUL.
    env: Vec<Vec<u8>>,
    pid_entries: Vec<usize>,
    /// Room for what `execute` fills in.
    argv_pointers: Vec<*const libc::c_char>,
    env_pointers: Vec<*const libc::c_char>,
    /// Copies of the plan's descriptors, all numbered above those they become.
    fds: Vec<OwnedFd>,
    /// Where the child says what failed; numbered above `fds`' targets, too.
    report: OwnedFd,
}

/// `struct clone_args` of `linux/sched.h`, third version.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_PARENT: u64 = 0x8000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const SIGCHLD: u64 = 17;
/// The highest signal of Linux.
const SIGNAL_MAX: i32 = 64;

impl<'a> Child<'a> {
    fn prepare(mut plan: Plan<'a>, report: &OwnedFd) -> Result<Self, Failure> {
        let above = RawFd::try_from(plan.fds.len()).unwrap_or(RawFd::MAX);
        let copy = |fd: BorrowedFd<'_>| fcntl_dupfd_cloexec(fd, above).map_err(at(Step::Prepare));
        let fds = plan.fds.iter().map(|fd| copy(*fd)).collect::<Result<_, _>>()?;
        let report = fcntl_dupfd_cloexec(report, above).map_err(at(Step::Prepare))?;
        let env: Vec<Vec<u8>> =
            std::mem::take(&mut plan.env).into_iter().map(CString::into_bytes_with_nul).collect();
        let pid_entries = std::mem::take(&mut plan.pid_entries);
        let argv_pointers = vec![std::ptr::null(); plan.argv.len() + 1];
        let env_pointers = vec![std::ptr::null(); env.len() + 1];
        Ok(Self { plan, env, pid_entries, argv_pointers, env_pointers, fds, report })
    }

    /// Forks; `None` in the child.
    fn fork(&self) -> Result<Option<Pid>, Failure> {
        let (parent, exit_signal) = match self.plan.parent {
            Parent::Caller => (0, SIGCHLD),
            Parent::Callers => (CLONE_PARENT, 0),
        };
        let mut args = CloneArgs { flags: parent, exit_signal, ..CloneArgs::default() };
        if let Some(cgroup) = self.plan.cgroup {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = u64::try_from(cgroup.as_raw_fd()).unwrap_or(u64::MAX);
        }
        // SAFETY: `args` is valid for its size. No memory is shared and no stack given, so it
        // acts as fork(2). The child allocates nothing, takes no lock and ends in `run`.
        let pid = match unsafe {
            libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>())
        } {
            -1 => match last_errno() {
                // no such call, or a sandbox refuses what it does not know: the older call, and
                // the child enters the cgroup by itself
                Errno::NOSYS | Errno::PERM => return self.fork_plainly(parent | exit_signal),
                errno @ (Errno::AGAIN | Errno::NOMEM) => return Err((Step::Fork, errno)),
                errno if self.plan.cgroup.is_some() => return Err((Step::Cgroup, errno)),
                errno => return Err((Step::Fork, errno)),
            },
            pid => pid,
        };
        Ok(child_pid(pid))
    }

    fn fork_plainly(&self, flags: u64) -> Result<Option<Pid>, Failure> {
        // SAFETY: a null stack asks for fork(2)'s behaviour; the null pointers are not used
        // without their flags. As above for the child.
        let pid = match unsafe { libc::syscall(libc::SYS_clone, flags, 0_u64, 0_u64, 0_u64, 0_u64) }
        {
            -1 => return Err((Step::Fork, last_errno())),
            pid => pid,
        };
        if pid == 0
            && let Some(cgroup) = self.plan.cgroup
            && let Err(errno) = enter(cgroup)
        {
            self.give_up((Step::Cgroup, errno));
        }
        Ok(child_pid(pid))
    }

    /// The child's way from the fork to its program.
    fn run(mut self) -> ! {
        let failure = match self.become_program() {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        self.give_up(failure)
    }

    fn give_up(&self, (step, errno): Failure) -> ! {
        report::tell_failure(&self.report, (step, errno));
        // SAFETY: ends the process without running the parent's exit handlers.
        unsafe { libc::_exit(127) }
    }

    fn become_program(&mut self) -> Result<std::convert::Infallible, Failure> {
        rustix::process::setsid().map_err(at(Step::Session))?;
        self.write_pid();
        for &(resource, limit) in &self.plan.limits {
            rustix::process::setrlimit(resource, limit).map_err(at(Step::Limit))?;
        }
        self.place_fds().map_err(at(Step::Descriptors))?;
        reset_signals();
        if self.plan.bind == Bind::Trapped {
            self.set_trap().map_err(at(Step::Trap))?;
        }
        if let Some(user) = self.plan.user {
            become_user(user).map_err(at(Step::User))?;
        }
        if let Some(cwd) = &self.plan.cwd {
            rustix::process::chdir(cwd.as_c_str()).map_err(at(Step::Directory))?;
        }
        Err((Step::Execute, self.execute()))
    }

    fn write_pid(&mut self) {
        let mut digits = [0_u8; Plan::PID_ROOM.len()];
        let mut rest = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
        let mut first = digits.len();
        while rest > 0 && first > 0 {
            first -= 1;
            digits[first] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        digits.rotate_left(first); // the zeros behind it end the entry
        for &index in &self.pid_entries {
            let Some(entry) = self.env.get_mut(index) else { continue };
            let end = entry.len().saturating_sub(1);
            if let Some(room) = entry.get_mut(end.saturating_sub(digits.len())..end) {
                room.copy_from_slice(&digits);
            }
        }
    }

    fn place_fds(&self) -> Result<(), Errno> {
        let mut target: RawFd = 0;
        for fd in &self.fds {
            // SAFETY: takes two numbers. What `target` was in the parent this process has no use
            // for: every descriptor still needed is numbered above all targets.
            if unsafe { libc::dup2(fd.as_raw_fd(), target) } < 0 {
                return Err(last_errno());
            }
            target += 1;
        }
        // whatever some library opened without O_CLOEXEC; old kernels refuse, and that is fine
        // SAFETY: only marks descriptors, and none of those it may mark is meant to be kept.
        unsafe { libc::syscall(libc::SYS_close_range, target, u32::MAX, 4) };
        Ok(())
    }

    /// While still privileged: then rights can still be gained by execve(2).
    fn set_trap(&self) -> Result<(), Errno> {
        let trap = seccomp::trap_bind()?;
        report::tell_trap(&self.report, &trap)
    }

    /// Replaces this process; returns why it did not.
    fn execute(&mut self) -> Errno {
        for (pointer, entry) in self.argv_pointers.iter_mut().zip(&self.plan.argv) {
            *pointer = entry.as_ptr();
        }
        for (pointer, entry) in self.env_pointers.iter_mut().zip(&self.env) {
            *pointer = entry.as_ptr().cast();
        }
        let mut worst = Errno::NOENT;
        for program in &self.plan.programs {
            // SAFETY: all three are NUL-terminated; both arrays end in null and point into
            // `plan.argv` and `env`, which live as long as `self`.
            unsafe {
                libc::execve(
                    program.as_ptr(),
                    self.argv_pointers.as_ptr(),
                    self.env_pointers.as_ptr(),
                )
            };
            match last_errno() {
                Errno::NOENT | Errno::NOTDIR => {}
                Errno::ACCESS => worst = Errno::ACCESS,
                errno => return errno,
            }
        }
        worst
    }
}

fn child_pid(pid: libc::c_long) -> Option<Pid> {
    (pid != 0).then(|| Pid(i32::try_from(pid).unwrap_or(i32::MAX)))
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

fn enter(cgroup: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let procs = rustix::fs::openat(cgroup, c"cgroup.procs", flags, Mode::empty())?;
    rustix::io::write(&procs, b"0").map(drop)
}

/// Gives every signal its default effect and blocks none.
fn reset_signals() {
    // SIG_DFL, no flags, no mask: `struct kernel_sigaction`. libc's own call refuses 32 and 33,
    // which some parents leave ignored.
    let action = [0_u64; 4];
    let old: *mut u64 = std::ptr::null_mut();
    for signal in 1..=SIGNAL_MAX {
        // SAFETY: reads `action` and installs no handler; for SIGKILL and SIGSTOP it fails,
        // which changes nothing.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), old, size_of::<u64>())
        };
    }
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: initialises the whole of `none`.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: reads `none`, initialised above; the old mask is not wanted.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) };
}

/// Groups first: without the rights of the user before, they could not be given up.
///
/// Bare system calls: libc's would try to reach the threads of the parent.
fn become_user(user: User) -> Result<(), Errno> {
    let (uid, gid) =
        (rustix::process::Uid::from_raw(user.uid), rustix::process::Gid::from_raw(user.gid));
    rustix::thread::set_thread_groups(&[gid])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

#[cfg(test)]
mod tests;
