//! CPU time of workers: every nanosecond the scheduler books to a thread is added to the seat its
//! worker has in [`COUNTERS`], which user space maps into its memory. Beside it lies how long the
//! thread waited for a CPU, how often it left one, and how many processes it started.
//!
//! A thread belongs to a worker by its [`Share`]. It inherits it from the thread that started it,
//! whatever becomes of that one. Those that were there before are found by [`take_up`].
//!
//! Booked is always the difference to what was booked before, so a switch that is missed costs
//! nothing: the next one makes up for it. The numbers are the scheduler's own
//! (`se.sum_exec_runtime`, `sched_info.run_delay`, `nvcsw`, `nivcsw`), so they are what a cgroup's
//! `cpu.stat` adds up, and `proc_pid_schedstat(5)` and `proc_pid_status(5)` say.
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
    /// Time in which threads could have run but had no CPU.
    run_delay_ns: u64,
    /// Times a thread left its CPU because it had to wait for something.
    voluntary: u64,
    /// Times a thread left its CPU though it could have gone on.
    involuntary: u64,
    /// Processes started; a thread is none.
    forks: u64,
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

/// What the scheduler counts of one thread.
#[repr(C)]
#[derive(Clone, Copy)]
struct Account {
    runtime_ns: u64,
    run_delay_ns: u64,
    voluntary: u64,
    involuntary: u64,
}

/// Whose a thread is, and how much of its account is in the counter.
#[repr(C)]
struct Share {
    seat: Seat,
    booked: Account,
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
/// Unset in kernels that do not count it.
#[unsafe(no_mangle)]
static TASK_RUN_DELAY: Constant = Constant::unset();
#[unsafe(no_mangle)]
static TASK_VOLUNTARY: Constant = Constant::unset();
#[unsafe(no_mangle)]
static TASK_INVOLUNTARY: Constant = Constant::unset();
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
#[unsafe(no_mangle)]
static SIGNAL_VOLUNTARY: Constant = Constant::unset();
#[unsafe(no_mangle)]
static SIGNAL_CVOLUNTARY: Constant = Constant::unset();
#[unsafe(no_mangle)]
static SIGNAL_INVOLUNTARY: Constant = Constant::unset();
#[unsafe(no_mangle)]
static SIGNAL_CINVOLUNTARY: Constant = Constant::unset();

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
        let child: Task = context.arg(1);
        // SAFETY: not null.
        let seat = Seat { round: 0, ..unsafe { (*parent).seat } };
        let share = Share { seat, booked: Account::NOTHING };
        if SHARES.of_or(child, &share).is_none() {
            count(&share.seat, |counter| &raw mut counter.missed, 1);
        }
        if is_leader(child) {
            count(&share.seat, |counter| &raw mut counter.forks, 1);
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
    let booked = Account::of(task);
    let share = SHARES.of_or(task, &Share { seat, booked })?;
    // SAFETY: not null.
    if unsafe { (*share).seat.round } != seat.round {
        return Some(()); // born just now, with a share of its own
    }
    booked.count(&seat);
    count(&seat, |counter| &raw mut counter.taken_up, 1);
    if is_leader(task) {
        Account::past(TASK_SIGNAL.of(task)).count(&seat);
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

/// Whether a thread is the first one of its process.
#[inline(always)]
fn is_leader(task: Task) -> bool {
    TASK_PID.of::<u32>(task) == TASK_TGID.of::<u32>(task)
}

#[inline(always)]
fn book(task: Task) -> Option<()> {
    let share = SHARES.of(task)?;
    let now = Account::of(task);
    // SAFETY: not null, and only the CPU the thread is on comes here.
    let new = now.since(unsafe { &(*share).booked });
    // SAFETY: as above.
    unsafe { (*share).booked = now };
    // SAFETY: as above.
    new.count(unsafe { &(*share).seat });
    Some(())
}

impl Account {
    const NOTHING: Self = Self { runtime_ns: 0, run_delay_ns: 0, voluntary: 0, involuntary: 0 };

    #[inline(always)]
    fn of(task: Task) -> Self {
        Self {
            runtime_ns: TASK_RUNTIME.of(task),
            run_delay_ns: TASK_RUN_DELAY.if_any(task).unwrap_or(0),
            voluntary: TASK_VOLUNTARY.of(task),
            involuntary: TASK_INVOLUNTARY.of(task),
        }
    }

    /// Of threads of a process that are gone, and of children that were waited for. How long they
    /// waited for a CPU nobody knows.
    #[inline(always)]
    fn past(signal: *const u8) -> Self {
        Self {
            runtime_ns: SIGNAL_RUNTIME.of::<u64>(signal)
                + SIGNAL_CUTIME.of::<u64>(signal)
                + SIGNAL_CSTIME.of::<u64>(signal),
            run_delay_ns: 0,
            voluntary: SIGNAL_VOLUNTARY.of::<u64>(signal) + SIGNAL_CVOLUNTARY.of::<u64>(signal),
            involuntary: SIGNAL_INVOLUNTARY.of::<u64>(signal)
                + SIGNAL_CINVOLUNTARY.of::<u64>(signal),
        }
    }

    #[inline(always)]
    fn since(&self, before: &Self) -> Self {
        Self {
            runtime_ns: self.runtime_ns.wrapping_sub(before.runtime_ns),
            run_delay_ns: self.run_delay_ns.wrapping_sub(before.run_delay_ns),
            voluntary: self.voluntary.wrapping_sub(before.voluntary),
            involuntary: self.involuntary.wrapping_sub(before.involuntary),
        }
    }

    /// Adds it to the counter of a seat.
    #[inline(always)]
    fn count(&self, seat: &Seat) -> Option<()> {
        let counter = counter_of(seat)?;
        for (number, amount) in [
            (&raw mut counter.cpu_ns, self.runtime_ns),
            (&raw mut counter.run_delay_ns, self.run_delay_ns),
            (&raw mut counter.voluntary, self.voluntary),
            (&raw mut counter.involuntary, self.involuntary),
        ] {
            if amount != 0 {
                add(number, amount);
            }
        }
        Some(())
    }
}

#[inline(always)]
fn count(seat: &Seat, number: impl Fn(&mut Counter) -> *mut u64, amount: u64) -> Option<()> {
    add(number(counter_of(seat)?), amount);
    Some(())
}

/// The counter of a seat, unless it serves another worker by now.
#[inline(always)]
fn counter_of(seat: &Seat) -> Option<&'static mut Counter> {
    let counter = COUNTERS.get_ptr_mut(seat.number)?;
    // SAFETY: not null; fields that others change meanwhile are changed by `add` alone.
    let counter = unsafe { &mut *counter };
    (counter.ticket == seat.ticket).then_some(counter)
}
