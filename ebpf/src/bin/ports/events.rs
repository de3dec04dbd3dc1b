//! What happens to the sockets of workers.

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
        BPF_SOCK_OPS_TCP_LISTEN_CB, bpf_sock_ops,
    },
    macros::sock_ops,
    programs::SockOpsContext,
};
use bunpilot_ebpf::add;

use crate::maps::{Counter, DOORS, LIVE, OVER, SEATS, TAGS, TWINS, TWINS_MAX, Tag, door, row};

/// `BPF_NOEXIST` of `bpf(2)`.
const NOT_THERE: u64 = 1;

/// States of `<net/tcp_states.h>`.
const TCP_ESTABLISHED: u32 = 1;
const TCP_CLOSE: u32 = 7;
const TCP_CLOSE_WAIT: u32 = 8;
const TCP_LISTEN: u32 = 10;

/// Attached to the folder of all workers.
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
