//! Puts the programs of `ebpf/` into the kernel.
//!
//! A program is checked by the kernel against its own structures; where fields lie is written
//! into the program as constants before ([`btf`](super::btf)).

use std::{
    collections::BTreeMap,
    error::Error,
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use aya_obj::{EbpfSectionKind, Map, Object, btf::BtfFeatures};

use super::{
    allowed,
    btf::{Types, kind},
};
use crate::platform::sys::bpf::{self, MapPlan, ProgramPlan};

/// The kernel's types.
const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// What accounts CPU time, `ebpf/src/bin/cpu.rs`.
pub(super) const CPU: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/ebpf/prebuilt/cpu.o"));

/// Constants of [`CPU`] and what they are: the ways of members from a structure on.
const CPU_FIELDS: &[(&str, &[(&str, &str)])] = &[
    ("TASK_TGID", &[("task_struct", "tgid")]),
    ("TASK_PID", &[("task_struct", "pid")]),
    ("TASK_RUNTIME", &[("task_struct", "se"), ("sched_entity", "sum_exec_runtime")]),
    ("TASK_PARENT", &[("task_struct", "real_parent")]),
    ("TASK_SIGNAL", &[("task_struct", "signal")]),
    ("SIGNAL_RUNTIME", &[("signal_struct", "sum_sched_runtime")]),
    ("SIGNAL_CUTIME", &[("signal_struct", "cutime")]),
    ("SIGNAL_CSTIME", &[("signal_struct", "cstime")]),
    ("TASK_VOLUNTARY", &[("task_struct", "nvcsw")]),
    ("TASK_INVOLUNTARY", &[("task_struct", "nivcsw")]),
    ("SIGNAL_VOLUNTARY", &[("signal_struct", "nvcsw")]),
    ("SIGNAL_CVOLUNTARY", &[("signal_struct", "cnvcsw")]),
    ("SIGNAL_INVOLUNTARY", &[("signal_struct", "nivcsw")]),
    ("SIGNAL_CINVOLUNTARY", &[("signal_struct", "cnivcsw")]),
];

/// Those a kernel may lack, for want of `CONFIG_SCHED_INFO`; the program goes without.
const CPU_FIELDS_IF_ANY: &[(&str, &[(&str, &str)])] =
    &[("TASK_RUN_DELAY", &[("task_struct", "sched_info"), ("sched_info", "run_delay")])];

/// Why the kernel does nothing for us.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The operator does not want it.
    #[error("`{variable}` is `{value}`")]
    Off {
        /// The environment variable that says so.
        variable: &'static str,
        /// What it says.
        value: &'static str,
    },
    /// We may not.
    #[error("CAP_BPF and CAP_PERFMON are missing")]
    Forbidden,
    /// We may not do anything to the network.
    #[error("CAP_NET_ADMIN is missing")]
    Network,
    /// Workers are not in cgroups.
    #[error("workers have no cgroups of their own")]
    NoCgroups,
    /// The kernel does not tell its types.
    #[error("the kernel has no types in `{BTF_PATH}`")]
    NoTypes,
    /// It has others than we know.
    #[error("the kernel has no `{0}`")]
    NoField(&'static str),
    /// It refuses something.
    #[error("cannot {what}: {source}")]
    Kernel {
        /// What we tried.
        what: String,
        /// Its reason.
        source: io::Error,
    },
    /// The loader does.
    #[error("cannot load `{what}`: {why}")]
    Loader {
        /// What we tried.
        what: &'static str,
        /// Its reason.
        why: String,
    },
}

/// The maps and programs of [`CPU`]; it accounts as long as the three last are open.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) counters: OwnedFd,
    pub(super) shares: OwnedFd,
    pub(super) marks: OwnedFd,
    pub(super) family: OwnedFd,
    pub(super) flush: OwnedFd,
    pub(super) take_up: OwnedFd,
    pub(super) switched: OwnedFd,
    pub(super) forked: OwnedFd,
}

/// What a program is to the kernel, by its numbers in `<linux/bpf.h>`.
#[derive(Clone, Copy)]
enum Kind {
    /// `BPF_PROG_TYPE_TRACING` for the tracepoint of this type.
    Tracepoint(&'static str),
    /// `BPF_PROG_TYPE_TRACING` for the iterator of this function.
    Iterator(&'static str),
    /// `BPF_PROG_TYPE_RAW_TRACEPOINT`, only ever run by hand.
    ByHand,
}

/// Programs of [`CPU`].
const CPU_PROGRAMS: &[(&str, Kind)] = &[
    ("forked", Kind::Tracepoint("btf_trace_sched_process_fork")),
    ("switched", Kind::Tracepoint("btf_trace_sched_switch")),
    ("take_up", Kind::Iterator("bpf_iter_task")),
    ("flush", Kind::ByHand),
];

/// Types of the kernel [`CPU`] needs to know.
const CPU_TYPES: &[(u32, &str)] = &[
    (kind::STRUCT, "task_struct"),
    (kind::STRUCT, "sched_entity"),
    (kind::STRUCT, "signal_struct"),
    (kind::STRUCT, "sched_info"),
    (kind::TYPEDEF, "btf_trace_sched_process_fork"),
    (kind::TYPEDEF, "btf_trace_sched_switch"),
    (kind::FUNCTION, "bpf_iter_task"),
];

/// Loads [`CPU`] and attaches it.
pub(super) fn cpu() -> Result<Parts, Refusal> {
    allowed()?;
    let bytes = fs::read(BTF_PATH).map_err(|error| {
        let absent = error.kind() == io::ErrorKind::NotFound;
        let refusal = || Refusal::kernel(format!("read `{BTF_PATH}`"), error);
        if absent { Refusal::NoTypes } else { refusal() }
    })?;
    let types = Types::read(&bytes).ok_or(Refusal::NoTypes)?;
    let found = types.find(CPU_TYPES);
    let mut object = Object::parse(CPU).map_err(|error| Refusal::loader("cpu", &error))?;
    set(&mut object, &constants(&types, &found)?)?;
    let mut maps = link(&mut object)?;
    let mut programs = BTreeMap::new();
    for (name, kind) in CPU_PROGRAMS {
        programs.insert(*name, load_program(&object, name, *kind, &found)?);
    }
    let mut map = |name| maps.remove(name).ok_or(Refusal::NoField(name));
    let program = |name| programs.get(name).ok_or(Refusal::NoField(name));
    let attach = |name: &'static str| {
        let attached = bpf::attach(program(name)?.as_fd());
        attached.map_err(|error| Refusal::kernel(format!("attach `{name}`"), error))
    };
    let take_up = bpf::iterator(program("take_up")?.as_fd());
    let take_up = take_up.map_err(|error| Refusal::kernel("make an iterator", error))?;
    Ok(Parts {
        counters: map("COUNTERS")?,
        shares: map("SHARES")?,
        marks: map("MARKS")?,
        family: map("FAMILY")?,
        take_up,
        // Before anybody is accounted, so that no child slips through.
        forked: attach("forked")?,
        switched: attach("switched")?,
        flush: programs.remove("flush").ok_or(Refusal::NoField("flush"))?,
    })
}

/// Where the fields of [`CPU_FIELDS`] lie, and those of [`CPU_FIELDS_IF_ANY`] that are there.
fn constants(
    types: &Types<'_>,
    found: &BTreeMap<&str, usize>,
) -> Result<Vec<(&'static str, [u8; 4])>, Refusal> {
    let offset = |&(structure, member): &(&str, &'static str)| {
        let structure = found.get(structure);
        structure.and_then(|it| types.offset(*it, member)).ok_or(Refusal::NoField(member))
    };
    let constant = |&(name, way): &(&'static str, &[_])| {
        let offsets = way.iter().map(offset).collect::<Result<Vec<u32>, _>>()?;
        Ok((name, offsets.iter().sum::<u32>().to_le_bytes()))
    };
    let if_any = CPU_FIELDS_IF_ANY.iter().flat_map(constant).map(Ok);
    CPU_FIELDS.iter().map(constant).chain(if_any).collect()
}

/// Writes constants into an object.
fn set(object: &mut Object, constants: &[(&'static str, [u8; 4])]) -> Result<(), Refusal> {
    let values = constants.iter().map(|(name, value)| (*name, (value.as_slice(), true)));
    object.patch_map_data(values.collect()).map_err(|error| Refusal::loader("constants", &error))
}

/// Makes the maps of an object and has its programs use them.
fn link(object: &mut Object) -> Result<BTreeMap<String, OwnedFd>, Refusal> {
    // What is newer than the maps we need is left out.
    let features = BtfFeatures::new(true, true, true, false, false, false, false, false);
    let types = object.fixup_and_sanitize_btf(&features);
    let types = types.map_err(|error| Refusal::loader("types", &error))?;
    let types = bpf::load_types(&types.ok_or(Refusal::NoTypes)?.to_bytes())
        .map_err(|error| Refusal::kernel("load types", error))?;
    let mut made = Vec::new();
    for (name, map) in object.maps.drain() {
        let fd = create(&map, types.as_fd())
            .map_err(|error| Refusal::kernel(format!("make the map `{name}`"), error))?;
        made.push((name, fd, map));
    }
    let sections = object.functions.keys().map(|(section, _)| *section).collect();
    let maps = made.iter().map(|(name, fd, map)| (name.as_str(), fd.as_raw_fd(), map));
    let linked = object.relocate_maps(maps, &sections);
    linked
        .and_then(|()| object.relocate_calls(&sections))
        .map_err(|error| Refusal::loader("cpu", &error))?;
    Ok(made.into_iter().map(|(name, fd, _)| (name, fd)).collect())
}

fn create(map: &Map, types: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let (btf_key_type, btf_value_type) = match map {
        Map::Btf(it) => (it.def.btf_key_type_id, it.def.btf_value_type_id),
        Map::Legacy(_) => (0, 0),
    };
    let plan = MapPlan {
        map_type: map.map_type(),
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
        map_flags: map.map_flags(),
        btf_key_type,
        btf_value_type,
    };
    let fd = bpf::create_map(plan, types)?;
    if !map.data().is_empty() {
        bpf::update(fd.as_fd(), &[0; 4], map.data())?;
    }
    if map.section_kind() == EbpfSectionKind::Rodata {
        bpf::freeze(fd.as_fd())?;
    }
    Ok(fd)
}

fn load_program(
    object: &Object,
    name: &'static str,
    kind: Kind,
    found: &BTreeMap<&str, usize>,
) -> Result<OwnedFd, Refusal> {
    let program = object.programs.get(name).ok_or(Refusal::NoField(name))?;
    let function = object.functions.get(&program.function_key()).ok_or(Refusal::NoField(name))?;
    let number = |name: &'static str| {
        let number = found.get(name).and_then(|it| u32::try_from(*it).ok());
        number.ok_or(Refusal::NoField(name))
    };
    let (prog_type, expected_attach_type, attach_btf_id) = match kind {
        Kind::Tracepoint(name) => (26, 23, number(name)?),
        Kind::Iterator(name) => (26, 28, number(name)?),
        Kind::ByHand => (17, 0, 0),
    };
    let plan = ProgramPlan {
        prog_type,
        expected_attach_type,
        attach_btf_id,
        license: &program.license,
        instructions: &function.instructions,
    };
    let loaded = bpf::load_program(&plan);
    loaded.map_err(|error| Refusal::kernel(format!("load `{name}`"), error))
}

impl Refusal {
    /// What the parser of objects said to `what`.
    fn loader(what: &'static str, error: &dyn Error) -> Self {
        Self::Loader { what, why: error.to_string() }
    }
}
