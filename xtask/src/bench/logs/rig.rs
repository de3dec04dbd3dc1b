//! One logger at work: its processes and its writers, from the start to the end of one run.
//!
//! Nothing of it is left when it is dropped.

use std::{
    env,
    fs::{self, File},
    io::{self, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{
    super::{
        clock,
        contender::Contender,
        proc::{self, Work},
        ward::Ward,
    },
    logger::{self, How, Logger, Piped},
    writer::{self, Report},
};
use crate::shell::{Failure, say, spelled};

/// Longest wait for all writers to stand at the gate.
const READY_MAX: Duration = Duration::from_mins(1);

/// Longest wait for the writers to have written everything.
const WRITTEN_MAX: Duration = Duration::from_mins(5);

/// A logger that did nothing for this long has nothing left to do.
const STILL: Duration = Duration::from_millis(100);

/// Longest wait for that, and for processes that were told to end.
const STILL_MAX: Duration = Duration::from_secs(20);

/// The folder the writers wait and report in.
const YARD: &str = "yard";

/// The threads of bunpilot that move and keep logs.
const PUMP_THREADS: &str = "logs";

/// That of them which counts lines.
const COUNTING_THREAD: &str = "logs-census";

/// A logger, and writers that wait at the gate or write.
pub(super) struct Rig {
    logger: Logger,
    writers: u16,
    // dropped in this order: whoever starts writers again goes before the gate
    stage: Stage,
    gate: Option<Gate>,
    ward: Ward,
}

enum Stage {
    Piped(Vec<Pair>),
    Managed(Contender),
}

/// A logger's process and the writer that feeds it.
struct Pair {
    logger: Child,
    writer: Child,
    /// The pipe between them, to see what is left in it.
    pipe: OwnedFd,
}

impl Rig {
    /// Starts the logger and the writers, and waits until all of them stand at the gate.
    pub(super) fn new(
        logger: &Logger,
        writers: u16,
        keep: u16,
        words: impl Fn(&Path) -> Vec<String>,
    ) -> Result<Self, Failure> {
        let ward = Ward::new("writers")?;
        let yard = ward.folder().join(YARD);
        let gate = Gate::new(&yard).map_err(failed("make", &yard))?;
        let words = words(&yard);
        let stage = match &logger.how {
            How::Piped(piped, program) => {
                let folder = ward.folder();
                let pair = |index: u16| {
                    let folder = folder.join(index.to_string());
                    Pair::new(*piped, program, &folder, keep, &words)
                };
                let pairs = (0..writers).map(pair).collect::<Result<_, _>>()?;
                Stage::Piped(pairs)
            }
            How::Managed(kind) => {
                let mut contender = Contender::new(kind.clone())?;
                contender.boot()?;
                let app = logger::app(kind, contender.folder(), &words, writers, keep);
                let app = app.map_err(failed("find", Path::new("xtask")))?;
                launch(&mut contender.launch(&app)?)?;
                Stage::Managed(contender)
            }
        };
        let gate = Some(gate);
        let mut rig = Self { logger: logger.clone(), writers, stage, gate, ward };
        rig.wait_at_gate()?;
        Ok(rig)
    }

    fn wait_at_gate(&mut self) -> Result<(), Failure> {
        let all = usize::from(self.writers);
        let ready = || (writer::named(&self.yard(), "ready").len() >= all).then_some(());
        let ready = clock::await_some(READY_MAX, Duration::from_millis(10), ready);
        if let Stage::Managed(contender) = &mut self.stage {
            let workers = contender.managers().last().map(|it| proc::children(*it));
            contender.watch(&workers.unwrap_or_default());
        }
        ready.ok_or_else(|| self.stuck("writers did not start"))
    }

    fn yard(&self) -> PathBuf {
        self.ward.folder().join(YARD)
    }

    fn stuck(&self, what: &str) -> Failure {
        Failure::Stuck { who: self.logger.name.clone(), what: what.to_owned() }
    }

    /// Lets the writers begin.
    pub(super) fn go(&mut self) -> Result<(), Failure> {
        let words = vec![b'!'; usize::from(self.writers)];
        let gate = self.gate.as_mut().map(|it| it.go.write_all(&words));
        gate.transpose().map(drop).map_err(failed("write to", Path::new(writer::GO)))
    }

    /// Waits until everything is written; how that went for each writer.
    pub(super) fn written(&self) -> Result<Vec<Report>, Failure> {
        self.written_while(|| ())
    }

    /// The same, with a look at something every few milliseconds meanwhile.
    pub(super) fn written_while(&self, mut look: impl FnMut()) -> Result<Vec<Report>, Failure> {
        let all = || {
            look();
            Some(Report::all(&self.yard())).filter(|it| it.len() >= usize::from(self.writers))
        };
        let all = clock::await_some(WRITTEN_MAX, Duration::from_millis(5), all);
        all.ok_or_else(|| self.stuck("writers did not end"))
    }

    /// Waits until the logger has nothing left to do.
    pub(super) fn still(&self) -> Result<(), Failure> {
        let mut last = (self.work().cpu, clock::now());
        let still = || {
            let cpu = self.work().cpu;
            if cpu != last.0 || self.waiting_bytes() > 0 {
                last = (cpu, clock::now());
            }
            (last.1.elapsed() >= STILL).then_some(())
        };
        let still = clock::await_some(STILL_MAX, Duration::from_millis(5), still);
        still.ok_or_else(|| self.stuck("the logger does not come to rest"))
    }

    fn waiting_bytes(&self) -> u64 {
        match &self.stage {
            Stage::Piped(pairs) => pairs.iter().map(|it| logger::waiting_bytes(&it.pipe)).sum(),
            Stage::Managed(_) => 0,
        }
    }

    /// What the logger did until now: of bunpilot, the threads that move and keep logs.
    pub(super) fn work(&self) -> Work {
        match &self.stage {
            Stage::Piped(pairs) => {
                pairs.iter().map(|it| Work::of(pid(&it.logger))).fold(Work::default(), Work::and)
            }
            Stage::Managed(contender) if self.logger.is_bunpilot() => {
                let daemon = contender.managers().first().copied();
                daemon.map(|it| Work::of_named(it, PUMP_THREADS)).unwrap_or_default()
            }
            Stage::Managed(_) => self.all_work(),
        }
    }

    /// What bunpilot's thread that counts lines did until now; nobody else has one.
    pub(super) fn counting(&self) -> Option<Work> {
        match &self.stage {
            Stage::Managed(contender) if self.logger.is_bunpilot() => {
                contender.managers().first().map(|it| Work::of_named(*it, COUNTING_THREAD))
            }
            Stage::Piped(_) | Stage::Managed(_) => None,
        }
    }

    /// What all processes and threads of the logger did until now.
    pub(super) fn all_work(&self) -> Work {
        match &self.stage {
            Stage::Piped(_) => self.work(),
            Stage::Managed(contender) => {
                let managers = contender.managers().into_iter();
                managers.map(Work::of).fold(Work::default(), Work::and)
            }
        }
    }

    /// Resident memory of what holds the logs' pipes, in KiB: of bunpilot, the daemon.
    pub(super) fn rss_kib(&self) -> u32 {
        match &self.stage {
            Stage::Piped(pairs) => pairs.iter().map(|it| proc::memory(pid(&it.logger)).rss).sum(),
            Stage::Managed(contender) => {
                contender.managers().first().map(|it| proc::memory(*it).rss).unwrap_or_default()
            }
        }
    }

    /// The files that keep what writer `index` wrote, oldest first.
    pub(super) fn files(&self, index: u16) -> Vec<PathBuf> {
        let folder = match &self.stage {
            Stage::Piped(_) => self.ward.folder(),
            Stage::Managed(contender) => contender.folder(),
        };
        logger::files(&self.logger.how, folder, index)
    }

    /// A command in the home of a logger that has one.
    pub(super) fn command(&self, words: &[&str]) -> Option<Command> {
        match &self.stage {
            Stage::Piped(_) => None,
            Stage::Managed(contender) => Some(contender.command(words)),
        }
    }

    /// Ends everything.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        match &mut self.stage {
            Stage::Piped(_) => Ok(()),
            Stage::Managed(contender) => contender.end(),
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Stage::Piped(pairs) = &mut self.stage {
            // Writers end at the end of the gate, their loggers at the end of the pipes.
            self.gate = None;
            for child in pairs.iter_mut().flat_map(|it| [&mut it.writer, &mut it.logger]) {
                let ended = || child.try_wait().ok().flatten();
                if clock::await_some(STILL_MAX, Duration::from_millis(2), ended).is_none() {
                    drop(child.kill());
                    drop(child.wait());
                }
            }
        }
    }
}

/// What the writers wait for.
struct Gate {
    go: File,
    /// Only held: its end is the word to end.
    _end: File,
}

impl Gate {
    fn new(yard: &Path) -> io::Result<Self> {
        fs::create_dir(yard)?;
        let make = |name: &str| {
            let path = yard.join(name);
            mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
            File::options().read(true).write(true).open(path)
        };
        Ok(Self { go: make(writer::GO)?, _end: make(writer::END)? })
    }
}

impl Pair {
    fn new(
        piped: Piped,
        program: &Path,
        folder: &Path,
        keep: u16,
        words: &[String],
    ) -> Result<Self, Failure> {
        let (reader, end) = io::pipe().map_err(failed("make", Path::new("a pipe")))?;
        let pipe = reader.try_clone().map_err(failed("open", Path::new("a pipe")))?.into();
        let mut logger = piped.command(program, folder, keep).map_err(failed("make", folder))?;
        let mut writer = Command::new(env::current_exe().map_err(failed("find", program))?);
        writer.args(words).stdin(Stdio::null()).stdout(end);
        let logger = start(logger.stdin(reader))?;
        Ok(Self { logger, writer: start(&mut writer)?, pipe })
    }
}

/// Starts the app; what the command says is told only if it fails.
fn launch(command: &mut Command) -> Result<(), Failure> {
    let program = crate::shell::program(command);
    let said = command.stderr(Stdio::piped()).output();
    let said = said.map_err(|source| Failure::Start { program, source })?;
    if said.status.success() {
        return Ok(());
    }
    say(String::from_utf8_lossy(&said.stderr));
    Err(Failure::Status { program: spelled(command), status: said.status })
}

fn start(command: &mut Command) -> Result<Child, Failure> {
    let program = crate::shell::program(command);
    command.spawn().map_err(|source| Failure::Start { program, source })
}

fn pid(child: &Child) -> i32 {
    child.id().try_into().unwrap_or_default()
}

fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Failure {
    move |source| Failure::File { what, path: path.to_owned(), source }
}
