//! Puts `ebpf/src/bin/ports` into the kernel, through aya.

use std::{
    fs::File,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData},
    programs::{CgroupSock, CgroupSockAddr, Program, ProgramFd, SkReuseport, SockOps},
};

use super::{Folders, Parts, Refusal};
use crate::platform::sys::bpf;

/// Numbers of `enum bpf_attach_type`, `<linux/bpf.h>`.
const INET_SOCK_CREATE: u32 = 2;
const SOCK_OPS: u32 = 3;
const INET4_BIND: u32 = 8;
const INET6_BIND: u32 = 9;

/// Loads everything and attaches it to `folders`.
pub(super) fn load(object: &[u8], folders: &Folders) -> Result<Parts, Refusal> {
    let mut loaded = EbpfLoader::new()
        .btf(None)
        .allow_unsupported_maps()
        .load(object)
        .map_err(|error| refused("load the programs", &error))?;
    let workers = open(folders, |it| &it.workers)?;
    let root = open(folders, |it| &it.root)?;
    let mut attach = |name: &'static str, folder: &File, event: u32| {
        let program = ready(&mut loaded, name)?;
        bpf::attach_to_cgroup(program.as_fd(), folder.as_fd(), event)
            .map_err(|error| Refusal::kernel(format!("attach `{name}`"), error))
    };
    // Before any worker is known nobody is affected.
    let links = [
        attach("bind4", &workers, INET4_BIND)?,
        attach("bind6", &workers, INET6_BIND)?,
        attach("plain", &workers, INET_SOCK_CREATE)?,
        attach("events", &workers, SOCK_OPS)?,
        attach("shield4", &root, INET4_BIND)?,
        attach("shield6", &root, INET6_BIND)?,
    ];
    let select = ready(&mut loaded, "select")?;
    let select = copy(select.as_fd())?;
    let mut map = |name: &'static str| {
        let map = loaded.take_map(name).ok_or(Refusal::NoField(name))?;
        copy(data(&map).ok_or(Refusal::NoField(name))?.fd().as_fd())
    };
    Ok(Parts {
        places: map("PLACES")?,
        groups: map("GROUPS")?,
        seats: map("SEATS")?,
        doors: map("DOORS")?,
        twins: map("TWINS")?,
        beat: map("BEAT")?,
        tags: map("TAGS")?,
        select,
        links,
    })
}

fn open(folders: &Folders, which: impl Fn(&Folders) -> &std::path::Path) -> Result<File, Refusal> {
    let path = which(folders);
    let what = || format!("open the cgroup `{}`", path.display());
    File::open(path).map_err(|error| Refusal::kernel(what(), error))
}

/// Has the kernel check a program.
fn ready<'a>(loaded: &'a mut Ebpf, name: &'static str) -> Result<&'a ProgramFd, Refusal> {
    let program = loaded.program_mut(name).ok_or(Refusal::NoField(name))?;
    let fd = if let Program::CgroupSockAddr(it) = program {
        CgroupSockAddr::load(it).and_then(|()| it.fd())
    } else if let Program::CgroupSock(it) = program {
        CgroupSock::load(it).and_then(|()| it.fd())
    } else if let Program::SockOps(it) = program {
        SockOps::load(it).and_then(|()| it.fd())
    } else if let Program::SkReuseport(it) = program {
        SkReuseport::load(it).and_then(|()| it.fd())
    } else {
        return Err(Refusal::NoField(name));
    };
    fd.map_err(|error| refused(name, &error))
}

fn data(map: &Map) -> Option<&MapData> {
    if let Map::Array(it)
    | Map::HashMap(it)
    | Map::SockHash(it)
    | Map::SkStorage(it)
    | Map::Unsupported(it) = map
    {
        return Some(it);
    }
    None
}

fn copy(fd: BorrowedFd<'_>) -> Result<OwnedFd, Refusal> {
    fd.try_clone_to_owned().map_err(|error| Refusal::kernel("copy a descriptor", error))
}

/// What aya said, with the kernel's own words if there are any.
fn refused(what: &'static str, error: &dyn std::error::Error) -> Refusal {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        if let Some(error) = deeper.downcast_ref::<std::io::Error>()
            && error.kind() == std::io::ErrorKind::PermissionDenied
        {
            return Refusal::Forbidden;
        }
        let words = deeper.to_string();
        if !why.contains(&words) {
            why = format!("{why}: {words}");
        }
        cause = deeper.source();
    }
    // The verifier's whole story is for those who change the program.
    let telling = |line: &&str| !line.trim().is_empty() && !line.starts_with("processed ");
    let why = why.lines().rfind(telling).unwrap_or_default().to_owned();
    Refusal::Loader { what, why }
}
