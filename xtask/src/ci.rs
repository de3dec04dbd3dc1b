//! `cargo xtask ci`: every check, one after the other, and what became of each.
//!
//! A failed check does not hide the ones after it. It installs no cargo tool, since building them
//! takes longer than the checks (three minutes for machete and typos on two cores): those that are
//! missing are named as skipped. What builds the objects of `ebpf/` it fetches where it can; where
//! not, that check is skipped with the reason, and failed with `BUNPILOT_REQUIRE=all`.

use std::{
    fmt,
    process::{Command, ExitCode},
};

use crate::{
    ebpf,
    shell::{Failure, cargo, find, root, run as run_command, say},
    test, tidy, tools,
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

pub(crate) fn run() -> ExitCode {
    let mut outcomes = vec![
        ("fmt", checked(cargo().args(["fmt", "--all", "--", "--check"]))),
        ("clippy", checked(&mut clippy())),
        ("doc", checked(&mut doc())),
        ("fmt ebpf", checked(&mut fmt_ebpf())),
        ("tidy", by_code(tidy::run())),
        ("ebpf", ebpf_objects()),
        (
            "deny",
            if_installed("cargo-deny", cargo().args(["deny", "check", "--config", ".deny.toml"])),
        ),
        ("machete", if_installed("cargo-machete", cargo().arg("machete"))),
        ("typos", if_installed("typos", Command::new("typos").args(["--config", ".typos.toml"]))),
    ];
    let (tally, tested) = test::count(&test::Args::everything());
    outcomes.push(("test", by_result(tested)));
    for (name, outcome) in &outcomes {
        say(format_args!("{name:<8} {outcome}"));
    }
    test::tell(tally);
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
    let mut verdict = ebpf::check();
    if matches!(verdict, Err(ebpf::Fault::NoTools(_))) {
        match tools::for_ebpf() {
            Ok(()) => verdict = ebpf::check(),
            Err(error) => say(format_args!("what builds the objects of ebpf/: {error}")),
        }
    }
    let strict = std::env::var_os("BUNPILOT_REQUIRE").is_some_and(|it| it == "all");
    match verdict {
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
