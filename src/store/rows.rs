//! Records become rows, rows become records.
//!
//! The rows of `apps` and `workers` carry a checksum: `SQLite` has none, and an app whose script
//! changed by one bit must not start in silence.

use std::collections::BTreeMap;

use rusqlite::{Connection, Result, Row, params};

use super::notice::OpenNote;
use crate::{
    domain::{AppId, AppName, Exit, Pid, Signal, Usage, WorkerId},
    world::{Ended, Goal, Record, Saved, SavedApp, SavedInstance},
};

/// Writes one record. Executed twice it changes nothing more.
pub(super) fn write(connection: &Connection, record: &Record) -> Result<()> {
    match record {
        Record::App(app) => write_app(connection, app),
        Record::AppGone(id) => forget_app(connection, *id),
        Record::Instance(instance) => write_instance(connection, instance),
        Record::Ended(ended) => write_ended(connection, ended),
        Record::Sample { worker, app, unix_millis, usage, cpu_millipercent, heap_used_bytes } => {
            let sample = Sample {
                worker: *worker,
                app,
                unix_millis: *unix_millis,
                usage,
                cpu_percent: f64::from(*cpu_millipercent) / 1000.0,
                heap_used_bytes: heap_used_bytes.unwrap_or(0),
            };
            write_sample(connection, &sample)
        }
    }
}

fn write_app(connection: &Connection, app: &SavedApp) -> Result<()> {
    set_last_app(connection, app.id.0)?;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO apps (id, name, config_json, previous_json, status,
             config_path, created_at, checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            app.id.0,
            app.name.as_str(),
            app.config,
            app.previous,
            status(app.goal, app.asleep),
            app.config_path,
            signed(app.created_unix_millis),
            app_checksum(app),
        ])?;
    Ok(())
}

/// An id is never used again, also when the highest one is forgotten.
pub(super) fn set_last_app(connection: &Connection, id: u32) -> Result<()> {
    connection
        .prepare_cached("UPDATE meta SET value = ?1 WHERE key = 'last_app' AND value < ?1")?
        .execute([id])?;
    Ok(())
}

fn forget_app(connection: &Connection, id: AppId) -> Result<()> {
    set_last_app(connection, id.0)?;
    for sql in [
        "DELETE FROM workers WHERE app_name = (SELECT name FROM apps WHERE id = ?1)",
        "DELETE FROM restart_history WHERE app_name = (SELECT name FROM apps WHERE id = ?1)",
        "DELETE FROM metrics WHERE app_name = (SELECT name FROM apps WHERE id = ?1)",
        "DELETE FROM apps WHERE id = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([id.0])?;
    }
    Ok(())
}

fn write_instance(connection: &Connection, instance: &SavedInstance) -> Result<()> {
    let WorkerId { instance: place, generation } = instance.worker;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO workers (app_id, app_name, worker_id, generation, state, pid,
             started_at, restarts, crashes_in_a_row, crashes_json, checksum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            place.app.0,
            instance.app.as_str(),
            place.index,
            generation,
            instance.state,
            instance.pid.map(|pid| pid.0),
            signed(instance.started_unix_millis.unwrap_or(0)),
            instance.restarts,
            instance.crashes_in_a_row,
            crashes_json(&instance.crashes_unix_millis),
            instance_checksum(instance),
        ])?;
    Ok(())
}

/// The first end of a life is the true one: `OR IGNORE` on its unique index.
fn write_ended(connection: &Connection, ended: &Ended) -> Result<()> {
    let WorkerId { instance: place, generation } = ended.worker;
    let (code, signal) = match ended.exit {
        Some(Exit::Code(code)) => (Some(code), None),
        Some(Exit::Signal(number)) => (None, Some(Signal(number).to_string())),
        Some(Exit::Unknown) | None => (None, None),
    };
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO restart_history (app_id, app_name, worker_id, generation, pid,
             exit_code, signal, uptime_ms, reason, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            place.app.0,
            ended.app.as_str(),
            place.index,
            generation,
            ended.pid.map_or(0, |pid| pid.0), // the original's column is NOT NULL
            code,
            signal,
            i64::try_from(ended.uptime.as_millis()).unwrap_or(i64::MAX),
            ended.reason,
            signed(ended.unix_millis),
        ])?;
    Ok(())
}

/// A [`Record::Sample`] in the original's units.
struct Sample<'a> {
    worker: WorkerId,
    app: &'a AppName,
    unix_millis: u64,
    usage: &'a Usage,
    cpu_percent: f64,
    heap_used_bytes: u64,
}

fn write_sample(connection: &Connection, sample: &Sample<'_>) -> Result<()> {
    let WorkerId { instance: place, generation } = sample.worker;
    connection
        .prepare_cached(
            "INSERT INTO metrics (app_id, app_name, worker_id, generation, rss, heap_used,
             cpu_percent, cpu_micros, fds, threads, processes, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            place.app.0,
            sample.app.as_str(),
            place.index,
            generation,
            signed(sample.usage.rss_bytes),
            signed(sample.heap_used_bytes),
            sample.cpu_percent,
            i64::try_from(sample.usage.cpu.as_micros()).unwrap_or(i64::MAX),
            sample.usage.fds,
            sample.usage.threads,
            sample.usage.processes,
            signed(sample.unix_millis),
        ])?;
    Ok(())
}

/// Most rows of `metrics`: about 10 MB.
const METRICS_MAX: u32 = 100_000;

/// Age at which a row of `metrics` goes, in milliseconds: a day.
const METRICS_AGE_MAX: i64 = 24 * 60 * 60 * 1000;

/// Most rows of `restart_history` of one app.
const HISTORY_MAX: u32 = 1000;

/// Age at which a row of `restart_history` goes, in milliseconds: 30 days.
const HISTORY_AGE_MAX: i64 = 30 * METRICS_AGE_MAX;

/// Forgets history by age, counted back from the newest row, and by number.
pub(super) fn prune(connection: &Connection) -> Result<()> {
    connection.execute(
        "DELETE FROM metrics WHERE id <= (SELECT max(id) FROM metrics) - ?1",
        [METRICS_MAX],
    )?;
    // Rows lie in the order they came, so the search ends at the first that is young enough.
    connection.execute(
        "DELETE FROM metrics WHERE id < (SELECT id FROM metrics WHERE created_at >=
             (SELECT created_at FROM metrics ORDER BY id DESC LIMIT 1) - ?1 ORDER BY id LIMIT 1)",
        [METRICS_AGE_MAX],
    )?;
    connection.execute(
        "DELETE FROM restart_history WHERE id IN (SELECT id FROM (
             SELECT id, row_number() OVER (PARTITION BY app_name ORDER BY id DESC) AS nth
             FROM restart_history) WHERE nth > ?1)
         OR created_at < (SELECT created_at FROM restart_history ORDER BY id DESC LIMIT 1) - ?2",
        params![HISTORY_MAX, HISTORY_AGE_MAX],
    )?;
    Ok(())
}

/// Columns of `apps` in the order [`read_app`] takes them.
const APP_COLUMNS: &str =
    "id, name, config_json, previous_json, status, config_path, created_at, checksum";

/// The same from a file that was never migrated.
const ORIGINAL_APP_COLUMNS: &str =
    "rowid, name, config_json, NULL, 'stopped', config_path, created_at, NULL";

/// Columns of `workers` in the order [`read_instance`] takes them.
const INSTANCE_COLUMNS: &str = "app_id, app_name, worker_id, generation, state, pid, started_at,
    restarts, crashes_in_a_row, crashes_json, checksum";

/// Reads all that is saved.
///
/// # Errors
///
/// Only what keeps the tables from being read. A row that makes no sense stays where it is and
/// becomes a note.
pub(super) fn load(connection: &Connection, notes: &mut Vec<OpenNote>) -> Result<Saved> {
    let mut saved = Saved::default();
    let apps = format!("SELECT {APP_COLUMNS} FROM apps ORDER BY id");
    for row in connection.prepare(&apps)?.query_map([], |row| Ok(read_app(row)))? {
        keep(&mut saved.apps, row?, notes);
    }
    let instances = format!("SELECT {INSTANCE_COLUMNS} FROM workers ORDER BY app_id, worker_id");
    for row in connection.prepare(&instances)?.query_map([], |row| Ok(read_instance(row)))? {
        keep(&mut saved.instances, row?, notes);
    }
    let last = "SELECT max(coalesce((SELECT value FROM meta WHERE key = 'last_app'), 0),
        coalesce((SELECT max(id) FROM apps), 0),
        coalesce((SELECT max(app_id) FROM restart_history), 0))";
    saved.last_app = connection.query_row(last, [], |row| row.get(0))?;
    saved.instances.retain(|instance| is_among(&saved.apps, instance));
    Ok(saved)
}

/// Reads what a damaged file still gives away, each table from both ends up to the damage.
pub(super) fn salvage(connection: &Connection, notes: &mut Vec<OpenNote>) -> Saved {
    let mut apps = BTreeMap::new();
    let mut instances = BTreeMap::new();
    for direction in ["ASC", "DESC"] {
        for columns in [APP_COLUMNS, ORIGINAL_APP_COLUMNS] {
            let sql = format!("SELECT {columns} FROM apps NOT INDEXED ORDER BY rowid {direction}");
            for app in rows(connection, &sql, read_app, notes) {
                apps.entry(app.name.clone()).or_insert(app);
            }
        }
        let sql = format!(
            "SELECT {INSTANCE_COLUMNS} FROM workers NOT INDEXED ORDER BY rowid {direction}"
        );
        for instance in rows(connection, &sql, read_instance, notes) {
            instances.entry(instance.worker.instance).or_insert(instance);
        }
    }
    assemble(connection, apps.into_values().collect(), instances.into_values().collect())
}

/// Gives the salvaged apps ids that are theirs alone.
fn assemble(
    connection: &Connection,
    mut apps: Vec<SavedApp>,
    mut instances: Vec<SavedInstance>,
) -> Saved {
    apps.sort_by_key(|app| app.id);
    apps.dedup_by_key(|app| app.id);
    instances.retain(|instance| is_among(&apps, instance));
    let written = "SELECT value FROM meta WHERE key = 'last_app'";
    let written = connection.query_row(written, [], |row| row.get(0)).unwrap_or(0);
    let last_app = apps.last().map_or(0, |app| app.id.0).max(written);
    Saved { apps, instances, last_app }
}

/// Whether the app of `instance` is one of `apps`, which are in the order of their numbers.
fn is_among(apps: &[SavedApp], instance: &SavedInstance) -> bool {
    apps.binary_search_by_key(&instance.worker.instance.app, |app| app.id).is_ok()
}

/// All rows up to the first error.
fn rows<T>(
    connection: &Connection,
    sql: &str,
    read: impl Fn(&Row<'_>) -> Reading<T>,
    notes: &mut Vec<OpenNote>,
) -> Vec<T> {
    let mut kept = Vec::new();
    let Ok(mut statement) = connection.prepare(sql) else { return kept };
    let Ok(found) = statement.query_map([], |row| Ok(read(row))) else { return kept };
    for reading in found.map_while(Result::ok) {
        keep(&mut kept, reading, notes);
    }
    kept
}

/// A row's record, and what is wrong with the row.
struct Reading<T> {
    record: Option<T>,
    damage: Option<String>,
}

fn keep<T>(kept: &mut Vec<T>, reading: Reading<T>, notes: &mut Vec<OpenNote>) {
    kept.extend(reading.record);
    let note = reading.damage.map(|what| OpenNote::Damaged { what });
    notes.extend(note.filter(|note| !notes.contains(note)));
}

/// Judges a row: what cannot be read is left out, what does not match its checksum is told.
fn judge<T>(
    what: &str,
    record: Result<T>,
    written: Option<i64>,
    sum: impl Fn(&T) -> i64,
) -> Reading<T> {
    match record {
        Ok(record) => {
            let differs = written.is_some_and(|written| written != sum(&record));
            let damage = differs.then(|| format!("{what} is not as it was written; check it"));
            Reading { record: Some(record), damage }
        }
        Err(error) => {
            Reading { record: None, damage: Some(format!("{what} was left out: {error}")) }
        }
    }
}

fn read_app(row: &Row<'_>) -> Reading<SavedApp> {
    let name = row.get::<_, String>(1).unwrap_or_default();
    let record = || {
        let (goal, asleep) = goal(row.get_ref(4)?.as_str().unwrap_or_default());
        Ok(SavedApp {
            id: AppId(row.get(0)?),
            name: read_name(row, 1)?,
            config: row.get(2)?,
            previous: row.get(3)?,
            goal,
            asleep,
            config_path: row.get(5)?,
            created_unix_millis: unsigned(row.get(6)?),
        })
    };
    judge(&format!("app `{}`", name.escape_debug()), record(), checksum(row, 7), app_checksum)
}

fn read_instance(row: &Row<'_>) -> Reading<SavedInstance> {
    let index = row.get::<_, i64>(2).unwrap_or(-1);
    let name = row.get::<_, String>(1).unwrap_or_default();
    let what = format!("worker {index} of app `{}`", name.escape_debug());
    let record = || {
        let started = unsigned(row.get(6)?);
        Ok(SavedInstance {
            worker: WorkerId::new(AppId(row.get(0)?), row.get(2)?, row.get(3)?),
            app: read_name(row, 1)?,
            state: row.get(4)?,
            pid: row.get::<_, Option<i32>>(5)?.map(Pid),
            started_unix_millis: (started > 0).then_some(started),
            restarts: row.get(7)?,
            crashes_in_a_row: row.get(8)?,
            crashes_unix_millis: serde_json::from_str(row.get_ref(9)?.as_str()?)
                .map_err(|error| other(9, error))?,
        })
    };
    judge(&what, record(), checksum(row, 10), instance_checksum)
}

/// The checksum as written. None at all means a row that a migration brought; another type than
/// a number matches nothing.
fn checksum(row: &Row<'_>, column: usize) -> Option<i64> {
    row.get(column).unwrap_or(Some(0))
}

fn read_name(row: &Row<'_>, column: usize) -> Result<AppName> {
    row.get_ref(column)?.as_str()?.parse().map_err(|error| other(column, error))
}

fn other(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

/// What the column `status` says, in the original's words where it had some.
const STATUSES: [(&str, (Goal, bool)); 4] = [
    ("running", (Goal::Run, false)),
    ("sleeping", (Goal::Run, true)),
    ("stopped", (Goal::Rest, false)),
    ("deleting", (Goal::Gone, false)),
];

fn status(goal: Goal, asleep: bool) -> &'static str {
    let meant = (goal, asleep && goal == Goal::Run);
    STATUSES.iter().find(|(_, means)| *means == meant).map_or("stopped", |(word, _)| word)
}

fn goal(status: &str) -> (Goal, bool) {
    let known = STATUSES.iter().find(|(word, _)| *word == status);
    known.map_or((Goal::Rest, false), |(_, means)| *means)
}

fn app_checksum(app: &SavedApp) -> i64 {
    let id = app.id.0.to_string();
    let created = app.created_unix_millis.to_string();
    fnv(&[
        Some(&id),
        Some(app.name.as_str()),
        Some(&app.config),
        app.previous.as_deref(),
        Some(status(app.goal, app.asleep)),
        app.config_path.as_deref(),
        Some(&created),
    ])
}

fn instance_checksum(instance: &SavedInstance) -> i64 {
    let worker = instance.worker.to_string();
    let pid = instance.pid.map(|pid| pid.to_string());
    let started = instance.started_unix_millis.map(|millis| millis.to_string());
    let counts = format!("{} {}", instance.restarts, instance.crashes_in_a_row);
    fnv(&[
        Some(&worker),
        Some(instance.app.as_str()),
        Some(&instance.state),
        pid.as_deref(),
        started.as_deref(),
        Some(&counts),
        Some(&crashes_json(&instance.crashes_unix_millis)),
    ])
}

/// FNV-1a, 64 bits, over fields that cannot run into each other: the bytes 0xfe and 0xff occur in
/// no UTF-8 text.
fn fnv(fields: &[Option<&str>]) -> i64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for field in fields {
        let end: &[u8] = if field.is_some() { &[0xff] } else { &[0xfe] };
        for byte in field.unwrap_or_default().bytes().chain(end.iter().copied()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash.cast_signed()
}

fn crashes_json(crashes: &[u64]) -> String {
    let crashes: Vec<String> = crashes.iter().map(u64::to_string).collect();
    format!("[{}]", crashes.join(","))
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
