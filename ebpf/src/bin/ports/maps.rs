//! What user space and the programs tell each other.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::{btf_map, map},
    maps::{Array, HashMap, PerCpuArray, SockHash},
};
use bunpilot_ebpf::ForEachSocket;

/// `BPF_F_MMAPABLE` of `bpf(2)`.
pub(crate) const MMAPABLE: u32 = 1 << 10;

/// Seats, each of which serves one worker at a time; user space knows the same number.
pub(crate) const SEATS_MAX: u32 = 4096;

/// Ports that can be served.
pub(crate) const GROUPS_MAX: u32 = 1024;

/// Listening sockets of all workers.
pub(crate) const DOORS_MAX: u32 = 8192;

/// Sockets of one worker and address family that take turns.
pub(crate) const TWINS_MAX: u32 = 8;

/// Seats of one group, ready or not.
pub(crate) const READY_MAX: usize = 1024;

/// Turns of one round.
pub(crate) const TURNS_MAX: usize = 2048;

pub(crate) const AF_INET6: u32 = 10;
/// [`Group::policy`]: whoever has the fewest connections for its weight.
pub(crate) const LEAST: u32 = 1;
/// [`Group::policy`]: anybody, by weight.
pub(crate) const RANDOM: u32 = 2;

/// Who lives in a cgroup.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) ticket: u64,
    pub(crate) seat: u32,
    /// The app's port.
    pub(crate) port: u32,
}

/// How a port is served. User space replaces it as a whole.
#[repr(C)]
pub(crate) struct Group {
    /// The network namespace the port is in.
    pub(crate) netns: u64,
    pub(crate) policy: u32,
    /// How many of `ready` are.
    pub(crate) ready_len: u32,
    /// How many of `turns` are.
    pub(crate) turns_len: u32,
    /// Seat of the parking socket, counted from 1; 0 is none.
    pub(crate) parking: u32,
    pub(crate) ready: [Ready; READY_MAX],
    /// Seats in the order of their turns, each as often as it weighs.
    pub(crate) turns: [u16; TURNS_MAX],
}

/// A seat that may get connections.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) seat: u16,
    pub(crate) weight: u16,
}

/// What is known of a seat; a cache line, so that workers on two CPUs do not wait for each other.
#[repr(C)]
pub(crate) struct Counter {
    /// Whom the seat serves; connections with another ticket are of an earlier worker and not
    /// counted.
    pub(crate) ticket: u64,
    /// Connections that are open in both directions, or that only the worker may still close.
    pub(crate) live: u64,
    /// Sockets that listen to the app's port.
    pub(crate) listening: u64,
    /// Connections established.
    pub(crate) accepted: u64,
    /// How often [`select`] chose the seat.
    pub(crate) chosen: u64,
    /// How often it chose it for a connection that waited elsewhere.
    pub(crate) moved: u64,
    /// Connections that ended without a farewell, by either side.
    pub(crate) reset: u64,
    /// How often a probe found the seat.
    pub(crate) probed: u64,
}

/// Whose a socket is.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Tag {
    pub(crate) ticket: u64,
    pub(crate) seat: u32,
    pub(crate) counted: u32,
}

/// [`Tag::counted`] of a connection that is in [`Counter::live`].
pub(crate) const LIVE: u32 = 1;
/// The same once it is not any more.
pub(crate) const OVER: u32 = 2;

/// One listening socket of a seat.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Door {
    pub(crate) seat: u32,
    /// Address family, and the number among its twins.
    pub(crate) which: u32,
}

#[map]
pub(crate) static PLACES: HashMap<u64, Place> = HashMap::with_max_entries(SEATS_MAX, 0);

/// By port.
#[map]
pub(crate) static GROUPS: HashMap<u32, Group> =
    HashMap::with_max_entries(GROUPS_MAX, BPF_F_NO_PREALLOC);

#[map]
pub(crate) static SEATS: Array<Counter> = Array::with_max_entries(SEATS_MAX, MMAPABLE);

#[map]
pub(crate) static DOORS: SockHash<Door> = SockHash::with_max_entries(DOORS_MAX, 0);

/// How many twins a seat's socket has, of IPv4 and IPv6.
#[map]
pub(crate) static TWINS: Array<u32> = Array::with_max_entries(SEATS_MAX * 2, 0);

/// When user space last gave a sign of life, by CLOCK_MONOTONIC.
#[map]
pub(crate) static BEAT: Array<u64> = Array::with_max_entries(1, 0);

/// Whose turn it is. One for each CPU, so that they need not wait for each other.
#[map]
pub(crate) static CURSOR: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

#[btf_map]
pub(crate) static TAGS: ForEachSocket<Tag> = ForEachSocket::new();

#[inline(always)]
pub(crate) const fn row(seat: u32, family: u32) -> u32 {
    seat * 2 + (family == AF_INET6) as u32
}

#[inline(always)]
pub(crate) const fn door(seat: u32, family: u32, twin: u32) -> Door {
    Door { seat, which: (family == AF_INET6) as u32 | twin << 1 }
}
