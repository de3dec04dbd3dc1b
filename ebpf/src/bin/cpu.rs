//! CPU time of workers: every nanosecond the scheduler books to a thread is added to the seat its
//! worker has in [`COUNTERS`], which user space maps into its memory.
//!
//! A thread belongs to a worker by its [`Share`]. It inherits it from the thread that started it,
//! whatever becomes of that one. Those that were there before are found by [`take_up`].
//!
//! Booked is always the difference to what was booked before, so a switch that is missed costs
//! nothing: the next one makes up for it. The numbers are the scheduler's own
//! (`se.sum_exec_runtime`), so they are what a cgroup's `cpu.stat` adds up.
#![no_std]
#![no_main]

use core::ptr;

use aya_ebpf::{
    helpers::bpf_get_current_task_btf,
    macros::{btf_map, btf_tracepoint, map, raw_tracepoint},
    maps::{Array, HashMap},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use bunpilot_ebpf::{Constant, ForEachTask, Task, add};

/// `BPF_F_MMAPABLE` of `bpf(2)`.
const MMAPABLE: u32 = 1 << 10;

/// Seats, each of which serves one worker at a time; user space knows the same number.
const SEATS: u32 = 4096;

/// Processes that can be taken up in one round.
const ROUND_MAX: u32 = 16384;

/// What a worker used; a cache line, so that workers on two CPUs do not wait for each other.
#[repr(C)]
struct Counter {
    /// Whom the seat serves; who holds another ticket is of an earlier worker and not counted.
    ticket: u64,
    cpu_ns: u64,
    /// Threads that were there before us.
    taken_up: u64,
    /// Threads that could not be given a share for want of memory.
    missed: u64,
    _rest: [u64; 4],
}

/// Whose a process is.
#[repr(C)]
#[derive(Clone, Copy)]
struct Seat {
    ticket: u64,
    number: u32,
    /// Tells one round of [`take_up`] from another; 0 is none.
    round: u32,
}

/// Whose a thread is, and how much of its time is in the counter.
#[repr(C)]
struct Share {
    seat: Seat,
    booked_ns: u64,
}

#[map]
static COUNTERS: Array<Counter> = Array::with_max_entries(SEATS, MMAPABLE);

/// Threads that are accounted.
#[btf_map]
static SHARES: ForEachTask<Share> = ForEachTask::new();

/// Leaders of workers that are to be taken up with all they started.
#[btf_map]
static MARKS: ForEachTask<Seat> = ForEachTask::new();

/// The processes found in this round, by the number the kernel itself gives them.
#[map]
static FAMILY: HashMap<u32, Seat> = HashMap::with_max_entries(ROUND_MAX, 0);

#[unsafe(no_mangle)]
static TASK_TGID: Constant = Constant::unset();
#[unsafe(no_mangle)]
static TASK_PID: Constant = Constant::unset();
#[unsafe(no_mangle)]
static TASK_RUNTIME: Constant = Constant::unset();
#[unsafe(no_mangle)]
static TASK_PARENT: Constant = Constant::unset();
#[unsafe(no_mangle)]
static TASK_SIGNAL: Constant = Constant::unset();
#[unsafe(no_mangle)]
static SIGNAL_RUNTIME: Constant = Constant::unset();
#[unsafe(no_mangle)]
static SIGNAL_CUTIME: Constant = Constant::unset();
#[unsafe(no_mangle)]
static SIGNAL_CSTIME: Constant = Constant::unset();

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// A thread leaves its CPU: the second argument of `sched_switch`.
#[btf_tracepoint(function = "sched_switch")]
fn switched(context: BtfTracePointContext) -> i32 {
    book(context.arg(1));
    0
}

/// Books what runs right now. Never attached: user space runs it on each CPU before it reads.
#[raw_tracepoint(tracepoint = "sched_switch")]
fn flush(_context: RawTracePointContext) -> i32 {
    // SAFETY: gives the thread that runs.
    book(unsafe { bpf_get_current_task_btf() }.cast_const().cast());
    0
}

/// A thread or process begins: parent and child of `sched_process_fork`.
#[btf_tracepoint(function = "sched_process_fork")]
fn forked(context: BtfTracePointContext) -> i32 {
    if let Some(parent) = SHARES.of(context.arg(0)) {
        // SAFETY: not null.
        let seat = Seat { round: 0, ..unsafe { (*parent).seat } };
        let share = Share { seat, booked_ns: 0 };
        if SHARES.of_or(context.arg(1), &share).is_none() {
            count(&share.seat, |counter| &raw mut counter.missed, 1);
        }
    }
    0
}

/// Looks at one thread of the machine and takes it up if it belongs to a marked worker: by its
/// mark, or because its process or the parent of that was found before. Read to the end it is one
/// round, `bpf_iter` of the kernel's documentation; threads that are seen before their parents
/// need another.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn take_up(context: *const Visit) -> i32 {
    // SAFETY: the verifier knows what an iterator over tasks is given.
    let task = unsafe { ptr::read_volatile(&raw const (*context).task) };
    if !task.is_null() {
        visit(task);
    }
    0
}

/// `struct bpf_iter__task`.
#[repr(C)]
struct Visit {
    meta: *const u8,
    /// Null after the last one.
    task: Task,
}

#[inline(always)]
fn visit(task: Task) -> Option<()> {
    let tgid: u32 = TASK_TGID.of(task);
    let seat = belongs(task, tgid)?;
    if SHARES.of(task).is_some() {
        return Some(());
    }
    let booked_ns = TASK_RUNTIME.of(task);
    let share = SHARES.of_or(task, &Share { seat, booked_ns })?;
    // SAFETY: not null.
    if unsafe { (*share).seat.round } != seat.round {
        return Some(()); // born just now, with a share of its own
    }
    count(&seat, |counter| &raw mut counter.cpu_ns, booked_ns);
    count(&seat, |counter| &raw mut counter.taken_up, 1);
    let pid: u32 = TASK_PID.of(task);
    if pid == tgid {
        let signal: *const u8 = TASK_SIGNAL.of(task);
        // Of threads that are gone, and of children that were waited for.
        let past = SIGNAL_RUNTIME.of::<u64>(signal)
            + SIGNAL_CUTIME.of::<u64>(signal)
            + SIGNAL_CSTIME.of::<u64>(signal);
        count(&seat, |counter| &raw mut counter.cpu_ns, past);
    }
    Some(())
}

#[inline(always)]
fn belongs(task: Task, tgid: u32) -> Option<Seat> {
    if let Some(mark) = MARKS.of(task) {
        // SAFETY: not null.
        let seat = unsafe { *mark };
        FAMILY.insert(&tgid, &seat, 0).ok()?;
        return Some(seat);
    }
    // SAFETY: nobody removes what this round put in.
    if let Some(seat) = unsafe { FAMILY.get(&tgid) } {
        return Some(*seat);
    }
    let parent: Task = TASK_PARENT.of(task);
    let parent: u32 = TASK_TGID.of(parent);
    // SAFETY: as above.
    let seat = unsafe { *FAMILY.get(&parent)? };
    FAMILY.insert(&tgid, &seat, 0).ok()?;
    Some(seat)
}

#[inline(always)]
fn book(task: Task) -> Option<()> {
    let share = SHARES.of(task)?;
    let runtime: u64 = TASK_RUNTIME.of(task);
    // SAFETY: not null, and only the CPU the thread is on comes here.
    let used = runtime.wrapping_sub(unsafe { (*share).booked_ns });
    // SAFETY: as above.
    unsafe { (*share).booked_ns = runtime };
    // SAFETY: as above.
    count(unsafe { &(*share).seat }, |counter| &raw mut counter.cpu_ns, used);
    Some(())
}

#[inline(always)]
fn count(seat: &Seat, number: impl Fn(&mut Counter) -> *mut u64, amount: u64) -> Option<()> {
    let counter = COUNTERS.get_ptr_mut(seat.number)?;
    // SAFETY: not null; fields that others change meanwhile are changed by `add` alone.
    let counter = unsafe { &mut *counter };
    if counter.ticket == seat.ticket {
        add(number(counter), amount);
    }
    Some(())
}
