//! Whether bunpilot can keep its files in a folder.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{DirBuilderExt as _, MetadataExt as _},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock, statfs, statvfs},
    process::geteuid,
};

use super::trial;
use crate::doctor::facts::{Home, Trial};

/// File systems by their numbers, `statfs(2)`.
const FILE_SYSTEMS: &[(i64, &str)] = &[
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0x794c_7630, "overlay"),
    (0x6573_5546, "fuse"),
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
    (0x4d44, "vfat"),
    (0x2011_bab0, "exfat"),
];

/// A folder that is gone, with what we made in it, once this is dropped.
struct Trials {
    path: PathBuf,
}

impl Drop for Trials {
    fn drop(&mut self) {
        // It was made by us, and is nobody else's.
        drop(fs::remove_dir_all(&self.path));
    }
}

pub(super) fn look(folder: &Path) -> Home {
    let there = |it: &&Path| it.exists();
    let base = folder.ancestors().find(there).unwrap_or(Path::new("/"));
    let (write, socket, lock) = attempts(base);
    let meta = fs::metadata(base).ok();
    let room = statvfs(base).ok();
    let mine = geteuid().as_raw();
    Home {
        missing_in: (base != folder).then(|| base.to_owned()),
        owner: meta.as_ref().map(std::os::unix::fs::MetadataExt::uid).filter(|uid| *uid != mine),
        mode: meta.as_ref().map_or(0, |it| it.mode() & 0o7777),
        write,
        socket,
        lock,
        file_system: file_system(base),
        free_bytes: room.as_ref().map_or(0, |it| it.f_bavail.saturating_mul(it.f_frsize)),
        free_files: room.filter(|it| it.f_files > 0).map(|it| it.f_favail),
        folder: folder.to_owned(),
    }
}

fn attempts(base: &Path) -> (Trial, Trial, Trial) {
    let path = base.join(format!(".bunpilot-doctor-{}", std::process::id()));
    if let Err(error) = DirBuilder::new().mode(0o700).create(&path) {
        let refused = trial::<(), _>(Err(error));
        return (refused.clone(), refused.clone(), refused);
    }
    let trials = Trials { path };
    let file = trials.path.join("file");
    let write = fs::write(&file, "bunpilot");
    let lock =
        File::open(&file).and_then(|it| Ok(flock(&it, FlockOperation::NonBlockingLockExclusive)?));
    (trial(write), trial(bind(&trials.path)), trial(lock))
}

/// By way of `/proc`, so that the trial's longer path is not what fails.
fn bind(folder: &Path) -> io::Result<()> {
    let folder = File::open(folder)?;
    let path = format!("/proc/self/fd/{}/socket", folder.as_raw_fd());
    UnixListener::bind(path).map(drop)
}

fn file_system(path: &Path) -> String {
    let Ok(found) = statfs(path) else { return "unknown".to_owned() };
    let known = FILE_SYSTEMS.iter().find(|(number, _)| *number == found.f_type);
    known.map_or_else(|| format!("{:#x}", found.f_type), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_tried_and_left_as_it_was() {
        let folder =
            std::env::temp_dir().join(format!("bunpilot-doctor-test-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let missing = folder.join("not/yet");
        let home = look(&missing);
        assert_eq!(home.missing_in.as_deref(), Some(&*folder));
        assert_eq!((home.write, home.socket, home.lock), (Ok(()), Ok(()), Ok(())));
        assert!(home.free_bytes > 0);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        assert_eq!(look(&folder).missing_in, None);
        fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn what_is_no_folder_is_refused() {
        let home = look(Path::new("/dev/null/home"));
        assert!(home.write.is_err());
        assert!(home.socket.is_err());
    }
}
