//! Tables that fit: on a terminal columns fall away, least needed first, instead of wrapping; in
//! a pipe all of them stay, as tab-separated raw values under a line of names.

use std::io::Write;

use anstyle::Style;

use super::{
    failure::Outcome,
    output::{Out, Screen, style},
};

/// One column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Its title on a terminal.
    pub(crate) title: &'static str,
    /// Its name in a pipe: one word, unit last.
    pub(crate) name: &'static str,
    /// How much it is needed: the lowest number goes first when room is short.
    pub(crate) need: u8,
}

/// Need of a column that stays whatever happens.
pub(crate) const ALWAYS: u8 = u8::MAX;

/// Need of a column that only a pipe sees.
pub(crate) const PIPE_ONLY: u8 = 0;

/// One value, for both readers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    raw: String,
    style: Style,
}

impl Cell {
    /// The same text for both.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { raw: text.clone(), text, style: style::PLAIN }
    }

    /// `raw` for pipes, `text` for people.
    pub(crate) fn both(raw: &(impl ToString + ?Sized), text: impl Into<String>) -> Self {
        Self { text: text.into(), raw: raw.to_string(), style: style::PLAIN }
    }

    /// A value there may not be: `—` for people, nothing for pipes.
    pub(crate) fn maybe<T: ToString>(value: Option<T>, text: impl FnOnce(&T) -> String) -> Self {
        match value {
            Some(value) => Self::both(&value, text(&value)),
            None => Self::both("", "—"),
        }
    }

    /// In this colour.
    pub(crate) fn styled(self, style: Style) -> Self {
        Self { style, ..self }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// Rows under titles.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: &'static [Column],
    rows: Vec<Vec<Cell>>,
}

const GAP: &str = " │ ";

impl Table {
    /// An empty table.
    pub(crate) const fn new(columns: &'static [Column]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row; cells beyond the last column are not shown.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// Writes it to standard output, in the form the reader wants.
    pub(crate) fn write(&self, out: &mut Out) -> Outcome {
        match out.screen {
            Screen::Terminal(columns, _) => self.draw(columns.into(), out.stdout()),
            Screen::Piped => self.list(out.stdout()),
        }
    }

    fn list(&self, out: &mut dyn Write) -> Outcome {
        let names: Vec<_> = self.columns.iter().map(|it| it.name).collect();
        writeln!(out, "{}", names.join("\t"))?;
        for row in &self.rows {
            let raw: Vec<_> = row.iter().map(|it| it.raw.replace(['\t', '\n'], " ")).collect();
            writeln!(out, "{}", raw.join("\t"))?;
        }
        Ok(())
    }

    /// Draws it no wider than `room`.
    pub(crate) fn draw(&self, room: usize, out: &mut dyn Write) -> Outcome {
        let shown = self.fitting(room);
        let last = shown.last().copied();
        let titles =
            self.columns.iter().map(|it| Cell::new(it.title).styled(style::BOLD)).collect();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let mut left = room;
            for &(index, width) in &shown {
                let cell = row.get(index).cloned().unwrap_or_default();
                let style = cell.style;
                let text = clipped(&cell.text, width.min(left));
                left = left.saturating_sub(width + GAP.chars().count());
                if Some((index, width)) == last {
                    writeln!(out, "{style}{text}{style:#}")?;
                } else {
                    write!(out, "{style}{text:width$}{style:#}{}{GAP}{0:#}", style::DIM)?;
                }
            }
        }
        Ok(())
    }

    /// The columns that fit into `room`, and how wide each is.
    fn fitting(&self, room: usize) -> Vec<(usize, usize)> {
        let mut shown: Vec<(usize, usize)> = (0..self.columns.len())
            .filter(|&index| self.columns.get(index).is_some_and(|it| it.need > PIPE_ONLY))
            .map(|index| (index, self.width(index)))
            .collect();
        while total(&shown) > room {
            let need =
                |&(index, _): &(usize, usize)| self.columns.get(index).map_or(0, |it| it.need);
            let Some(least) = (0..shown.len()).min_by_key(|&at| shown.get(at).map(need)) else {
                break;
            };
            if shown.get(least).map(need) == Some(ALWAYS) {
                break;
            }
            shown.remove(least);
        }
        shown
    }

    fn width(&self, index: usize) -> usize {
        let title = self.columns.get(index).map_or(0, |it| it.title.chars().count());
        let cells = self.rows.iter().filter_map(|row| row.get(index)).map(Cell::width);
        cells.max().unwrap_or(0).max(title)
    }
}

fn total(shown: &[(usize, usize)]) -> usize {
    let gaps = shown.len().saturating_sub(1) * GAP.chars().count();
    shown.iter().map(|(_, width)| width).sum::<usize>() + gaps
}

/// `text`, at most `room` characters of it.
pub(crate) fn clipped(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(room.saturating_sub(1)).collect();
    if room > 0 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::cli::output::{Format, captured};

    const COLUMNS: &[Column] = &[
        Column { title: "NAME", name: "name", need: ALWAYS },
        Column { title: "PID", name: "pid", need: 2 },
        Column { title: "MEM", name: "memory_bytes", need: 3 },
        Column { title: "RAW", name: "raw", need: PIPE_ONLY },
    ];

    #[track_caller]
    fn check(screen: Screen, expected: &Expect) {
        let mut table = Table::new(COLUMNS);
        for (name, pid, bytes) in [("api", Some(17), 2048_u64), ("a-long-name", None, 1)] {
            table.push(vec![
                Cell::new(name),
                Cell::maybe(pid, ToString::to_string),
                Cell::both(&bytes, super::super::format::size(bytes)),
                Cell::new("x\ty"),
            ]);
        }
        let (mut out, paper, _) = captured::out(Format::Human, screen);
        table.write(&mut out).unwrap();
        expected.assert_eq(&paper.text());
    }

    #[test]
    fn columns_fall_away_and_pipes_get_raw_values() {
        check(
            Screen::Terminal(80, 24),
            &expect![[r#"
                NAME        │ PID │ MEM
                api         │ 17  │ 2.0 KB
                a-long-name │ —   │ 1 B
            "#]],
        );
        check(
            Screen::Terminal(22, 24),
            &expect![[r#"
            NAME        │ MEM
            api         │ 2.0 KB
            a-long-name │ 1 B
        "#]],
        );
        check(
            Screen::Terminal(8, 24),
            &expect![[r#"
            NAME
            api
            a-long-…
        "#]],
        );
        check(
            Screen::Piped,
            &expect![[r#"
            name	pid	memory_bytes	raw
            api	17	2048	x y
            a-long-name		1	x y
        "#]],
        );
    }
}
