//! `bunpilot logs`: shows and follows what workers wrote, straight from their files.
//!
//! Never asks the daemon for a line: works while it is dead, and costs it nothing while it lives.
//! Which files belong to which app, the caller says.

mod lines;
mod part;
mod print;
mod row;
mod scan;
mod start;
mod tail;
#[cfg(test)]
mod tests;
mod times;
mod watch;

use std::{
    borrow::Cow,
    collections::BTreeSet,
    io::{self, Write},
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::logs::{
    Stream,
    files::Writer,
    query::{Head, Lines, Merge, Query, Streams, Window, Workers},
    sieve::Sieve,
};

use lines::When;
use print::Printer;
use tail::{Filled, Gap, Tail};
use watch::{Watch, Woken};

pub use print::{Colour, Label, Shape, Text};
pub use scan::scan;

/// Rest after something was written: more comes together then, and costs the same.
const NAP: Duration = Duration::from_millis(10);

/// Longest time until a file is found that no event announced.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// File systems stamp files with a clock that lags behind; what is older than this was there
/// when the sources were first listed.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

/// One file to show, and its successors under the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Whose it is.
    pub app: String,
    /// Who writes it.
    pub writer: Writer,
    /// Which stream it is.
    pub stream: Stream,
    /// The current file; its rotated ones lie beside it. It need not exist yet.
    pub path: PathBuf,
    /// Whose lines are meant.
    pub workers: Workers,
    /// When they were written.
    pub window: Window,
}

impl Source {
    /// All lines of a file.
    #[must_use]
    pub fn of(app: &str, writer: Writer, stream: Stream, path: PathBuf) -> Self {
        let (workers, window) = (Workers::ANY, Window::ALWAYS);
        Self { app: app.to_owned(), writer, stream, path, workers, window }
    }

    /// What stands before its lines: `app:worker`, or `app`.
    #[must_use]
    pub fn label(&self) -> Cow<'_, str> {
        match self.writer {
            Writer::Place(worker) => Cow::Owned(format!("{}:{worker}", self.app)),
            Writer::Every => Cow::Borrowed(&self.app),
        }
    }
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

/// What `bunpilot logs` was asked for.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// Lines shown per file, its rotated ones included, before anything new.
    pub lines: Lines,
    /// Whether to go on.
    pub mode: Mode,
    /// Which streams.
    pub streams: Streams,
    /// When the lines were written.
    pub window: Window,
    /// What they say.
    pub sieve: Option<Sieve>,
    /// What is shown of them.
    pub shape: Shape,
    /// Folder of the indexes that keep the times of raw files.
    pub times: PathBuf,
    /// The descriptor `out` writes to; if it is a pipe, following ends once its reader is gone,
    /// even if no line comes.
    pub hangup: Option<BorrowedFd<'a>>,
}

/// Whether there was anything to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Not one line.
    Nothing,
    /// Lines.
    Lines,
}

/// Why the sources are listed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Just to be sure.
    Time,
    /// A file appeared that belongs to none of the sources.
    Stranger,
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

/// Shows the lines of `sources` that are asked for on `out`, the oldest first, then follows them if
/// asked to.
///
/// `rescan` lists the sources as they are now; it is called while following, when a file appears
/// and once a second. Remarks go to `notes`. Ends well when the reader of `out` is gone.
///
/// # Errors
///
/// See [`LogsError`].
pub fn run(
    sources: Vec<Source>,
    rescan: &mut dyn FnMut(Cause) -> Vec<Source>,
    options: &Options<'_>,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<Shown, LogsError> {
    let mut printer = Printer::new(out, notes, options.shape.clone());
    match show(sources, rescan, options, &mut printer) {
        Err(LogsError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(Shown::Lines)
        }
        ended => ended.map(|()| printer.shown()),
    }
}

fn show(
    sources: Vec<Source>,
    rescan: &mut dyn FnMut(Cause) -> Vec<Source>,
    options: &Options<'_>,
    printer: &mut Printer<'_>,
) -> Result<(), LogsError> {
    let mut view = View::new(options);
    // Watching begins before reading: what is written in between is not missed.
    let mut watch = match options.mode {
        Mode::Once => None,
        Mode::Follow => Some(Watch::new().map_err(LogsError::Watch)?),
    };
    for source in sources {
        view.add(source, options.lines, watch.as_mut(), printer)?;
    }
    view.backlog(printer)?;
    match watch {
        None => Ok(()),
        Some(mut watch) => view.follow(rescan, &mut watch, printer),
    }
}

/// All that is being shown.
struct View<'a> {
    options: &'a Options<'a>,
    shown: Vec<Reading>,
    known: BTreeSet<PathBuf>,
}

struct Reading {
    source: Source,
    query: Query,
    tail: Tail,
}

/// What becomes of a line without an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unfinished {
    /// It is shown as it is.
    Shown,
    /// Its end is waited for.
    Awaited,
}

impl<'a> View<'a> {
    fn new(options: &'a Options<'a>) -> Self {
        Self { options, shown: Vec::new(), known: BTreeSet::new() }
    }

    /// Adds a source with those of its lines that are asked for, unless it is shown already or is
    /// not asked for.
    fn add(
        &mut self,
        source: Source,
        lines: Lines,
        watch: Option<&mut Watch>,
        printer: &mut Printer<'_>,
    ) -> Result<(), LogsError> {
        let options = self.options;
        if !options.streams.include(source.stream) || !self.known.insert(source.path.clone()) {
            return Ok(());
        }
        if let Some(watch) = watch {
            watch.add(&source.path);
        }
        printer.make_room(&source.label());
        let query = Query {
            window: options.window.and(source.window),
            workers: source.workers.clone(),
            sieve: options.sieve.clone(),
        };
        let tail = Tail::open(&source.path, &options.times, lines, &query)
            .map_err(|error| read(&source.path, error))?;
        self.shown.push(Reading { source, query, tail });
        Ok(())
    }

    /// Prints what was there when each source was added, in the order it was written.
    fn backlog(&mut self, printer: &mut Printer<'_>) -> Result<(), LogsError> {
        let unfinished = match self.options.mode {
            Mode::Once => Unfinished::Shown,
            Mode::Follow => Unfinished::Awaited,
        };
        self.merge(printer, |shown, printer| shown.ready(unfinished, printer))?;
        self.go_live();
        printer.flush()
    }

    /// Prints lines of all sources in the order they were written, as long as `next` has them.
    fn merge(
        &mut self,
        printer: &mut Printer<'_>,
        mut next: impl FnMut(&mut Reading, &mut Printer<'_>) -> Result<Option<u64>, LogsError>,
    ) -> Result<(), LogsError> {
        let mut merge = Merge::default();
        for (source, shown) in self.shown.iter_mut().enumerate() {
            if let Some(unix_micros) = next(shown, printer)? {
                merge.push(Head { unix_micros, source });
            }
        }
        while let Some(Head { source, .. }) = merge.pop() {
            let shown = &mut self.shown[source];
            loop {
                shown.print_line(printer)?;
                let Some(unix_micros) = next(shown, printer)? else { break };
                let head = Head { unix_micros, source };
                if !merge.is_before_all(head) {
                    merge.push(head);
                    break;
                }
            }
        }
        Ok(())
    }

    fn go_live(&mut self) {
        self.shown.iter_mut().for_each(|shown| shown.tail.go_live());
    }

    fn follow(
        &mut self,
        rescan: &mut dyn FnMut(Cause) -> Vec<Source>,
        watch: &mut Watch,
        printer: &mut Printer<'_>,
    ) -> Result<(), LogsError> {
        let began = now().checked_sub(CLOCK_SLACK).unwrap_or(SystemTime::UNIX_EPOCH);
        loop {
            while self.print_new(printer)? {}
            printer.flush()?;
            let left = self.options.window.until.saturating_sub(unix_micros());
            if left == 0 {
                return Ok(());
            }
            let timeout = LOOK_AROUND.min(Duration::from_micros(left));
            let woken = watch.wait(timeout, self.options.hangup).map_err(LogsError::Watch)?;
            let cause = match woken {
                Woken::Hangup => return Ok(()),
                Woken::Rotated => continue,
                Woken::Written => {
                    nap();
                    continue;
                }
                Woken::Stranger => Cause::Stranger,
                Woken::Timeout => Cause::Time,
            };
            for source in rescan(cause) {
                let lines = self.lines_of(&source.path, began);
                self.add(source, lines, Some(watch), printer)?;
            }
            self.backlog(printer)?;
            self.shown.iter().for_each(|shown| watch.add(&shown.source.path));
        }
    }

    /// How much to show of a file that appeared: all of a new one, the end of an old one.
    fn lines_of(&self, path: &Path, began: SystemTime) -> Lines {
        match std::fs::metadata(path).and_then(|facts| facts.created()) {
            Ok(created) if created < began => self.options.lines,
            Ok(_) | Err(_) => Lines::All,
        }
    }

    /// Prints a block of each source; says whether there was anything.
    fn print_new(&mut self, printer: &mut Printer<'_>) -> Result<bool, LogsError> {
        let now = unix_micros();
        let mut any = false;
        for shown in &mut self.shown {
            shown.tail.set_clock(now);
            any |= shown.fill(printer)?;
        }
        self.merge(printer, |Reading { query, tail, .. }, _| {
            Ok(tail.next(query).map(When::unix_micros))
        })?;
        if let ([alone], Shape::Raw) = (&mut self.shown[..], &self.options.shape)
            && alone.query.is_everything()
        {
            printer.print_raw(alone.tail.rest())?;
        }
        Ok(any)
    }
}

impl Reading {
    /// Reads on; says whether there was anything.
    fn fill(&mut self, printer: &mut Printer<'_>) -> Result<bool, LogsError> {
        match self.tail.fill().map_err(|error| read(&self.source.path, error))? {
            Filled::End => Ok(false),
            Filled::More | Filled::Missed(Gap { several: false, .. }) => Ok(true),
            Filled::Missed(_) => {
                printer
                    .note(&self.source, "fell behind; lines may have been rotated away unread")?;
                Ok(true)
            }
            Filled::Damaged(error) => {
                let remark = format!("the rest of a packed file is left out: {error}");
                printer.note(&self.source, &remark)?;
                Ok(true)
            }
        }
    }

    /// Reads until there is a line that is asked for; says when it was written.
    fn ready(
        &mut self,
        unfinished: Unfinished,
        printer: &mut Printer<'_>,
    ) -> Result<Option<u64>, LogsError> {
        loop {
            if let Some(when) = self.tail.next(&self.query) {
                return Ok(Some(when.unix_micros()));
            }
            if !self.fill(printer)? {
                break;
            }
        }
        if unfinished == Unfinished::Shown {
            self.tail.close();
        }
        Ok(self.tail.next(&self.query).map(When::unix_micros))
    }

    fn print_line(&mut self, printer: &mut Printer<'_>) -> Result<(), LogsError> {
        if let Some(line) = self.tail.front() {
            printer.print(&self.source, line)?;
        }
        self.tail.pop();
        Ok(())
    }
}

fn read(path: &Path, source: io::Error) -> LogsError {
    LogsError::Read { path: path.to_owned(), source }
}

#[expect(clippy::disallowed_methods, reason = "files carry wall-clock times")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn unix_micros() -> u64 {
    let since = now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "nothing else runs in this process")]
fn nap() {
    std::thread::sleep(NAP);
}
