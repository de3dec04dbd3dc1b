//! Writes lines, each under the label of its worker.

use std::{borrow::Cow, io::Write};

use anstyle::{AnsiColor, Style};
use memchr::memchr;

use crate::logs::{
    Stream,
    files::Writer,
    line::{Form, Record},
    sieve::Pattern,
    stamp::Face,
};

use super::{LogsError, Shown, Source, lines::Line};

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

/// What a match is shown in.
const HIGHLIGHT: Style = Style::new().bold().invert();

/// What is shown of a line.
#[derive(Clone, Debug)]
pub enum Shape {
    /// What the app wrote, after what is asked for.
    Text(Text),
    /// Every byte as it stands in the file, and nothing else.
    Raw,
    /// A JSON object: `time` (`null` if it was not kept), `app`, `worker` (`null` if workers share
    /// the file), `generation` (where it is known), `stream`, `message`.
    Json,
}

/// How lines are shown to people.
#[derive(Clone, Debug)]
pub struct Text {
    /// Whether lines are labelled.
    pub label: Label,
    /// Whether colours are seen; those of apps, too.
    pub colour: Colour,
    /// How the time before each line looks; `None`: without one.
    pub face: Option<Face>,
    /// What is made to stand out.
    pub highlight: Option<Pattern>,
}

/// Whether lines are labelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Label {
    /// With `app:worker │ `, or `┃` for standard error.
    #[default]
    Shown,
    /// Not at all.
    Hidden,
}

/// Whether colours are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// No, and those an app wrote are taken out.
    #[default]
    Never,
    /// Yes.
    Always,
}

/// The way out.
pub(super) struct Printer<'a> {
    out: &'a mut dyn Write,
    buffer: Vec<u8>,
    notes: &'a mut dyn Write,
    shape: Shape,
    width: usize,
    utc: Face,
    shown: Shown,
}

impl<'a> Printer<'a> {
    pub(super) fn new(out: &'a mut dyn Write, notes: &'a mut dyn Write, shape: Shape) -> Self {
        let buffer = Vec::with_capacity(2 * BUFFER_BYTES);
        Self { out, buffer, notes, shape, width: 0, utc: Face::utc(), shown: Shown::Nothing }
    }

    /// Makes labels from now on as wide as `label` needs.
    pub(super) fn make_room(&mut self, label: &str) {
        self.width = self.width.max(label.chars().count());
    }

    /// Whether anything was printed.
    pub(super) fn shown(&self) -> Shown {
        self.shown
    }

    /// Prints one line.
    pub(super) fn print(&mut self, source: &Source, line: Line<'_>) -> Result<(), LogsError> {
        self.shown = Shown::Lines;
        match &mut self.shape {
            Shape::Raw => self.buffer.extend_from_slice(line.bytes),
            Shape::Text(text) => text.write(source, self.width, line, &mut self.buffer),
            Shape::Json => json(source, line, &mut self.utc, &mut self.buffer),
        }
        if self.buffer.len() < BUFFER_BYTES { Ok(()) } else { self.flush() }
    }

    /// Prints bytes as they are.
    pub(super) fn print_raw(&mut self, bytes: &[u8]) -> Result<(), LogsError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < BUFFER_BYTES { Ok(()) } else { self.flush() }
    }

    /// Remarks on a source, beside the lines.
    pub(super) fn note(&mut self, source: &Source, remark: &str) -> Result<(), LogsError> {
        self.flush()?;
        let (label, stream) = (source.label(), source.stream);
        writeln!(self.notes, "{label} ({stream}): {remark}").map_err(LogsError::Write)
    }

    pub(super) fn flush(&mut self) -> Result<(), LogsError> {
        let written = self.out.write_all(&self.buffer).and_then(|()| self.out.flush());
        self.buffer.clear();
        self.buffer.shrink_to(2 * BUFFER_BYTES);
        written.map_err(LogsError::Write)
    }
}

impl Text {
    fn write(&mut self, source: &Source, width: usize, line: Line<'_>, out: &mut Vec<u8>) {
        let form = line.form();
        if let Some(face) = &mut self.face {
            match line.when.known() {
                Some(at) => face.write(at, out),
                None => face.write_unknown(out),
            }
            out.push(b' ');
        }
        if self.label == Label::Shown {
            self.prefix(source, width, form, out);
        }
        match form {
            // The time stands before the label already.
            Form::Stamped { text, .. } if self.face.is_some() => self.body(text, out),
            Form::Bare | Form::Stamped { .. } => self.body(line.text(), out),
            Form::Record(record) => self.body(&record.message(), out),
        }
        out.push(b'\n');
    }

    fn prefix(&self, source: &Source, width: usize, form: Form<'_>, out: &mut Vec<u8>) {
        let label = match form {
            Form::Record(Record { worker, .. }) if source.writer == Writer::Every => {
                Cow::Owned(format!("{}:{worker}", source.app))
            }
            Form::Record(_) | Form::Bare | Form::Stamped { .. } => source.label(),
        };
        let (label, bar) = match (self.colour, source.stream) {
            (Colour::Never, Stream::Out) => (format!("{label:width$}"), "│".to_owned()),
            (Colour::Never, Stream::Err) => (format!("{label:width$}"), "┃".to_owned()),
            (Colour::Always, stream) => {
                let style = Style::new().fg_color(Some(colour_of(&label).into()));
                let red = AnsiColor::Red.on_default();
                let bar = match stream {
                    Stream::Out => format!("{style}│{style:#}"),
                    Stream::Err => format!("{red}┃{red:#}"),
                };
                (format!("{style}{label:width$}{style:#}"), bar)
            }
        };
        out.extend_from_slice(label.as_bytes());
        out.push(b' ');
        out.extend_from_slice(bar.as_bytes());
        out.push(b' ');
    }

    fn body(&self, text: &[u8], out: &mut Vec<u8>) {
        let mut text = Cow::Borrowed(text);
        let coloured = memchr(0x1b, &text).is_some();
        if coloured && (self.colour == Colour::Never || self.highlight.is_some()) {
            text = Cow::Owned(anstream::adapter::strip_bytes(&text).into_vec());
        }
        let mut shown = 0;
        if let (Colour::Always, Some(pattern)) = (self.colour, &self.highlight) {
            for range in pattern.matches(&text) {
                out.extend_from_slice(&text[shown..range.start]);
                out.extend_from_slice(HIGHLIGHT.render().to_string().as_bytes());
                out.extend_from_slice(&text[range.clone()]);
                out.extend_from_slice(HIGHLIGHT.render_reset().to_string().as_bytes());
                shown = range.end;
            }
        }
        out.extend_from_slice(&text[shown..]);
    }
}

/// The same label has the same colour in every run.
fn colour_of(label: &str) -> AnsiColor {
    let sum = label.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31) + usize::from(byte));
    COLOURS[sum % COLOURS.len()]
}

fn json(source: &Source, line: Line<'_>, face: &mut Face, out: &mut Vec<u8>) {
    let form = line.form();
    // It is what is asked for already.
    if let Form::Record(record) = form {
        out.extend_from_slice(line.text());
        out.extend_from_slice(if record.is_open { b"\"}\n" } else { b"\n" });
        return;
    }
    out.extend_from_slice(b"{\"time\":");
    match line.when.known() {
        Some(at) => {
            out.push(b'"');
            face.write(at, out);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"app\":");
    string(&source.app, out);
    out.extend_from_slice(b",\"worker\":");
    match source.writer {
        Writer::Place(worker) => out.extend_from_slice(worker.to_string().as_bytes()),
        Writer::Every => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"stream\":\"");
    out.extend_from_slice(source.stream.name().as_bytes());
    out.extend_from_slice(b"\",\"message\":");
    let text = match form {
        Form::Stamped { text, .. } => text,
        Form::Bare | Form::Record(_) => line.text(),
    };
    string(&String::from_utf8_lossy(text), out);
    out.extend_from_slice(b"}\n");
}

fn string(text: &str, out: &mut Vec<u8>) {
    // A vector takes everything.
    let _written = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::logs::lines::When, logs::sieve::Case};

    const AT: When = When::At(1_795_534_880_123_000);
    const STAMPED: &[u8] = b"2026-11-24T15:41:20.123Z hello\n";
    const RECORD: &[u8] = b"{\"time\":\"2026-11-24T15:41:20.123Z\",\"app\":\"api\",\"worker\":3,\
        \"generation\":2,\"stream\":\"out\",\"message\":\"hello\"}\n";

    fn source(worker: Option<u16>, stream: Stream) -> Source {
        let writer = worker.map_or(Writer::Every, Writer::Place);
        Source::of("api", writer, stream, "x".into())
    }

    fn text(label: Label, colour: Colour, face: Option<Face>, highlight: Option<&str>) -> Shape {
        let pattern = |it: &str| Pattern::any_of(&[it.to_owned()], Case::Smart).unwrap();
        Shape::Text(Text { label, colour, face, highlight: highlight.map(pattern) })
    }

    #[track_caller]
    fn check(shape: &Shape, source: &Source, bytes: &[u8], when: When, expected: &str) {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let mut printer = Printer::new(&mut out, &mut notes, shape.clone());
        printer.make_room("worker:10");
        printer.print(source, Line { bytes, when, formed: true }).unwrap();
        printer.flush().unwrap();
        drop(printer);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn lines_stand_under_their_label() {
        let (out, err) = (source(Some(0), Stream::Out), source(Some(0), Stream::Err));
        let plain = text(Label::Shown, Colour::Never, None, None);
        check(&plain, &out, b"hello\n", AT, "api:0     │ hello\n");
        check(&plain, &err, b"\n", AT, "api:0     ┃ \n");
        check(&plain, &out, b"no end", AT, "api:0     │ no end\n");
        check(&plain, &out, b"\x1b[31mred\x1b[0m\n", AT, "api:0     │ red\n");
        check(&plain, &source(None, Stream::Out), b"x\n", AT, "api       │ x\n");
        check(&plain, &source(None, Stream::Out), RECORD, AT, "api:3     │ hello\n");
        check(&plain, &out, STAMPED, AT, "api:0     │ 2026-11-24T15:41:20.123Z hello\n");
        let bare = text(Label::Hidden, Colour::Never, None, None);
        check(&bare, &out, b"no end", AT, "no end\n");
    }

    #[test]
    fn colours_tell_workers_and_matches_apart() {
        let (out, err) = (source(Some(0), Stream::Out), source(Some(0), Stream::Err));
        let coloured = text(Label::Shown, Colour::Always, None, None);
        let cyan = "\u{1b}[36mapi:0    \u{1b}[0m";
        let (bar, red) = ("\u{1b}[36m│\u{1b}[0m", "\u{1b}[31m┃\u{1b}[0m");
        let own = "\u{1b}[34mblue\u{1b}[0m";
        let line = format!("{own}\n");
        check(&coloured, &out, line.as_bytes(), AT, &format!("{cyan} {bar} {own}\n"));
        check(&coloured, &err, b"x\n", AT, &format!("{cyan} {red} x\n"));
        let found = text(Label::Hidden, Colour::Always, None, Some("l+"));
        check(
            &found,
            &out,
            b"hello l\n",
            AT,
            "he\u{1b}[1m\u{1b}[7mll\u{1b}[0mo \u{1b}[1m\u{1b}[7ml\u{1b}[0m\n",
        );
        let unseen = text(Label::Hidden, Colour::Never, None, Some("l+"));
        check(&unseen, &out, b"hello\n", AT, "hello\n");
    }

    #[test]
    fn times_stand_once() {
        let out = source(Some(0), Stream::Out);
        let timed = text(Label::Shown, Colour::Never, Some(Face::utc()), None);
        let expected = "2026-11-24T15:41:20.123Z api:0     │ hello\n";
        for line in [&b"hello\n"[..], STAMPED, RECORD] {
            check(&timed, &out, line, AT, expected);
        }
        let unknown = "-                        api:0     │ hello\n";
        check(&timed, &out, b"hello\n", When::NotAfter(5), unknown);
        for line in [&b"hello\n"[..], b"no end", STAMPED, RECORD, b"\x1b[1m\xff\n"] {
            let (mut raw, mut notes) = (Vec::new(), Vec::new());
            let mut printer = Printer::new(&mut raw, &mut notes, Shape::Raw);
            printer.print(&out, Line { bytes: line, when: AT, formed: true }).unwrap();
            printer.flush().unwrap();
            drop(printer);
            assert_eq!(raw, line);
        }
    }

    #[test]
    fn every_line_is_an_object() {
        let (one, shared) = (source(Some(3), Stream::Err), source(None, Stream::Out));
        let start = "{\"time\":\"2026-11-24T15:41:20.123Z\",\"app\":\"api\",";
        let err = format!("{start}\"worker\":3,\"stream\":\"err\",\"message\":\"hello\"}}\n");
        check(&Shape::Json, &one, b"hello\n", AT, &err);
        check(&Shape::Json, &one, STAMPED, AT, &err);
        check(&Shape::Json, &one, RECORD, AT, std::str::from_utf8(RECORD).unwrap());
        let odd = "{\"time\":null,\"app\":\"api\",\"worker\":null,\"stream\":\"out\",\
            \"message\":\"\\\"\\t\u{fffd}\"}\n";
        check(&Shape::Json, &shared, b"\"\t\xff", When::NotAfter(5), odd);
    }
}
