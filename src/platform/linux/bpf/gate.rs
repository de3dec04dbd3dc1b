//! What decides in the kernel who gets the next connection: seats, rules, and the sockets that are
//! bunpilot's own.
//!
//! Each worker has a [`Seat`], by the cgroup it is born in; from then on what it opens on its app's
//! port is found without anybody looking. Which seats of a port may be chosen, and how, is its
//! [`Rule`], replaced as a whole. What came of it is in [`Counts`], read without a system call.
//!
//! Programs, maps and rules live as long as somebody has their descriptors open. The guard keeps
//! copies, so while there is no daemon they go on, and the next one finds every seat as it was.
//!
//! The layouts here are those of `ebpf/src/bin/ports`.

mod load;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::UdpSocket,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use rustix::thread::CapabilitySet;

use super::{Refusal, allowed, can, kept::Names};
use crate::{
    balance::{READY_MAX, Rule, TURNS_MAX},
    domain::Balance,
    platform::sys::{
        bpf::{self, Numbers},
        reuseport, sockopt,
    },
};

/// `ebpf/src/bin/ports`.
const OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/ebpf/prebuilt/ports.o"));

/// How our descriptors are named at the guard.
const NAMES: Names = Names { prefix: "gate.", object: OBJECT };

/// Workers and parking places that can be served.
const SEATS_MAX: u32 = 4096;

/// Sockets of one seat and address family.
const TWINS_MAX: u32 = 8;

/// Numbers of one counter.
const WORDS: usize = 8;

/// Bytes of a `struct Group`.
const GROUP_BYTES: usize = 24 + 4 * READY_MAX + 2 * TURNS_MAX;

/// Where cgroups are.
#[derive(Clone, Debug)]
pub struct Folders {
    /// The folder all workers' cgroups are in.
    pub workers: PathBuf,
    /// The root of the hierarchy, as far as we see it.
    pub root: PathBuf,
}

/// Where a worker's connections are counted, and what it is chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat {
    number: u16,
    /// Tells the worker from others that had the seat.
    ticket: u64,
}

/// What happened at a seat since it was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that are open right now.
    pub live: u64,
    /// Sockets that listen to the app's port right now.
    pub listening: u64,
    /// Connections established.
    pub accepted: u64,
    /// Connections given to the seat by its rule.
    pub chosen: u64,
    /// Those among them that had waited at a socket that closed.
    pub moved: u64,
    /// Connections cut off, by either side.
    pub reset: u64,
    /// Connections of probes.
    pub probed: u64,
}

/// Maps and programs; they work as long as the links are open.
#[derive(Debug)]
struct Parts {
    places: OwnedFd,
    groups: OwnedFd,
    seats: OwnedFd,
    doors: OwnedFd,
    twins: OwnedFd,
    beat: OwnedFd,
    tags: OwnedFd,
    select: OwnedFd,
    links: [OwnedFd; LINKS.len()],
}

const LINKS: [&str; 6] = ["bind4", "bind6", "plain", "events", "shield4", "shield6"];

/// The programs and their state.
#[derive(Debug)]
pub struct Gate {
    parts: Parts,
    counters: Numbers,
    taken: BTreeSet<u16>,
    next_ticket: u64,
    netns: u64,
}

impl Seat {
    /// Its number, which is also what a probe's source address tells.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.number
    }

    /// As `struct Tag`.
    fn tag(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.ticket.to_ne_bytes());
        bytes[8..12].copy_from_slice(&u32::from(self.number).to_ne_bytes());
        bytes
    }

    /// As `struct Place`.
    fn place(self, port: u16) -> [u8; 16] {
        let mut bytes = self.tag();
        bytes[12..].copy_from_slice(&u32::from(port).to_ne_bytes());
        bytes
    }

    fn of_place(place: [u8; 16]) -> Option<Self> {
        let ticket = u64::from_ne_bytes(*place.first_chunk()?);
        let number = u32::from_ne_bytes(*place.get(8..)?.first_chunk()?);
        Some(Self { number: u16::try_from(number).ok()?, ticket })
    }
}

impl Gate {
    /// Goes on with what the guard kept, if it is of our kind; else begins anew.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: ports are shared in another way then.
    pub fn open(kept: &mut BTreeMap<String, OwnedFd>, folders: &Folders) -> Result<Self, Refusal> {
        allowed()?;
        if !can(CapabilitySet::NET_ADMIN)? {
            return Err(Refusal::Network);
        }
        let parts = match Parts::kept(kept) {
            Some(parts) => parts,
            None => load::load(OBJECT, folders)?,
        };
        let words = usize::try_from(SEATS_MAX).unwrap_or(usize::MAX).saturating_mul(WORDS);
        let counters = Numbers::map(parts.seats.as_fd(), words)
            .map_err(|error| Refusal::kernel("map the counters", error))?;
        let netns = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))
            .and_then(|socket| sockopt::network(socket.as_fd()))
            .map_err(|error| Refusal::kernel("name the network namespace", error))?;
        let mut gate = Self { parts, counters, taken: BTreeSet::new(), next_ticket: 1, netns };
        for number in 0..u16::try_from(SEATS_MAX).unwrap_or(u16::MAX) {
            let ticket = gate.word(number, 0);
            gate.next_ticket = gate.next_ticket.max(ticket + 1);
            if ticket != 0 {
                gate.taken.insert(number);
            }
        }
        Ok(gate)
    }

    /// The descriptors that keep it going, under the names the guard keeps them by.
    pub fn keepsakes(&self) -> impl Iterator<Item = (String, BorrowedFd<'_>)> {
        self.parts.all().into_iter().map(|(name, fd)| (NAMES.key(name), fd.as_fd()))
    }

    /// The names of all descriptors of a gate, this or another, among those the guard keeps.
    #[must_use]
    pub fn keys(kept: &BTreeMap<String, OwnedFd>) -> Vec<String> {
        NAMES.all(kept)
    }

    /// A seat for somebody; `None` if all are taken.
    ///
    /// # Errors
    ///
    /// What the kernel says to it.
    pub fn sit(&mut self) -> io::Result<Option<Seat>> {
        let free = |number: &u16| !self.taken.contains(number);
        let Some(number) = (0..u16::try_from(SEATS_MAX).unwrap_or(u16::MAX)).find(free) else {
            return Ok(None);
        };
        let seat = Seat { number, ticket: self.next_ticket };
        for row in Self::rows(number) {
            bpf::update(self.parts.twins.as_fd(), &row, &0_u32.to_ne_bytes())?;
        }
        self.set(number, seat.ticket)?;
        self.taken.insert(number);
        self.next_ticket += 1;
        Ok(Some(seat))
    }

    /// What runs in the cgroup of this number and binds `port` has the seat.
    ///
    /// # Errors
    ///
    /// What the kernel says to it.
    pub fn place(&self, cgroup: u64, seat: Seat, port: u16) -> io::Result<()> {
        bpf::update(self.parts.places.as_fd(), &cgroup.to_ne_bytes(), &seat.place(port))
    }

    /// The seat of a cgroup, if it has one.
    #[must_use]
    pub fn seat_of(&self, cgroup: u64) -> Option<Seat> {
        let place = bpf::lookup(self.parts.places.as_fd(), &cgroup.to_ne_bytes()).ok()?;
        Seat::of_place(place).filter(|it| self.word(it.number, 0) == it.ticket)
    }

    /// The seat of this number, if somebody has it.
    #[must_use]
    pub fn seat_at(&self, number: u16) -> Option<Seat> {
        let ticket = self.word(number, 0);
        (ticket != 0).then_some(Seat { number, ticket })
    }

    /// The cgroup has no seat any more.
    pub fn displace(&self, cgroup: u64) {
        forgotten(bpf::delete(self.parts.places.as_fd(), &cgroup.to_ne_bytes()));
    }

    /// Whoever had the seat is gone.
    pub fn leave(&mut self, seat: Seat) {
        if self.word(seat.number, 0) == seat.ticket && self.set(seat.number, 0).is_ok() {
            self.taken.remove(&seat.number);
        }
    }

    /// Frees all seats but `kept`, which an earlier daemon gave to workers that are gone.
    ///
    /// # Errors
    ///
    /// What the kernel says to it.
    pub fn clear(&mut self, kept: &BTreeSet<Seat>) -> io::Result<()> {
        let mut before = None;
        let mut stale = Vec::new();
        while let Some(cgroup) = bpf::key_after::<8>(self.parts.places.as_fd(), before.as_ref())? {
            let seat = self.seat_of(u64::from_ne_bytes(cgroup));
            if !seat.is_some_and(|it| kept.contains(&it)) {
                stale.push(cgroup);
            }
            before = Some(cgroup);
        }
        for cgroup in stale {
            bpf::delete(self.parts.places.as_fd(), &cgroup)?;
        }
        let numbers: BTreeSet<u16> = kept.iter().map(|it| it.number).collect();
        for number in std::mem::take(&mut self.taken) {
            if numbers.contains(&number) {
                self.taken.insert(number);
            } else {
                self.set(number, 0)?;
            }
        }
        Ok(())
    }

    /// What happened at the seat.
    #[must_use]
    pub fn counts(&self, seat: Seat) -> Counts {
        let word = |index| self.word(seat.number, index);
        if word(0) != seat.ticket {
            return Counts::default();
        }
        // Two CPUs that add and take away may be seen in the wrong order.
        let now = |index| u64::try_from(word(index).cast_signed()).unwrap_or_default();
        Counts {
            live: now(1),
            listening: now(2),
            accepted: word(3),
            chosen: word(4),
            moved: word(5),
            reset: word(6),
            probed: word(7),
        }
    }

    /// Serves `port` by `rule` from the next connection on.
    ///
    /// # Errors
    ///
    /// What the kernel says to it.
    pub fn rule(&self, port: u16, rule: &Rule) -> io::Result<()> {
        bpf::update(self.parts.groups.as_fd(), &u32::from(port).to_ne_bytes(), &self.group(rule))
    }

    /// Serves `port` no more: the kernel chooses, and anybody may have it.
    pub fn release(&self, port: u16) {
        forgotten(bpf::delete(self.parts.groups.as_fd(), &u32::from(port).to_ne_bytes()));
    }

    /// Whether `port` is served by a rule.
    #[must_use]
    pub fn serves(&self, port: u16) -> bool {
        let key = u32::from(port).to_ne_bytes();
        bpf::lookup::<4, GROUP_BYTES>(self.parts.groups.as_fd(), &key).is_ok()
    }

    /// Has the kernel ask us about all sockets that share the port and address of the listening
    /// `socket`.
    ///
    /// # Errors
    ///
    /// What the kernel says to it.
    pub fn attach(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        reuseport::attach_program(socket, self.parts.select.as_fd())
    }

    /// Marks a socket as one of the seat's, so that it may bind a served port.
    ///
    /// # Errors
    ///
    /// What the kernel says to it.
    pub fn tag(&self, seat: Seat, socket: BorrowedFd<'_>) -> io::Result<()> {
        bpf::update(self.parts.tags.as_fd(), &socket.as_raw_fd().to_ne_bytes(), &seat.tag())
    }

    /// Lets the listening `socket` be chosen for the seat.
    ///
    /// # Errors
    ///
    /// What the kernel says to it, or that the seat has too many sockets.
    pub fn enter(&self, seat: Seat, socket: BorrowedFd<'_>, family: Family) -> io::Result<()> {
        let row = Self::rows(seat.number)[usize::from(family == Family::V6)];
        let family = u32::from(family == Family::V6);
        for twin in 0..TWINS_MAX {
            let mut door = [0; 8];
            door[..4].copy_from_slice(&u32::from(seat.number).to_ne_bytes());
            door[4..].copy_from_slice(&(family | twin << 1).to_ne_bytes());
            let fd = socket.as_raw_fd().to_ne_bytes();
            match bpf::insert(self.parts.doors.as_fd(), &door, &fd) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
                Err(error) => return Err(error),
                Ok(()) => {
                    let twins = bpf::lookup(self.parts.twins.as_fd(), &row)?;
                    let twins = u32::from_ne_bytes(twins).max(twin + 1);
                    return bpf::update(self.parts.twins.as_fd(), &row, &twins.to_ne_bytes());
                }
            }
        }
        Err(io::Error::other("too many sockets of one seat"))
    }

    /// A sign of life: counts of connections are believed for three more seconds.
    pub fn beat(&self, monotonic: Duration) {
        let now = u64::try_from(monotonic.as_nanos()).unwrap_or(u64::MAX);
        forgotten(bpf::update(self.parts.beat.as_fd(), &[0; 4], &now.to_ne_bytes()));
    }

    fn word(&self, number: u16, word: usize) -> u64 {
        self.counters.at(usize::from(number) * WORDS + word).unwrap_or_default()
    }

    /// The keys of a seat in the map of twins.
    fn rows(number: u16) -> [[u8; 4]; 2] {
        let row = u32::from(number) * 2;
        [row.to_ne_bytes(), (row + 1).to_ne_bytes()]
    }

    /// Begins a counter anew.
    fn set(&self, number: u16, ticket: u64) -> io::Result<()> {
        let mut counter = [0; 8 * WORDS];
        counter[..8].copy_from_slice(&ticket.to_ne_bytes());
        bpf::update(self.parts.seats.as_fd(), &u32::from(number).to_ne_bytes(), &counter)
    }

    /// As `struct Group`.
    fn group(&self, rule: &Rule) -> Vec<u8> {
        let policy = match rule.balance {
            Balance::RoundRobin => 0_u32,
            Balance::LeastConnections => 1,
            Balance::Random => 2,
        };
        let count = |it: usize| u32::try_from(it).unwrap_or_default().to_ne_bytes();
        let parking = rule.parking.map_or(0, |it| u32::from(it) + 1);
        let mut bytes = Vec::with_capacity(GROUP_BYTES);
        bytes.extend(self.netns.to_ne_bytes());
        bytes.extend(policy.to_ne_bytes());
        bytes.extend(count(rule.ready().len()));
        bytes.extend(count(rule.turns().len()));
        bytes.extend(parking.to_ne_bytes());
        for (seat, weight) in rule.ready() {
            bytes.extend(seat.to_ne_bytes());
            bytes.extend(weight.get().to_ne_bytes());
        }
        bytes.resize(24 + 4 * READY_MAX, 0);
        bytes.extend(rule.turns().iter().flat_map(|it| it.to_ne_bytes()));
        bytes.resize(GROUP_BYTES, 0);
        bytes
    }
}

/// Which addresses a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6, or both.
    V6,
}

/// What is not there need not be removed, and what is not written now is written the next time.
fn forgotten(outcome: io::Result<()>) {
    if let Err(error) = outcome
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(%error, "a map of the kernel stays as it is");
    }
}

impl Parts {
    fn all(&self) -> Vec<(&'static str, &OwnedFd)> {
        let maps = [
            ("places", &self.places),
            ("groups", &self.groups),
            ("seats", &self.seats),
            ("doors", &self.doors),
            ("twins", &self.twins),
            ("beat", &self.beat),
            ("tags", &self.tags),
            ("select", &self.select),
        ];
        maps.into_iter().chain(LINKS.into_iter().zip(&self.links)).collect()
    }

    /// What the guard kept, if all of it is there.
    fn kept(kept: &mut BTreeMap<String, OwnedFd>) -> Option<Self> {
        let maps = ["places", "groups", "seats", "doors", "twins", "beat", "tags", "select"];
        let maps = NAMES.take(kept, maps)?;
        let links = NAMES.take(kept, LINKS)?;
        let [places, groups, seats, doors, twins, beat, tags, select] = maps;
        Some(Self { places, groups, seats, doors, twins, beat, tags, select, links })
    }
}

#[cfg(test)]
mod tests;
