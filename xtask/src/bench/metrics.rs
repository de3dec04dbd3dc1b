//! `cargo xtask bench metrics`: what exact accounting costs.
//!
//! `benches/accounting.rs` measures, since it takes the library to load its program; here its
//! samples become a table and `target/bench/metrics.json`. It is built without the slow last part
//! of optimising: what is measured is the kernel's, or a few lines of ours.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader},
    path::PathBuf,
    process::Stdio,
};

use serde_json::json;

use super::{
    summary::{Sample, Summary, rounded},
    write,
};
use crate::shell::{Failure, cargo, program, root, say, spelled};

/// How thoroughly.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds, each of which measures a switch in every way
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
}

const ROUNDS: u16 = 21;

/// What is measured: the bench's word, what it is, its unit, and what we aim at.
const FIGURES: &[(&str, &str, &str, Option<f64>)] = &[
    ("switch", "a context switch, nobody accounted", "ns", None),
    ("switch-unknown", "+ of a process we do not know", "ns", None),
    ("switch-accounted", "+ of a worker", "ns", Some(80.0)),
    ("read-books", "counters of 1,000 workers", "µs", Some(50.0)),
    ("read-flushed", "the same, what runs booked before", "µs", None),
    ("read-clocks", "1,000 clocks of processes", "µs", None),
    ("read-stat", "1,000 × /proc/PID/stat", "µs", None),
    ("write", "text of 1,000 workers", "µs", None),
];

/// Samples by the bench's word.
type Samples = BTreeMap<String, Vec<Sample>>;

pub(super) fn measure(args: Args) -> Result<(), Failure> {
    let samples = samples(args)?;
    show(&samples, &mut io::stdout().lock()).map_err(|source| {
        let path = PathBuf::from("standard output");
        Failure::File { what: "write to", path, source }
    })?;
    write(&root().join("target/bench/metrics.json"), &format!("{:#}\n", in_json(&samples)))
}

/// Runs the bench to its end.
fn samples(args: Args) -> Result<Samples, Failure> {
    let mut command = cargo();
    command.args(["bench", "--quiet", "--bench", "accounting", "--"]);
    command.arg(args.rounds.to_string());
    command.env("CARGO_PROFILE_BENCH_LTO", "off").env("CARGO_PROFILE_BENCH_CODEGEN_UNITS", "16");
    say(format_args!("» {}", spelled(&command)));
    let program = program(&command);
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(source) => return Err(Failure::Start { program, source }),
    };
    let mut samples = Samples::new();
    let said = child.stdout.take().into_iter().flat_map(|it| BufReader::new(it).lines());
    for line in said.map_while(Result::ok) {
        if let Some((word, value)) = sample(&line) {
            samples.entry(word.to_owned()).or_default().push(Sample::now(value));
        }
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(samples),
        Ok(status) => Err(Failure::Status { program, status }),
        Err(source) => Err(Failure::Start { program, source }),
    }
}

fn sample(line: &str) -> Option<(&str, f64)> {
    let (word, value) = line.split_once('\t')?;
    Some((word, value.parse().ok()?))
}

fn show(samples: &Samples, out: &mut impl io::Write) -> io::Result<()> {
    row(out, ["figure", "aim", "median", "(range)", "load"].map(str::to_owned))?;
    for (word, what, unit, aim) in FIGURES {
        let Some(samples) = samples.get(*word) else { continue };
        let Summary { median, least, most, load } = Summary::of(samples);
        let aim = aim.map(|it| format!("≤ {it}")).unwrap_or_default();
        let range = format!("({}–{})", rounded(least), rounded(most));
        row(out, [format!("{what} [{unit}]"), aim, rounded(median), range, format!("{load:.1}")])?;
    }
    Ok(())
}

fn row(out: &mut impl io::Write, cells: [String; 5]) -> io::Result<()> {
    let [what, aim, median, range, load] = cells;
    writeln!(out, "{what:42} {aim:>6} {median:>9} {range:20} {load:>5}")
}

fn in_json(samples: &Samples) -> serde_json::Value {
    let figures = FIGURES.iter().filter_map(|(word, what, unit, aim)| {
        let samples = samples.get(*word)?;
        let summary = Summary::of(samples).json(samples);
        Some(json!({ "figure": what, "unit": unit, "aim": aim, "bunpilot": summary }))
    });
    json!({ "figures": figures.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_a_table() {
        let mut samples = Samples::new();
        for line in
            ["switch-accounted\t52", "switch-accounted\t-3.5", "warming up", "read-books\tx"]
        {
            if let Some((word, value)) = sample(line) {
                samples.entry(word.to_owned()).or_default().push(Sample::now(value));
            }
        }
        assert_eq!(samples.len(), 1);
        let mut table = Vec::new();
        show(&samples, &mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        let words: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words[..8], ["+", "of", "a", "worker", "[ns]", "≤", "80", "24.25"]);
        let json = in_json(&samples);
        assert_eq!(json.pointer("/figures/0/bunpilot/median"), Some(&json!(24.25)));
    }
}
