//! The store from outside: what is written comes back, whatever happens to the file.

mod damage;
mod outage;

use std::{
    path::PathBuf,
    sync::mpsc::{self, Receiver, Sender},
    time::Duration,
};

use rusqlite::Connection;

use super::*;
use crate::{
    domain::{AppId, Exit, Pid, Usage, WorkerId},
    world::{Ended, Goal, SavedApp, SavedInstance},
};

pub(super) fn app(id: u32, config: &str) -> Record {
    Record::App(SavedApp {
        id: AppId(id),
        name: format!("app{id}").parse().unwrap(),
        config: format!(r#"{{"script":"{config}"}}"#),
        previous: id.is_multiple_of(2).then(|| "{}".into()),
        goal: Goal::Run,
        asleep: true,
        config_path: Some("/srv/bunpilot.config.ts".into()),
        created_unix_millis: 1_700_000_000_000,
    })
}

pub(super) fn gone(id: u32) -> Record {
    Record::AppGone(AppId(id))
}

pub(super) fn instance(app: u32, index: u16, generation: u32) -> Record {
    Record::Instance(SavedInstance {
        worker: WorkerId::new(AppId(app), index, generation),
        app: format!("app{app}").parse().unwrap(),
        state: "online".into(),
        pid: Some(Pid(4242)),
        started_unix_millis: Some(1_700_000_000_001),
        restarts: 3,
        crashes_in_a_row: 2,
        crashes_unix_millis: vec![1_700_000_000_002, 1_700_000_000_003],
    })
}

pub(super) fn ended(app: u32, index: u16, generation: u32) -> Record {
    Record::Ended(Ended {
        worker: WorkerId::new(AppId(app), index, generation),
        app: format!("app{app}").parse().unwrap(),
        pid: Some(Pid(4242)),
        exit: Some(Exit::Signal(9)),
        uptime: Duration::from_secs(7),
        reason: "signal",
        unix_millis: 1_700_000_000_004,
    })
}

pub(super) fn sample(app: u32, index: u16, unix_millis: u32) -> Record {
    Record::Sample {
        worker: WorkerId::new(AppId(app), index, 1),
        app: format!("app{app}").parse().unwrap(),
        unix_millis: u64::from(unix_millis),
        usage: Usage { rss_bytes: 1 << 20, ..Usage::default() },
        cpu_millipercent: 12_345,
        heap_used_bytes: None,
    }
}

/// A folder of its own, and the store within it.
pub(super) struct Home {
    folder: PathBuf,
    notices: (Sender<StoreNotice>, Receiver<StoreNotice>),
}

impl Home {
    pub(super) fn new(test: &str) -> Self {
        // In memory where there is such a place: thousands of files are opened and synced.
        let memory = PathBuf::from("/dev/shm");
        let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
        Self::at(base.join(format!("bunpilot-store-{test}-{}", std::process::id())))
    }

    pub(super) fn at(folder: PathBuf) -> Self {
        if folder.exists() {
            std::fs::remove_dir_all(&folder).unwrap();
        }
        Self { folder, notices: mpsc::channel() }
    }

    pub(super) fn db(&self) -> PathBuf {
        self.folder.join("bunpilot.db")
    }

    pub(super) fn try_open(&self) -> Result<(Store, Saved, Vec<OpenNote>), StoreError> {
        let notices = self.notices.0.clone();
        Store::open(&self.db(), move |notice| notices.send(notice).unwrap())
    }

    #[track_caller]
    pub(super) fn open(&self) -> (Store, Saved, Vec<OpenNote>) {
        self.try_open().unwrap()
    }

    /// The state of a home nothing happened to.
    #[track_caller]
    pub(super) fn saved(&self) -> Saved {
        let (_store, saved, notes) = self.open();
        assert_eq!(notes, []);
        saved
    }

    /// Writes, and waits until it is committed.
    #[track_caller]
    pub(super) fn write(&self, records: impl IntoIterator<Item = Record>) {
        let (store, _, _) = self.open();
        records.into_iter().for_each(|record| store.write(record));
        store.close().unwrap();
    }

    #[track_caller]
    pub(super) fn notice(&self) -> StoreNotice {
        self.notices.1.recv_timeout(Duration::from_secs(30)).unwrap()
    }

    #[track_caller]
    pub(super) fn sql(&self) -> Connection {
        Connection::open(self.db()).unwrap()
    }

    #[track_caller]
    pub(super) fn count(&self, what: &str) -> i64 {
        self.sql().query_row(&format!("SELECT count(*) FROM {what}"), [], |row| row.get(0)).unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// What [`Saved`] holds, as it was pushed.
pub(super) fn records(saved: &Saved) -> Vec<Record> {
    salvage::records(saved).collect()
}

#[test]
fn what_is_written_comes_back() {
    let home = Home::new("roundtrip");
    assert_eq!(home.saved(), Saved::default());
    let all = [app(1, "a"), app(2, "b"), instance(1, 0, 1), instance(1, 1, 7), instance(2, 0, 1)];
    home.write(all.clone());
    let saved = home.saved();
    assert_eq!(records(&saved), all);
    assert_eq!(saved.last_app, 2);
}

#[test]
fn an_app_that_is_gone_takes_everything_along_but_its_number() {
    let home = Home::new("gone");
    let of = |id| [app(id, "x"), instance(id, 0, 1), ended(id, 0, 1), sample(id, 0, 1)];
    home.write([of(1), of(2)].concat());
    home.write([gone(2)]);
    let saved = home.saved();
    assert_eq!(records(&saved), of(1)[..2]);
    assert_eq!(saved.last_app, 2);
    for table in ["apps", "workers", "restart_history", "metrics"] {
        assert_eq!(home.count(table), 1, "{table}");
    }
}

#[test]
fn a_name_may_be_used_again() {
    let home = Home::new("again");
    home.write([app(1, "old"), instance(1, 0, 1)]);
    let Record::App(mut new) = app(2, "new") else { unreachable!() };
    new.name = "app1".parse().unwrap();
    home.write([gone(1), Record::App(new.clone())]);
    assert_eq!(records(&home.saved()), [Record::App(new)]);
}

#[test]
fn the_first_end_of_a_life_is_kept() {
    let home = Home::new("ended");
    let Record::Ended(mut second) = ended(1, 0, 1) else { unreachable!() };
    second.exit = Some(Exit::Code(0));
    let second = Record::Ended(second);
    home.write([app(1, "a"), ended(1, 0, 1), second.clone()]);
    home.write([second, ended(1, 0, 2), ended(1, 1, 1)]);
    assert_eq!(home.count("restart_history"), 3);
    assert_eq!(home.count("restart_history WHERE signal = 'SIGKILL' AND uptime_ms = 7000"), 3);
}

#[test]
fn history_has_a_size_and_an_age() {
    let home = Home::new("prune");
    let old = |n| sample(1, 0, n);
    let day_later = |n: u32| sample(1, 0, 24 * 60 * 60 * 1000 + 500 + n);
    home.write((0..1000).map(old));
    home.write((0..100).map(day_later).chain((0..1100).map(|n| ended(1, 0, n))));
    home.write([ended(1, 0, 1100)]); // what is found at the start goes with the first write
    assert_eq!(home.count("metrics WHERE created_at < 599"), 0, "24 h before the newest");
    assert_eq!(home.count("metrics"), 501);
    assert_eq!(home.count("restart_history"), 1000);
    assert_eq!(home.count("restart_history WHERE generation < 101"), 0, "the oldest went");
}

#[test]
fn a_barrier_is_answered_once_all_before_is_on_disk() {
    let home = Home::new("barrier");
    let (store, _, _) = home.open();
    for n in 1..50 {
        store.write(app(n, "x"));
        store.write(sample(n, 0, n));
        store.barrier(u64::from(n));
        assert_eq!(home.notice(), StoreNotice::Flushed(u64::from(n)));
        assert_eq!(home.count("apps"), i64::from(n));
        assert_eq!(home.count("metrics"), i64::from(n));
    }
}

#[test]
fn barriers_are_answered_in_order() {
    let home = Home::new("barriers");
    let (store, _, _) = home.open();
    for token in 0..1000 {
        store.write(instance(1, 0, 1));
        store.barrier(token);
    }
    let answers: Vec<_> = (0..1000).map(|_| home.notice()).collect();
    assert_eq!(answers, (0..1000).map(StoreNotice::Flushed).collect::<Vec<_>>());
}

#[test]
fn what_is_committed_survives_the_death_of_the_daemon() {
    let (home, after) = (Home::new("kill"), Home::new("killed"));
    std::fs::create_dir(&after.folder).unwrap();
    let (store, _, _) = home.open();
    for round in 1..30 {
        store.write(app(1, &round.to_string()));
        store.write(instance(1, 0, round));
        store.barrier(1);
        home.notice();
        store.write(sample(1, 0, round)); // may or may not be there
        for end in ["", "-wal"] {
            std::fs::copy(disk::beside(&home.db(), end), disk::beside(&after.db(), end)).unwrap();
        }
        let expected = [app(1, &round.to_string()), instance(1, 0, round)];
        assert_eq!(records(&after.saved()), expected);
        disk::remove(&after.db()).unwrap();
    }
}

#[test]
fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new("private");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (_store, _, _) = home.open();
    assert_eq!(mode(&home.folder), 0o700);
    for end in ["", "-wal", "-shm"] {
        assert_eq!(mode(&disk::beside(&home.db(), end)), 0o600, "{end}");
    }
}

#[test]
fn the_originals_rights_are_taken_back() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new("rights");
    home.write([app(1, "a")]);
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(home.db(), open).unwrap();
    home.saved();
    assert_eq!(std::fs::metadata(home.db()).unwrap().permissions().mode() & 0o777, 0o600);
}

/// As the original 0.2 made it: seed inventory §1, `user_version` 0.
fn originals_database(home: &Home) -> Connection {
    std::fs::create_dir_all(&home.folder).unwrap();
    let sql = home.sql();
    sql.execute_batch(
        "PRAGMA journal_mode = WAL;
         CREATE TABLE apps (name TEXT PRIMARY KEY, config_json TEXT NOT NULL,
            status TEXT NOT NULL DEFAULT 'stopped', config_path TEXT,
            created_at INTEGER NOT NULL DEFAULT (unixepoch('subsec') * 1000),
            updated_at INTEGER NOT NULL DEFAULT (unixepoch('subsec') * 1000));
         CREATE TABLE workers (app_name TEXT NOT NULL, worker_id INTEGER NOT NULL,
            state TEXT NOT NULL DEFAULT 'stopped', pid INTEGER,
            started_at INTEGER NOT NULL DEFAULT (unixepoch('subsec') * 1000), extra_json TEXT,
            PRIMARY KEY (app_name, worker_id));
         CREATE TABLE restart_history (id INTEGER PRIMARY KEY AUTOINCREMENT,
            app_name TEXT NOT NULL, worker_id INTEGER NOT NULL, pid INTEGER NOT NULL,
            exit_code INTEGER, signal TEXT, uptime_ms INTEGER NOT NULL, reason TEXT NOT NULL,
            created_at INTEGER NOT NULL DEFAULT (unixepoch('subsec') * 1000));
         CREATE TABLE metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, app_name TEXT NOT NULL,
            worker_id INTEGER NOT NULL, rss INTEGER NOT NULL, heap_used INTEGER NOT NULL,
            cpu_percent REAL NOT NULL, event_loop_lag REAL,
            created_at INTEGER NOT NULL DEFAULT (unixepoch('subsec') * 1000));
         CREATE INDEX idx_restart_app ON restart_history (app_name, created_at DESC);
         CREATE INDEX idx_metrics_app ON metrics (app_name, created_at DESC);",
    )
    .unwrap();
    sql
}

#[test]
fn the_originals_apps_move_in_at_rest() {
    let home = Home::new("migrate");
    let sql = originals_database(&home);
    sql.execute_batch(
        r#"INSERT INTO apps (name, config_json, status, config_path, created_at) VALUES
            ('web', '{"name":"web","script":"a.ts"}', 'running', '/srv/c.ts', 1700000000123),
            ('../../evil', '{}', 'stopped', NULL, 5),
            ('api', '{"name":"api"}', 'stopped', NULL, 7);
           INSERT INTO workers (app_name, worker_id, state, pid) VALUES ('web', 0, 'online', 99);
           INSERT INTO restart_history (app_name, worker_id, pid, uptime_ms, reason)
            VALUES ('web', 0, 9, 9, 'crash'), ('web', 0, 9, 9, 'crash');"#,
    )
    .unwrap();
    drop(sql);
    let (store, saved, notes) = home.open();
    let app = |id, name: &str, config: &str, path: Option<&str>, created_unix_millis| SavedApp {
        id: AppId(id),
        name: name.parse().unwrap(),
        config: config.into(),
        previous: None,
        goal: Goal::Rest,
        asleep: false,
        config_path: path.map(Into::into),
        created_unix_millis,
    };
    assert_eq!(
        saved.apps,
        [
            app(
                1,
                "web",
                r#"{"name":"web","script":"a.ts"}"#,
                Some("/srv/c.ts"),
                1_700_000_000_123
            ),
            app(3, "api", r#"{"name":"api"}"#, None, 7),
        ]
    );
    assert_eq!(saved.last_app, 3);
    let [place] = &saved.instances[..] else { panic!("{:?}", saved.instances) };
    assert_eq!((place.state.as_str(), place.pid), ("stopped", None));
    let [OpenNote::Damaged { what }, OpenNote::Migrated { from: 0, apps: 2 }] = &notes[..] else {
        panic!("{notes:?}")
    };
    assert!(what.starts_with("app `../../evil` was left out: "), "{what}");
    store.write(instance(1, 0, 1));
    store.close().unwrap();
    assert_eq!(home.count("apps"), 3, "what cannot be used is kept");
    assert_eq!(home.count("restart_history"), 2);
    assert_eq!(home.open().2.len(), 1, "migrated once");
}

#[test]
fn a_newer_database_is_left_alone() {
    let home = Home::new("newer");
    home.write([app(1, "a")]);
    home.sql().pragma_update(None, "user_version", 99).unwrap();
    let before = std::fs::read(home.db()).unwrap();
    assert!(matches!(home.try_open(), Err(StoreError::Newer { found: 99, .. })));
    assert_eq!(std::fs::read(home.db()).unwrap(), before);
}

#[test]
fn something_else_at_the_path_is_refused() {
    let home = Home::new("folder");
    std::fs::create_dir_all(home.db()).unwrap();
    assert!(matches!(home.try_open(), Err(StoreError::NotAFile { .. })));
}
