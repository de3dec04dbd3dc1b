//! `cargo xtask <task>`: what cargo cannot say.
//!
//! Each task is a module with a `run` that returns the exit code; a new one is a module, a variant
//! of [`Task`] and a line in [`main`].

mod bench;
mod ci;
mod ebpf;
mod mutants;
mod shell;
mod test;
mod tidy;
mod tools;

use std::process::ExitCode;

use clap::Parser;

/// The project's own tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version = None)]
enum Task {
    /// Measures bunpilot beside others, in one run
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Builds what runs in the kernel into `ebpf/prebuilt`
    BuildEbpf {
        /// Only compares what is committed with what the sources make
        #[arg(long)]
        check: bool,
    },
    /// Everything a change must pass: fmt, clippy, doc, tidy, the objects in `ebpf/prebuilt`, the
    /// tests, and what is installed of deny, machete and typos
    Ci(ci::Args),
    /// Plants faults in the supervisor, one at a time: the simulator must catch each
    Mutants {
        /// Only mutants whose line says one of these words
        words: Vec<String>,
    },
    /// Fetches what the tests need, then runs all of them
    Test(test::Args),
    /// Checks the house: who may use whom, which rooms are quiet, and how files are kept
    Tidy,
}

fn main() -> ExitCode {
    match Task::parse() {
        Task::Bench(bench) => bench::run(&bench),
        Task::BuildEbpf { check } => ebpf::run(check),
        Task::Ci(args) => ci::run(&args),
        Task::Mutants { words } => mutants::run(&words),
        Task::Test(args) => test::run(&args),
        Task::Tidy => tidy::run(),
    }
}
