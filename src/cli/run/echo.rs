//! What the apps write, on standard output.

use std::{
    io::{self, PipeReader, PipeWriter},
    os::fd::AsFd as _,
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    cli::{
        clock,
        failure::Failure,
        home::Home,
        logs::{self, Colour, Label, Mode, Options, Shape, Text},
        show_logs::Listing,
    },
    logs::{
        files::INDEX_FOLDER,
        query::{Lines, Streams, Window},
    },
};

/// Time for the last lines to reach their files and be read from there.
const LAST_WORDS: Duration = Duration::from_millis(150);

/// Prints from now on; when dropped, the last lines, and no more.
#[derive(Debug)]
pub(super) struct Echo {
    /// Closed to end the thread.
    rope: Option<PipeReader>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Follows the logs of all apps, beginning with what is not written yet.
    pub(super) fn of(home: &Home) -> Result<Self, Failure> {
        let (rope, end) = io::pipe().map_err(Failure::io("open a pipe"))?;
        let home = home.clone();
        let thread = thread::spawn(move || follow(&home, &end));
        Ok(Self { rope: Some(rope), thread: Some(thread) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        clock::sleep(LAST_WORDS);
        self.rope.take();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn follow(home: &Home, end: &PipeWriter) {
    let text = Text { label: Label::Shown, colour: Colour::Always, face: None, highlight: None };
    let options = Options {
        lines: Lines::Last(0),
        mode: Mode::Follow,
        streams: Streams::Both,
        window: Window::ALWAYS,
        sieve: None,
        shape: Shape::Text(text),
        times: home.logs().join(INDEX_FOLDER),
        hangup: Some(end.as_fd()),
    };
    let mut listing = Listing::everything(home);
    let sources = listing.sources().unwrap_or_default();
    let mut rescan = |cause| listing.again(cause);
    let (mut out, mut notes) = (anstream::stdout(), anstream::stderr());
    // Without readers the apps go on; what they write is in the files.
    let _nobody_reads = logs::run(sources, &mut rescan, &options, &mut out, &mut notes);
}
