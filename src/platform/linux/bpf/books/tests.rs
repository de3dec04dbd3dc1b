//! In the real kernel.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use super::*;
use crate::platform::{linux::bpf::skip, sys::process_cpu};

/// Books of our own; skips where the kernel lets nobody keep any.
fn open() -> Option<Books> {
    match Books::open(&mut BTreeMap::new(), []) {
        Ok(books) => Some(books),
        Err(why @ (Refusal::Off { .. } | Refusal::Forbidden | Refusal::NoTypes)) => {
            skip(&why.to_string());
            None
        }
        Err(why) => panic!("{why}"),
    }
}

fn cpu(books: &Books, seat: Seat) -> Duration {
    books.booked(seat).unwrap().cpu
}

/// A python program that does `work` once for each line it is told, and answers.
struct Worker {
    child: Child,
    said: BufReader<ChildStdout>,
    /// What children used that it waited for before it was ready.
    waited_for: Duration,
}

impl Worker {
    fn start(prelude: &str, work: &str) -> Self {
        let indented = work.replace('\n', "\n    ");
        let script = format!(
            "import os, resource, signal, sys, threading, time\n{BURN}\n{prelude}\n\
             used = resource.getrusage(resource.RUSAGE_CHILDREN)\n\
             print(used.ru_utime + used.ru_stime, flush=True)\n\
             for line in sys.stdin:\n    {indented}\n    print(flush=True)\n"
        );
        let mut child = Command::new("python3")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut worker = Self { child, said, waited_for: Duration::ZERO };
        worker.waited_for = Duration::from_secs_f64(worker.answer().trim().parse().unwrap());
        worker
    }

    fn pid(&self) -> Pid {
        Pid(i32::try_from(self.child.id()).unwrap())
    }

    fn work(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        self.answer();
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        assert!(self.said.read_line(&mut line).unwrap() > 0, "it lives");
        line
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// `burn(ms)` uses that much CPU time of its thread, whoever else runs.
const BURN: &str = "
def burn(ms):
    end = time.thread_time_ns() + int(ms * 1e6)
    while time.thread_time_ns() < end: pass
def child(ms):
    pid = os.fork()
    if pid == 0:
        burn(ms)
        os._exit(0)
    return pid";

/// A cgroup2 of a worker's own: what its `cpu.stat` adds up is the truth.
struct Truth(PathBuf);

impl Truth {
    fn about(worker: &Worker) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        let folder = format!("bunpilot-books-{}", worker.pid());
        let truth = Self(Path::new(mount.split(' ').nth(4)?).join(folder));
        fs::create_dir(&truth.0).ok()?;
        fs::write(truth.0.join("cgroup.procs"), worker.pid().to_string()).ok()?;
        Some(truth)
    }

    fn cpu(&self) -> Duration {
        let text = fs::read_to_string(self.0.join("cpu.stat")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap();
        Duration::from_micros(line.parse().unwrap())
    }
}

impl Drop for Truth {
    fn drop(&mut self) {
        // Fails while somebody is in it: the worker ends before.
        fs::remove_dir(&self.0).unwrap();
    }
}

/// Whether two amounts of CPU time are the same but for one percent.
#[track_caller]
fn same(booked: Duration, truth: Duration) {
    assert!(truth > Duration::from_millis(40), "too little was done: {truth:?}");
    assert!(booked.abs_diff(truth) <= truth / 100, "booked {booked:?}, used {truth:?}");
}

/// Has a worker do `work` three times, each by the truth and by the books.
#[track_caller]
fn check(prelude: &str, work: &str) {
    let Some(mut books) = open() else { return };
    let worker = Worker::start(prelude, work);
    let Some(truth) = Truth::about(&worker) else { return skip("no writable cgroup2 here") };
    let mut worker = worker; // ends before its cgroup is removed
    let seat = books.follow(worker.pid(), Origin::Found).unwrap();
    let mut amount = |truth: &Truth| {
        books.refresh();
        (cpu(&books, seat), truth.cpu())
    };
    let mut before = amount(&truth);
    for _ in 0..3 {
        worker.work();
        let after = amount(&truth);
        same(after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
        before = after;
    }
    drop(worker);
}

#[test]
fn one_that_never_rests() {
    check("", "burn(150)");
}

#[test]
fn bursts_of_200_us() {
    check("", "for _ in range(400): burn(0.2); time.sleep(0.0005)");
}

#[test]
fn bursts_of_20_us() {
    check("", "for _ in range(1500): burn(0.02); time.sleep(0.0001)");
}

#[test]
fn four_threads() {
    check(
        "",
        "threads = [threading.Thread(target=burn, args=(25,)) for _ in range(4)]\n\
         for it in threads: it.start()\n\
         for it in threads: it.join()",
    );
}

#[test]
fn children_that_are_waited_for() {
    check("", "for _ in range(10): os.waitpid(child(8), 0)");
}

#[test]
fn children_nobody_waits_for() {
    check(
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "for it in [child(8) for _ in range(10)]:\n    \
             try: os.waitpid(it, 0)\n    \
             except ChildProcessError: pass",
    );
}

/// What the kernel says of a process that lives and its threads: time without a CPU, and switches
/// by kind.
fn told(pid: Pid) -> (Duration, u64, u64) {
    let read = |thread: &Path, file: &str| fs::read_to_string(thread.join(file)).unwrap();
    let (mut delay, mut voluntary, mut involuntary) = (0, 0, 0);
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let thread = thread.unwrap().path();
        let schedstat = read(&thread, "schedstat");
        delay += schedstat.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
        let status = read(&thread, "status");
        let of = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse().unwrap()
        };
        voluntary += of("voluntary_ctxt_switches:");
        involuntary += of("nonvoluntary_ctxt_switches:");
    }
    (Duration::from_nanos(delay), voluntary, involuntary)
}

/// What is booked, and what the kernel says of the same process, once nothing changes any more.
fn booked_and_told(books: &mut Books, seat: Seat, pid: Pid) -> [(Duration, u64, u64); 2] {
    loop {
        let before = told(pid);
        books.refresh();
        let it = books.booked(seat).unwrap().scheduling;
        let switches = (it.voluntary_switches, it.involuntary_switches);
        if told(pid) == before {
            return [(it.run_delay.unwrap(), switches.0, switches.1), before];
        }
    }
}

#[test]
fn delays_switches_and_forks_are_those_of_the_kernel() {
    for origin in [Origin::Born, Origin::Found] {
        let Some(mut books) = open() else { return };
        // Four threads that never wait and one that does have more to do than there are CPUs.
        let prelude = "
stop = threading.Event()
def nap():
    while not stop.is_set(): time.sleep(0.001)
threading.Thread(target=nap, daemon=True).start()";
        let work = "
threads = [threading.Thread(target=burn, args=(20,)) for _ in range(4)]
for it in threads: it.start()
for it in threads: it.join()
for _ in range(3): os.waitpid(child(1), 0)
time.sleep(0.05)";
        let mut worker = Worker::start("", &format!("pass\n{prelude}\n{work}\nstop.set()"));
        let seat = books.follow(worker.pid(), origin).unwrap();
        books.refresh();
        let before = books.booked(seat).unwrap().scheduling;
        worker.work();
        books.refresh();
        let after = books.booked(seat).unwrap().scheduling;
        assert_eq!(after.forks - before.forks, 3, "threads are no forks");
        assert!(after.voluntary_switches >= before.voluntary_switches + 20, "{before:?} {after:?}");
        // Threads that are gone are in the books alone: now one that has a single one. What it
        // waited for before it was ready is in the books as well.
        let mut worker = Worker::start("", "for _ in range(30): burn(1); time.sleep(0.001)");
        let seat = books.follow(worker.pid(), origin).unwrap();
        worker.work(); // now what it did before is booked whatever its origin
        let mut before = booked_and_told(&mut books, seat, worker.pid());
        for _ in 0..3 {
            worker.work();
            let after = booked_and_told(&mut books, seat, worker.pid());
            let [booked, told] = [0, 1].map(|it| {
                let (from, to) = (before[it], after[it]);
                (to.0.saturating_sub(from.0), to.1 - from.1, to.2 - from.2)
            });
            assert_eq!(booked, told);
            assert!(told.1 >= 30, "{told:?}");
            before = after;
        }
    }
}

#[test]
fn a_thread_that_waits_for_its_cpu_is_delayed() {
    let Some(mut books) = open() else { return };
    let first = "os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})";
    let (mut one, mut other) =
        (Worker::start(first, "burn(120)"), Worker::start(first, "burn(120)"));
    let seats = [&one, &other].map(|it| books.follow(it.pid(), Origin::Born).unwrap());
    books.refresh();
    let before = seats.map(|it| books.booked(it).unwrap().scheduling);
    one.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    other.work();
    one.answer();
    books.refresh();
    let after = seats.map(|it| books.booked(it).unwrap().scheduling);
    let delays = |all: [Scheduling; 2]| all.iter().filter_map(|it| it.run_delay).sum::<Duration>();
    let delay = delays(after).saturating_sub(delays(before));
    let cpu = Duration::from_millis(120);
    assert!(delay > cpu / 2, "two of {cpu:?} on one CPU waited {delay:?}");
    let preempted =
        |all: [Scheduling; 2]| all.iter().map(|it| it.involuntary_switches).sum::<u64>();
    assert!(preempted(after) > preempted(before) + 10, "{before:?} {after:?}");
}

#[test]
fn who_was_there_before_brings_its_past() {
    let Some(mut books) = open() else { return };
    let idle = "
done = threading.Event()
threading.Thread(target=lambda: (burn(40), done.set(), time.sleep(1000)), daemon=True).start()
gone = threading.Thread(target=burn, args=(40,))
gone.start()
gone.join()
done.wait()
os.waitpid(child(40), 0)
r, w = os.pipe()
if os.fork() == 0:
    burn(40)
    os.write(w, b'x')
    os.close(0)
    os.execvp('sleep', ['sleep', '1000'])
os.read(r, 1)";
    let worker = Worker::start(idle, "burn(60)");
    let family: Vec<Pid> = crate::platform::linux::usage::tree(worker.pid()).into_iter().collect();
    let clocks = || family.iter().filter_map(|it| process_cpu(*it)).sum::<Duration>();
    let seat = books.follow(worker.pid(), Origin::Found).unwrap();
    books.refresh();
    let booked = cpu(&books, seat);
    let waited_for = booked.saturating_sub(clocks());
    same(waited_for, worker.waited_for);
    let mut worker = worker;
    worker.work();
    books.refresh();
    same(cpu(&books, seat).saturating_sub(waited_for), clocks());
    let child =
        rustix::process::Pid::from_raw(family.iter().find(|it| **it != worker.pid()).unwrap().0);
    rustix::process::kill_process(child.unwrap(), rustix::process::Signal::KILL).unwrap();
}

#[test]
fn books_go_on_without_us() {
    let Some(mut books) = open() else { return };
    let autoreaped = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)";
    let work = "
try: os.waitpid(child(50), 0)
except ChildProcessError: pass";
    let (mut stays, goes) = (Worker::start(autoreaped, work), Worker::start("", "burn(1)"));
    let (seat, other) =
        (books.follow(stays.pid(), Origin::Born), books.follow(goes.pid(), Origin::Born));
    let (seat, other) = (seat.unwrap(), other.unwrap());
    books.refresh();
    let before = cpu(&books, seat);
    let mut kept: BTreeMap<_, _> =
        books.keepsakes().map(|(key, fd)| (key, fd.try_clone_to_owned().unwrap())).collect();
    drop(books);
    stays.work();
    let mut books = Books::open(&mut kept, [stays.pid()]).unwrap();
    assert!(kept.is_empty());
    assert_eq!(books.follow(stays.pid(), Origin::Found), Some(seat));
    books.refresh();
    let after = cpu(&books, seat);
    assert!(after >= before + Duration::from_millis(50), "{before:?} {after:?}");
    // The seat of one nobody knows any more is another's now.
    assert_eq!(books.booked(other), None);
    let next = books.follow(goes.pid(), Origin::Born).unwrap();
    assert_ne!(next, other);
    assert_ne!(next, seat);
}

#[test]
fn who_left_is_counted_no_more() {
    let Some(mut books) = open() else { return };
    let mut worker = Worker::start("", "burn(30)");
    let seat = books.follow(worker.pid(), Origin::Born).unwrap();
    worker.work();
    books.refresh();
    assert!(cpu(&books, seat) > Duration::from_millis(30));
    books.leave(seat);
    assert_eq!(books.booked(seat), None);
    // The next one in its place begins at nothing, and the first one adds nothing to it.
    let sleeper = Worker::start("", "pass");
    let next = books.follow(sleeper.pid(), Origin::Born).unwrap();
    assert_eq!(next.number, seat.number);
    worker.work();
    books.refresh();
    let past = process_cpu(sleeper.pid()).unwrap();
    assert!(cpu(&books, next) <= past, "{past:?}");
}

#[test]
fn cpus_are_listed_as_ranges() {
    assert_eq!(ranges("0-2,5\n"), [0, 1, 2, 5]);
    assert_eq!(ranges("0\n"), [0]);
    assert_eq!(ranges("nonsense,7-"), [0_u32; 0]);
}

#[test]
fn delays_that_are_not_measured_are_unknown() {
    for (schedstat, expected) in
        [("0 55573 1\n", Delays::Measured), ("0 0 0\n", Delays::Unknown), ("", Delays::Unknown)]
    {
        assert_eq!(delays(schedstat), expected, "{schedstat}");
    }
}
