//! bunpilot starts programs, keeps them running, replaces them without losing a connection, and
//! tells how they are. This page is the tour of its house.
//!
//! # Three processes
//!
//! `bunpilot <command>` is the CLI, gone in a moment. The **daemon** decides everything. The
//! **guard** is the parent of the daemon and of every worker: it spawns, reaps and keeps the
//! descriptors that must outlive the daemon, and decides nothing. Where workers share a port
//! without knowing it, it also answers their bind(2): `guard::trap`.
//!
//! # The rooms, in reading order
//!
//! Each room may use only rooms above it (`cargo xtask tidy` checks). From [`domain`] to
//! [`daemon`] all is *quiet*: no I/O, clock, thread or `async`; time comes in as an argument,
//! wishes go out as values.
//!
//! 1. [`domain`]: the nouns. An app is declared, an instance is one of its places, a worker is
//!    one life of one process: [`domain::WorkerId`]. [`domain::AppSpec`] cannot hold nonsense.
//! 2. [`world`]: the verbs, and the one door outside. An [`world::Action`] is a wish, an
//!    [`world::Event`] a fact; [`world::World`] carries both.
//! 3. [`config`]: from what the user wrote to an [`domain::AppSpec`]; every default and bound.
//! 4. [`control`]: what CLI and daemon say to each other, and the bytes it is written in.
//! 5. [`ipc`]: what daemon and worker say to each other: environment, JSON channel, `sd_notify`.
//! 6. [`balance`]: whose turn it is to get the next connection.
//! 7. [`logs`]: where files are cut and rotated, and which lines a user asked for.
//! 8. [`metrics`]: from measurements to rates and to the text Prometheus reads.
//! 9. [`doctor`]: from what a machine offers to what a user should do about the rest.
//! 10. [`supervisor`]: the judgement. When to spawn, restart, reload, roll back and give up.
//! 11. [`daemon`](mod@daemon): [`daemon::Core`] joins the quiet rooms; [`daemon::turn`] is the loop.
//! 12. [`guard`]: the parent process, and the line to it.
//! 13. [`store`]: the database, written by a thread of its own.
//! 14. [`api`]: the HTTP server for scrapes and the JSON API.
//! 15. [`platform`]: the door on a real kernel; in `platform::sys` the only `unsafe`.
//! 16. [`cli`]: one file for each command; in `cli::process` core and world meet.
//! 17. [`sdk`]: what is shipped to workers in JavaScript and Python.
//!
//! # What always holds
//!
//! - Everything is keyed by app, place and generation. No two workers ever share an id, so a late
//!   fact about an old life cannot be mistaken for news of the present one.
//! - After [`daemon::Core::tick`] the next deadline lies ahead: the loop cannot spin.
//! - After every input the supervisor compares what is with what is wanted, and never assumes
//!   which input came before: a lost or late event cannot wedge an app.
//! - An app is on disk before a worker is spawned because of it; what the next daemon must know
//!   of a worker is with the guard before the daemon acts upon it.
//! - Every request of a client that stays is answered exactly once.
//! - The daemon ends only when no worker is left.
//! - Bytes of connections and logs never pass the door, only facts about them.
//! - Every queue, buffer and loop has a bound, named `…_MAX` where it is a number.
//!
//! # The life of a request: `bunpilot reload api`
//!
//! 1. The CLI turns its words into a [`control::wire::Command`] and writes one line of JSON to
//!    the control socket.
//! 2. The platform reads bytes and gives them to the loop as [`world::Event::Client`]. A
//!    [`control::session::Session`] cuts them into a [`control::wire::Request`].
//! 3. The core makes one [`supervisor::Request`] of it for each app that is meant, under a
//!    [`supervisor::Ticket`], and remembers who asked.
//! 4. The supervisor accepts or refuses. It wishes for a worker ([`world::Action::Spawn`]) beside
//!    the old one; its news ([`supervisor::Notice`]) become rows ([`world::Action::Persist`]),
//!    which go out first.
//! 5. The world holds the spawn back until the rows are on disk, then orders it from the guard,
//!    which forks and sends back pid, pipes and channel: [`world::Event::Spawned`].
//! 6. The worker says it is ready, listens on its port or answers a probe; the supervisor admits
//!    it to new connections, retires the old one, waits for [`world::Event::Drained`], asks it to
//!    exit, and after `killTimeout` kills its whole tree.
//! 7. [`supervisor::Notice::Finished`] finds the ticket, the ticket the client:
//!    [`world::Action::Reply`] is one line of JSON, and the CLI an exit status.
//!
//! # The life of a log line
//!
//! A worker writes to a pipe whose reading end daemon and guard hold. The pump, a thread beside
//! the loop, moves the bytes into the app's file without copying them, and changes files where
//! [`logs::rotation`] says, between two lines. When they were written it notes beside them
//! ([`logs::index`]). Lines that are written as records ([`logs::record`]) go through a pipe and
//! a journal that the guard keeps, too, so that each is written exactly once. Lines nobody looked
//! at are counted later, from the files. `bunpilot logs` reads and follows the files itself:
//! however many follow, the daemon does not notice. Output that nobody keeps has no pipe at all.
//!
//! # The way of a connection
//!
//! Where the kernel lets us, programs of `ebpf/src/bin/ports` sit at the cgroups of the workers: a
//! worker that binds its app's port shares it, and for each connection a program chooses among
//! the seats that [`world::Action::Admit`] made ready, by a [`balance::Rule`]. Nobody ready: it
//! waits at a parking socket of ours. `platform::linux::bpf::gate` is our side of those programs,
//! `platform::linux::balanced` keeps the rules, and `platform::linux::ports` is the ladder: where
//! that is refused, the guard answers `bind(2)` with a socket of its own ([`guard`], `trap`), as it
//! hands them out under `inherit`; else workers are on their own.
//!
//! # Where CPU time comes from
//!
//! A program in the kernel (`ebpf/src/bin/cpu.rs`, built by `cargo xtask build-ebpf` and
//! committed) adds what the scheduler books to a thread to the seat its worker has in a table;
//! children inherit the seat. `platform::linux::bpf` loads it and reads the table, the guard keeps
//! both going while there is no daemon. Where the kernel refuses, the worker's cgroup serves, or
//! the clocks of its processes: `platform::linux::meters` climbs that ladder and says where it is.
//!
//! # Who may die
//!
//! - **A worker**: its whole tree is ended, then the next one comes after a pause that grows.
//! - **The daemon**: workers go on serving, their output waits in the pipes. The guard starts
//!   another daemon and gives it workers, sockets and notes; the database gives it the apps:
//!   [`world::Start`]. Nothing that lives is started again, a reload under way goes on.
//! - **The guard**: workers go on. The daemon starts another guard and hands it copies of all the
//!   first one had.
//! - **Both**: the next daemon finds the workers left behind and takes them over, or ends those
//!   that cannot be kept ([`daemon::fate`]); none is doubled.
//! - **The machine**: nothing starts by itself. `bunpilot resurrect` starts what ran.
//!
//! # Where the tests are
//!
//! Beside the code: codecs, arithmetic, stories in `expect-test`. `tests/sim` turns supervisor
//! and core in a seeded world where everything crashes, hangs and comes late, and `cargo xtask
//! mutants` proves that it notices. `tests/guard` and `tests/sdk` run one part for real,
//! `tests/cli` the whole binary in a home of its own. Each of the original's defects has a test
//! in `tests/cli/defects`. `cargo xtask test` fetches what they need and runs them all.

pub mod domain;
pub mod world;

pub mod balance;
pub mod config;
pub mod control;
pub mod doctor;
pub mod ipc;
pub mod logs;
pub mod metrics;
pub mod supervisor;

pub mod daemon;

pub mod api;
pub mod guard;
pub mod platform;
pub mod store;

pub mod cli;
pub mod sdk;
