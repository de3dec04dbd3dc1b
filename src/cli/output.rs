//! Where a command's words go: to a person, to a pipe, or as JSON.

use std::{
    fmt,
    io::{self, BufWriter, IsTerminal as _, Write},
};

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::failure::{Failure, Outcome};
use crate::config::Look;

/// Whom we write for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// People, or their pipes.
    Human,
    /// Programs.
    Json,
}

/// What standard output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Screen {
    /// A terminal of this many columns and rows.
    Terminal(u16, u16),
    /// A pipe or a file.
    Piped,
}

impl Screen {
    /// Looks at standard output.
    pub(crate) fn look() -> Self {
        let stdout = io::stdout();
        if !stdout.is_terminal() {
            return Self::Piped;
        }
        match rustix::termios::tcgetwinsize(&stdout) {
            Ok(size) if size.ws_col > 0 => Self::Terminal(size.ws_col, size.ws_row),
            // A serial line tells no size.
            Ok(_) | Err(_) => Self::Terminal(80, 24),
        }
    }
}

/// Which steps of a long command are told while they happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steps {
    /// Every one: somebody watches.
    All,
    /// Workers that came online or failed: for whoever reads it later.
    Milestones,
}

/// How pictures of faults are drawn on standard error.
pub(crate) fn look() -> Look {
    match anstream::AutoStream::choice(&io::stderr()) {
        ColorChoice::Never => Look::Plain,
        ColorChoice::Auto | ColorChoice::AlwaysAnsi | ColorChoice::Always => Look::Colour,
    }
}

/// The colours we use.
pub(crate) mod style {
    use super::{AnsiColor, Style};

    pub(crate) const PLAIN: Style = Style::new();
    pub(crate) const BOLD: Style = Style::new().bold();
    pub(crate) const DIM: Style = Style::new().dimmed();
    pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
    pub(crate) const BUSY: Style = AnsiColor::Yellow.on_default();
    pub(crate) const BAD: Style = AnsiColor::Red.on_default();
    pub(crate) const NAME: Style = AnsiColor::Cyan.on_default();

    /// The colour of a worker's or an app's state.
    pub(crate) fn of_state(state: &str) -> Style {
        match state {
            "online" | "running" => GOOD,
            "crashed" | "errored" | "failed" => BAD,
            "stopped" => DIM,
            _ => BUSY,
        }
    }
}

/// The two streams of one command.
///
/// Colours are written always; the streams given to [`Out::new`] take them away where nobody
/// wants them (`NO_COLOR`, pipes).
pub(crate) struct Out {
    stdout: Box<dyn Write>,
    stderr: Box<dyn Write>,
    /// Whom we write for.
    pub(crate) format: Format,
    /// What standard output is.
    pub(crate) screen: Screen,
    /// Which steps are told where standard output is no terminal.
    pub(crate) steps: Steps,
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out")
            .field("format", &self.format)
            .field("screen", &self.screen)
            .finish_non_exhaustive()
    }
}

impl Out {
    /// The process's own streams.
    pub(crate) fn standard(format: Format) -> Self {
        // Colours are judged by the raw stream: a buffer hides what is behind it.
        let choice = anstream::AutoStream::choice(&io::stdout());
        let out = anstream::AutoStream::new(BufWriter::new(io::stdout()).into_boxed(), choice);
        let steps = if io::stderr().is_terminal() { Steps::All } else { Steps::Milestones };
        let err = Box::new(anstream::stderr());
        Self { steps, ..Self::new(Box::new(out), err, format, Screen::look()) }
    }

    /// Streams of the caller's.
    pub(crate) fn new(
        out: Box<dyn Write>,
        err: Box<dyn Write>,
        format: Format,
        screen: Screen,
    ) -> Self {
        Self { stdout: out, stderr: err, format, screen, steps: Steps::All }
    }

    /// Standard output.
    pub(crate) fn stdout(&mut self) -> &mut dyn Write {
        &mut *self.stdout
    }

    /// Standard error.
    pub(crate) fn stderr(&mut self) -> &mut dyn Write {
        &mut *self.stderr
    }

    /// Standard output and standard error.
    pub(crate) fn both(&mut self) -> (&mut dyn Write, &mut dyn Write) {
        (&mut *self.stdout, &mut *self.stderr)
    }

    /// Sends on what is buffered.
    pub(crate) fn flush(&mut self) -> Outcome {
        Ok(self.stdout.flush()?)
    }

    /// `[bunpilot] start │ …`
    pub(crate) fn start(&mut self, text: impl fmt::Display) -> Outcome {
        self.say("start", style::NAME, &text)
    }

    /// `[bunpilot] OK │ …`
    pub(crate) fn ok(&mut self, text: impl fmt::Display) -> Outcome {
        self.say("OK", style::GOOD, &text)
    }

    /// `[bunpilot] WARN │ …`
    pub(crate) fn warn(&mut self, text: impl fmt::Display) -> Outcome {
        self.say("WARN", style::BUSY, &text)
    }

    fn say(&mut self, word: &str, style: Style, text: &dyn fmt::Display) -> Outcome {
        if self.format == Format::Human {
            writeln!(self.stdout, "{}[bunpilot]{0:#} {style}{word}{style:#} │ {text}", style::DIM)?;
            self.stdout.flush()?;
        }
        Ok(())
    }

    /// `[bunpilot] ERROR │ …` on standard error; in JSON an object on standard output.
    pub(crate) fn error(&mut self, failure: &Failure) -> Outcome {
        let Some(verdict) = failure.verdict() else { return Ok(()) };
        match self.format {
            Format::Json => {
                let mut told = json!({ "error": failure.to_string(), "code": verdict.word() });
                if let (Some(hint), Some(told)) = (failure.advice(), told.as_object_mut()) {
                    told.insert("hint".to_owned(), hint.into());
                }
                self.json(&told)?;
            }
            Format::Human => {
                // A full disk behind standard output is no reason to be silent here, too.
                let _told_by_the_error = self.stdout.flush();
                self.draw_error(failure)?;
            }
        }
        Ok(())
    }

    fn draw_error(&mut self, failure: &Failure) -> Outcome {
        let (dim, bad) = (style::DIM, style::BAD);
        let prefix = format!("{dim}[bunpilot]{dim:#} {bad}ERROR{bad:#} │");
        if let Failure::Config { headline, picture, .. } = failure
            && !picture.is_empty()
        {
            writeln!(self.stderr, "{prefix} {headline}\n{picture}")?;
        } else {
            writeln!(self.stderr, "{prefix} {failure}")?;
        }
        if let Some(hint) = failure.advice() {
            writeln!(self.stderr, "{dim}  hint: {hint}{dim:#}")?;
        }
        Ok(())
    }

    /// Writes a value as JSON, indented, as the original does.
    pub(crate) fn json(&mut self, value: &Value) -> Outcome {
        serde_json::to_writer_pretty(&mut self.stdout, value).map_err(io::Error::from)?;
        writeln!(self.stdout)?;
        Ok(())
    }
}

/// Lets a buffered stream stand where `anstream` wants one it can take the colours from.
trait IntoBoxed {
    fn into_boxed(self) -> Box<dyn Write>;
}

impl<W: Write + 'static> IntoBoxed for W {
    fn into_boxed(self) -> Box<dyn Write> {
        Box::new(self)
    }
}

#[cfg(test)]
pub(crate) mod captured {
    //! Streams a test can read.

    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use super::{Format, Out, Screen};

    #[derive(Clone, Debug, Default)]
    pub(crate) struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().map_or(Ok(0), |mut paper| paper.write(bytes))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        pub(crate) fn text(&self) -> String {
            let bytes = self.0.lock().unwrap().clone();
            anstream::adapter::strip_str(&String::from_utf8(bytes).unwrap()).to_string()
        }
    }

    /// Both streams, without colours.
    pub(crate) fn out(format: Format, screen: Screen) -> (Out, Paper, Paper) {
        let (out, err) = (Paper::default(), Paper::default());
        let streams = Out::new(Box::new(out.clone()), Box::new(err.clone()), format, screen);
        (streams, out, err)
    }
}
