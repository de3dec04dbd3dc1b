//! What is wrong with a configuration, and how to say it so that the place is seen at once.
//!
//! A [`Fault`] points into a value, a [`Problem`] into the user's file. Decides only words and
//! spans, never whether something is wrong.

use std::{fmt, io, ops::Range, path::Path, sync::Arc};

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError,
    MietteSpanContents, SourceCode, SourceSpan, SpanContents,
};

/// One step into a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// Into a map, by key.
    Key(String),
    /// Into a list, by position.
    Index(usize),
}

impl From<&str> for Segment {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Segment {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// Which part of an entry is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Its key.
    Key,
    /// Its value, or its absence.
    Value,
}

/// Something wrong at one place of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The place.
    pub path: Vec<Segment>,
    /// The part of it.
    pub aim: Aim,
    /// What is wrong, with the key's name.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.help.iter().try_for_each(|help| write!(f, " ({help})"))
    }
}

impl std::error::Error for Fault {}

/// A text that a [`Problem`] quotes: a file of the user.
#[derive(Clone, Debug)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
}

impl Source {
    /// Names a text after its file.
    #[must_use]
    pub fn new(file: &Path, text: &str) -> Self {
        Self { name: file.to_string_lossy().into(), text: text.into() }
    }

    /// The text itself.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The byte at which the given line and column stand, both counted from 0, the column in
    /// characters.
    #[must_use]
    pub fn offset(&self, line: usize, column: usize) -> usize {
        let start: usize = self.text.split_inclusive('\n').take(line).map(str::len).sum();
        let rest = self.text.get(start..).unwrap_or_default();
        rest.char_indices().nth(column).map_or(self.text.len(), |(at, _)| start + at)
    }

    /// The rest of the word or of the line that begins at `offset`.
    #[must_use]
    pub fn word(&self, offset: usize) -> Range<usize> {
        let rest = self.text.get(offset..).unwrap_or_default();
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        offset..offset + end.max(1).min(rest.len())
    }

    /// What threw at `offset`: the whole `throw`, of which engines name any part, or a word.
    pub(super) fn culprit(&self, offset: usize) -> Range<usize> {
        let before = self.text.get(..offset).unwrap_or_default();
        let line = before.rfind('\n').map_or(0, |newline| newline + 1);
        match self.text.get(line..offset).and_then(|text| text.rfind("throw ")) {
            Some(throw) => {
                let rest = self.text.get(line + throw..).unwrap_or_default();
                let length = rest.lines().next().unwrap_or_default().trim_end().len();
                line + throw..line + throw + length
            }
            None => self.word(offset),
        }
    }
}

impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let read = self.text.read_span(span, lines_before, lines_after)?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.to_string(),
            read.data(),
            *read.span(),
            read.line(),
            read.column(),
            read.line_count(),
        )))
    }
}

/// Something wrong in a file, ready to be shown.
#[derive(Clone, Debug)]
pub struct Problem {
    message: String,
    help: Option<String>,
    place: Option<(Source, Range<usize>)>,
}

impl Problem {
    /// Says that something is wrong, as yet nowhere.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, place: None }
    }

    /// Says that a text cannot be parsed, in a parser's words.
    pub(super) fn syntax(words: &str) -> Self {
        let words = words.trim();
        let mut rest = words.chars();
        let first = rest.next().map(|first| first.to_lowercase().to_string()).unwrap_or_default();
        let rest = rest.as_str();
        // `EOF` is a name, not the beginning of a sentence.
        if rest.starts_with(char::is_uppercase) {
            return Self::new(format!("cannot parse this: {words}"));
        }
        Self::new(format!("cannot parse this: {first}{rest}"))
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Underlines a part of `source`: of its first line only, so that a large value stays a small
    /// picture.
    #[must_use]
    pub fn at(mut self, source: &Source, span: Range<usize>) -> Self {
        let text = source.text.get(span.clone()).unwrap_or_default();
        let length = text.lines().next().unwrap_or_default().trim_end().len();
        self.place = Some((source.clone(), span.start..span.start + length));
        self
    }

    /// Where its picture begins, for sorting.
    pub(super) fn start(&self) -> usize {
        self.place.as_ref().map_or(0, |(_, span)| span.start)
    }

    /// The message without its picture.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What is wrong and what to do, without the place.
    #[must_use]
    pub fn line(&self) -> String {
        match &self.help {
            Some(help) => format!("{}; {help}", self.message),
            None => self.message.clone(),
        }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self { message: fault.message, help: fault.help, place: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.help.as_ref()?;
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        let (source, _) = self.place.as_ref()?;
        Some(source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (_, span) = self.place.as_ref()?;
        Some(Box::new(std::iter::once(LabeledSpan::underline(span.clone()))))
    }
}

/// All that is wrong with a configuration.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl From<Problem> for Rejected {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl From<Vec<Fault>> for Rejected {
    fn from(faults: Vec<Fault>) -> Self {
        Self { problems: faults.into_iter().map(Problem::from).collect() }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let messages: Vec<_> = self.problems.iter().map(Problem::message).collect();
        f.write_str(&messages.join("; "))
    }
}

impl std::error::Error for Rejected {}

/// How a report looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Drawn with lines and colours, for a terminal.
    Colour,
    /// Plain ASCII, for pipes, files and `NO_COLOR`.
    Plain,
}

impl Rejected {
    /// Writes every problem, each with its picture.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write(&self, out: &mut dyn io::Write, look: Look) -> io::Result<()> {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            write_problem(problem, out, look)?;
        }
        Ok(())
    }
}

/// Writes one problem with its picture.
///
/// # Errors
///
/// Those of `out`.
pub fn write_problem(problem: &Problem, out: &mut dyn io::Write, look: Look) -> io::Result<()> {
    let theme = match look {
        Look::Colour => GraphicalTheme::unicode(),
        Look::Plain => GraphicalTheme::none(),
    };
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(100);
    handler.render_report(&mut text, problem).map_err(io::Error::other)?;
    writeln!(out, "{}", text.trim_end())
}
