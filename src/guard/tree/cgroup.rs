//! One cgroup (version 2) per worker: `cgroups(7)`, `Documentation/admin-guide/cgroup-v2.rst`.
//!
//! Decides where they lie: `bunpilot-<home>/<label>` below the cgroup the guard itself is in.
//! Sets no limits and never touches a cgroup it did not make.

use std::{
    collections::BTreeSet,
    ffi::{CString, OsStr},
    fs, io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::FileExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

use super::Aftermath;
use crate::{
    domain::{Pid, Signal},
    guard::{cgroup_name, harmless, hash, procfs},
    platform::sys::{self, Bind, Parent, Plan, Step},
};

/// The folder of all workers of one home.
#[derive(Debug)]
pub(in crate::guard) struct Base {
    path: PathBuf,
}

/// The cgroup of one worker.
#[derive(Debug)]
pub(in crate::guard) struct Group {
    path: PathBuf,
}

/// Longest part of a label that becomes part of a folder's name (`NAME_MAX` is 255).
const NAME_MAX: usize = 200;
/// How deep a worker's own cgroups may be nested before we stop looking.
const DEPTH_MAX: usize = 16;

impl Base {
    /// Makes the folder and tries whether a process can really be born in it; `None` if not.
    pub(in crate::guard) fn open(home: &Path) -> Option<Self> {
        let path = home_folder(home)?;
        make(&path).ok()?;
        let base = Self { path };
        base.sweep();
        // no label is written like this
        let probe = Group { path: base.path.join("probe%") };
        let usable = probe.make().is_ok_and(|dir| can_enter(&dir));
        probe.remove();
        if !usable {
            base.remove();
        }
        usable.then_some(base)
    }

    /// Names the cgroup of a worker.
    pub(in crate::guard) fn group(&self, label: &str) -> Group {
        Group { path: folder(&self.path, label) }
    }

    /// Removes what earlier guards left behind and nobody lives in.
    fn sweep(&self) {
        for path in folders(&self.path) {
            Group { path }.remove();
        }
    }

    /// Removes the folder if nothing is left in it.
    pub(in crate::guard) fn remove(&self) {
        self.sweep();
        harmless(fs::remove_dir(&self.path));
    }
}

/// Whether a process can be born in the cgroup of this folder.
///
/// Starts nothing: the root folder is no program, but being told so takes place inside.
pub(crate) fn can_enter(dir: &OwnedFd) -> bool {
    let word = || vec![CString::from(c"/")];
    let plan = Plan {
        programs: word(),
        argv: word(),
        env: Vec::new(),
        pid_entries: Vec::new(),
        cwd: None,
        fds: Vec::new(),
        limits: Vec::new(),
        user: None,
        cgroup: Some(dir.as_fd()),
        parent: Parent::Caller,
        bind: Bind::Free,
    };
    sys::spawn(plan).is_err_and(|error| error.step == Step::Execute)
}

impl Group {
    /// Creates it, and opens its folder so that a process can be born in it.
    pub(in crate::guard) fn make(&self) -> io::Result<OwnedFd> {
        make(&self.path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(&self.path, flags, Mode::empty())?)
    }

    /// Whether it is there.
    pub(in crate::guard) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Opens what tells when it becomes empty: `POLLPRI` comes with every change.
    pub(in crate::guard) fn events(&self) -> io::Result<fs::File> {
        fs::File::open(self.path.join("cgroup.events"))
    }

    /// Sends `signal` to every process inside.
    pub(in crate::guard) fn signal(&self, signal: Signal) -> Aftermath {
        if signal == Signal::KILL && fs::write(self.path.join("cgroup.kill"), "1").is_ok() {
            return Aftermath::Complete;
        }
        let mut listed = BTreeSet::new();
        members(&self.path, DEPTH_MAX, &mut listed);
        let open = |pid: &i32| Some((*pid, procfs::open_pid(Pid(*pid))?));
        let handles: Vec<_> = listed.iter().filter_map(open).collect();
        // a number listed before *and* after its handle was opened is the handle's: in between it
        // could only have become a stranger's by leaving this list
        let mut still = BTreeSet::new();
        members(&self.path, DEPTH_MAX, &mut still);
        for (pid, handle) in handles {
            if still.contains(&pid) {
                harmless(sys::pidfd_signal(handle.as_fd(), signal));
            }
        }
        Aftermath::Repeat
    }

    /// Removes it and all below it, as far as nobody lives there.
    pub(in crate::guard) fn remove(&self) {
        remove(&self.path, DEPTH_MAX);
    }
}

/// Reads from an open `cgroup.events` whether anyone lives in that cgroup.
pub(in crate::guard) fn populated(events: &fs::File) -> bool {
    let mut room = [0_u8; 256];
    let Ok(count) = events.read_at(&mut room, 0) else {
        return false; // the folder itself is gone
    };
    let text = room.get(..count).unwrap_or_default();
    text.split(|byte| *byte == b'\n').any(|line| line == b"populated 1")
}

/// The folder of all workers of `home`, if the guard is in our cgroup as we are born in its.
pub(crate) fn home_folder(home: &Path) -> Option<PathBuf> {
    Some(folder_of_process("self")?.join(cgroup_name(home)))
}

/// The folder of the cgroup a worker of `home` was born in, wherever the guard was that made it;
/// `pid`, its first process, is still there or deeper.
pub(crate) fn worker_folder(home: &Path, label: &str, pid: Pid) -> Option<PathBuf> {
    let end = Path::new(&cgroup_name(home)).join(folder_name(label));
    let folder = folder_of_process(&pid.to_string())?;
    folder.ancestors().find(|it| it.ends_with(&end)).map(Path::to_owned)
}

fn folder_of_process(pid: &str) -> Option<PathBuf> {
    own_folder(&mounts()?, &fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.flatten().filter(is_folder).map(|entry| entry.path()).collect()
}

fn remove(path: &Path, depth: usize) {
    if depth > 0 && fs::remove_dir(path).is_err() {
        for below in folders(path) {
            remove(&below, depth - 1);
        }
        harmless(fs::remove_dir(path));
    }
}

fn members(path: &Path, depth: usize, pids: &mut BTreeSet<i32>) {
    let Ok(text) = fs::read_to_string(path.join("cgroup.procs")) else { return };
    // 0 stands for a process our pid namespace cannot see
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    if depth > 0 {
        for below in folders(path) {
            members(&below, depth - 1, pids);
        }
    }
}

/// A name without `/`, `.` (the kernel's own files have one) or anything that needs quoting;
/// different labels have different names.
fn folder_name(label: &str) -> String {
    let mut name = String::new();
    for byte in label.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'#' | b'@' | b':') {
            name.push(char::from(byte));
        } else {
            let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or('?');
            name.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    if name.is_empty() || name.len() > NAME_MAX {
        name.truncate(NAME_MAX - 20);
        name.push('%');
        name.push_str(&hash(label.as_bytes()));
    }
    name
}

/// Makes a cgroup, unless it is there.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Where the hierarchy begins, as far as we see it.
pub(crate) fn root() -> Option<PathBuf> {
    own_folder(&mounts()?, "0::/")
}

/// The folder of a worker's cgroup below that of its home.
pub(crate) fn folder(base: &Path, label: &str) -> PathBuf {
    base.join(folder_name(label))
}

fn mounts() -> Option<String> {
    fs::read_to_string("/proc/self/mountinfo").ok()
}

/// Finds the folder of our own cgroup: its path from `cgroups(7)`, below the mount point from
/// `proc_pid_mountinfo(5)`.
pub(crate) fn own_folder(mounts: &str, own: &str) -> Option<PathBuf> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        if kind.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // outside of the mounted part, or of our cgroup namespace (`/..`): not ours to use
        let below = Path::new(own).strip_prefix(unescape(root)).ok()?;
        if below.components().any(|part| part.as_os_str() == "..") {
            return None;
        }
        Some(unescape(point).join(below))
    })
}

/// Undoes the octal escapes of `mountinfo`.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsStr::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_folder() {
        #[track_caller]
        fn check(mounts: &str, own: &str, expected: Option<&str>) {
            assert_eq!(own_folder(mounts, own).as_deref(), expected.map(Path::new));
        }
        let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        let hybrid = "37 31 0:34 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 c rw\n";
        let bound = "41 31 0:38 /docker/abc /sys/fs/c\\040g rw - cgroup2 cgroup2 rw\n";
        check(unified, "0::/user.slice/a.scope\n", Some("/sys/fs/cgroup/user.slice/a.scope"));
        check(hybrid, "8:pids:/\n0::/\n", Some("/sys/fs/cgroup/unified"));
        check(bound, "0::/docker/abc/x", Some("/sys/fs/c g/x"));
        check(bound, "0::/elsewhere", None);
        check(unified, "0::/../../up", None);
        check(unified, "8:pids:/\n", None);
        check("", "0::/", None);
    }

    #[test]
    fn folder_names() {
        #[track_caller]
        fn check(label: &str, name: &str) {
            assert_eq!(folder_name(label), name);
        }
        check("3/0#12", "3%2f0#12");
        check("cgroup.kill", "cgroup%2ekill");
        check("%2F", "%252F");
        let long = |end: &str| folder_name(&format!("{}{end}", "x".repeat(300)));
        assert!(long("a").len() <= NAME_MAX && long("a") != long("b"));
        assert!(!folder_name("").is_empty());
    }
}
