//! The figures, their samples, and how they are shown.

use std::{collections::BTreeMap, io};

use serde_json::json;

use super::summary::{Sample, Summary, rounded};
use crate::shell::Failure;

/// What is measured, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Figure {
    IdleList,
    List,
    LateList,
    IdleRss,
    IdlePss,
    IdleDirty,
    Rss,
    Pss,
    Dirty,
    IdleCpu,
    Wakeups,
    StartSpawned,
    StartCommand,
    Respawn,
}

impl Figure {
    /// What it is, its unit, and what we aim at.
    fn facts(self) -> (&'static str, &'static str, Option<f64>) {
        match self {
            Self::IdleList => ("list, no app", "ms", Some(2.0)),
            Self::List => ("list, 100 workers", "ms", Some(2.0)),
            Self::LateList => ("list, 100 workers measured anew", "ms", None),
            Self::IdleRss => ("RSS, no app", "MiB", None),
            Self::IdlePss => ("PSS, no app", "MiB", None),
            Self::IdleDirty => ("private dirty, no app", "MiB", None),
            Self::Rss => ("RSS, 100 workers", "MiB", Some(12.0)),
            Self::Pss => ("PSS, 100 workers", "MiB", None),
            Self::Dirty => ("private dirty, 100 workers", "MiB", None),
            Self::IdleCpu => ("idle CPU, 100 workers", "%", Some(0.02)),
            Self::Wakeups => ("wake-ups, 100 workers", "1/s", None),
            Self::StartSpawned => ("start 100, last one forked", "ms", Some(400.0)),
            Self::StartCommand => ("start 100, command ended", "ms", None),
            Self::Respawn => ("kill -9 to running again", "ms", Some(5.0)),
        }
    }
}

/// All samples of all rounds.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    samples: BTreeMap<Figure, BTreeMap<&'static str, Vec<Sample>>>,
}

impl Sheet {
    pub(super) fn note(&mut self, figure: Figure, who: &'static str, value: f64) {
        self.samples.entry(figure).or_default().entry(who).or_default().push(Sample::now(value));
    }

    /// Everything, for programs.
    pub(super) fn json(&self) -> String {
        let figures = self.samples.iter().map(|(figure, by)| {
            let (name, unit, aim) = figure.facts();
            let by: BTreeMap<_, _> =
                by.iter().map(|(who, it)| (*who, Summary::of(it).json(it))).collect();
            json!({ "figure": name, "unit": unit, "aim": aim, "by": by })
        });
        let figures: Vec<_> = figures.collect();
        format!("{:#}\n", json!({ "figures": figures }))
    }

    /// Everything, for people: median, range and load of each.
    pub(super) fn print(&self) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        self.write(&mut out).map_err(|source| {
            let path = "standard output".into();
            Failure::File { what: "write to", path, source }
        })
    }

    fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        let title =
            ["figure", "aim", "bunpilot", "(range) load", "pm2", "(range) load", "pm2 / us"];
        row(out, title.map(str::to_owned))?;
        for (figure, by) in &self.samples {
            let (name, unit, aim) = figure.facts();
            let [ours, theirs] =
                ["bunpilot", "pm2"].map(|who| by.get(who).map(|it| Summary::of(it)));
            let aim = aim.map(|it| format!("≤ {it}")).unwrap_or_default();
            let ratio = match (&ours, &theirs) {
                (Some(ours), Some(theirs)) if ours.median > 0.0 => {
                    format!("{:.1}", theirs.median / ours.median)
                }
                (Some(_) | None, Some(_) | None) => String::new(),
            };
            let [value, range] = shown(ours.as_ref());
            let [their_value, their_range] = shown(theirs.as_ref());
            row(
                out,
                [format!("{name} [{unit}]"), aim, value, range, their_value, their_range, ratio],
            )?;
        }
        Ok(())
    }
}

fn row(out: &mut impl io::Write, cells: [String; 7]) -> io::Result<()> {
    let [name, aim, ours, our_range, theirs, their_range, ratio] = cells;
    writeln!(
        out,
        "{name:38} {aim:>7} {ours:>9} {our_range:24} {theirs:>9} {their_range:26} {ratio:>8}"
    )
}

fn shown(summary: Option<&Summary>) -> [String; 2] {
    let Some(Summary { median, least, most, load }) = summary else {
        return ["—".to_owned(), String::new()];
    };
    [rounded(*median), format!("({}–{}) {load:.1}", rounded(*least), rounded(*most))]
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_table_compares_both() {
        let mut sheet = Sheet::default();
        for value in [3.0, 1.0, 2.0] {
            sheet.note(Figure::Respawn, "bunpilot", value);
            sheet.note(Figure::Respawn, "pm2", value * 50.0);
        }
        let mut table = Vec::new();
        sheet.write(&mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        let words: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words[..9], ["kill", "-9", "to", "running", "again", "[ms]", "≤", "5", "2.00"]);
        assert_eq!(words.last(), Some(&"50.0"));
        let json: Value = serde_json::from_str(&sheet.json()).unwrap();
        assert_eq!(json.pointer("/figures/0/by/pm2/median"), Some(&json!(100.0)));
    }
}
