//! `bunpilot logs`: shows and follows what workers wrote, straight from their files.
//!
//! Never asks the daemon for a line: works while it is dead, and costs it nothing while it lives.
//! Which files belong to which app, the caller says.

mod print;
mod scan;
mod tail;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    collections::BTreeSet,
    io::{self, Write},
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::logs::{
    Stream,
    query::{Head, Streams, first},
};

use print::Printer;
use tail::{Filled, Tail};
use watch::{Watch, Woken};

pub(in crate::cli) use scan::label;
pub use scan::scan;

/// Rest after something was written: more comes together then, and costs the same.
const NAP: Duration = Duration::from_millis(10);

/// Longest time until a file is found that no event announced.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// File systems stamp files with a clock that lags behind; what is older than this was there
/// when the sources were first listed.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

/// One file to show, and its successors under the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// What stands before its lines: `app:worker`, or `app` if all its workers share the file.
    pub label: String,
    /// Which stream it is.
    pub stream: Stream,
    /// The current file; its rotated ones lie beside it. It need not exist yet.
    pub path: PathBuf,
}

/// Whether to go on after the last line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// End there.
    #[default]
    Once,
    /// Show what comes, until interrupted or nobody reads any more.
    Follow,
}

/// Whether lines are labelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Label {
    /// With `app:worker │ `.
    #[default]
    Plain,
    /// The same in colour.
    Coloured,
    /// Not at all: every byte as the worker wrote it.
    Hidden,
}

/// What `bunpilot logs` was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Lines shown per file, its rotated ones included, before anything new.
    pub lines: u64,
    /// Whether to go on.
    pub mode: Mode,
    /// Which streams.
    pub streams: Streams,
    /// How lines are labelled.
    pub label: Label,
    /// The descriptor `out` writes to; if it is a pipe, following ends once its reader is gone,
    /// even if no line comes.
    pub hangup: Option<BorrowedFd<'a>>,
}

/// Why lines cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// A log file exists but cannot be read.
    #[error("cannot read `{}`; are you the user bunpilot runs as?", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The lines cannot be written.
    #[error("cannot write the log lines")]
    Write(#[source] io::Error),
    /// The kernel refuses to watch files.
    #[error("cannot watch the log files; is `fs.inotify.max_user_instances` used up?")]
    Watch(#[source] io::Error),
}

/// Shows the last lines of `sources` on `out`, the oldest first, then follows them if asked to.
///
/// `rescan` lists the sources as they are now; it is called while following, when a file appears
/// and once a second. Remarks go to `notes`. Ends well when the reader of `out` is gone.
///
/// # Errors
///
/// See [`LogsError`].
pub fn run(
    sources: Vec<Source>,
    rescan: &mut dyn FnMut() -> Vec<Source>,
    options: &Options<'_>,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), LogsError> {
    match show(sources, rescan, options, out, notes) {
        Err(LogsError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        ended => ended,
    }
}

fn show(
    sources: Vec<Source>,
    rescan: &mut dyn FnMut() -> Vec<Source>,
    options: &Options<'_>,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), LogsError> {
    let mut printer = Printer::new(out, notes, options.label);
    let mut view = View::new(options);
    // Watching begins before reading: what is written in between is not missed.
    let mut watch = match options.mode {
        Mode::Once => None,
        Mode::Follow => Some(Watch::new().map_err(LogsError::Watch)?),
    };
    for source in sources {
        view.add(source, options.lines, watch.as_mut(), &mut printer)?;
    }
    view.backlog(&mut printer)?;
    let Some(mut watch) = watch else { return view.last_words(&mut printer) };
    view.follow(rescan, &mut watch, &mut printer)
}

/// All that is being shown.
struct View<'a> {
    options: &'a Options<'a>,
    shown: Vec<Shown>,
    known: BTreeSet<PathBuf>,
}

struct Shown {
    source: Source,
    tail: Tail,
}

impl<'a> View<'a> {
    fn new(options: &'a Options<'a>) -> Self {
        Self { options, shown: Vec::new(), known: BTreeSet::new() }
    }

    /// Adds a source with its last `lines` lines, unless it is shown already or not asked for.
    fn add(
        &mut self,
        source: Source,
        lines: u64,
        watch: Option<&mut Watch>,
        printer: &mut Printer<'_>,
    ) -> Result<(), LogsError> {
        if !self.options.streams.include(source.stream) || !self.known.insert(source.path.clone()) {
            return Ok(());
        }
        if let Some(watch) = watch {
            watch.add(&source.path);
        }
        printer.make_room(&source.label);
        let tail = Tail::open(&source.path, lines).map_err(|error| read(&source.path, error))?;
        self.shown.push(Shown { source, tail });
        Ok(())
    }

    /// Prints what was there when each source was added, in the order it was written.
    fn backlog(&mut self, printer: &mut Printer<'_>) -> Result<(), LogsError> {
        let mut ended = vec![false; self.shown.len()];
        loop {
            let mut heads = Vec::new();
            for (source, shown) in self.shown.iter_mut().enumerate() {
                if !ended[source] && !shown.ready(printer)? {
                    ended[source] = true;
                }
                if !ended[source] {
                    heads.push(Head { unix_micros: shown.tail.unix_micros(), source });
                }
            }
            let Some(source) = first(heads) else { break };
            self.shown[source].print_line(printer)?;
        }
        self.shown.iter_mut().for_each(|shown| shown.tail.go_live());
        printer.flush()
    }

    /// Prints the unfinished lines at the ends.
    fn last_words(&mut self, printer: &mut Printer<'_>) -> Result<(), LogsError> {
        for Shown { source, tail } in &mut self.shown {
            printer.print(source, tail.rest())?;
        }
        printer.flush()
    }

    fn follow(
        &mut self,
        rescan: &mut dyn FnMut() -> Vec<Source>,
        watch: &mut Watch,
        printer: &mut Printer<'_>,
    ) -> Result<(), LogsError> {
        let began = now().checked_sub(CLOCK_SLACK).unwrap_or(SystemTime::UNIX_EPOCH);
        loop {
            while self.print_new(printer)? {}
            printer.flush()?;
            let woken = watch.wait(LOOK_AROUND, self.options.hangup).map_err(LogsError::Watch)?;
            match woken {
                Woken::Hangup => return Ok(()),
                Woken::Written => nap(),
                Woken::Appeared | Woken::Timeout => {
                    for source in rescan() {
                        let lines = self.lines_of(&source.path, began);
                        self.add(source, lines, Some(watch), printer)?;
                    }
                    self.shown.iter_mut().for_each(|shown| shown.tail.go_live());
                    self.shown.iter().for_each(|shown| watch.add(&shown.source.path));
                }
            }
        }
    }

    /// How much to show of a file that appeared: all of a new one, the end of an old one.
    fn lines_of(&self, path: &Path, began: SystemTime) -> u64 {
        match std::fs::metadata(path).and_then(|facts| facts.created()) {
            Ok(created) if created < began => self.options.lines,
            Ok(_) | Err(_) => u64::MAX,
        }
    }

    /// Prints a block of each source; says whether there was anything.
    fn print_new(&mut self, printer: &mut Printer<'_>) -> Result<bool, LogsError> {
        let alone = self.shown.len() == 1 && self.options.label == Label::Hidden;
        let mut any = false;
        for shown in &mut self.shown {
            any |= shown.fill(printer)?;
            while shown.tail.has_line() {
                shown.print_line(printer)?;
            }
            if alone {
                printer.print_raw(shown.tail.rest())?;
            }
        }
        Ok(any)
    }
}

impl Shown {
    /// Reads on; says whether there was anything.
    fn fill(&mut self, printer: &mut Printer<'_>) -> Result<bool, LogsError> {
        match self.tail.fill().map_err(|error| read(&self.source.path, error))? {
            Filled::More => Ok(true),
            Filled::End => Ok(false),
            Filled::Missed => {
                printer
                    .note(&self.source, "fell behind; lines may have been rotated away unread")?;
                Ok(true)
            }
        }
    }

    /// Whether a whole line can be had.
    fn ready(&mut self, printer: &mut Printer<'_>) -> Result<bool, LogsError> {
        while !self.tail.has_line() {
            if !self.fill(printer)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn print_line(&mut self, printer: &mut Printer<'_>) -> Result<(), LogsError> {
        printer.print(&self.source, self.tail.line())
    }
}

fn read(path: &Path, source: io::Error) -> LogsError {
    LogsError::Read { path: path.to_owned(), source }
}

#[expect(clippy::disallowed_methods, reason = "files carry wall-clock times")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[expect(clippy::disallowed_methods, reason = "nothing else runs in this process")]
fn nap() {
    std::thread::sleep(NAP);
}
