//! Who gets the next connection to an app's port, for programs that know nothing of it.
//!
//! A worker is known by its cgroup. When it binds its app's port, [`bind4`] or [`bind6`] makes its
//! socket share the port and leaves a [`Tag`] on it; when it listens, [`events::events`] puts the socket
//! into [`DOORS`]. Of all the sockets of a port [`select::select`] chooses one for each connection, as
//! [`GROUPS`] says. The kernel copies the tag to every connection the socket accepts, and so
//! [`events::events`] counts them for the worker's seat in [`SEATS`], which user space maps into its memory.
//!
//! Nobody's seat is chosen that is not ready. Where none is, connections wait at the port's parking
//! socket, which is bunpilot's own; where there is none either, the kernel chooses as it would
//! without us. [`shield4`] and [`shield6`] keep strangers off ports that are served like this.
//!
//! Nothing here touches a socket that is bound to another port, or that no worker opened.
#![no_std]
#![no_main]

mod events;
mod maps;
mod select;

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::{
        bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_netns_cookie,
        bpf_setsockopt,
    },
    macros::{cgroup_sock, cgroup_sock_addr},
    programs::{SockAddrContext, SockContext},
};

use crate::maps::{GROUPS, PLACES, Place, TAGS, Tag};

/// How deep below a worker's cgroup its processes may be.
const DEPTH_MAX: i32 = 12;

const SOCK_STREAM: u32 = 1;

const SOL_SOCKET: i32 = 1;

const SO_REUSEPORT: i32 = 15;

const IPPROTO_TCP: u32 = 6;

const IPPROTO_MPTCP: u32 = 262;

/// What a hook says: go on; go on, even to a low port; no.
const ALLOW: i32 = 1;
const ALLOW_LOW: i32 = 3;
const REFUSE: i32 = 0;

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
