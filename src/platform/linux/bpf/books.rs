//! CPU time of workers as the scheduler books it: of every thread a worker ever had, read without
//! a system call.
//!
//! Each worker has a [`Seat`]. A newborn sits down at once, and whatever it starts follows by
//! itself. Who was there before us is marked, and found with its whole tree in the next
//! [`Books::refresh`]; what its threads, those gone and the children it waited for used until then
//! is counted as well. Beyond us is what nobody in the kernel knows any more: the time of children
//! that ended before we came and that nobody waited for.
//!
//! Programs and counters live as long as somebody has their descriptors open. The guard keeps
//! copies, so while there is no daemon they go on, and the next one sits down where this one was.
//!
//! The layouts here are those of `ebpf/src/bin/cpu.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::process::{PidfdFlags, pidfd_open};

use super::{
    Refusal, allowed,
    kept::Names,
    load::{self, CPU, Parts},
};
use crate::{
    domain::{Pid, Scheduling},
    platform::sys::bpf::{self, Numbers},
};

/// Workers that have a seat; further ones are measured by the clocks of their processes.
pub const SEATS_MAX: u32 = 4096;

/// Rounds of taking up: one for each generation of processes numbered against the order of their
/// birth, and those born meanwhile.
const ROUNDS_MAX: u32 = 8;

/// Numbers of one counter.
const WORDS: usize = 8;

/// Which of its numbers is what.
const TICKET: usize = 0;
const CPU_NS: usize = 1;
const TAKEN_UP: usize = 2;
const MISSED: usize = 3;
const RUN_DELAY_NS: usize = 4;
const VOLUNTARY: usize = 5;
const INVOLUNTARY: usize = 6;
const FORKS: usize = 7;

/// Length of `struct Share`.
const SHARE_BYTES: usize = 48;

/// How our descriptors are named at the guard.
const NAMES: Names = Names { prefix: "cpu-books.", object: CPU };

/// Which CPUs run.
const ONLINE_PATH: &str = "/sys/devices/system/cpu/online";

/// What the scheduler counts of ourselves, `proc_pid_schedstat(5)`.
const SCHEDSTAT_PATH: &str = "/proc/self/schedstat";

/// Most CPUs a kernel can have (`NR_CPUS`).
const CPUS_MAX: u32 = 8192;

/// Where a worker's time is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    number: u32,
    /// Tells the worker from others that had the seat.
    ticket: u64,
}

impl Seat {
    /// As `struct Seat`; `round` 0 is none.
    fn bytes(self, round: u32) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.ticket.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.number.to_ne_bytes());
        bytes[12..].copy_from_slice(&round.to_ne_bytes());
        bytes
    }

    /// As `struct Share` of a thread of which nothing is booked.
    fn share(self) -> [u8; SHARE_BYTES] {
        let mut bytes = [0; SHARE_BYTES];
        bytes[..16].copy_from_slice(&self.bytes(0));
        bytes
    }

    fn of_share(share: [u8; SHARE_BYTES]) -> Option<Self> {
        let ticket = u64::from_ne_bytes(*share.first_chunk()?);
        let number = u32::from_ne_bytes(*share.get(8..)?.first_chunk()?);
        Some(Self { number, ticket })
    }

    fn word(self, word: usize) -> usize {
        usize::try_from(self.number)
            .unwrap_or(usize::MAX)
            .saturating_mul(WORDS)
            .saturating_add(word)
    }
}

/// Whether we know a worker from its first breath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was just started.
    Born,
    /// It lived before we came.
    Found,
}

/// The accounts of all workers.
#[derive(Debug)]
pub struct Books {
    parts: Parts,
    counters: Numbers,
    /// Who sits where.
    seats: BTreeMap<u32, Sitter>,
    next_ticket: u64,
    round: u32,
    /// Seats of workers to be taken up.
    marked: BTreeSet<u32>,
    cpus: Vec<u32>,
    delays: Delays,
}

/// Whether the kernel measures how long threads wait for a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delays {
    Measured,
    Unknown,
}

/// What the books say of one worker, from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Booked {
    /// CPU time.
    pub cpu: Duration,
    /// What else the scheduler did.
    pub scheduling: Scheduling,
}

#[derive(Debug)]
struct Sitter {
    pid: Pid,
    ticket: u64,
    /// Threads without a share of which we know.
    missed: u64,
}

impl Books {
    /// Goes on with the books the guard kept, if they are of our kind, else opens new ones.
    /// `survivors` are the workers that live; seats of others are free.
    ///
    /// # Errors
    ///
    /// [`Refusal`], which is no reason to worry: processes have clocks, too.
    pub fn open(
        kept: &mut BTreeMap<String, OwnedFd>,
        survivors: impl IntoIterator<Item = Pid>,
    ) -> Result<Self, Refusal> {
        allowed()?;
        let (parts, survivors) = match parts(kept) {
            Some(parts) => (parts, survivors.into_iter().collect()),
            None => (load::cpu()?, Vec::new()),
        };
        let words = usize::try_from(SEATS_MAX).unwrap_or(usize::MAX).saturating_mul(WORDS);
        let counters = Numbers::map(parts.counters.as_fd(), words)
            .map_err(|error| Refusal::kernel("map the counters", error))?;
        let mut books = Self {
            parts,
            counters,
            seats: BTreeMap::new(),
            next_ticket: 1,
            round: 0,
            marked: BTreeSet::new(),
            cpus: online(),
            delays: delays(&fs::read_to_string(SCHEDSTAT_PATH).unwrap_or_default()),
        };
        books.resume(survivors);
        Ok(books)
    }

    /// The descriptors that keep the books going, under the names the guard keeps them by.
    pub fn keepsakes(&self) -> impl Iterator<Item = (String, BorrowedFd<'_>)> {
        self.parts.all().into_iter().map(|(name, fd)| (NAMES.key(name), fd.as_fd()))
    }

    /// Gives a worker a seat; `None` if none is left or the worker is gone.
    pub fn follow(&mut self, pid: Pid, origin: Origin) -> Option<Seat> {
        let process = open_process(pid)?;
        if origin == Origin::Found
            && let Some(seat) = self.sits(process.as_fd())
            && self.seats.get(&seat.number).is_some_and(|it| it.ticket == seat.ticket)
        {
            return Some(seat);
        }
        let number = (0..SEATS_MAX).find(|it| !self.seats.contains_key(it))?;
        let seat = Seat { number, ticket: self.next_ticket };
        let done = self.set(seat.number, seat.ticket).and_then(|()| match origin {
            Origin::Born => {
                let process = key_of(process.as_fd());
                bpf::update(self.parts.shares.as_fd(), &process, &seat.share())
            }
            Origin::Found => Ok(()),
        });
        if let Err(error) = done.and_then(|()| self.mark(seat, process.as_fd())) {
            tracing::debug!(%pid, %error, "no seat for the worker");
            return None;
        }
        self.next_ticket += 1;
        self.seats.insert(number, Sitter { pid, ticket: seat.ticket, missed: 0 });
        Some(seat)
    }

    /// The worker that had the seat is gone; what is left of it is counted no more.
    pub fn leave(&mut self, seat: Seat) {
        if self.seats.get(&seat.number).is_some_and(|it| it.ticket == seat.ticket) {
            self.seats.remove(&seat.number);
            self.marked.remove(&seat.number);
            self.free(seat.number);
        }
    }

    /// Brings the books up to now: takes up who is marked, and books what runs at this moment.
    pub fn refresh(&mut self) {
        if self.seats.is_empty() {
            return;
        }
        self.mark_missed();
        if !self.marked.is_empty()
            && let Err(error) = self.take_up()
        {
            tracing::warn!(%error, "some threads of workers are not in the books");
        }
        for cpu in &self.cpus {
            if let Err(error) = bpf::run_on(self.parts.flush.as_fd(), *cpu) {
                tracing::debug!(cpu, %error, "what runs there is booked later");
            }
        }
    }

    /// What the worker used from its beginning, as of the last refresh or later.
    #[must_use]
    pub fn booked(&self, seat: Seat) -> Option<Booked> {
        let number = |word| self.counters.at(seat.word(word));
        if number(TICKET)? != seat.ticket {
            return None;
        }
        let run_delay = Duration::from_nanos(number(RUN_DELAY_NS)?);
        Some(Booked {
            cpu: Duration::from_nanos(number(CPU_NS)?),
            scheduling: Scheduling {
                run_delay: (self.delays == Delays::Measured).then_some(run_delay),
                voluntary_switches: number(VOLUNTARY)?,
                involuntary_switches: number(INVOLUNTARY)?,
                forks: number(FORKS)?,
            },
        })
    }

    /// Learns from what another daemon left who sits where.
    fn resume(&mut self, survivors: Vec<Pid>) {
        for pid in survivors {
            let process = open_process(pid);
            if let Some(seat) = process.and_then(|it| self.sits(it.as_fd()))
                && self.counters.at(seat.word(TICKET)) == Some(seat.ticket)
            {
                // Those it marked and did not take up are still to be.
                self.marked.insert(seat.number);
                let missed = self.counters.at(seat.word(MISSED)).unwrap_or_default();
                self.seats.insert(seat.number, Sitter { pid, ticket: seat.ticket, missed });
            }
        }
        for number in 0..SEATS_MAX {
            let ticket =
                self.counters.at(Seat { number, ticket: 0 }.word(TICKET)).unwrap_or_default();
            self.next_ticket = self.next_ticket.max(ticket + 1);
            if ticket != 0 && !self.seats.contains_key(&number) {
                self.free(number);
            }
        }
    }

    /// The seat of which the leading thread of a process has a share.
    fn sits(&self, process: BorrowedFd<'_>) -> Option<Seat> {
        let share = bpf::lookup(self.parts.shares.as_fd(), &key_of(process)).ok()?;
        Seat::of_share(share)
    }

    fn free(&self, number: u32) {
        if let Err(error) = self.set(number, 0) {
            tracing::debug!(number, %error, "a seat stays taken");
        }
    }

    /// Begins a counter anew.
    fn set(&self, number: u32, ticket: u64) -> io::Result<()> {
        let mut counter = [0; 8 * WORDS];
        counter[..8].copy_from_slice(&ticket.to_ne_bytes());
        bpf::update(self.parts.counters.as_fd(), &number.to_ne_bytes(), &counter)
    }

    /// Has the worker's tree taken up with the next refresh.
    fn mark(&mut self, seat: Seat, process: BorrowedFd<'_>) -> io::Result<()> {
        let round = self.round.wrapping_add(1).max(1);
        bpf::update(self.parts.marks.as_fd(), &key_of(process), &seat.bytes(round))?;
        self.marked.insert(seat.number);
        Ok(())
    }

    /// Marks workers with threads that could not be given a share.
    fn mark_missed(&mut self) {
        let mut again = Vec::new();
        for (number, sitter) in &mut self.seats {
            let seat = Seat { number: *number, ticket: sitter.ticket };
            let missed = self.counters.at(seat.word(MISSED)).unwrap_or_default();
            if std::mem::replace(&mut sitter.missed, missed) != missed {
                again.push((seat, sitter.pid));
            }
        }
        for (seat, pid) in again {
            let marked = open_process(pid).map(|process| self.mark(seat, process.as_fd()));
            tracing::debug!(%pid, ?marked, "threads of the worker were missed");
        }
    }

    /// Runs rounds until one finds nobody new.
    fn take_up(&mut self) -> io::Result<()> {
        let marked = std::mem::take(&mut self.marked);
        let mut known = None;
        for _ in 0..ROUNDS_MAX {
            bpf::iterate(self.parts.take_up.as_fd())?;
            let found: u64 = marked.iter().filter_map(|it| self.taken_up(*it)).sum();
            if known.replace(found) == Some(found) {
                break;
            }
        }
        self.round = self.round.wrapping_add(1).max(1);
        for number in marked {
            if let Some(process) = self.seats.get(&number).and_then(|it| open_process(it.pid)) {
                // Fails if it was marked by another daemon, or not at all.
                let removed = bpf::delete(self.parts.marks.as_fd(), &key_of(process.as_fd()));
                tracing::trace!(number, ?removed, "taken up");
            }
        }
        while let Some(process) = bpf::any_key::<4>(self.parts.family.as_fd())? {
            bpf::delete(self.parts.family.as_fd(), &process)?;
        }
        Ok(())
    }

    fn taken_up(&self, number: u32) -> Option<u64> {
        self.counters.at(Seat { number, ticket: 0 }.word(TAKEN_UP))
    }
}

/// The names of all descriptors of books, these or others, among those the guard keeps.
pub fn keys(kept: &BTreeMap<String, OwnedFd>) -> Vec<String> {
    NAMES.all(kept)
}

impl Parts {
    fn all(&self) -> [(&'static str, &OwnedFd); 8] {
        [
            ("counters", &self.counters),
            ("shares", &self.shares),
            ("marks", &self.marks),
            ("family", &self.family),
            ("flush", &self.flush),
            ("take_up", &self.take_up),
            ("switched", &self.switched),
            ("forked", &self.forked),
        ]
    }
}

/// What the guard kept, if all of it is there.
fn parts(kept: &mut BTreeMap<String, OwnedFd>) -> Option<Parts> {
    let names = ["counters", "shares", "marks", "family", "flush", "take_up", "switched", "forked"];
    let [counters, shares, marks, family, flush, take_up, switched, forked] =
        NAMES.take(kept, names)?;
    Some(Parts { counters, shares, marks, family, flush, take_up, switched, forked })
}

fn open_process(pid: Pid) -> Option<OwnedFd> {
    pidfd_open(rustix::process::Pid::from_raw(pid.0)?, PidfdFlags::empty()).ok()
}

/// The key of a process in a map of threads.
fn key_of(process: BorrowedFd<'_>) -> [u8; 4] {
    std::os::fd::AsRawFd::as_raw_fd(&process).to_ne_bytes()
}

/// From [`SCHEDSTAT_PATH`]: its last number, how often we got a CPU, is 0 or absent where delays
/// are not measured.
fn delays(schedstat: &str) -> Delays {
    match schedstat.split_ascii_whitespace().nth(2) {
        None | Some("0") => Delays::Unknown,
        Some(_) => Delays::Measured,
    }
}

/// The CPUs that run; none if the kernel does not tell.
fn online() -> Vec<u32> {
    ranges(&fs::read_to_string(ONLINE_PATH).unwrap_or_default())
}

/// Numbers written as `0-2,5`.
fn ranges(text: &str) -> Vec<u32> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse::<u32>().ok()?.min(CPUS_MAX))
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests;
