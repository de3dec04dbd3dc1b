//! Puts one program of each kind we need into the kernel, and takes it away again.

use std::{
    collections::BTreeMap,
    env, fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use super::{refusal, trial};
use crate::{
    doctor::facts::{Programs, Refusal, Trial, Why},
    platform::{
        linux::bpf::{
            self,
            gate::{Folders, Gate},
        },
        sys::bpf::{self as calls, MapPlan, ProgramPlan},
    },
};

/// Where the kernel tells its types.
const TYPES: &str = "/sys/kernel/btf/vmlinux";

// Kinds of programs and maps, `<linux/bpf.h>`.
const SOCK_OPS: u32 = 13;
const CGROUP_SOCK_ADDR: u32 = 18;
const SK_REUSEPORT: u32 = 21;
const CGROUP_SOCK_OPS: u32 = 3;
const INET4_BIND: u32 = 8;
const INET6_BIND: u32 = 9;
const SELECT_OR_MIGRATE: u32 = 40;
const SOCKHASH: u32 = 18;

/// An instruction: code, destination, source, offset, number; `Documentation/bpf/standardization`.
const fn instruction(code: u8, registers: u8, offset: i16, number: i32) -> [u8; 8] {
    let (offset, number) = (offset.to_le_bytes(), number.to_le_bytes());
    let [low, high] = offset;
    [code, registers, low, high, number[0], number[1], number[2], number[3]]
}

/// Returns 1: go on.
const GO_ON: [[u8; 8]; 2] = [instruction(0xb7, 0, 0, 1), instruction(0x95, 0, 0, 0)];

/// `bpf_setsockopt(ctx, SOL_SOCKET, SO_REUSEPORT, &1, 4)`, then go on: what a hook of bind(2) must
/// be able to do.
const SHARE: [[u8; 8]; 9] = [
    instruction(0x62, 0x0a, -4, 1), // *(u32 *)(r10 - 4) = 1
    instruction(0xb7, 0x02, 0, 1),  // r2 = SOL_SOCKET
    instruction(0xb7, 0x03, 0, 15), // r3 = SO_REUSEPORT
    instruction(0xbf, 0xa4, 0, 0),  // r4 = r10
    instruction(0x07, 0x04, 0, -4), // r4 -= 4
    instruction(0xb7, 0x05, 0, 4),  // r5 = 4
    instruction(0x85, 0x00, 0, 49), // bpf_setsockopt
    GO_ON[0],
    GO_ON[1],
];

/// Tries all; `cgroup` is one nobody lives in.
pub(super) fn look(cgroup: Option<&Path>) -> Programs {
    let types = trial(fs::File::open(TYPES));
    if env::var("BUNPILOT_BPF").is_ok_and(|it| it == "off") {
        let off = || Err(Refusal { why: Why::Off, said: "`BUNPILOT_BPF` is `off`".to_owned() });
        return Programs { cpu: off(), ports: vec![("programs", off())], types };
    }
    Programs { cpu: cpu(), ports: ports(cgroup), types }
}

fn cpu() -> Trial {
    bpf::rehearse().map_err(told)
}

/// The programs themselves, where there is a cgroup for them; else, or if they are refused, one
/// small program and map of each kind, to tell which it is.
fn ports(cgroup: Option<&Path>) -> Vec<(&'static str, Trial)> {
    let here = |path: &Path| Folders { workers: path.to_owned(), root: path.to_owned() };
    let real = cgroup.map(|path| Gate::open(&mut BTreeMap::new(), &here(path)).map(drop));
    if let Some(Ok(())) = real {
        return vec![("port sharing", Ok(()))];
    }
    let hook = |attach_type| trial(load(CGROUP_SOCK_ADDR, attach_type, &SHARE));
    let mut tried = vec![
        ("bind hook", hook(INET4_BIND).and_then(|()| hook(INET6_BIND))),
        ("listen hook", trial(load(SOCK_OPS, CGROUP_SOCK_OPS, &GO_ON))),
        ("socket selector", trial(load(SK_REUSEPORT, SELECT_OR_MIGRATE, &GO_ON))),
        ("socket table", trial(table())),
    ];
    if let Some(Err(why)) = real
        && tried.iter().all(|(_, trial)| trial.is_ok())
    {
        tried.push(("port sharing", Err(told(why))));
    }
    tried
}

fn told(refused: bpf::Refusal) -> Refusal {
    let said = refused.to_string();
    match refused {
        bpf::Refusal::Off { .. } => Refusal { why: Why::Off, said },
        // They name rights, which we may have and which may not count.
        bpf::Refusal::Forbidden | bpf::Refusal::Network => {
            refusal(&io::Error::from_raw_os_error(libc::EPERM))
        }
        bpf::Refusal::NoTypes | bpf::Refusal::NoField(_) => Refusal { why: Why::Unknown, said },
        bpf::Refusal::Kernel { source, .. } => Refusal { said, ..refusal(&source) },
        bpf::Refusal::Loader { .. } | bpf::Refusal::NoCgroups => Refusal { why: Why::Other, said },
    }
}

fn load(
    prog_type: u32,
    expected_attach_type: u32,
    instructions: &[[u8; 8]],
) -> io::Result<OwnedFd> {
    let license = c"GPL";
    let plan =
        ProgramPlan { prog_type, expected_attach_type, attach_btf_id: 0, license, instructions };
    calls::load_program(&plan)
}

fn table() -> io::Result<OwnedFd> {
    let plan = MapPlan {
        map_type: SOCKHASH,
        key_size: 4,
        value_size: 8,
        max_entries: 1,
        ..MapPlan::default()
    };
    // It has no types; the descriptor is not looked at.
    calls::create_map(plan, io::stderr().as_fd())
}
