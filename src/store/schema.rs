//! The tables, and how older ones become these.
//!
//! Version 0 is the original's; every later layout is reached from it by the same steps, so a new
//! file and a migrated one cannot differ. Tables and columns of the original keep their names.

use rusqlite::{Connection, Result};

/// The `user_version` written here.
pub(super) const VERSION: u32 = 1;

/// One step per version: what leads from `n` to `n + 1`.
const STEPS: [&str; 1] = [FROM_ORIGINAL];

/// `AppId`s are row numbers first: a migrated app keeps its place in the list. What matters most
/// comes first in the file, where a cut end does not reach it.
const FROM_ORIGINAL: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS apps (
    name        TEXT PRIMARY KEY,
    config_json TEXT NOT NULL,
    status      TEXT NOT NULL DEFAULT 'stopped',
    config_path TEXT,
    created_at  INTEGER NOT NULL DEFAULT (unixepoch('subsec') * 1000),
    updated_at  INTEGER NOT NULL DEFAULT (unixepoch('subsec') * 1000)
);
CREATE TABLE IF NOT EXISTS workers (
    app_name    TEXT NOT NULL,
    worker_id   INTEGER NOT NULL,
    state       TEXT NOT NULL DEFAULT 'stopped',
    pid         INTEGER,
    started_at  INTEGER NOT NULL DEFAULT (unixepoch('subsec') * 1000),
    extra_json  TEXT,
    PRIMARY KEY (app_name, worker_id)
);
CREATE TABLE IF NOT EXISTS restart_history (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    app_name    TEXT NOT NULL,
    worker_id   INTEGER NOT NULL,
    pid         INTEGER NOT NULL,
    exit_code   INTEGER,
    signal      TEXT,
    uptime_ms   INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    created_at  INTEGER NOT NULL DEFAULT (unixepoch('subsec') * 1000)
);
CREATE TABLE IF NOT EXISTS metrics (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    app_name       TEXT NOT NULL,
    worker_id      INTEGER NOT NULL,
    rss            INTEGER NOT NULL,
    heap_used      INTEGER NOT NULL,
    cpu_percent    REAL NOT NULL,
    event_loop_lag REAL,
    created_at     INTEGER NOT NULL DEFAULT (unixepoch('subsec') * 1000)
);
CREATE INDEX IF NOT EXISTS idx_restart_app ON restart_history (app_name, created_at DESC);
CREATE INDEX IF NOT EXISTS idx_metrics_app ON metrics (app_name, created_at DESC);

ALTER TABLE apps ADD COLUMN id INTEGER;
ALTER TABLE apps ADD COLUMN previous_json TEXT;
ALTER TABLE apps ADD COLUMN checksum INTEGER;
UPDATE apps SET id = rowid, status = 'stopped';
CREATE UNIQUE INDEX apps_id ON apps (id);

ALTER TABLE workers ADD COLUMN app_id INTEGER;
ALTER TABLE workers ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workers ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workers ADD COLUMN crashes_in_a_row INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workers ADD COLUMN crashes_json TEXT NOT NULL DEFAULT '[]';
ALTER TABLE workers ADD COLUMN checksum INTEGER;
UPDATE workers SET state = 'stopped', pid = NULL,
    app_id = (SELECT id FROM apps WHERE name = app_name);

ALTER TABLE restart_history ADD COLUMN app_id INTEGER;
ALTER TABLE restart_history ADD COLUMN generation INTEGER;
CREATE UNIQUE INDEX restart_history_life ON restart_history (app_id, worker_id, generation);

ALTER TABLE metrics ADD COLUMN app_id INTEGER;
ALTER TABLE metrics ADD COLUMN generation INTEGER;
ALTER TABLE metrics ADD COLUMN cpu_micros INTEGER;
ALTER TABLE metrics ADD COLUMN fds INTEGER;
ALTER TABLE metrics ADD COLUMN threads INTEGER;
ALTER TABLE metrics ADD COLUMN processes INTEGER;

INSERT INTO meta VALUES ('last_app', (SELECT coalesce(max(id), 0) FROM apps));
";

/// The version of the open file; 0 for the original's and for an empty one.
pub(super) fn version(connection: &Connection) -> Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings the file to [`VERSION`], all steps or none.
pub(super) fn migrate(connection: &mut Connection, from: u32) -> Result<()> {
    let transaction = connection.transaction()?;
    for step in STEPS.iter().skip(usize::try_from(from).unwrap_or(usize::MAX)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
