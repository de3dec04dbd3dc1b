//! Writes lines, each under the label of its worker.

use std::io::{BufWriter, Write};

use anstyle::{AnsiColor, Style};

use crate::logs::Stream;

use super::{Label, LogsError, Source};

/// Output collected before it is written.
const BUFFER_BYTES: usize = 64 << 10;

/// Colours of labels; red is kept for standard error.
const COLOURS: [AnsiColor; 10] = [
    AnsiColor::Cyan,
    AnsiColor::Green,
    AnsiColor::Yellow,
    AnsiColor::Blue,
    AnsiColor::Magenta,
    AnsiColor::BrightCyan,
    AnsiColor::BrightGreen,
    AnsiColor::BrightYellow,
    AnsiColor::BrightBlue,
    AnsiColor::BrightMagenta,
];

/// The way out.
pub(super) struct Printer<'a> {
    out: BufWriter<&'a mut dyn Write>,
    notes: &'a mut dyn Write,
    label: Label,
    width: usize,
}

impl<'a> Printer<'a> {
    pub(super) fn new(out: &'a mut dyn Write, notes: &'a mut dyn Write, label: Label) -> Self {
        Self { out: BufWriter::with_capacity(BUFFER_BYTES, out), notes, label, width: 0 }
    }

    /// Makes labels from now on as wide as `label` needs.
    pub(super) fn make_room(&mut self, label: &str) {
        self.width = self.width.max(label.chars().count());
    }

    /// Prints one line, or the unfinished last one; nothing if it is empty.
    pub(super) fn print(&mut self, source: &Source, line: &[u8]) -> Result<(), LogsError> {
        if line.is_empty() {
            return Ok(());
        }
        if self.label == Label::Hidden {
            return self.print_raw(line);
        }
        let mut text = prefix(source, self.width, self.label).into_bytes();
        text.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            text.push(b'\n');
        }
        self.print_raw(&text)
    }

    /// Prints bytes as they are.
    pub(super) fn print_raw(&mut self, bytes: &[u8]) -> Result<(), LogsError> {
        self.out.write_all(bytes).map_err(LogsError::Write)
    }

    /// Remarks on a source, beside the lines.
    pub(super) fn note(&mut self, source: &Source, remark: &str) -> Result<(), LogsError> {
        self.flush()?;
        let Source { label, stream, .. } = source;
        writeln!(self.notes, "{label} ({stream}): {remark}").map_err(LogsError::Write)
    }

    pub(super) fn flush(&mut self) -> Result<(), LogsError> {
        self.out.flush().map_err(LogsError::Write)
    }
}

fn prefix(source: &Source, width: usize, label: Label) -> String {
    let plain = crate::logs::query::prefix(&source.label, width);
    if label != Label::Coloured {
        return plain;
    }
    let colour = match source.stream {
        Stream::Out => colour_of(&source.label),
        Stream::Err => AnsiColor::Red,
    };
    let style = Style::new().fg_color(Some(colour.into()));
    format!("{style}{plain}{style:#}")
}

/// The same label has the same colour in every run.
fn colour_of(label: &str) -> AnsiColor {
    let sum = label.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31) + usize::from(byte));
    COLOURS[sum % COLOURS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(label: Label, stream: Stream, line: &[u8], expected: &str) {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let mut printer = Printer::new(&mut out, &mut notes, label);
        printer.make_room("worker:10");
        let source = Source { label: "api:0".into(), stream, path: "x".into() };
        printer.print(&source, line).unwrap();
        printer.flush().unwrap();
        drop(printer);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn lines_stand_under_their_label() {
        check(Label::Plain, Stream::Out, b"hello\n", "api:0     │ hello\n");
        check(Label::Plain, Stream::Err, b"\n", "api:0     │ \n");
        check(Label::Plain, Stream::Out, b"no end", "api:0     │ no end\n");
        check(Label::Plain, Stream::Out, b"", "");
        check(Label::Hidden, Stream::Out, b"no end", "no end");
        let red = "\u{1b}[31mapi:0     │ \u{1b}[0mhello\n";
        check(Label::Coloured, Stream::Err, b"hello\n", red);
    }
}
