//! `cargo xtask test [filter]`: fetches what the tests need, runs all of them, and counts.
//!
//! A test that cannot run for want of a tool says `skipped: <test>: <reason>` on stderr and passes;
//! it is counted as skipped. With `--require all` or `BUNPILOT_REQUIRE=all` it fails instead.

use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Read, Write},
    process::{Command, ExitCode, Stdio},
    thread,
};

use crate::{
    shell::{Failure, cargo, program, say, spelled},
    tools::{self, Tools},
};

/// What to run, and how strictly.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Runs only tests whose name contains this
    filter: Option<String>,
    /// Fails for each tool that cannot be had, instead of skipping the tests that need it
    #[arg(long, value_enum)]
    require: Option<Require>,
}

/// Which tools must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Require {
    All,
}

impl Args {
    /// All tests, and every tool they need.
    pub(crate) fn everything() -> Self {
        Self { filter: None, require: Some(Require::All) }
    }

    fn requires_all(&self) -> bool {
        self.require.is_some() || std::env::var_os("BUNPILOT_REQUIRE").is_some_and(|it| it == "all")
    }
}

/// How many tests went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: i32,
    failed: i32,
    skipped: i32,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let (tally, outcome) = count(args);
    if let Err(error) = &outcome {
        say(format_args!("test: {error}"));
    }
    tell(tally);
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes the line everyone waits for; the last one.
pub(crate) fn tell(tally: Tally) {
    drop(writeln!(io::stdout().lock(), "{tally}"));
}

/// Runs the tests; an error says why the numbers are not the whole story, or not a good one.
pub(crate) fn count(args: &Args) -> (Tally, Result<(), Failure>) {
    let tools = match tools::fetch() {
        Ok(tools) => tools,
        Err(error) => return (Tally::default(), Err(error)),
    };
    let (tally, outcome) = watch(&mut tests(args, &tools), io::stdout(), io::stderr());
    let complete = if args.requires_all() && !tools.missing.is_empty() {
        let names: Vec<_> = tools.missing.iter().map(|(tool, _)| *tool).collect();
        Err(Failure::ToolsMissing(names.join(", ")))
    } else {
        Ok(())
    };
    (tally, outcome.and(complete))
}

fn tests(args: &Args, tools: &Tools) -> Command {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]);
    command.args(&args.filter);
    command.env("BUNPILOT_TOOLS", &tools.folder).env("PATH", tools.path());
    if args.requires_all() {
        command.env("BUNPILOT_REQUIRE", "all");
    }
    command
}

/// Runs `command`, repeats on `out` and `err` what it says, and counts what it tells of tests.
fn watch(
    command: &mut Command,
    out: impl Write,
    err: impl Write + Send,
) -> (Tally, Result<(), Failure>) {
    say(format_args!("» {}", spelled(command)));
    let program = program(command);
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match piped {
        Ok(child) => child,
        Err(source) => return (Tally::default(), Err(Failure::Start { program, source })),
    };
    let (results, words) = (child.stdout.take(), child.stderr.take());
    let tally = thread::scope(|scope| {
        let words = scope.spawn(move || words.map(|it| repeat(it, err)));
        let results = results.map(|it| repeat(it, out));
        sum([results, words.join().unwrap_or_default()].into_iter().flatten())
    });
    let outcome = match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::Status { program, status }),
        Err(source) => Err(Failure::Start { program, source }),
    };
    (tally, outcome)
}

/// Copies `from` to `to` line by line and adds up the lines that count tests.
fn repeat(from: impl Read, mut to: impl Write) -> Tally {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    let mut tallies = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        drop(to.write_all(&line));
        tallies.extend(told(&String::from_utf8_lossy(&line)));
        line.clear();
    }
    sum(tallies)
}

/// What one line tells: libtest's `test result:` of one binary, or one skipped test.
fn told(line: &str) -> Option<Tally> {
    if line.starts_with("skipped: ") {
        // libtest takes it for a passed one
        return Some(Tally { passed: -1, failed: 0, skipped: 1 });
    }
    let results = line.strip_prefix("test result: ")?;
    let number = |word: &str| {
        let before = results.split(word).next()?;
        before.rsplit([' ', '.']).find(|it| !it.is_empty())?.parse().ok()
    };
    Some(Tally {
        passed: number(" passed;")?,
        failed: number(" failed;")?,
        skipped: number(" ignored;")?,
    })
}

fn sum(tallies: impl IntoIterator<Item = Tally>) -> Tally {
    tallies.into_iter().fold(Tally::default(), |sum, it| Tally {
        passed: sum.passed + it.passed,
        failed: sum.failed + it.failed,
        skipped: sum.skipped + it.skipped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(said: &str, expected: Option<(i32, i32, i32)>) {
        let expected = expected.map(|(passed, failed, skipped)| Tally { passed, failed, skipped });
        assert_eq!(told(said), expected);
    }

    #[test]
    fn lines_that_tell() {
        check(
            "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            Some((12, 0, 3)),
        );
        check("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured;", Some((1, 2, 0)));
        check("skipped: d05_node: `node` is not on the PATH\n", Some((-1, 0, 1)));
        check("test d05_node ... ok", None);
        check("running 12 tests", None);
    }

    #[test]
    fn output_is_repeated_and_counted() {
        let said =
            "running 2 tests\ntest result: ok. 2 passed; 0 failed; 1 ignored;\nskipped: a: b";
        let mut copy = Vec::new();
        let tally = repeat(said.as_bytes(), &mut copy);
        assert_eq!(copy, said.as_bytes());
        assert_eq!(tally, Tally { passed: 1, failed: 0, skipped: 2 });
    }

    #[test]
    fn a_broken_run_is_an_error_whatever_it_counted() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'test result: ok. 1 passed; 0 failed; 0 ignored;'; exit 3"]);
        let (tally, outcome) = watch(&mut command, io::sink(), io::sink());
        assert_eq!(tally, Tally { passed: 1, failed: 0, skipped: 0 });
        assert_eq!(outcome.unwrap_err().to_string(), "`sh` failed: exit status: 3");
    }
}
