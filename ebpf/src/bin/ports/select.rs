//! Who gets a connection.

use core::{
    ffi::{c_long, c_void},
    ptr,
};

use aya_ebpf::{
    bindings::{
        sk_action::{SK_DROP, SK_PASS},
        sk_reuseport_md,
    },
    helpers::{
        bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_sk_select_reuseport, bpf_skb_load_bytes_relative,
    },
    macros::sk_reuseport,
    programs::SkReuseportContext,
};
use bunpilot_ebpf::{add, upto};

use crate::maps::{
    BEAT, CURSOR, DOORS, Door, GROUPS, Group, LEAST, RANDOM, READY_MAX, Ready, SEATS, TURNS_MAX,
    TWINS, TWINS_MAX, door, row,
};

/// Of more ready seats the least busy one is searched among as many, other ones each time.
const COMPARED_MAX: u32 = 64;

/// Seats that are tried before the parking socket, if the kernel refuses some.
const TRIES_MAX: u32 = 4;

/// How long counts of connections are believed after user space's last sign of life.
const BELIEVED_NS: u64 = 3_000_000_000;

/// First two bytes of a probe's source address; the other two are a seat.
const PROBE_NET: [u8; 2] = [127, 66];

const ETH_P_IP: u16 = 0x0800;

/// Where the source address lies in an IPv4 header.
const IP_SOURCE: u32 = 12;

/// `BPF_HDR_START_NET`.
const FROM_NETWORK_HEADER: u32 = 1;

/// Chooses a socket for a connection that comes, and for one that waited at a socket that closed.
#[sk_reuseport(migrate)]
fn select(context: SkReuseportContext) -> u32 {
    // Nobody chosen: the kernel does it by its hash.
    choose(context.md).unwrap_or(SK_PASS)
}

#[inline(always)]
fn choose(md: *mut sk_reuseport_md) -> Option<u32> {
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
    {
        if enter(md, seat, family, turn).is_none() {
            // Refused: nobody may answer for a worker that does not listen.
            return Some(SK_DROP);
        }
        let counter = SEATS.get_ptr_mut(seat)?;
        // SAFETY: not null.
        add(unsafe { &raw mut (*counter).probed }, 1);
        return Some(SK_PASS);
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
    Some(SK_PASS)
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
    let refused: c_long = unsafe { bpf_sk_select_reuseport(md, doors, (&raw mut door).cast(), 0) };
    (refused == 0).then_some(())
}
