//! What every program in the kernel needs: constants from outside, counters, a value for each
//! thread, and an end for what cannot happen.
//!
//! A program is one file in `bin/` and becomes one object of the same name; aya makes all maps of
//! an object when it loads it, so what a kernel may lack has an object of its own. No program
//! trusts a field's place: user space reads it from the kernel's BTF and writes it into a constant
//! before the verifier looks.
#![no_std]
#![feature(asm_experimental_arch)]

use core::{ffi::c_void, marker::PhantomData, ptr};

use aya_ebpf::{
    bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE},
    helpers::generated::{bpf_sk_storage_get, bpf_task_storage_get},
};

/// A `struct task_struct` of the kernel.
pub type Task = *const u8;

/// A number user space sets before the program is loaded; to the verifier it is a constant.
#[repr(transparent)]
pub struct Constant(u32);

impl Constant {
    /// One that is still to be set.
    #[must_use]
    pub const fn unset() -> Self {
        Self(0)
    }

    #[inline(always)]
    fn value(&self) -> usize {
        // SAFETY: a static; volatile, or the compiler would believe in the 0 it sees.
        unsafe { ptr::read_volatile(&raw const self.0) as usize }
    }

    /// Reads the `T` that lies this far into `object`; the verifier proves that it is one.
    #[inline(always)]
    pub fn of<T: Copy>(&self, object: *const u8) -> T {
        // SAFETY: the verifier refuses the program unless a field of this size is there.
        unsafe { ptr::read_volatile(object.add(self.value()).cast()) }
    }

    /// As [`Self::of`] for a field the kernel may lack; it was left unset then, and no field of
    /// interest begins its structure.
    #[inline(always)]
    pub fn if_any<T: Copy>(&self, object: *const u8) -> Option<T> {
        if self.value() == 0 { None } else { Some(self.of(object)) }
    }
}

/// Adds to a number that other CPUs add to at the same time.
#[inline(always)]
pub fn add(number: *mut u64, amount: u64) {
    // SAFETY: `number` points into a map's value, which the verifier checks.
    unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) number, in(reg) amount) }
}

/// The numbers from 0 below `most` and below `MOST`. To the compiler each comes as a surprise, so
/// that it counts as it is told and the verifier sees that the loop ends.
#[inline(always)]
pub fn upto<const MOST: u32>(most: u32, mut each: impl FnMut(u32) -> bool) -> bool {
    let mut number: u32 = 0;
    while number < MOST && number < most {
        if each(number) {
            return true;
        }
        number += 1;
        // SAFETY: is nothing.
        unsafe { core::arch::asm!("/* {0} */", inout(reg) number) };
    }
    false
}

/// `BPF_MAP_TYPE_TASK_STORAGE`: one `V` for each thread that was given one, gone with the thread.
pub type ForEachTask<V> = ForEach<V, TASK_STORAGE, { BPF_F_NO_PREALLOC as usize }>;

/// `BPF_MAP_TYPE_SK_STORAGE`: one `V` for each socket that was given one, gone with the socket. A
/// connection begins with a copy of its listening socket's.
pub type ForEachSocket<V> =
    ForEach<V, SOCKET_STORAGE, { (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize }>;

/// A socket of the kernel: a `struct sock`, or what a context shows of it.
pub type Socket = *mut c_void;

const TASK_STORAGE: usize = 29;
const SOCKET_STORAGE: usize = 24;

/// A map of `TYPE`, made with `FLAGS`, that has a `V` for each object of the kernel that was given
/// one. The fields are read from its type by the loader, as libbpf's `__uint` and `__type` have it.
#[repr(C)]
pub struct ForEach<V, const TYPE: usize, const FLAGS: usize> {
    r#type: *const [i32; TYPE],
    key: *const i32,
    value: *const V,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; FLAGS],
    of: PhantomData<V>,
}

// SAFETY: holds no value, only types.
unsafe impl<V, const TYPE: usize, const FLAGS: usize> Sync for ForEach<V, TYPE, FLAGS> {}

impl<V, const TYPE: usize, const FLAGS: usize> ForEach<V, TYPE, FLAGS> {
    /// Nobody has one yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
            of: PhantomData,
        }
    }

    #[inline(always)]
    fn map(&'static self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

impl<V, const TYPE: usize, const FLAGS: usize> Default for ForEach<V, TYPE, FLAGS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V, const FLAGS: usize> ForEach<V, TASK_STORAGE, FLAGS> {
    /// The value of `task`, if it has one.
    #[inline(always)]
    pub fn of(&'static self, task: Task) -> Option<*mut V> {
        self.find(task, ptr::null(), 0)
    }

    /// The value of `task`, which is `first` if it had none; nothing if memory is short.
    #[inline(always)]
    pub fn of_or(&'static self, task: Task, first: &V) -> Option<*mut V> {
        self.find(task, first, u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE))
    }

    #[inline(always)]
    fn find(&'static self, task: Task, first: *const V, flags: u64) -> Option<*mut V> {
        let (task, first) = (task.cast_mut().cast(), first.cast_mut().cast());
        // SAFETY: the map is this static; the verifier checks `task` and the size of `first`.
        let value = unsafe { bpf_task_storage_get(self.map(), task, first, flags) };
        (!value.is_null()).then_some(value.cast())
    }
}

impl<V, const FLAGS: usize> ForEach<V, SOCKET_STORAGE, FLAGS> {
    /// The value of `socket`, if it has one.
    #[inline(always)]
    pub fn of(&'static self, socket: Socket) -> Option<*mut V> {
        self.find(socket, ptr::null(), 0)
    }

    /// The value of `socket`, which is `first` if it had none; nothing if memory is short.
    #[inline(always)]
    pub fn of_or(&'static self, socket: Socket, first: &V) -> Option<*mut V> {
        self.find(socket, first, u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE))
    }

    #[inline(always)]
    fn find(&'static self, socket: Socket, first: *const V, flags: u64) -> Option<*mut V> {
        let first = first.cast_mut().cast();
        // SAFETY: the map is this static; the verifier checks `socket` and the size of `first`.
        let value = unsafe { bpf_sk_storage_get(self.map(), socket, first, flags) };
        (!value.is_null()).then_some(value.cast())
    }
}

/// No program can panic: the verifier refuses the loop below.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
