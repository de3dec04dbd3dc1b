//! The program under every logger: writes the text as its load says, and tells how that went.
//!
//! Writes its first byte when it may, not when it starts; ends when whoever gave the word is gone.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{super::clock, text::Text};

/// The FIFOs in the yard.
pub(super) const GO: &str = "go";
pub(super) const END: &str = "end";

/// What to write, and whom to tell.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Length of a line, its newline included
    #[arg(long)]
    pub(super) line: usize,
    /// Bytes in one write
    #[arg(long)]
    pub(super) chunk: usize,
    /// Bytes in all
    #[arg(long)]
    pub(super) bytes: u64,
    /// Writes in a second; as many as possible if 0
    #[arg(long, default_value_t = 0)]
    pub(super) pace: u32,
    /// A folder with two FIFOs: a byte of `go` is the word to begin, the end of `end` the word to
    /// end. In it is `<pid>.ready` once the writer waits, and `<pid>.done` once all is written
    #[arg(long)]
    pub(super) yard: PathBuf,
}

impl Args {
    /// The words after `xtask`.
    pub(super) fn words(&self) -> Vec<String> {
        let Self { line, chunk, bytes, pace, yard } = self;
        let numbers = [("line", line.to_string()), ("chunk", chunk.to_string())];
        let numbers = numbers.into_iter().chain([("bytes", bytes.to_string())]);
        let numbers = numbers.chain([("pace", pace.to_string())]);
        let words = numbers.chain([("yard", yard.display().to_string())]);
        let words = words.flat_map(|(name, it)| [format!("--{name}"), it]);
        ["bench", "log-writer"].map(str::to_owned).into_iter().chain(words).collect()
    }
}

/// How the writing went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// From the first write to the return of the last.
    pub(super) took: Duration,
    /// The writer's own time on a CPU meanwhile.
    pub(super) cpu: Duration,
    /// The longest a single write took.
    pub(super) longest: Duration,
}

impl Report {
    fn text(self) -> String {
        let Self { took, cpu, longest } = self;
        format!("{} {} {}", took.as_nanos(), cpu.as_nanos(), longest.as_nanos())
    }

    /// Reads what the writers of `folder` have reported.
    pub(super) fn all(folder: &Path) -> Vec<Self> {
        let files = named(folder, "done").into_iter();
        files.filter_map(|it| Self::parse(&fs::read_to_string(it).ok()?)).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut times = text.split(' ').map(|it| Some(Duration::from_nanos(it.parse().ok()?)));
        Some(Self { took: times.next()??, cpu: times.next()??, longest: times.next()?? })
    }
}

/// The reports in `folder` that end in `ending`.
pub(super) fn named(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|it| it.path()).filter(|it| it.extension() == Some(ending.as_ref())).collect()
}

/// Waits for the word, writes everything, reports, and waits for the end.
pub(super) fn run(args: &Args) -> io::Result<()> {
    let (mut go, mut end) = (File::open(args.yard.join(GO))?, File::open(args.yard.join(END))?);
    let report = |ending: &str| args.yard.join(format!("{}.{ending}", std::process::id()));
    fs::write(report("ready"), "")?;
    let mut word = [0];
    if go.read(&mut word)? == 0 {
        return Ok(());
    }
    let text = write(args)?.text();
    fs::write(report("part"), text)?;
    fs::rename(report("part"), report("done"))?;
    end.read(&mut word).map(drop)
}

fn write(args: &Args) -> io::Result<Report> {
    // not `io::stdout()` itself, which cuts lines
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut text = Text::new(args.line, 0);
    let mut chunk = vec![0; args.chunk];
    let (start, cpu) = (clock::now(), own_cpu());
    let pause = Duration::from_secs(1).checked_div(args.pace);
    // Writers of one pace must not all write at the same moment.
    let mut due = pause.unwrap_or_default() * (std::process::id() % 64) / 64;
    let (mut left, mut longest) = (args.bytes, Duration::ZERO);
    while left > 0 {
        if let Some(pause) = pause {
            clock::sleep(due.saturating_sub(start.elapsed()));
            due += pause;
        }
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        text.fill(&mut chunk[..size]);
        if pause.is_some() {
            let begun = clock::now();
            out.write_all(&chunk[..size])?;
            longest = longest.max(begun.elapsed());
        } else {
            out.write_all(&chunk[..size])?;
        }
        left -= u64::try_from(size).unwrap_or(left);
    }
    Ok(Report { took: start.elapsed(), cpu: own_cpu().saturating_sub(cpu), longest })
}

/// Time of this process, which has one thread, on a CPU.
fn own_cpu() -> Duration {
    let text = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|it| it.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let [took, cpu, longest] = [3, 20, 100].map(Duration::from_millis);
        let report = Report { took, cpu, longest };
        assert_eq!(Report::parse(&report.text()), Some(report));
        assert_eq!(Report::parse("1 2"), None);
    }
}
