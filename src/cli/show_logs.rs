//! `bunpilot logs`: what is asked for; [`logs`] shows it.

mod listing;

use std::io::{self, Write as _};

use anstream::{AutoStream, ColorChoice};
use jiff::{Zoned, tz::TimeZone};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::{
    args,
    failure::{Failure, Outcome},
    home::Home,
    logs::{self, Colour, Label, LogsError, Mode, Options, Shape, Shown, Text},
    output::{Format, Out, Screen},
};
use crate::logs::{
    Stream,
    files::INDEX_FOLDER,
    query::{Lines, Streams, Window},
    sieve::{Case, Kept, Pattern, Sieve},
    stamp::Face,
    when,
};

pub(crate) use listing::Listing;

/// Lines shown of each file if nobody says otherwise.
const LINES: u64 = 50;

/// Runs it.
pub(crate) fn run(home: &Home, args: &args::Logs, out: &mut Out) -> Outcome {
    let now = now(args);
    let stdout = io::stdout();
    let own = rustix::io::dup(&stdout).map_err(|error| Failure::from(io::Error::from(error)))?;
    let options = Options {
        lines: args.lines.unwrap_or(match args.since {
            Some(_) => Lines::All,
            None => Lines::Last(LINES),
        }),
        mode: if args.follow { Mode::Follow } else { Mode::Once },
        streams: streams(args),
        window: window(args, &now)?,
        sieve: sieve(args)?,
        shape: shape(args, &now, out.format)?,
        times: home.logs().join(INDEX_FOLDER),
        hangup: Some(std::os::fd::AsFd::as_fd(&own)),
    };
    let mut notes = anstream::stderr();
    let mut listing = Listing::new(home, args)?;
    let sources = listing.sources()?;
    for remark in listing.remarks() {
        writeln!(notes, "{remark}")?;
    }
    make_room_for_files();
    out.flush()?;
    // Bytes of apps go out as they are: nothing looks through them for colours once more.
    let mut plain = std::fs::File::from(rustix::io::dup(&own).map_err(io::Error::from)?);
    let mut rescan = |cause| listing.again(cause);
    let shown = logs::run(sources, &mut rescan, &options, &mut plain, &mut notes);
    match shown.map_err(failure)? {
        Shown::Nothing if !args.follow && matches!(out.screen, Screen::Terminal(..)) => {
            writeln!(notes, "{}", nothing(args))?;
            Ok(())
        }
        Shown::Nothing | Shown::Lines => Ok(()),
    }
}

/// What time it is, where the user is.
fn now(args: &args::Logs) -> Zoned {
    let zone = if args.utc { TimeZone::UTC } else { TimeZone::system() };
    let now = jiff::Timestamp::now();
    now.to_zoned(zone)
}

fn streams(args: &args::Logs) -> Streams {
    match (args.out, args.err) {
        (true, _) => Streams::Only(Stream::Out),
        (_, true) => Streams::Only(Stream::Err),
        (false, false) => Streams::Both,
    }
}

fn window(args: &args::Logs, now: &Zoned) -> Result<Window, Failure> {
    let time = |flag: &str, text: &Option<String>, without: u64| match text {
        None => Ok(without),
        Some(text) => when::parse(text, now)
            .map_err(|error| Failure::Usage(format!("`--{flag} {text}`: {error}"))),
    };
    let since = time("since", &args.since, Window::ALWAYS.since)?;
    let until = time("until", &args.until, Window::ALWAYS.until)?;
    let current = u64::try_from(now.timestamp().as_microsecond()).unwrap_or(0);
    let shown = |text: &Option<String>| text.clone().unwrap_or_default();
    if since > current && !args.follow {
        let (text, time) = (shown(&args.since), now.strftime("%H:%M:%S"));
        return Err(Failure::Usage(format!(
            "`--since {text}` lies ahead, it is {time} now; of the day before it is `yesterday …`"
        )));
    }
    if since >= until {
        let (since, until) = (shown(&args.since), shown(&args.until));
        return Err(Failure::Usage(format!(
            "`--until {until}` is not later than `--since {since}`: no line can be of both"
        )));
    }
    Ok(Window { since, until })
}

fn case(args: &args::Logs) -> Case {
    if args.ignore_case { Case::Ignored } else { Case::Smart }
}

fn pattern(flag: &str, patterns: &[String], args: &args::Logs) -> Result<Option<Pattern>, Failure> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let pattern = Pattern::any_of(patterns, case(args));
    pattern.map(Some).map_err(|error| Failure::Usage(format!("`--{flag}`: {error}")))
}

fn sieve(args: &args::Logs) -> Result<Option<Sieve>, Failure> {
    let kept = if args.invert { Kept::Others } else { Kept::Matching };
    Ok(pattern("grep", &args.grep, args)?.map(|pattern| Sieve::new(pattern, kept)))
}

fn shape(args: &args::Logs, now: &Zoned, format: Format) -> Result<Shape, Failure> {
    let shape = match (format, args.raw) {
        (Format::Json, true) => {
            return Err(Failure::Usage("`--raw` and `--json` exclude each other".to_owned()));
        }
        (Format::Json, false) => Shape::Json,
        (Format::Human, true) => Shape::Raw,
        (Format::Human, false) => Shape::Text(Text {
            label: if args.no_prefix { Label::Hidden } else { Label::Shown },
            colour: match AutoStream::choice(&io::stdout()) {
                ColorChoice::Never => Colour::Never,
                ColorChoice::Auto | ColorChoice::AlwaysAnsi | ColorChoice::Always => Colour::Always,
            },
            face: match (args.timestamps, args.utc) {
                (false, _) => None,
                (true, true) => Some(Face::utc()),
                (true, false) => Some(Face::local(now.time_zone().clone())),
            },
            highlight: pattern("highlight", &args.highlight, args)?,
        }),
    };
    Ok(shape)
}

/// Lets this process hold as many files open as it may: there are two for each worker.
fn make_room_for_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _as_many_as_before = setrlimit(Resource::Nofile, limit);
}

/// What is said to a person who sees nothing.
fn nothing(args: &args::Logs) -> &'static str {
    let asked = !args.grep.is_empty() || args.since.is_some() || args.until.is_some();
    if args.previous {
        "no line was written before the last start"
    } else if asked {
        "no such line"
    } else {
        "nothing was written yet; `-f` waits for it"
    }
}

fn failure(error: LogsError) -> Failure {
    match error {
        LogsError::Write(source) => source.into(),
        LogsError::Read { ref source, .. } | LogsError::Watch(ref source) => {
            Failure::Local(format!("{error}: {source}"))
        }
    }
}
