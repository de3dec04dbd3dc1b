//! Tables of figures: a section for each thing that was tried, a row for each who tried it.

use std::{collections::BTreeMap, io};

use serde_json::{Value, json};

use super::summary::{Sample, Summary, rounded};

/// What is measured, in the order of the columns.
pub(super) trait Figure: Copy + Ord + 'static {
    const ALL: &'static [Self];

    /// Its name, and its unit.
    fn title(self) -> &'static str;
}

/// All samples of all rounds. Sections and rows stand in the order they came.
#[derive(Debug)]
pub(super) struct Grid<F> {
    sections: Vec<(String, Rows<F>)>,
}

type Rows<F> = Vec<(String, Row<F>)>;

#[derive(Debug)]
struct Row<F> {
    samples: BTreeMap<F, Vec<Sample>>,
    /// Things that were counted, over all rounds.
    counts: BTreeMap<String, u64>,
}

impl<F: Figure> Grid<F> {
    pub(super) fn new() -> Self {
        Self { sections: Vec::new() }
    }

    pub(super) fn note(&mut self, section: &str, who: &str, figure: F, value: f64) {
        let samples = &mut self.row(section, who).samples;
        samples.entry(figure).or_default().push(Sample::now(value));
    }

    pub(super) fn count(&mut self, section: &str, who: &str, what: &str, more: u64) {
        *self.row(section, who).counts.entry(what.to_owned()).or_default() += more;
    }

    fn row(&mut self, section: &str, who: &str) -> &mut Row<F> {
        let rows = entry(&mut self.sections, section, Vec::new);
        entry(rows, who, || Row { samples: BTreeMap::new(), counts: BTreeMap::new() })
    }

    /// Everything, for programs.
    pub(super) fn json(&self) -> Value {
        let row = |(who, row): &(String, Row<F>)| {
            let samples = row.samples.iter();
            let figures = samples.map(|(figure, it)| (figure.title(), Summary::of(it).json(it)));
            let figures: BTreeMap<_, _> = figures.collect();
            json!({ "who": who, "figures": figures, "counts": row.counts })
        };
        let section = |(what, rows): &(String, Vec<_>)| json!({ "what": what, "rows": rows.iter().map(row).collect::<Vec<_>>() });
        self.sections.iter().map(section).collect()
    }

    /// Everything, for people: median and range of each, what was counted, and the load.
    pub(super) fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        for (what, rows) in &self.sections {
            writeln!(out, "\n{what}")?;
            let measured = |figure: &&F| rows.iter().any(|(_, it)| it.samples.contains_key(figure));
            let shown: Vec<_> = F::ALL.iter().filter(measured).collect();
            let titles = shown.iter().map(|it| format!("{:>24}", it.title()));
            let titles = titles.collect::<Vec<_>>().concat();
            writeln!(out, "{:36}{titles}{:>6}  counted in all rounds", "", "load")?;
            for (who, row) in rows {
                let cells: String = shown.iter().map(|it| cell(row.samples.get(it))).collect();
                let all: Vec<_> = row.samples.values().flatten().copied().collect();
                let counts = row.counts.iter().map(|(what, count)| format!("{what} {count}"));
                let counts = counts.collect::<Vec<_>>().join(", ");
                writeln!(out, "{who:36}{cells}{:>6.1}  {counts}", Summary::of(&all).load)?;
            }
        }
        Ok(())
    }
}

fn entry<'a, T>(all: &'a mut Vec<(String, T)>, name: &str, make: impl FnOnce() -> T) -> &'a mut T {
    let place = all.iter().position(|(it, _)| it == name).unwrap_or_else(|| {
        all.push((name.to_owned(), make()));
        all.len() - 1
    });
    &mut all[place].1
}

fn cell(samples: Option<&Vec<Sample>>) -> String {
    let Some(samples) = samples else { return format!("{:>24}", "—") };
    let Summary { median, least, most, .. } = Summary::of(samples);
    let mut text = number(median);
    if least < most {
        text = format!("{text} ({}–{})", number(least), number(most));
    }
    format!("{text:>24}")
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { rounded(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Taste {
        Sweet,
        Sour,
    }

    impl Figure for Taste {
        const ALL: &'static [Self] = &[Self::Sweet, Self::Sour];

        fn title(self) -> &'static str {
            match self {
                Self::Sweet => "sweet %",
                Self::Sour => "sour %",
            }
        }
    }

    #[test]
    fn rows_stand_in_the_order_they_came() {
        let mut grid = Grid::new();
        for value in [3.0, 1.0, 2.0] {
            grid.note("fruit", "plum", Taste::Sweet, value);
            grid.note("fruit", "lime", Taste::Sweet, value / 10.0);
            grid.count("fruit", "plum", "stones", 1);
        }
        let mut table = Vec::new();
        grid.write(&mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let rows: Vec<_> = table.lines().skip(3).map(words).collect();
        assert_eq!(rows[0][..3], ["plum", "2", "(1–3)"]);
        assert!(rows[0].ends_with(&["stones".to_owned(), "3".to_owned()]));
        assert_eq!(rows[1][0], "lime");
        assert!(!table.contains("sour"));
        assert_eq!(grid.json().pointer("/0/rows/0/figures/sweet %/median"), Some(&json!(2.0)));
        assert_eq!(grid.json().pointer("/0/rows/0/counts/stones"), Some(&json!(3)));
    }
}
