//! `bunpilot logs`: which files are meant; [`logs`] shows them.
//!
//! The daemon is asked only where the files are. While it is down, those at the usual place are
//! shown.

use std::{collections::BTreeSet, io, os::fd::AsFd as _};

use serde_json::{Value, json};

use super::{
    args,
    client::Daemon,
    failure::{Failure, Outcome},
    home::Home,
    logs::{self, Label, LogsError, Mode, Options, Source, scan},
    output::{Format, Out, Screen},
    suggest,
};
use crate::{
    config::{Base, Trust, raw::RawApp, resolve},
    control::{
        status::AppStatus,
        wire::{Code, Target},
    },
    logs::{Stream, files, query::Streams},
};

/// Runs it.
pub(crate) fn run(home: &Home, args: &args::Logs, out: &mut Out) -> Outcome {
    let target = args.target.as_ref();
    let sources = sources(home, target).map_err(|failure| {
        let unknown = target.filter(|_| failure.is_no_such_app());
        failure.hint(unknown.and_then(|it| suggest::names(&Daemon::of(home), it)))
    })?;
    let streams = match (args.out, args.err) {
        (true, _) => Streams::Only(Stream::Out),
        (_, true) => Streams::Only(Stream::Err),
        (false, false) => Streams::Both,
    };
    let lines = u64::from(args.lines);
    match (out.format, args.follow) {
        (Format::Json, true) => {
            Err(Failure::Usage("`--json` prints once; leave out `--follow`".to_owned()))
        }
        (Format::Json, false) => out.json(&as_json(sources, lines, streams)?),
        (Format::Human, follow) => {
            let stdout = io::stdout();
            let options = Options {
                lines,
                mode: if follow { Mode::Follow } else { Mode::Once },
                streams,
                label: label(out.screen),
                hangup: Some(stdout.as_fd()),
            };
            let mut rescan = || self::sources(home, target).unwrap_or_default();
            let mut notes = anstream::stderr();
            logs::run(sources, &mut rescan, &options, out.stdout(), &mut notes).map_err(failure)
        }
    }
}

fn label(screen: Screen) -> Label {
    match screen {
        Screen::Terminal(..) => Label::Coloured,
        Screen::Piped => Label::Plain,
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

/// The last lines of each file, one object for each line.
fn as_json(sources: Vec<Source>, lines: u64, streams: Streams) -> Result<Value, Failure> {
    let options = Options { lines, mode: Mode::Once, streams, label: Label::Hidden, hangup: None };
    let mut all = Vec::new();
    for source in sources {
        let mut text = Vec::new();
        logs::run(vec![source.clone()], &mut Vec::new, &options, &mut text, &mut io::sink())
            .map_err(failure)?;
        let (app, worker) = source.label.rsplit_once(':').unwrap_or((&source.label, ""));
        all.extend(String::from_utf8_lossy(&text).lines().map(|line| {
            json!({
                "app": app, "worker": worker.parse::<u16>().ok(), "stream": source.stream.name(),
                "line": line,
            })
        }));
    }
    Ok(Value::Array(all))
}

/// The files of those workers that are meant: the ones the daemon names, and others at the usual
/// place, of workers that are no more; of apps that are no more only if they are called by name,
/// or no daemon knows better.
pub(crate) fn sources(home: &Home, target: Option<&Target>) -> Result<Vec<Source>, Failure> {
    let all = Target::All;
    let target = target.unwrap_or(&all);
    let name = match target {
        Target::All => None,
        Target::App(name) | Target::Instance(name, _) => Some(name.as_str()),
    };
    let asked = Daemon::of(home).apps(target);
    let named = asked.as_ref().map(|apps| of_apps(home, apps)).unwrap_or_default();
    let known: Option<BTreeSet<&str>> = match (&asked, name) {
        (Ok(apps), None) => Some(apps.iter().map(|it| it.name.as_str()).collect()),
        (Ok(_) | Err(_), _) => None,
    };
    let is_known = |source: &Source| {
        let app = source.label.rsplit_once(':').map_or(&*source.label, |(app, _)| app);
        known.as_ref().is_none_or(|known| known.contains(app))
    };
    let mut paths = BTreeSet::new();
    let sources: Vec<Source> = named
        .into_iter()
        .chain(scan(&home.logs(), name).into_iter().filter(is_known))
        .filter(|it| meant(&it.label, target) && paths.insert(it.path.clone()))
        .collect();
    match (asked, name) {
        _ if !sources.is_empty() => Ok(sources),
        (Err(failure), _) => Err(failure),
        (Ok(apps), Some(name)) if apps.is_empty() => Err(Failure::Refused {
            code: Code::NoSuchApp,
            message: format!("App not found: {name}"),
        }),
        (Ok(_), _) => Ok(sources),
    }
}

fn meant(label: &str, target: &Target) -> bool {
    match target {
        Target::All | Target::App(_) => true,
        // The file all places share holds this one's lines, too.
        Target::Instance(app, _) => label == target.to_string() || label == app.as_str(),
    }
}

fn of_apps(home: &Home, apps: &[AppStatus]) -> Vec<Source> {
    apps.iter().flat_map(|app| of_app(home, app)).collect()
}

fn of_app(home: &Home, app: &AppStatus) -> Vec<Source> {
    // What a daemon of another version says of an app may make no sense here; the usual place
    // may still hold its files.
    let Ok(raw) = serde_json::from_value::<RawApp>(app.config.clone()) else { return Vec::new() };
    let Ok(spec) = resolve::app(&raw, &Base::default(), &Trust) else { return Vec::new() };
    let places: BTreeSet<u16> =
        app.workers.iter().map(|it| it.id).chain(0..spec.instances.get()).collect();
    places
        .into_iter()
        .flat_map(|index| Stream::BOTH.map(|stream| (index, stream)))
        .filter(|(_, stream)| !files::is_discarded(&spec.logs, *stream))
        .map(|(index, stream)| Source {
            label: logs::label(&app.name, files::writer(&spec.logs, index)),
            stream,
            path: files::paths(&home.logs(), &spec, index, stream),
        })
        .collect()
}
