//! The door of the configuration room, opened: files, programs, users and a clock.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Write as _},
    num::NonZeroU16,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    config::{Base, FileKind, Host, Ran},
    domain::User,
};

/// This machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine;

/// The file of this program: after an upgrade the one that lies there now.
///
/// # Errors
///
/// If `/proc` does not tell.
pub fn own_program() -> io::Result<PathBuf> {
    env::current_exe().map(|path| successor(path, Path::is_file))
}

/// The kernel marks the path of a file that was replaced or removed, see `proc_pid_exe(5)`.
fn successor(path: PathBuf, exists: impl Fn(&Path) -> bool) -> PathBuf {
    let unmarked = path.to_str().and_then(|it| it.strip_suffix(" (deleted)")).map(PathBuf::from);
    unmarked.filter(|it| !exists(&path) && exists(it)).unwrap_or(path)
}

/// Describes the caller: this process's folder and environment, and the profile of `--env`.
///
/// # Errors
///
/// If the current folder is gone.
pub fn caller(profile: Option<String>) -> io::Result<Base> {
    let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
    let env: BTreeMap<_, _> =
        env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    Ok(Base { cwd: env::current_dir()?, env, profile })
}

impl Host for Machine {
    fn cpus(&self) -> NonZeroU16 {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        u16::try_from(cpus).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MIN)
    }

    fn find_program(&self, name: &str, path: &str) -> Option<PathBuf> {
        env::split_paths(path)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .find(|file| self.file_kind(file) == FileKind::Executable)
    }

    fn file_kind(&self, path: &Path) -> FileKind {
        match fs::metadata(path) {
            Err(_) => FileKind::Missing,
            Ok(meta) if meta.is_dir() => FileKind::Folder,
            Ok(meta) if meta.permissions().mode() & 0o111 != 0 => FileKind::Executable,
            Ok(_) => FileKind::File,
        }
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(path)
    }

    fn user(&self, name: &str) -> Option<User> {
        listed(&fs::read_to_string("/etc/passwd").unwrap_or_default(), name).or_else(|| asked(name))
    }

    fn run(&self, argv: &[String], cwd: &Path) -> io::Result<Ran> {
        let (program, rest) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let output = Command::new(program)
            .args(rest)
            .current_dir(cwd)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(Ran { ok: output.status.success(), stdout })
    }

    fn elapsed(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Duration::try_from(now).unwrap_or_default()
    }

    fn say(&self, text: &str) {
        // A broken standard error must not end a configuration.
        drop(writeln!(io::stderr(), "{text}"));
    }
}

/// The user `name` in the text of `/etc/passwd`, see passwd(5).
fn listed(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(User { uid, gid })
    })
}

/// The user `name` by id(1), which also knows directory services.
fn asked(name: &str) -> Option<User> {
    if name.is_empty() || name.starts_with('-') {
        return None;
    }
    let number = |flag: &str| {
        let output = Command::new("id").args([flag, "--", name]).stderr(Stdio::null()).output();
        let output = output.ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    Some(User { uid: number("-u")?, gid: number("-g")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_program_is_found_again() {
        let found = |path: &str, there: &[&str]| {
            successor(path.into(), |it| there.iter().any(|file| Path::new(file) == it))
        };
        assert_eq!(found("/b/x (deleted)", &["/b/x"]), Path::new("/b/x"));
        assert_eq!(found("/b/x (deleted)", &[]), Path::new("/b/x (deleted)"));
        assert_eq!(
            found("/b/x (deleted)", &["/b/x", "/b/x (deleted)"]),
            Path::new("/b/x (deleted)")
        );
        assert_eq!(found("/b/x", &["/b/x"]), Path::new("/b/x"));
    }

    #[test]
    fn users_are_found_by_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nwww:x:33:34::/:/bin/false\nbad:x\n";
        assert_eq!(listed(passwd, "www"), Some(User { uid: 33, gid: 34 }));
        assert_eq!(listed(passwd, "ww"), None);
        assert_eq!(listed(passwd, "bad"), None);
    }

    #[test]
    fn files_and_programs() {
        let sh = Machine.find_program("sh", "relative::/bin:/usr/bin").unwrap();
        assert_eq!(Machine.file_kind(&sh), FileKind::Executable);
        assert_eq!(Machine.file_kind(Path::new("/")), FileKind::Folder);
        assert_eq!(Machine.file_kind(Path::new("/etc/passwd")), FileKind::File);
        assert_eq!(Machine.file_kind(Path::new("/no/such/file")), FileKind::Missing);
        assert_eq!(Machine.find_program("no-such-program", "/bin"), None);
    }

    #[test]
    fn programs_run_to_their_end() {
        let argv = ["/bin/sh", "-c", "echo out; exit 3"].map(str::to_owned);
        let ran = Machine.run(&argv, Path::new("/")).unwrap();
        assert_eq!(ran, Ran { ok: false, stdout: "out\n".to_owned() });
    }
}
