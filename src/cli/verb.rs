//! What the commands that change something have in common: order, show how it goes on, tell what
//! came of it.

use serde_json::{Value, json};

use super::{
    client::Daemon,
    failure::{Failure, Outcome, Verdict},
    home::Home,
    launch,
    output::{Format, Out},
    progress::Progress,
    suggest,
};
use crate::control::{
    status::Step,
    wire::{Code, Command, Target},
};

/// One order for one target.
#[derive(Debug)]
pub(crate) struct Order {
    /// Whom it is about, as the user knows it.
    pub(crate) target: Target,
    /// What to tell the daemon.
    pub(crate) command: Command,
}

/// The word for a command that succeeded, as the original's replies have it: `started`, ….
type Done = &'static str;

/// Carries out one order after the other; a failure does not keep the next from being tried.
pub(crate) fn run(home: &Home, orders: Vec<Order>, done: Done, out: &mut Out) -> Outcome {
    let mut results = Vec::new();
    let mut worst = None;
    let alone = orders.len() == 1;
    for order in orders {
        match carry_out(home, order, done, out) {
            Ok(data) => results.push(data),
            Err(failure @ Failure::Closed) => return Err(failure),
            Err(failure) if alone => return Err(failure),
            Err(failure) => {
                let verdict = failure.verdict().unwrap_or(Verdict::Failed);
                results.push(json!({ "error": failure.to_string(), "code": verdict.word() }));
                tell(&failure, out)?;
                worst.get_or_insert(verdict);
            }
        }
    }
    if out.format == Format::Json {
        out.json(&one_or_all(results))?;
    }
    worst.map_or(Ok(()), |verdict| Err(Failure::Told(verdict)))
}

fn tell(failure: &Failure, out: &mut Out) -> Outcome {
    if out.format == Format::Human { out.error(failure) } else { Ok(()) }
}

fn one_or_all(mut results: Vec<Value>) -> Value {
    match (results.pop(), results.is_empty()) {
        (Some(only), true) => only,
        (Some(last), false) => {
            results.push(last);
            Value::Array(results)
        }
        (None, _) => Value::Array(results),
    }
}

/// Carries out one order; returns what to show in JSON.
pub(crate) fn carry_out(
    home: &Home,
    order: Order,
    done: Done,
    out: &mut Out,
) -> Result<Value, Failure> {
    let daemon = Daemon::of(home);
    let Order { target, command } = order;
    let file =
        if let Command::Start { config_path, .. } = &command { config_path.clone() } else { None };
    let mut progress = Progress::default();
    let result = daemon.order(command, &mut |step| progress.show(step, out));
    match result {
        Ok(data) => {
            let data = data.unwrap_or_else(
                || json!({ "name": target.to_string(), "action": done, "daemonRestarted": true }),
            );
            tell_done(&target, done, &data, out)?;
            Ok(data)
        }
        Err(failure) if failure.is_no_such_app() => {
            Err(failure.hint(suggest::names(&daemon, &target)))
        }
        Err(failure @ Failure::Refused { code: Code::AlreadyRunning, .. }) => {
            let file = file.map(|it| format!(" --config {it}")).unwrap_or_default();
            let hint = format!(
                "`bunpilot reload {target}{file}` replaces its workers; see also `restart`, `scale`, `delete`"
            );
            Err(failure.hint(Some(hint)))
        }
        Err(failure @ Failure::Refused { code: Code::NotRunning, .. }) => {
            let whole = matches!(target, Target::App(_));
            Err(failure.hint(whole.then(|| format!("`bunpilot start {target}` starts it"))))
        }
        Err(failure) => {
            if let (Failure::Refused { .. }, Some(step)) = (&failure, progress.ended()) {
                last_words(home, &daemon, step, out)?;
            }
            Err(failure)
        }
    }
}

fn tell_done(target: &Target, done: Done, data: &Value, out: &mut Out) -> Outcome {
    let apps = data.get("apps").and_then(Value::as_array);
    match (target, apps) {
        (Target::All, Some(apps)) if apps.is_empty() => out.warn(nobody(done)),
        (Target::All, Some(apps)) => {
            let names = apps.iter().filter_map(Value::as_str);
            names.into_iter().try_for_each(|name| out.ok(format_args!("\"{name}\" {done}")))
        }
        (Target::All | Target::App(_) | Target::Instance(..), _) => {
            out.ok(format_args!("\"{target}\" {done}{}{}", remarks(data), losses(data)))
        }
    }
}

/// Why `all` means nobody.
fn nobody(done: Done) -> &'static str {
    match done {
        "started" => "nothing to start: no app ran when the daemon went down",
        "restarted" | "reloaded" => "no app runs; `bunpilot list` shows those that are stopped",
        _ => "no app is known",
    }
}

/// What became of connections meanwhile, where bunpilot counts them.
fn losses(data: &Value) -> String {
    let count = |key| data.get("connections")?.get(key)?.as_u64();
    let Some((moved, cut)) = count("moved").zip(count("cut")) else { return String::new() };
    let moved = if moved == 0 { String::new() } else { format!(", {moved} moved to others") };
    match cut {
        0 => format!("; no connection was cut off{moved}"),
        1 => format!("; 1 connection was cut off{moved}"),
        _ => format!("; {cut} connections were cut off{moved}"),
    }
}

/// What a reply says besides name and action.
fn remarks(data: &Value) -> String {
    if data.get("daemonRestarted").is_some() {
        return " (the daemon was restarted meanwhile)".to_owned();
    }
    let Some(data) = data.as_object() else { return String::new() };
    let known = |key: &str| matches!(key, "name" | "action");
    let remarks: Vec<String> = data
        .iter()
        .filter(|(key, value)| !known(key) && (value.is_string() || value.is_number()))
        .map(|(key, value)| match value.as_str() {
            Some(text) => format!("{key}: {text}"),
            None => format!("{key}: {value}"),
        })
        .collect();
    if remarks.is_empty() { String::new() } else { format!(" ({})", remarks.join(", ")) }
}

/// Before the error itself: what the worker that failed last wrote.
fn last_words(home: &Home, daemon: &Daemon, step: &Step, out: &mut Out) -> Outcome {
    let app = daemon.apps(&Target::App(step.app.clone())).unwrap_or_default().pop();
    let file = error_log(home, app.as_ref().map(|it| &it.config), step);
    match launch::tail(&file) {
        Ok(tail) if !tail.is_empty() && out.format == Format::Human => {
            writeln!(out.stderr(), "  the end of `{}`:\n{tail}", file.display())?;
            Ok(())
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Where the worker's standard error goes.
fn error_log(home: &Home, config: Option<&Value>, step: &Step) -> std::path::PathBuf {
    let chosen = config
        .and_then(|it| it.pointer("/logs/errFile"))
        .and_then(Value::as_str)
        .map(std::path::PathBuf::from);
    let Step { app, worker, .. } = step;
    match chosen {
        Some(file) if *worker == 0 => file,
        Some(file) => {
            let base = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let extension =
                file.extension().map(|it| format!(".{}", it.to_string_lossy())).unwrap_or_default();
            file.with_file_name(format!("{base}-{worker}{extension}"))
        }
        None => home.logs().join(app).join(format!("{app}-{worker}-err.log")),
    }
}
