//! `bpf(2)` where a loader ends: programs are attached and run, maps read and written.
//!
//! Works on bare descriptors, so that what another process loaded can be used as well. Decides
//! nothing. The structures are the cases of `union bpf_attr` of `<linux/bpf.h>`, as short as the
//! kernel lets them be: what is left out is zero.

#![expect(unsafe_code, reason = "bpf(2) is in no safe crate, nor is what it maps")]

use std::{
    ffi::CStr,
    fmt, io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::mm::{MapFlags, ProtFlags};

const MAP_CREATE: u32 = 0;
const MAP_LOOKUP_ELEM: u32 = 1;
const MAP_UPDATE_ELEM: u32 = 2;
const MAP_DELETE_ELEM: u32 = 3;
const MAP_GET_NEXT_KEY: u32 = 4;
const PROG_LOAD: u32 = 5;
const PROG_TEST_RUN: u32 = 10;
const RAW_TRACEPOINT_OPEN: u32 = 17;
const BTF_LOAD: u32 = 18;
const MAP_FREEZE: u32 = 22;
const LINK_CREATE: u32 = 28;
const ITER_CREATE: u32 = 33;

/// `BPF_TRACE_ITER`.
const TRACE_ITER: u32 = 28;

/// Bytes of the verifier's reasons we ask for; the last ones are those that count, and fit.
const LOG_BYTES: usize = 256 << 10;

/// `BPF_NOEXIST`.
const NOT_THERE: u64 = 1;

/// `BPF_F_TEST_RUN_ON_CPU`.
const ON_CPU: u32 = 1;

/// What a map is, in the words of `bpf(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of `union bpf_attr`")]
pub struct MapPlan {
    pub map_type: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub map_flags: u32,
    pub btf_key_type: u32,
    pub btf_value_type: u32,
}

/// What a program is, in the words of `bpf(2)`.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields of `union bpf_attr`")]
pub struct ProgramPlan<'a, I> {
    pub prog_type: u32,
    pub expected_attach_type: u32,
    pub attach_btf_id: u32,
    pub license: &'a CStr,
    /// Of eight bytes each.
    pub instructions: &'a [I],
}

#[repr(C)]
#[derive(Default)]
struct NewMap {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    _inner_and_node: [u32; 2],
    _name: [u8; 16],
    _interface: u32,
    btf: RawFd,
    btf_key_type: u32,
    btf_value_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct NewProgram {
    prog_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    _version_and_flags: [u32; 2],
    _name: [u8; 16],
    _interface: u32,
    expected_attach_type: u32,
    _btf_and_size: [u32; 2],
    _functions: u64,
    _count_and_size: [u32; 2],
    _lines: u64,
    _lines_count: u32,
    attach_btf_id: u32,
}

#[repr(C)]
struct NewTypes {
    types: u64,
    _log: u64,
    size: u32,
    _log_size_and_level: [u32; 2],
    _rest: u32,
}

/// A map's element: key, then value or next key.
#[repr(C)]
struct Element {
    map: RawFd,
    key: u64,
    value: u64,
    flags: u64,
}

/// A tracepoint without a name is the one the program was loaded for.
#[repr(C)]
struct Tracepoint {
    name: u64,
    program: RawFd,
    _rest: u32,
}

#[repr(C)]
struct Link {
    program: RawFd,
    target: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct Iteration {
    link: RawFd,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: RawFd,
    _result: u32,
    _data_sizes: [u32; 2],
    _data: [u64; 2],
    _repeat_and_duration: [u32; 2],
    _context_sizes: [u32; 2],
    _context: [u64; 2],
    flags: u32,
    cpu: u32,
    _batch_size: u32,
    _rest: u32,
}

/// Gives the kernel the types of an object.
pub fn load_types(types: &[u8]) -> io::Result<OwnedFd> {
    let size = u32::try_from(types.len()).map_err(io::Error::other)?;
    let types = address(types.as_ptr());
    let attributes = NewTypes { types, _log: 0, size, _log_size_and_level: [0; 2], _rest: 0 };
    // SAFETY: the kernel reads `size` bytes at `types`, which outlive the call.
    unsafe { opening(BTF_LOAD, &attributes) }
}

/// Makes a map; `types` are those its plan names types of.
pub fn create_map(plan: MapPlan, types: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let MapPlan { map_type, key_size, value_size, max_entries, map_flags, .. } = plan;
    let MapPlan { btf_key_type, btf_value_type, .. } = plan;
    let btf = if btf_value_type == 0 { 0 } else { types.as_raw_fd() };
    let attributes = NewMap {
        map_type,
        key_size,
        value_size,
        max_entries,
        map_flags,
        btf,
        btf_key_type,
        btf_value_type,
        ..NewMap::default()
    };
    // SAFETY: names a descriptor and no memory.
    unsafe { opening(MAP_CREATE, &attributes) }
}

/// Forbids that user space changes a map any more, so that the verifier may believe in it.
pub fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: names a descriptor and no memory.
    unsafe { call(MAP_FREEZE, &map.as_raw_fd()) }.map(drop)
}

/// Loads a program.
///
/// # Errors
///
/// What the kernel says; if its verifier does, its last words are part of the error.
pub fn load_program<I>(plan: &ProgramPlan<'_, I>) -> io::Result<OwnedFd> {
    let count = size_of_val(plan.instructions) / size_of::<u64>();
    let attributes = NewProgram {
        prog_type: plan.prog_type,
        count: u32::try_from(count).map_err(io::Error::other)?,
        instructions: address(plan.instructions.as_ptr()),
        license: address(plan.license.as_ptr()),
        expected_attach_type: plan.expected_attach_type,
        attach_btf_id: plan.attach_btf_id,
        ..NewProgram::default()
    };
    // SAFETY: the kernel reads `count` instructions and the license, which outlive the call.
    let error = match unsafe { opening(PROG_LOAD, &attributes) } {
        Ok(program) => return Ok(program),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
        Err(error) => error,
    };
    let mut log = vec![0_u8; LOG_BYTES];
    let attributes = NewProgram {
        log_level: 1,
        log_size: u32::try_from(log.len()).map_err(io::Error::other)?,
        log: address(log.as_mut_ptr()),
        ..attributes
    };
    // SAFETY: as above, and the kernel writes at most `log_size` bytes to `log`.
    let second = unsafe { opening(PROG_LOAD, &attributes) };
    let words = String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default());
    let last = words.lines().rfind(|line| !line.is_empty() && !line.starts_with("processed "));
    // The first answer counts: the second may be about the room for the log.
    let words = |_same| io::Error::new(error.kind(), format!("{error}: {}", last.unwrap_or("?")));
    second.map_err(words)
}

/// Attaches a `tp_btf` program to its tracepoint until the last copy of the result is closed.
pub fn attach(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let attributes = Tracepoint { name: 0, program: program.as_raw_fd(), _rest: 0 };
    // SAFETY: names a descriptor and no memory.
    unsafe { opening(RAW_TRACEPOINT_OPEN, &attributes) }
}

/// Has a cgroup run `program` at `event`, a `BPF_CGROUP_…` of `enum bpf_attach_type`, until the last
/// copy of the result is closed; after those that were there before.
pub fn attach_to_cgroup(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    event: u32,
) -> io::Result<OwnedFd> {
    let target = u32::try_from(cgroup.as_raw_fd()).map_err(io::Error::other)?;
    let attributes = Link { program: program.as_raw_fd(), target, attach_type: event, flags: 0 };
    // SAFETY: names descriptors and no memory.
    unsafe { opening(LINK_CREATE, &attributes) }
}

/// Makes an iterator of an `iter` program.
pub fn iterator(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let program = program.as_raw_fd();
    let attributes = Link { program, target: 0, attach_type: TRACE_ITER, flags: 0 };
    // SAFETY: names a descriptor and no memory.
    unsafe { opening(LINK_CREATE, &attributes) }
}

/// Runs an iterator once, from its first object to its last.
pub fn iterate(iterator: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = Iteration { link: iterator.as_raw_fd(), flags: 0 };
    // SAFETY: names a descriptor and no memory.
    let run = unsafe { opening(ITER_CREATE, &attributes) }?;
    let mut said = [0; 512];
    loop {
        match rustix::io::read(&run, &mut said) {
            Ok(0) => return Ok(()),
            // A million objects went by and nothing was said.
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => (),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs a program on one CPU, `BPF_PROG_TEST_RUN`.
///
/// # Errors
///
/// `ENXIO` if the CPU is off.
pub fn run_on(program: BorrowedFd<'_>, cpu: u32) -> io::Result<()> {
    let program = program.as_raw_fd();
    let attributes = TestRun { program, flags: ON_CPU, cpu, ..TestRun::default() };
    // SAFETY: names a descriptor and no memory.
    unsafe { call(PROG_TEST_RUN, &attributes) }.map(drop)
}

/// Writes a map's element; the caller knows how long keys and values of the map are.
pub fn update<const K: usize>(map: BorrowedFd<'_>, key: &[u8; K], value: &[u8]) -> io::Result<()> {
    let attributes = element(map, address(key), address(value.as_ptr()));
    // SAFETY: the kernel reads key and value, which outlive the call.
    unsafe { call(MAP_UPDATE_ELEM, &attributes) }.map(drop)
}

/// Writes an element the map does not have.
///
/// # Errors
///
/// `EEXIST` if it has.
pub fn insert<const K: usize>(map: BorrowedFd<'_>, key: &[u8; K], value: &[u8]) -> io::Result<()> {
    let attributes =
        Element { flags: NOT_THERE, ..element(map, address(key), address(value.as_ptr())) };
    // SAFETY: the kernel reads key and value, which outlive the call.
    unsafe { call(MAP_UPDATE_ELEM, &attributes) }.map(drop)
}

/// Reads a map's element.
///
/// # Errors
///
/// `ENOENT` if there is none.
pub fn lookup<const K: usize, const V: usize>(
    map: BorrowedFd<'_>,
    key: &[u8; K],
) -> io::Result<[u8; V]> {
    let mut value = [0; V];
    let attributes = element(map, address(key), address(&raw mut value));
    // SAFETY: the kernel reads the key and writes the value, which outlive the call.
    unsafe { call(MAP_LOOKUP_ELEM, &attributes) }.map(|_| value)
}

/// Removes a map's element.
///
/// # Errors
///
/// `ENOENT` if there is none.
pub fn delete<const K: usize>(map: BorrowedFd<'_>, key: &[u8; K]) -> io::Result<()> {
    let attributes = element(map, address(key), 0);
    // SAFETY: the kernel reads the key, which outlives the call.
    unsafe { call(MAP_DELETE_ELEM, &attributes) }.map(drop)
}

/// Any key of a map; `None` if it is empty.
pub fn any_key<const K: usize>(map: BorrowedFd<'_>) -> io::Result<Option<[u8; K]>> {
    key_after(map, None)
}

/// The key of a map that comes after `key`, in the map's own order; the first one after none.
pub fn key_after<const K: usize>(
    map: BorrowedFd<'_>,
    before: Option<&[u8; K]>,
) -> io::Result<Option<[u8; K]>> {
    let mut key = [0; K];
    let before = before.map_or(0, |it| address(it));
    let attributes = element(map, before, address(&raw mut key));
    // SAFETY: the kernel reads one key and writes the other, which outlive the call.
    match unsafe { call(MAP_GET_NEXT_KEY, &attributes) } {
        Ok(_) => Ok(Some(key)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn element(map: BorrowedFd<'_>, key: u64, value: u64) -> Element {
    Element { map: map.as_raw_fd(), key, value, flags: 0 }
}

/// Where the kernel finds `it`.
fn address<T>(it: *const T) -> u64 {
    u64::try_from(it.expose_provenance()).unwrap_or_default()
}

/// # Safety
///
/// As for [`call`]; `command` returns a descriptor.
unsafe fn opening<A>(command: u32, attributes: &A) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { call(command, attributes) }?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just made it, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
///
/// `attributes` are those of `command`, and what they point to outlives the call.
unsafe fn call<A>(command: u32, attributes: &A) -> io::Result<i64> {
    let pointer: *const A = attributes;
    // SAFETY: the kernel reads as many bytes as it is told; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The values of a `BPF_F_MMAPABLE` array of numbers, read without a system call.
pub struct Numbers {
    start: NonNull<AtomicU64>,
    count: usize,
}

impl Numbers {
    /// Maps `count` numbers of the array `map` into memory.
    ///
    /// # Errors
    ///
    /// What `mmap(2)` says.
    pub fn map(map: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        let bytes = count.saturating_mul(size_of::<u64>());
        let (null, access) = (ptr::null_mut(), ProtFlags::READ);
        // SAFETY: the kernel chooses where, so no memory in use is replaced.
        let start = unsafe { rustix::mm::mmap(null, bytes, access, MapFlags::SHARED, map, 0) }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { start, count })
    }

    /// The number at `index` right now; `None` beyond the last.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<u64> {
        if index >= self.count {
            return None;
        }
        // SAFETY: within what is mapped until we are dropped.
        let number = unsafe { self.start.add(index) };
        // SAFETY: aligned, since a page is; the kernel's writers are atomic as well.
        Some(unsafe { number.as_ref() }.load(Ordering::Relaxed))
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        let bytes = self.count.saturating_mul(size_of::<u64>());
        // SAFETY: mapped by us, and nobody holds a reference into it.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), bytes) };
        drop(unmapped.map_err(io::Error::from)); // fails only for addresses that are none
    }
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Numbers").field("count", &self.count).finish_non_exhaustive()
    }
}
