//! Who gets the next connection to an app's port, for programs that know nothing of it.
//!
//! A worker is known by its cgroup. When it binds its app's port, [`bind4`] or [`bind6`] makes its
//! socket share the port and leaves a [`Tag`] on it; when it listens, [`events`] puts the socket
//! into [`DOORS`]. Of all the sockets of a port [`select`] chooses one for each connection, as
//! [`GROUPS`] says. The kernel copies the tag to every connection the socket accepts, and so
//! [`events`] counts them for the worker's seat in [`SEATS`], which user space maps into its memory.
//!
//! Nobody's seat is chosen that is not ready. Where none is, connections wait at the port's parking
//! socket, which is bunpilot's own; where there is none either, the kernel chooses as it would
//! without us. [`shield4`] and [`shield6`] keep strangers off ports that are served like this.
//!
//! Nothing here touches a socket that is bound to another port, or that no worker opened.
#![no_std]
#![no_main]

use core::{
    ffi::{c_long, c_void},
    ptr,
};

use aya_ebpf::{
    bindings::{
        BPF_F_NO_PREALLOC, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
        BPF_SOCK_OPS_TCP_LISTEN_CB, bpf_sock_addr, bpf_sock_ops, sk_action::SK_PASS,
        sk_reuseport_md,
    },
    helpers::{
        bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_netns_cookie,
        bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_setsockopt, bpf_sk_select_reuseport,
        bpf_skb_load_bytes_relative,
    },
    macros::{btf_map, cgroup_sock, cgroup_sock_addr, map, sk_reuseport, sock_ops},
    maps::{Array, HashMap, PerCpuArray, SockHash},
    programs::{SkReuseportContext, SockAddrContext, SockContext, SockOpsContext},
};
use bunpilot_ebpf::{ForEachSocket, add, upto};

/// `BPF_F_MMAPABLE` of `bpf(2)`.
const MMAPABLE: u32 = 1 << 10;

/// `BPF_NOEXIST` of `bpf(2)`.
const NOT_THERE: u64 = 1;

/// Seats, each of which serves one worker at a time; user space knows the same number.
const SEATS_MAX: u32 = 4096;

/// Ports that can be served.
const GROUPS_MAX: u32 = 1024;

/// Listening sockets of all workers.
const DOORS_MAX: u32 = 8192;

/// Sockets of one worker and address family that take turns.
const TWINS_MAX: u32 = 8;

/// Seats of one group, ready or not.
const READY_MAX: usize = 1024;

/// Turns of one round.
const TURNS_MAX: usize = 2048;

/// Of more ready seats the least busy one is searched among as many, other ones each time.
const COMPARED_MAX: u32 = 64;

/// Seats that are tried before the parking socket, if the kernel refuses some.
const TRIES_MAX: u32 = 4;

/// How deep below a worker's cgroup its processes may be.
const DEPTH_MAX: i32 = 12;

/// How long counts of connections are believed after user space's last sign of life.
const BELIEVED_NS: u64 = 3_000_000_000;

/// First two bytes of a probe's source address; the other two are a seat.
const PROBE_NET: [u8; 2] = [127, 66];

const AF_INET6: u32 = 10;
const SOCK_STREAM: u32 = 1;
const SOL_SOCKET: i32 = 1;
const SO_REUSEPORT: i32 = 15;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_MPTCP: u32 = 262;
const ETH_P_IP: u16 = 0x0800;
/// Where the source address lies in an IPv4 header.
const IP_SOURCE: u32 = 12;
/// `BPF_HDR_START_NET`.
const FROM_NETWORK_HEADER: u32 = 1;

/// States of `<net/tcp_states.h>`.
const TCP_ESTABLISHED: u32 = 1;
const TCP_CLOSE: u32 = 7;
const TCP_CLOSE_WAIT: u32 = 8;
const TCP_LISTEN: u32 = 10;

/// What a hook says: go on; go on, even to a low port; no.
const ALLOW: i32 = 1;
const ALLOW_LOW: i32 = 3;
const REFUSE: i32 = 0;

/// [`Group::policy`]: whoever has the fewest connections for its weight.
const LEAST: u32 = 1;
/// [`Group::policy`]: anybody, by weight.
const RANDOM: u32 = 2;

/// Who lives in a cgroup.
#[repr(C)]
#[derive(Clone, Copy)]
struct Place {
    ticket: u64,
    seat: u32,
    /// The app's port.
    port: u32,
}

/// How a port is served. User space replaces it as a whole.
#[repr(C)]
struct Group {
    /// The network namespace the port is in.
    netns: u64,
    policy: u32,
    /// How many of `ready` are.
    ready_len: u32,
    /// How many of `turns` are.
    turns_len: u32,
    /// Seat of the parking socket, counted from 1; 0 is none.
    parking: u32,
    ready: [Ready; READY_MAX],
    /// Seats in the order of their turns, each as often as it weighs.
    turns: [u16; TURNS_MAX],
}

/// A seat that may get connections.
#[repr(C)]
#[derive(Clone, Copy)]
struct Ready {
    seat: u16,
    weight: u16,
}

/// What is known of a seat; a cache line, so that workers on two CPUs do not wait for each other.
#[repr(C)]
struct Counter {
    /// Whom the seat serves; connections with another ticket are of an earlier worker and not
    /// counted.
    ticket: u64,
    /// Connections that are open in both directions, or that only the worker may still close.
    live: u64,
    /// Sockets that listen to the app's port.
    listening: u64,
    /// Connections established.
    accepted: u64,
    /// How often [`select`] chose the seat.
    chosen: u64,
    /// How often it chose it for a connection that waited elsewhere.
    moved: u64,
    /// Connections that ended without a farewell, by either side.
    reset: u64,
    /// How often a probe found the seat.
    probed: u64,
}

/// Whose a socket is.
#[repr(C)]
#[derive(Clone, Copy)]
struct Tag {
    ticket: u64,
    seat: u32,
    counted: u32,
}

/// [`Tag::counted`] of a connection that is in [`Counter::live`].
const LIVE: u32 = 1;
/// The same once it is not any more.
const OVER: u32 = 2;

/// One listening socket of a seat.
#[repr(C)]
#[derive(Clone, Copy)]
struct Door {
    seat: u32,
    /// Address family, and the number among its twins.
    which: u32,
}

#[map]
static PLACES: HashMap<u64, Place> = HashMap::with_max_entries(SEATS_MAX, 0);

/// By port.
#[map]
static GROUPS: HashMap<u32, Group> = HashMap::with_max_entries(GROUPS_MAX, BPF_F_NO_PREALLOC);

#[map]
static SEATS: Array<Counter> = Array::with_max_entries(SEATS_MAX, MMAPABLE);

#[map]
static DOORS: SockHash<Door> = SockHash::with_max_entries(DOORS_MAX, 0);

/// How many twins a seat's socket has, of IPv4 and IPv6.
#[map]
static TWINS: Array<u32> = Array::with_max_entries(SEATS_MAX * 2, 0);

/// When user space last gave a sign of life, by CLOCK_MONOTONIC.
#[map]
static BEAT: Array<u64> = Array::with_max_entries(1, 0);

/// Whose turn it is. One for each CPU, so that they need not wait for each other.
#[map]
static CURSOR: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

#[btf_map]
static TAGS: ForEachSocket<Tag> = ForEachSocket::new();

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The place of the process that runs: its own cgroup's, or that of the nearest one above.
#[inline(always)]
fn place() -> Option<Place> {
    // SAFETY: asks for the cgroup of the process that runs.
    let own = unsafe { bpf_get_current_cgroup_id() };
    // SAFETY: user space removes a place only after its worker is gone.
    if let Some(place) = unsafe { PLACES.get(own) } {
        return Some(*place);
    }
    for up in 1..DEPTH_MAX {
        // SAFETY: as above.
        let above = unsafe { bpf_get_current_ancestor_cgroup_id(DEPTH_MAX - up) };
        if above != 0
            // SAFETY: as above.
            && let Some(place) = unsafe { PLACES.get(above) }
        {
            return Some(*place);
        }
    }
    None
}

/// The port a stream socket is about to be bound to; 0 for other sockets.
#[inline(always)]
fn port_of(address: *const bpf_sock_addr) -> u32 {
    // SAFETY: the kernel's own context.
    let (kind, protocol, port) =
        unsafe { ((*address).type_, (*address).protocol, (*address).user_port) };
    if kind != SOCK_STREAM || protocol != IPPROTO_TCP {
        return 0;
    }
    u32::from(u16::from_be(port as u16))
}

#[inline(always)]
fn bind(context: &SockAddrContext) -> i32 {
    let address = context.sock_addr;
    let port = port_of(address);
    if port == 0 {
        return ALLOW;
    }
    let Some(place) = place() else { return ALLOW };
    if place.port != port {
        return ALLOW;
    }
    // SAFETY: the kernel's own context.
    let socket = unsafe { (*address).__bindgen_anon_1.sk };
    if socket.is_null() {
        return ALLOW;
    }
    let tag = Tag { ticket: place.ticket, seat: place.seat, counted: 0 };
    if let Some(tag_is) = TAGS.of_or(socket.cast(), &tag) {
        // SAFETY: not null.
        unsafe { *tag_is = tag };
    }
    let mut on: i32 = 1;
    // SAFETY: reads four bytes of `on`. Where it fails the program gets EADDRINUSE, as without us.
    unsafe { bpf_setsockopt(address.cast(), SOL_SOCKET, SO_REUSEPORT, (&raw mut on).cast(), 4) };
    ALLOW_LOW
}

/// Attached to the folder of all workers.
#[cgroup_sock_addr(bind4)]
fn bind4(context: SockAddrContext) -> i32 {
    bind(&context)
}

/// The same for IPv6.
#[cgroup_sock_addr(bind6)]
fn bind6(context: SockAddrContext) -> i32 {
    bind(&context)
}

/// Whether whoever binds may have the port: it is not served, or the socket is one of ours.
#[inline(always)]
fn shield(context: &SockAddrContext) -> i32 {
    let address = context.sock_addr;
    let port = port_of(address);
    if port == 0 {
        return ALLOW;
    }
    // SAFETY: user space removes a group only after its app.
    let Some(group) = (unsafe { GROUPS.get(port) }) else { return ALLOW };
    // SAFETY: asks about the socket of the context.
    if unsafe { bpf_get_netns_cookie(address.cast()) } != group.netns {
        return ALLOW;
    }
    // SAFETY: the kernel's own context.
    let socket = unsafe { (*address).__bindgen_anon_1.sk };
    let ours = !socket.is_null() && TAGS.of(socket.cast()).is_some();
    if ours || place().is_some() { ALLOW } else { REFUSE }
}

/// Attached to the root of all cgroups.
#[cgroup_sock_addr(bind4)]
fn shield4(context: SockAddrContext) -> i32 {
    shield(&context)
}

/// The same for IPv6.
#[cgroup_sock_addr(bind6)]
fn shield6(context: SockAddrContext) -> i32 {
    shield(&context)
}

/// Multipath TCP sockets cannot be chosen by a program: who asks for one (Go does) is refused, and
/// takes plain TCP instead. Attached to the folder of all workers.
#[cgroup_sock(sock_create)]
fn plain(context: SockContext) -> i32 {
    // SAFETY: the kernel's own context.
    let multipath = unsafe { (*context.sock).protocol } == IPPROTO_MPTCP;
    if multipath && place().is_some() { REFUSE } else { ALLOW }
}

/// What happens to the sockets of workers. Attached to the folder of all workers.
#[sock_ops]
fn events(context: SockOpsContext) -> u32 {
    let ops = context.ops;
    // SAFETY: the kernel's own context.
    let op = unsafe { (*ops).op };
    if op == BPF_SOCK_OPS_TCP_LISTEN_CB {
        listens(ops, &context);
    } else if op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB {
        established(ops, &context);
    } else if op == BPF_SOCK_OPS_STATE_CB {
        changed(ops);
    }
    1
}

/// The tag of the socket something happens to.
#[inline(always)]
fn tag_of(ops: *const bpf_sock_ops) -> Option<*mut Tag> {
    // SAFETY: the kernel's own context.
    let socket = unsafe { (*ops).__bindgen_anon_2.sk };
    if socket.is_null() {
        return None;
    }
    TAGS.of(socket.cast())
}

/// The counter of the seat a tag names, if it still serves the same worker.
#[inline(always)]
fn counter_of(tag: *const Tag) -> Option<*mut Counter> {
    // SAFETY: not null, see `tag_of`.
    let (seat, ticket) = unsafe { ((*tag).seat, (*tag).ticket) };
    let counter = SEATS.get_ptr_mut(seat)?;
    // SAFETY: not null.
    (unsafe { (*counter).ticket } == ticket).then_some(counter)
}

#[inline(always)]
fn listens(ops: *mut bpf_sock_ops, context: &SockOpsContext) -> Option<()> {
    let tag = tag_of(ops)?;
    let counter = counter_of(tag)?;
    // SAFETY: not null; the kernel's own context.
    let (seat, family) = unsafe { ((*tag).seat, (*ops).family) };
    let row = row(seat, family);
    for twin in 0..TWINS_MAX {
        // SAFETY: the kernel's own context.
        let ops = unsafe { &mut *ops };
        if DOORS.update(door(seat, family, twin), ops, NOT_THERE).is_ok() {
            let twins = TWINS.get_ptr_mut(row)?;
            // SAFETY: not null; a worker listens once in a while.
            unsafe { *twins = (*twins).max(twin + 1) };
            break;
        }
    }
    // SAFETY: not null.
    add(unsafe { &raw mut (*counter).listening }, 1);
    // Tells us when it closes; without it the seat seems to listen until its worker is gone.
    let _told = context.set_cb_flags(BPF_SOCK_OPS_STATE_CB_FLAG as i32);
    Some(())
}

#[inline(always)]
fn established(ops: *const bpf_sock_ops, context: &SockOpsContext) -> Option<()> {
    let tag = tag_of(ops)?;
    let counter = counter_of(tag)?;
    // SAFETY: not null.
    if unsafe { (*tag).counted } != 0 {
        return None;
    }
    // Else nobody would tell us that it is over.
    context.set_cb_flags(BPF_SOCK_OPS_STATE_CB_FLAG as i32).ok()?;
    // SAFETY: not null.
    unsafe { (*tag).counted = LIVE };
    // SAFETY: not null.
    add(unsafe { &raw mut (*counter).live }, 1);
    // SAFETY: not null.
    add(unsafe { &raw mut (*counter).accepted }, 1);
    Some(())
}

#[inline(always)]
fn changed(ops: *const bpf_sock_ops) -> Option<()> {
    // SAFETY: a state callback has old and new state as arguments.
    let [old, new, ..] = unsafe { (*ops).__bindgen_anon_1.args };
    let tag = tag_of(ops)?;
    if old == TCP_LISTEN {
        let counter = counter_of(tag)?;
        // SAFETY: not null.
        add(unsafe { &raw mut (*counter).listening }, u64::MAX);
        return Some(());
    }
    // SAFETY: not null.
    if new == TCP_ESTABLISHED || new == TCP_CLOSE_WAIT || unsafe { (*tag).counted } != LIVE {
        return None;
    }
    // SAFETY: not null.
    unsafe { (*tag).counted = OVER };
    let counter = counter_of(tag)?;
    // SAFETY: not null.
    add(unsafe { &raw mut (*counter).live }, u64::MAX);
    if new == TCP_CLOSE {
        // SAFETY: not null.
        add(unsafe { &raw mut (*counter).reset }, 1);
    }
    Some(())
}

#[inline(always)]
const fn row(seat: u32, family: u32) -> u32 {
    seat * 2 + (family == AF_INET6) as u32
}

#[inline(always)]
const fn door(seat: u32, family: u32, twin: u32) -> Door {
    Door { seat, which: (family == AF_INET6) as u32 | twin << 1 }
}

/// Chooses a socket for a connection that comes, and for one that waited at a socket that closed.
#[sk_reuseport(migrate)]
fn select(context: SkReuseportContext) -> u32 {
    choose(context.md);
    // Nobody chosen: the kernel does it by its hash.
    SK_PASS
}

#[inline(always)]
fn choose(md: *mut sk_reuseport_md) -> Option<()> {
    // SAFETY: the kernel's own context; the socket is one of the port's.
    let (port, family) = unsafe {
        let socket = (*md).__bindgen_anon_3.sk;
        ((*socket).src_port, (*socket).family)
    };
    // SAFETY: the kernel's own context.
    let moves = unsafe { !(*md).__bindgen_anon_4.migrating_sk.is_null() };
    // SAFETY: the kernel's own context.
    let over_ipv4 = unsafe { (*md).eth_protocol } == u32::from(ETH_P_IP.to_be());
    let cursor = CURSOR.get_ptr_mut(0)?;
    // SAFETY: not null, and this CPU's own.
    let turn = unsafe {
        *cursor = (*cursor).wrapping_add(1);
        *cursor
    };
    if over_ipv4
        && !moves
        && let Some(seat) = probed(md)
        && enter(md, seat, family, turn).is_some()
    {
        let counter = SEATS.get_ptr_mut(seat)?;
        // SAFETY: not null.
        add(unsafe { &raw mut (*counter).probed }, 1);
        return Some(());
    }
    // SAFETY: what user space replaces is kept until we are done.
    let group = unsafe { GROUPS.get(port) }?;
    let seat = pick(md, group, family, turn)?;
    let counter = SEATS.get_ptr_mut(seat)?;
    // SAFETY: not null.
    add(unsafe { &raw mut (*counter).chosen }, 1);
    if moves {
        // SAFETY: not null.
        add(unsafe { &raw mut (*counter).moved }, 1);
    }
    Some(())
}

/// The seat a probe is meant for.
#[inline(always)]
fn probed(md: *mut sk_reuseport_md) -> Option<u32> {
    let mut source = [0_u8; 4];
    // SAFETY: writes four bytes into `source`.
    let read = unsafe {
        bpf_skb_load_bytes_relative(
            md.cast::<c_void>(),
            IP_SOURCE,
            (&raw mut source).cast(),
            4,
            FROM_NETWORK_HEADER,
        )
    };
    let [a, b, h, l] = source;
    (read == 0 && [a, b] == PROBE_NET).then_some(u32::from(h) << 8 | u32::from(l))
}

/// The seat that got the connection.
#[inline(always)]
fn pick(md: *mut sk_reuseport_md, group: &Group, family: u32, turn: u32) -> Option<u32> {
    if group.policy == LEAST
        && believed()
        && let Some(seat) = least(group, turn)
        && enter(md, seat, family, turn).is_some()
    {
        return Some(seat);
    }
    let turns = group.turns_len;
    // SAFETY: gives a number.
    let first = if group.policy == RANDOM { unsafe { bpf_get_prandom_u32() } } else { turn };
    let mut chosen = 0;
    let entered = upto::<TRIES_MAX>(turns, |next| {
        let index = first.wrapping_add(next) % turns;
        chosen = u32::from(group.turns[index as usize & (TURNS_MAX - 1)]);
        enter(md, chosen, family, turn).is_some()
    });
    if entered {
        return Some(chosen);
    }
    let parking = group.parking.checked_sub(1)?;
    enter(md, parking, family, turn)?;
    Some(parking)
}

/// Whether connections are still being counted.
#[inline(always)]
fn believed() -> bool {
    let Some(beat) = BEAT.get_ptr(0) else { return false };
    // SAFETY: not null; volatile, for user space writes it.
    let beat = unsafe { ptr::read_volatile(beat) };
    // SAFETY: gives the time.
    unsafe { bpf_ktime_get_ns() }.saturating_sub(beat) < BELIEVED_NS
}

/// The ready seat with the fewest connections for its weight.
#[inline(always)]
fn least(group: &Group, turn: u32) -> Option<u32> {
    let ready = group.ready_len;
    let mut best = None;
    let (mut best_live, mut best_weight) = (0, 1);
    upto::<COMPARED_MAX>(ready, |next| {
        // Whoever is first wins among equals, so it is somebody else each time.
        let index = turn.wrapping_add(next) % ready;
        let Ready { seat, weight } = group.ready[index as usize & (READY_MAX - 1)];
        let Some(counter) = SEATS.get_ptr(u32::from(seat)) else { return false };
        // SAFETY: not null; volatile, for other CPUs write it.
        let live = unsafe { ptr::read_volatile(&raw const (*counter).live) };
        let weight = u64::from(weight);
        if best.is_none() || live * best_weight < best_live * weight {
            best = Some(u32::from(seat));
            (best_live, best_weight) = (live, weight);
        }
        false
    });
    best
}

/// Gives the connection to a socket of the seat.
#[inline(always)]
fn enter(md: *mut sk_reuseport_md, seat: u32, family: u32, turn: u32) -> Option<()> {
    let twins = TWINS.get_ptr(row(seat, family))?;
    // SAFETY: not null; volatile, for other CPUs write it.
    let twins = unsafe { ptr::read_volatile(twins) };
    if twins <= 1 {
        return assign(md, door(seat, family, 0));
    }
    let entered = upto::<TWINS_MAX>(twins, |next| {
        let twin = turn.wrapping_add(next) % twins;
        assign(md, door(seat, family, twin)).is_some()
    });
    entered.then_some(())
}

#[inline(always)]
fn assign(md: *mut sk_reuseport_md, mut door: Door) -> Option<()> {
    let doors = (&raw const DOORS).cast_mut().cast::<c_void>();
    // SAFETY: the map is one of sockets with keys like `door`.
    let refused: c_long =
        unsafe { bpf_sk_select_reuseport(md, doors, (&raw mut door).cast(), 0) };
    (refused == 0).then_some(())
}
