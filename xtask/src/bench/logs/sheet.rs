//! What was measured of the loggers, and how it is shown.

use std::{collections::BTreeMap, io};

use serde_json::{Value, json};

use super::{
    super::summary::{Sample, Summary, rounded},
    load::Load,
};

/// What is measured of a logger under a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Figure {
    /// Logger's time on a CPU for each gigabyte, in seconds.
    Cpu,
    /// The same of all its processes and threads.
    AllCpu,
    /// Part of the logger's that goes into counting lines, which bunpilot alone does.
    Counting,
    /// The writer's time on a CPU for each gigabyte, in seconds.
    WriterCpu,
    /// Millions of bytes a second.
    Rate,
    /// Logger's time on a CPU, in percent of one.
    Share,
    /// The same of all its processes and threads.
    AllShare,
    /// The longest a write took, in milliseconds.
    Longest,
    /// What the daemon's resident memory grew by, in MiB.
    Growth,
}

impl Figure {
    const ALL: [Self; 9] = [
        Self::Cpu,
        Self::AllCpu,
        Self::Counting,
        Self::WriterCpu,
        Self::Rate,
        Self::Share,
        Self::AllShare,
        Self::Longest,
        Self::Growth,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Cpu => "logger s/GB",
            Self::AllCpu => "all of it s/GB",
            Self::Counting => "counting s/GB",
            Self::WriterCpu => "writer s/GB",
            Self::Rate => "MB/s",
            Self::Share => "logger % of a core",
            Self::AllShare => "all of it %",
            Self::Longest => "longest write ms",
            Self::Growth => "memory + MiB",
        }
    }

    /// The figure the ratios are about.
    fn of(load: Load) -> Self {
        match load {
            Load::Q | Load::F => Self::Share,
            Load::L1 | Load::L2 | Load::L3 => Self::Cpu,
            Load::M => Self::Growth,
        }
    }
}

/// With whom everybody is compared.
const PEER: &str = "s6-log";
const LIMIT: &str = "splice limit";

type Samples = BTreeMap<Figure, Vec<Sample>>;

/// All samples of all rounds.
#[derive(Debug)]
pub(super) struct Sheet {
    seed: u64,
    by: BTreeMap<Load, BTreeMap<String, Samples>>,
    verified: Vec<String>,
}

impl Sheet {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, by: BTreeMap::new(), verified: Vec::new() }
    }

    pub(super) fn note(&mut self, load: Load, who: &str, figure: Figure, value: f64) {
        let by = self.by.entry(load).or_default().entry(who.to_owned()).or_default();
        by.entry(figure).or_default().push(Sample::now(value));
    }

    /// What a comparison of bytes came to.
    pub(super) fn verified(&mut self, line: String) {
        self.verified.push(line);
    }

    /// Everything, for programs.
    pub(super) fn json(&self) -> Value {
        let loads = self.by.iter().map(|(load, by)| {
            let who = |samples: &Samples| {
                let figures =
                    samples.iter().map(|(figure, it)| (figure.title(), Summary::of(it).json(it)));
                figures.collect::<BTreeMap<_, _>>()
            };
            let by: BTreeMap<_, _> = by.iter().map(|(name, it)| (name, who(it))).collect();
            json!({ "load": load.name(), "what": load.what(), "by": by })
        });
        let loads: Vec<_> = loads.collect();
        json!({ "seed": self.seed, "loads": loads, "verified": self.verified })
    }

    /// A table for each load, for people.
    pub(super) fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        for (load, by) in &self.by {
            writeln!(out, "\n{}: {}", load.name(), load.what())?;
            let shown: Vec<_> = Figure::ALL
                .into_iter()
                .filter(|figure| by.values().any(|it| it.contains_key(figure)))
                .collect();
            let titles = shown.iter().map(|it| format!("{:>30}", it.title()));
            let titles: String = titles.collect();
            writeln!(
                out,
                "{:24}{titles}{:>12}{:>13}{:>6}",
                "", "s6-log / it", "it / splice", "load"
            )?;
            for (name, samples) in by {
                let cells: String = shown.iter().map(|it| cell(samples.get(it))).collect();
                let main = Figure::of(*load);
                let ours = samples.get(&main);
                let peer = by.get(PEER).and_then(|it| it.get(&main));
                let limit = by.get(LIMIT).and_then(|it| it.get(&main));
                let [peer, limit] = [ratio(peer, ours), ratio(ours, limit)];
                let busy = ours.map_or(f64::NAN, |it| Summary::of(it).load);
                writeln!(out, "{name:24}{cells}{peer:>12}{limit:>13}{busy:>6.1}")?;
            }
        }
        writeln!(out)?;
        self.verified.iter().try_for_each(|line| writeln!(out, "{line}"))
    }
}

fn cell(samples: Option<&Vec<Sample>>) -> String {
    let Some(samples) = samples else { return format!("{:>30}", "—") };
    let Summary { median, least, most, .. } = Summary::of(samples);
    let range = format!("({}–{})", rounded(least), rounded(most));
    format!("{:>12} {range:<17}", rounded(median))
}

/// The median of the ratios of the same rounds: what slows a round down slows both.
fn ratio(above: Option<&Vec<Sample>>, below: Option<&Vec<Sample>>) -> String {
    let (Some(above), Some(below)) = (above, below) else { return "—".to_owned() };
    let ratios = above.iter().zip(below).map(|(a, b)| Sample { value: a.value / b.value, ..*a });
    rounded(Summary::of(&ratios.collect::<Vec<_>>()).median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_each_round() {
        let mut sheet = Sheet::new(7);
        for (theirs, ours) in [(4.0, 1.0), (80.0, 10.0), (6.0, 1.0)] {
            sheet.note(Load::L2, "s6-log", Figure::Cpu, theirs);
            sheet.note(Load::L2, "bunpilot", Figure::Cpu, ours);
        }
        let mut table = Vec::new();
        sheet.write(&mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        let ours = table.lines().find(|it| it.starts_with("bunpilot")).unwrap();
        assert_eq!(ours.split_whitespace().nth(1), Some("1.00"));
        assert_eq!(ours.split_whitespace().nth(3), Some("6.00"));
        let json = sheet.json();
        assert_eq!(json.pointer("/loads/0/by/s6-log/logger s~1GB/median"), Some(&json!(6.0)));
    }
}
