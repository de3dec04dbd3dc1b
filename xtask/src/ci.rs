//! `cargo xtask ci`: every check, one after the other, and what became of each.
//!
//! A failed check does not hide the ones after it. It installs no cargo tool, since building them
//! takes longer than the checks (three minutes for machete and typos on two cores): those that are
//! missing are named as skipped. What builds the objects of `ebpf/` is fetched where it can be; where
//! not, that check is skipped with the reason, and failed with `BUNPILOT_REQUIRE=all`.

use std::{
    fmt,
    process::{Command, ExitCode},
};

use clap::ValueEnum as _;

use crate::{
    ebpf,
    shell::{Failure, cargo, find, root, run as run_command, say},
    test, tidy,
};

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// For want of a tool.
    Skipped,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped: not installed",
        })
    }
}

/// Which checks; all, unless some are named.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these
    #[arg(value_enum)]
    checks: Vec<Check>,
}

/// A check, in the order they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Check {
    Fmt,
    Clippy,
    Doc,
    FmtEbpf,
    Tidy,
    Ebpf,
    Deny,
    Machete,
    Typos,
    Test,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Doc => "doc",
            Self::FmtEbpf => "fmt-ebpf",
            Self::Tidy => "tidy",
            Self::Ebpf => "ebpf",
            Self::Deny => "deny",
            Self::Machete => "machete",
            Self::Typos => "typos",
            Self::Test => "test",
        }
    }

    fn run(self, tally: &mut Option<test::Tally>) -> Outcome {
        match self {
            Self::Fmt => checked(cargo().args(["fmt", "--all", "--", "--check"])),
            Self::Clippy => checked(&mut clippy()),
            Self::Doc => checked(&mut doc()),
            Self::FmtEbpf => checked(&mut fmt_ebpf()),
            Self::Tidy => by_code(tidy::run()),
            Self::Ebpf => ebpf_objects(),
            Self::Deny => {
                let config = ["deny", "check", "--config", ".deny.toml"];
                if_installed("cargo-deny", cargo().args(config))
            }
            Self::Machete => if_installed("cargo-machete", cargo().arg("machete")),
            Self::Typos => {
                if_installed("typos", Command::new("typos").args(["--config", ".typos.toml"]))
            }
            Self::Test => {
                let (counted, tested) = test::count(&test::Args::everything());
                *tally = Some(counted);
                by_result(tested)
            }
        }
    }
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let wanted = |it: &Check| args.checks.is_empty() || args.checks.contains(it);
    let mut tally = None;
    let mut outcomes = Vec::new();
    for check in Check::value_variants().iter().copied().filter(wanted) {
        outcomes.push((check, check.run(&mut tally)));
    }
    for (check, outcome) in &outcomes {
        say(format_args!("{:<8} {outcome}", check.name()));
    }
    tally.into_iter().for_each(test::tell);
    if outcomes.iter().any(|(_, outcome)| *outcome == Outcome::Failed) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn clippy() -> Command {
    let mut command = cargo();
    command.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    command
}

fn doc() -> Command {
    let mut command = cargo();
    command.args(["doc", "--workspace", "--no-deps", "--document-private-items"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    command
}

/// What runs in the kernel is a workspace of its own.
fn fmt_ebpf() -> Command {
    let mut command = cargo();
    command.args(["fmt", "--all", "--manifest-path", "ebpf/Cargo.toml", "--", "--check"]);
    command
}

/// Whether what is committed in `ebpf/prebuilt` is what the sources say.
fn ebpf_objects() -> Outcome {
    let strict = std::env::var_os("BUNPILOT_REQUIRE").is_some_and(|it| it == "all");
    match ebpf::check() {
        Ok(verdict) => {
            ebpf::tell(&verdict);
            Outcome::Passed
        }
        Err(fault) => {
            say(format_args!("the objects of ebpf/: {fault}"));
            let excused = matches!(fault, ebpf::Fault::NoTools(_)) && !strict;
            if excused { Outcome::Skipped } else { Outcome::Failed }
        }
    }
}

fn checked(command: &mut Command) -> Outcome {
    by_result(run_command(command))
}

fn by_result(result: Result<(), Failure>) -> Outcome {
    match result {
        Ok(()) => Outcome::Passed,
        Err(error) => {
            say(error);
            Outcome::Failed
        }
    }
}

fn by_code(code: ExitCode) -> Outcome {
    if code == ExitCode::SUCCESS { Outcome::Passed } else { Outcome::Failed }
}

fn if_installed(tool: &str, command: &mut Command) -> Outcome {
    if find(tool).is_some() {
        return checked(command.current_dir(root()));
    }
    say(format_args!("`{tool}` is not installed, its check is left out"));
    Outcome::Skipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_skipped_and_a_failing_one_is_not() {
        let fails = &mut Command::new("false");
        assert_eq!(if_installed("no-such-tool", fails), Outcome::Skipped);
        assert_eq!(if_installed("false", fails), Outcome::Failed);
        assert_eq!(if_installed("true", &mut Command::new("true")), Outcome::Passed);
    }
}
