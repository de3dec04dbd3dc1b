//! From a spawn order to a running worker, or to the reason why there is none.
//!
//! Decides which descriptors and variables a worker gets and who keeps the other ends. What
//! happens between fork and exec is in [`sys::spawn`].

use std::{
    collections::BTreeMap,
    ffi::{CString, OsStr, OsString},
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags},
    io::{Errno, ioctl_fionbio},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
    process::{Resource, Rlimit, getrlimit},
};

use super::{
    harmless,
    procfs::Process,
    trap,
    tree::{Forest, MARK_VARIABLE, Orphans, TRAP_VARIABLE, Tree},
    wire::{Channel, Life, Output, Role, Spawn},
};
use crate::{
    domain::{Moment, User},
    platform::sys::{self, Bind, Born, Parent, Plan, SpawnError, Step},
};

/// Variables that would mislead a worker if they came from anywhere else.
const OURS: [&str; 8] = [
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "NOTIFY_SOCKET",
    MARK_VARIABLE,
    TRAP_VARIABLE,
];
/// Where programs are looked for if the worker's environment has no `PATH`.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";
/// First descriptor after the standard ones (`SD_LISTEN_FDS_START`).
const FIRST_FD: usize = 3;

/// What a new worker leaves with the guard.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) life: Life,
    pub(super) fds: BTreeMap<Role, OwnedFd>,
    pub(super) tree: Tree,
    /// Why its port is not opened for it as ordered.
    pub(super) untrapped: Option<String>,
}

/// Limits of open files as they were before the guard raised its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nofile {
    pub(super) soft: Option<u64>,
}

/// Starts a worker, or says in words why not.
pub(super) fn launch(
    spawn: Spawn,
    held: &BTreeMap<String, OwnedFd>,
    forest: &Forest,
    nofile: Nofile,
) -> Result<Launched, String> {
    let mut ends = Ends::open(&spawn, held)?;
    let result = start(&spawn, &ends, forest, nofile);
    if result.is_err()
        && let Some(path) = &spawn.notify
    {
        harmless(std::fs::remove_file(path));
    }
    let Start { born, tree, spawned, untrapped } = result?;
    let pid = born.pid;
    // it cannot be anybody else's yet: only the guard reaps it, and has not
    let started_ticks = Process::read(pid.0).map_or(0, |process| process.started_ticks);
    let Spawn { label, note, trap, .. } = spawn;
    let life = Life {
        label,
        note,
        pid,
        started_ticks,
        spawned,
        exit: None,
        gone: false,
        trap: trap.filter(|_| born.trap.is_some()),
        listens: Vec::new(),
    };
    let mut fds = std::mem::take(&mut ends.ours);
    fds.extend(born.trap.map(|trap| (Role::Trap, trap)));
    Ok(Launched { life, fds, tree, untrapped })
}

/// A worker that began.
struct Start {
    born: Born,
    tree: Tree,
    spawned: Moment,
    untrapped: Option<String>,
}

fn start(spawn: &Spawn, ends: &Ends<'_>, forest: &Forest, nofile: Nofile) -> Result<Start, String> {
    let group = forest.group(&spawn.label);
    // without a cgroup of its own (their number may be limited) a worker is still worth having
    let mut folder = group.as_ref().and_then(|group| group.make().ok());
    let mut tree = match group {
        Some(group) if folder.is_some() => Tree::Cgroup(group),
        Some(_) | None => Tree::Session(Orphans::Ours),
    };
    let mark = forest.mark(&spawn.label);
    let mut untrapped = spawn.trap.as_ref().and_then(|_| trap::can_look().err());
    loop {
        let spawned = Moment::from_boot(sys::monotonic_now());
        let trapped = spawn.trap.is_some() && untrapped.is_none();
        let mut plan = plan(spawn, ends, &mark, nofile)?;
        plan.cgroup = folder.as_ref().map(|fd| fd.as_fd());
        if trapped {
            plan.bind = Bind::Trapped;
            plan.env.push(c_string(OsStr::new(&format!("{TRAP_VARIABLE}=1")))?);
        }
        let outcome = sys::spawn(plan);
        match outcome {
            Ok(born) => return Ok(Start { born, tree, spawned, untrapped }),
            Err(SpawnError { step: Step::Cgroup, .. }) if folder.is_some() => {
                tree.remove();
                tree = Tree::Session(Orphans::Ours);
                folder = None;
            }
            Err(SpawnError { step: Step::Trap, source }) if trapped => {
                let errno = Errno::from_io_error(&source).unwrap_or(Errno::INVAL);
                untrapped = Some(trap::explain(errno));
            }
            Err(error) => {
                tree.remove();
                return Err(explain(spawn, &error));
            }
        }
    }
}

/// Both ends of all that connects a worker to the outside.
struct Ends<'a> {
    /// What becomes the worker's 0, 1, 2, ….
    theirs: Vec<OwnedFd>,
    /// Held sockets it inherits after the first three.
    listen: Vec<BorrowedFd<'a>>,
    /// Its end of the channel; comes after `listen`.
    channel: Option<OwnedFd>,
    /// What the guard keeps.
    ours: BTreeMap<Role, OwnedFd>,
}

impl<'a> Ends<'a> {
    fn open(spawn: &Spawn, held: &'a BTreeMap<String, OwnedFd>) -> Result<Self, String> {
        let listen = spawn.listen.iter().map(|key| {
            let fd = held.get(key).map(|fd| fd.as_fd());
            fd.ok_or_else(|| format!("no listening socket is held as `{key}`"))
        });
        let listen = listen.collect::<Result<_, _>>()?;
        let opened = |what: &'static str| move |errno: Errno| explain_open(what, errno);
        let null = |flags| rustix::fs::open("/dev/null", flags | OFlags::CLOEXEC, Mode::empty());
        let mut theirs = vec![null(OFlags::RDONLY).map_err(opened("`/dev/null`"))?];
        let mut ours = BTreeMap::new();
        let outputs = [
            (Role::Out, spawn.out, "a pipe for its output"),
            (Role::Err, spawn.err, "a pipe for its errors"),
        ];
        for (role, output, what) in outputs {
            theirs.push(match output {
                Output::Nowhere => null(OFlags::WRONLY).map_err(opened("`/dev/null`"))?,
                Output::Pipe { bytes } => {
                    let (read, write) = output_pipe(bytes, spawn.user).map_err(opened(what))?;
                    ours.insert(role, read);
                    write
                }
            });
        }
        let channel = match spawn.channel {
            Channel::Off => None,
            Channel::Json => {
                let (end, theirs) = channel().map_err(opened("its message channel"))?;
                ours.insert(Role::Channel, end);
                Some(theirs)
            }
        };
        if let Some(path) = &spawn.notify {
            let socket =
                notify_socket(path, spawn.user).map_err(|errno| explain_bind(path, errno))?;
            ours.insert(Role::Notify, socket);
        }
        Ok(Self { theirs, listen, channel, ours })
    }

    fn in_order(&self) -> Vec<BorrowedFd<'_>> {
        let theirs = self.theirs.iter().map(|fd| fd.as_fd());
        theirs
            .chain(self.listen.iter().copied())
            .chain(self.channel.as_ref().map(|fd| fd.as_fd()))
            .collect()
    }
}

/// Opens a pipe whose writing side is also a reader of its own, so that a worker never sees
/// `EPIPE`, not even if guard and daemon are both dead.
fn output_pipe(bytes: u32, user: Option<User>) -> Result<(OwnedFd, OwnedFd), Errno> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    ioctl_fionbio(&read, true)?;
    // a user's pipes together are limited (`pipe(7)`); a smaller one only means more wake-ups
    harmless(fcntl_setpipe_size(&write, usize::try_from(bytes).unwrap_or(0)));
    if let Some(user) = user {
        // lets the worker open `/dev/stdout`
        harmless(rustix::fs::fchown(&write, Some(uid(user)), Some(gid(user))));
    }
    let number = std::os::fd::AsRawFd::as_raw_fd(&write);
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let both = rustix::fs::open(format!("/proc/self/fd/{number}"), flags, Mode::empty())?;
    Ok((read, both))
}

fn channel() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let (ours, theirs) = rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None)?;
    ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

fn notify_socket(path: &Path, user: Option<User>) -> Result<OwnedFd, Errno> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    // before bind(2), so that the file never has other rights
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::sockopt::set_socket_passcred(&socket, true)?;
    match rustix::net::bind(&socket, &address) {
        Err(Errno::ADDRINUSE) => {
            // labels are never used twice, so this one's owner is dead
            rustix::fs::unlink(path)?;
            rustix::net::bind(&socket, &address)?;
        }
        result => result?,
    }
    if let Some(user) = user {
        rustix::fs::chown(path, Some(uid(user)), Some(gid(user)))?;
    }
    Ok(socket)
}

fn uid(user: User) -> rustix::fs::Uid {
    rustix::fs::Uid::from_raw(user.uid)
}

fn gid(user: User) -> rustix::fs::Gid {
    rustix::fs::Gid::from_raw(user.gid)
}

fn plan<'a>(
    spawn: &Spawn,
    ends: &'a Ends<'a>,
    mark: &str,
    nofile: Nofile,
) -> Result<Plan<'a>, String> {
    let argv = spawn.argv.iter().map(|word| c_string(word)).collect::<Result<Vec<_>, _>>()?;
    let (env, pid_entries) = environment(spawn, ends, mark)?;
    Ok(Plan {
        programs: candidates(spawn)?,
        argv,
        env,
        pid_entries,
        cwd: Some(c_string(spawn.cwd.as_os_str())?),
        fds: ends.in_order(),
        limits: limits(&spawn.limits, nofile)?,
        user: spawn.user,
        cgroup: None,
        parent: Parent::Caller,
        bind: Bind::Free,
    })
}

fn c_string(text: &OsStr) -> Result<CString, String> {
    CString::new(text.as_bytes()).map_err(|error| {
        let (text, at) = (text.display(), error.nul_position());
        format!("`{text}` has a zero byte at {at}, which no program can be given")
    })
}

/// The paths `execvp(3)` would try.
fn candidates(spawn: &Spawn) -> Result<Vec<CString>, String> {
    let program = spawn.argv.first().filter(|program| !program.is_empty());
    let program = program.ok_or("there is no program to run")?;
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(program)?]);
    }
    let path = spawn.env.iter().rev().find(|(name, _)| name == "PATH");
    let path = path.map_or(OsStr::new(PATH_DEFAULT), |(_, value)| value);
    std::env::split_paths(path).map(|folder| c_string(folder.join(program).as_os_str())).collect()
}

fn environment(
    spawn: &Spawn,
    ends: &Ends<'_>,
    mark: &str,
) -> Result<(Vec<CString>, Vec<usize>), String> {
    let theirs = |name: &OsString| !OURS.iter().any(|ours| name == *ours);
    let mut env = Vec::with_capacity(spawn.env.len() + OURS.len());
    for (name, value) in spawn.env.iter().filter(|(name, _)| theirs(name)) {
        env.push(c_string(&[name.as_os_str(), value].join(OsStr::new("=")))?);
    }
    let mut pid_entries = vec![env.len()];
    let mut add = |name: &str, value: &OsStr| {
        env.push(c_string(&[OsStr::new(name), value].join(OsStr::new("=")))?);
        Ok::<_, String>(env.len() - 1)
    };
    add(MARK_VARIABLE, format!("{mark}{}", Plan::PID_ROOM).as_ref())?;
    if !ends.listen.is_empty() {
        pid_entries.push(add("LISTEN_PID", Plan::PID_ROOM.as_ref())?);
        add("LISTEN_FDS", ends.listen.len().to_string().as_ref())?;
        let names: Vec<_> = spawn.listen.iter().map(|key| key.replace([':', '\n'], "_")).collect();
        add("LISTEN_FDNAMES", names.join(":").as_ref())?;
    }
    if ends.channel.is_some() {
        add("NODE_CHANNEL_FD", (FIRST_FD + ends.listen.len()).to_string().as_ref())?;
        add("NODE_CHANNEL_SERIALIZATION_MODE", "json".as_ref())?;
    }
    if let Some(path) = &spawn.notify {
        add("NOTIFY_SOCKET", path.as_os_str())?;
    }
    Ok((env, pid_entries))
}

const LIMITS: [(&str, Resource); 16] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

fn limits(
    wanted: &[(String, Option<u64>)],
    nofile: Nofile,
) -> Result<Vec<(Resource, Rlimit)>, String> {
    // what the guard raised for itself is not the workers' business; theirs may follow
    let hard = getrlimit(Resource::Nofile).maximum;
    let mut limits = vec![(Resource::Nofile, Rlimit { current: nofile.soft, maximum: hard })];
    for (name, value) in wanted {
        let known = LIMITS.iter().find(|(known, _)| known == name);
        let (_, resource) = known.ok_or_else(|| {
            let names: Vec<_> = LIMITS.iter().map(|(name, _)| *name).collect();
            format!("`{name}` is no resource limit; there are {}", names.join(", "))
        })?;
        limits.push((*resource, Rlimit { current: *value, maximum: *value }));
    }
    Ok(limits)
}

fn explain_open(what: &str, errno: Errno) -> String {
    match errno {
        Errno::MFILE => format!(
            "cannot open {what}: bunpilot has as many files open as it may; raise the limit \
             (`ulimit -Hn`) it is started with"
        ),
        Errno::NFILE => format!("cannot open {what}: the machine has too many files open"),
        errno => format!("cannot open {what}: {errno}"),
    }
}

fn explain_bind(path: &Path, errno: Errno) -> String {
    let path = path.display();
    match errno {
        Errno::NAMETOOLONG | Errno::INVAL => format!(
            "cannot bind the worker's NOTIFY_SOCKET at `{path}`: the path is too long for a \
             socket (107 bytes); choose a shorter BUNPILOT_HOME"
        ),
        Errno::MFILE | Errno::NFILE => explain_open("its NOTIFY_SOCKET", errno),
        errno => format!("cannot bind the worker's NOTIFY_SOCKET at `{path}`: {errno}"),
    }
}

fn explain(spawn: &Spawn, error: &SpawnError) -> String {
    let errno = Errno::from_io_error(&error.source).unwrap_or(Errno::INVAL);
    let program = spawn.argv.first().map(|word| word.display().to_string()).unwrap_or_default();
    let cwd = spawn.cwd.display();
    match error.step {
        Step::Prepare => explain_open("its descriptors", errno),
        Step::Fork if errno == Errno::AGAIN => "cannot start another process: the limit of \
             processes is reached (`ulimit -u`, or `pids.max` of the cgroup)"
            .to_owned(),
        Step::Fork => format!("cannot start another process: {}", words(errno)),
        Step::Cgroup => format!("cannot enter the worker's cgroup: {}", words(errno)),
        Step::Session => format!("cannot begin a session: {}", words(errno)),
        Step::Limit if errno == Errno::PERM => "cannot set the resource limits: a limit above \
             the current hard limit needs root"
            .to_owned(),
        Step::Limit => format!("cannot set the resource limits: {}", words(errno)),
        Step::Descriptors => format!("cannot pass its descriptors on: {}", words(errno)),
        Step::Trap => format!("cannot watch over its port: {}", words(errno)),
        Step::User => {
            let User { uid, gid } = spawn.user.unwrap_or(User { uid: 0, gid: 0 });
            format!("cannot become user {uid}, group {gid}: {}", words(errno))
        }
        Step::Directory => format!("cannot enter the working directory `{cwd}`: {}", words(errno)),
        Step::Execute if errno == Errno::NOEXEC => {
            format!("cannot run `{program}`: not a program for this machine, and no `#!` line")
        }
        Step::Execute if errno == Errno::TOOBIG => {
            format!("cannot run `{program}`: arguments and environment are too long")
        }
        Step::Execute if errno == Errno::NOENT && Path::new(&program).exists() => {
            format!("cannot run `{program}`: the interpreter its first line names does not exist")
        }
        Step::Execute if errno == Errno::NOENT && !program.contains('/') => {
            format!("cannot run `{program}`: not found on the worker's PATH")
        }
        Step::Execute => format!("cannot run `{program}`: {}", words(errno)),
    }
}

fn words(errno: Errno) -> String {
    match errno {
        Errno::NOENT => "no such file or directory".to_owned(),
        Errno::ACCESS => "permission denied".to_owned(),
        Errno::PERM => "not permitted".to_owned(),
        Errno::NOTDIR => "not a directory".to_owned(),
        errno => io::Error::from(errno).to_string().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, value: Option<u64>, expected: Result<usize, &str>) {
        let limits = limits(&[(name.to_owned(), value)], Nofile { soft: Some(64) });
        match (limits, expected) {
            (Ok(limits), Ok(count)) => assert_eq!(limits.len(), count),
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
            (limits, expected) => panic!("{limits:?}, not {expected:?}"),
        }
    }

    #[test]
    fn limits_by_name() {
        check("core", Some(0), Ok(2));
        check("nofile", None, Ok(2));
        check("wings", Some(2), Err("`wings` is no resource limit; there are as, core,"));
    }
}
