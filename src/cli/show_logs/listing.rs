//! Which files are meant: the ones the daemon names, and others at the usual place.
//!
//! The daemon is asked only where files are and when workers were started, and while following
//! hardly ever: new workers are seen by their files. While it is down, files at the usual place are
//! shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    cli::{
        args,
        client::Daemon,
        clock,
        failure::Failure,
        home::Home,
        logs::{Cause, Source, scan},
        suggest,
    },
    config::{Base, Trust, raw::RawApp, resolve},
    control::{
        status::{AppStatus, WorkerStatus},
        wire::{Code, Target},
    },
    domain::{AppSpec, LogMode},
    logs::{
        Stream,
        files::{self, Writer},
        query::{Window, Workers},
    },
};

/// Time after which the daemon is asked again, though nothing looks new.
const ASK_AGAIN: Duration = Duration::from_mins(1);

/// Shortest time between two questions.
const ASK_PAUSE: Duration = Duration::from_secs(1);

/// The files of some workers, looked up again and again.
#[derive(Debug)]
pub(crate) struct Listing {
    home: Home,
    wishes: Vec<Wish>,
    lives: Lives,
    /// What the daemon said last, and when.
    known: Vec<AppStatus>,
    asked: Duration,
    /// Whether a file was seen that may be of a worker unknown.
    curious: bool,
}

/// Some workers of one app, or of every app.
#[derive(Debug)]
struct Wish {
    target: Target,
    workers: Workers,
}

/// Which lives of a worker are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lives {
    All,
    /// Those before the last start.
    Previous,
}

impl Listing {
    /// What a line asks for.
    pub(crate) fn new(home: &Home, args: &args::Logs) -> Result<Self, Failure> {
        let targets = if args.targets.is_empty() { &[Target::All][..] } else { &args.targets };
        let wishes = targets.iter().map(|target| Wish::of(target, &args.worker));
        let lives = if args.previous { Lives::Previous } else { Lives::All };
        Ok(Self::of(home, wishes.collect::<Result<_, _>>()?, lives))
    }

    /// Every app.
    pub(crate) fn everything(home: &Home) -> Self {
        let every = Wish { target: Target::All, workers: Workers::ANY };
        Self::of(home, vec![every], Lives::All)
    }

    fn of(home: &Home, wishes: Vec<Wish>, lives: Lives) -> Self {
        let (known, asked) = (Vec::new(), Duration::ZERO);
        Self { home: home.clone(), wishes, lives, known, asked, curious: false }
    }

    /// The files as they are now. A name nobody knows is a mistake.
    pub(crate) fn sources(&mut self) -> Result<Vec<Source>, Failure> {
        let mut sources = Sources::default();
        for wish in &self.wishes {
            let asked = Daemon::of(&self.home).apps(&wish.target);
            if let (Lives::Previous, Err(_)) = (self.lives, &asked) {
                return Err(asked.err().unwrap_or(Failure::Died).hint(Some(
                    "`--previous` needs the daemon, which knows when workers were started; \
                     `--until` takes a time instead"
                        .to_owned(),
                )));
            }
            let apps = asked.as_ref().map_or(&[][..], Vec::as_slice);
            let found = wish.sources(&self.home, apps, asked.is_ok(), self.lives);
            if found.is_empty() {
                wish.check(&self.home, asked.as_ref())?;
                asked?;
            } else {
                self.known.extend(asked.unwrap_or_default());
            }
            sources.extend(found);
        }
        self.asked = clock::now();
        Ok(sources.all)
    }

    /// The files as they are a while later; one that is missing may be there yet.
    pub(crate) fn again(&mut self, cause: Cause) -> Vec<Source> {
        self.curious |= cause == Cause::Stranger;
        let patience = if self.curious { ASK_PAUSE } else { ASK_AGAIN };
        if clock::now().saturating_sub(self.asked) >= patience {
            self.ask();
        }
        let mut sources = Sources::default();
        for wish in &self.wishes {
            let all = self.known.iter().filter(|app| wish.means(&app.name));
            let apps: Vec<AppStatus> = all.cloned().collect();
            let found = wish.sources(&self.home, &apps, !self.known.is_empty(), self.lives);
            sources.extend(found);
        }
        sources.all
    }

    fn ask(&mut self) {
        (self.asked, self.curious) = (clock::now(), false);
        let daemon = Daemon::of(&self.home);
        let answers = self.wishes.iter().map(|wish| daemon.apps(&wish.target));
        // One that is down now knows what it knew before.
        if let Ok(answers) = answers.collect::<Result<Vec<_>, _>>() {
            self.known = answers.into_iter().flatten().collect();
        }
    }

    /// What the user should know of these files.
    pub(crate) fn remarks(&self) -> BTreeSet<String> {
        let mut remarks = BTreeSet::new();
        for app in &self.known {
            let (Some(spec), name) = (spec(app), &app.name) else { continue };
            if spec.logs.mode == LogMode::Off {
                remarks.insert(format!("{name}: its output is not kept (`logs.mode` is `off`)"));
            }
            let apart = self.lives == Lives::Previous
                || self.wishes.iter().any(|wish| wish.means(name) && wish.workers.places.is_some());
            let shared = files::writer(&spec.logs, 0) == Writer::Every;
            if apart && shared && spec.logs.mode != LogMode::Json {
                remarks.insert(format!(
                    "{name}: its workers share a file that does not tell them apart; \
                     with `logs.mode: \"json\"` it does"
                ));
            }
        }
        remarks
    }
}

/// Sources, each file once.
#[derive(Debug, Default)]
struct Sources {
    all: Vec<Source>,
}

impl Sources {
    fn extend(&mut self, sources: impl IntoIterator<Item = Source>) {
        for source in sources {
            self.add(source);
        }
    }

    fn add(&mut self, source: Source) {
        match self.all.iter_mut().find(|known| known.path == source.path) {
            Some(known) => known.workers = std::mem::take(&mut known.workers).or(source.workers),
            None => self.all.push(source),
        }
    }
}

impl Wish {
    fn of(target: &Target, places: &[u16]) -> Result<Self, Failure> {
        let places = (!places.is_empty()).then(|| places.iter().copied().collect());
        let mut workers = Workers { places, ..Workers::ANY };
        if let Target::Instance(_, place) = target {
            if !workers.include(*place) {
                return Err(Failure::Usage(format!("`{target}` is none of `--worker`")));
            }
            workers.places = Some(BTreeSet::from([*place]));
        }
        Ok(Self { target: target.clone(), workers })
    }

    fn name(&self) -> Option<&str> {
        match &self.target {
            Target::All => None,
            Target::App(name) | Target::Instance(name, _) => Some(name),
        }
    }

    fn means(&self, app: &str) -> bool {
        self.name().is_none_or(|name| name == app)
    }

    /// The files of `apps`, as the daemon tells of them, and those at the usual place of workers
    /// that are no more; of apps that are no more only if they are called by name, or the daemon
    /// does not know better.
    fn sources(&self, home: &Home, apps: &[AppStatus], told: bool, lives: Lives) -> Vec<Source> {
        let named = apps.iter().flat_map(|app| of_app(home, app));
        let lost = scan(&home.logs(), self.name()).into_iter().filter(|source| {
            !told || self.name().is_some() || apps.iter().any(|app| app.name == source.app)
        });
        let mut all = Sources::default();
        all.extend(named.chain(lost));
        let meant = all.all.into_iter().filter_map(|source| self.meant(source));
        match lives {
            Lives::All => meant.collect(),
            Lives::Previous => meant.map(|source| earlier(source, apps)).collect(),
        }
    }

    /// A source as far as it is meant.
    fn meant(&self, source: Source) -> Option<Source> {
        match source.writer {
            Writer::Place(place) => self.workers.include(place).then_some(source),
            // The file all places share holds the lines of these, too.
            Writer::Every => Some(Source { workers: self.workers.clone(), ..source }),
        }
    }

    /// Finds out why there is nothing to show.
    fn check(&self, home: &Home, asked: Result<&Vec<AppStatus>, &Failure>) -> Result<(), Failure> {
        let (Ok(apps), Some(name)) = (asked, self.name()) else { return Ok(()) };
        if !apps.is_empty() {
            return Ok(());
        }
        let message = format!("App not found: {name}");
        let failure = Failure::Refused { code: Code::NoSuchApp, message };
        Err(failure.hint(suggest::names(&Daemon::of(home), &self.target)))
    }
}

fn spec(app: &AppStatus) -> Option<AppSpec> {
    // What a daemon of another version says of an app may make no sense here; the usual place
    // may still hold its files.
    let raw = serde_json::from_value::<RawApp>(app.config.clone()).ok()?;
    resolve::app(&raw, &Base::default(), &Trust).ok()
}

fn of_app(home: &Home, app: &AppStatus) -> Vec<Source> {
    let Some(spec) = spec(app) else { return Vec::new() };
    let places: BTreeSet<u16> =
        app.workers.iter().map(|it| it.id).chain(0..spec.instances.get()).collect();
    places
        .into_iter()
        .flat_map(|index| Stream::BOTH.map(|stream| (index, stream)))
        .filter(|(_, stream)| !files::is_discarded(&spec.logs, *stream))
        .map(|(index, stream)| {
            let path = files::paths(&home.logs(), &spec, index, stream);
            Source::of(&app.name, files::writer(&spec.logs, index), stream, path)
        })
        .collect()
}

/// Leaves of a source what was written before the process that runs now was started; everything,
/// where none runs.
fn earlier(source: Source, apps: &[AppStatus]) -> Source {
    let app = apps.iter().find(|app| app.name == source.app);
    let workers = app.map_or(&[][..], |app| &app.workers);
    match source.writer {
        Writer::Place(place) => {
            let worker = workers.iter().find(|it| it.id == place);
            let started = worker.and_then(|it| it.started_at);
            let until = started.map_or(u64::MAX, |millis| millis.saturating_mul(1000));
            let window = source.window.and(Window { until, ..Window::ALWAYS });
            Source { window, ..source }
        }
        Writer::Every => {
            let before: BTreeMap<u16, u32> =
                workers.iter().map(|it| (it.id, generation(it))).collect();
            Source { workers: Workers { before, ..source.workers }, ..source }
        }
    }
}

/// The first life that is no earlier one.
fn generation(worker: &WorkerStatus) -> u32 {
    match worker.started_at {
        Some(_) => worker.generation,
        None => worker.generation.saturating_add(1),
    }
}
