//! From what the user wrote to what it means: every default, every bound, every relative path.
//!
//! Pure but for what it asks through [`Host`]. Finds all faults, not only the first, and never
//! touches the file the words came from: a [`Fault`] only names a place in the value.

mod desk;
mod program;
mod remarks;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
    path::{Path, PathBuf},
};

use super::{
    fault::{Aim, Fault, Segment},
    host::Host,
    raw::{RawApp, RawConfig},
};
use crate::domain::AppSpec;
use desk::Desk;
pub use remarks::{http_port, remarks};

/// Where the words were spoken: what relative paths start from, and what is inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// The configuration file's folder, or the shell's for a script; absolute.
    pub cwd: PathBuf,
    /// The caller's environment.
    pub env: BTreeMap<String, String>,
    /// The profile chosen by `--env`, a key of `envs`.
    pub profile: Option<String>,
}

/// Makes a spec of one app.
///
/// # Errors
///
/// Every fault in `raw`, at paths within it.
pub fn app(raw: &RawApp, base: &Base, host: &dyn Host) -> Result<AppSpec, Vec<Fault>> {
    let mut desk = Desk { base, host, faults: Vec::new() };
    match desk.app(raw) {
        Some(spec) if desk.faults.is_empty() => Ok(spec),
        _ => Err(desk.faults),
    }
}

/// Makes specs of all apps of a configuration; names and ports must be unique.
///
/// # Errors
///
/// Every fault in `raw`, at paths within it.
pub fn apps(raw: &RawConfig, base: &Base, host: &dyn Host) -> Result<Vec<AppSpec>, Vec<Fault>> {
    let raw_apps = raw.apps.as_deref().unwrap_or_default();
    let mut faults = Vec::new();
    if raw_apps.is_empty() {
        faults.push(empty(raw));
    }
    let mut specs = Vec::new();
    for (index, raw_app) in raw_apps.iter().enumerate() {
        match app(raw_app, base, host) {
            Ok(spec) => specs.push(spec),
            Err(of_app) => faults.extend(of_app.into_iter().map(|fault| fault.within(index))),
        }
    }
    faults.extend(duplicates(raw_apps));
    faults.extend(unknown_profile(raw_apps, base));
    if faults.is_empty() { Ok(specs) } else { Err(faults) }
}

/// The same app with another number of workers.
#[must_use]
pub fn rescale(spec: &AppSpec, instances: NonZeroU16) -> AppSpec {
    AppSpec { instances, ..spec.clone() }
}

impl Fault {
    fn new(path: &[&str], message: impl Into<String>) -> Self {
        Self {
            path: path.iter().map(|key| Segment::from(*key)).collect(),
            aim: Aim::Value,
            message: message.into(),
            help: None,
        }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same fault, seen from the whole configuration.
    fn within(mut self, index: usize) -> Self {
        self.path.splice(0..0, [Segment::from("apps"), Segment::from(index)]);
        self
    }
}

fn empty(raw: &RawConfig) -> Fault {
    let message = match raw.apps {
        Some(_) => "`apps` is empty",
        None => "a configuration needs `apps`, the list of apps to run",
    };
    Fault::new(&["apps"], message).help("e.g. `apps: [{ name: 'api', script: './src/server.ts' }]`")
}

/// Faults for names and ports that an earlier app already has.
fn duplicates(apps: &[RawApp]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let (mut names, mut ports) = (BTreeMap::new(), BTreeMap::new());
    for (index, app) in apps.iter().enumerate() {
        if let Some(name) = &app.name
            && names.insert(name, index).is_some()
        {
            let message = format!("another app is called `{name}`, too");
            faults.push(Fault::new(&["name"], message).within(index));
        }
        if let Some(port) = app.port
            && let Some(other) = ports.insert(port.0, app.name.as_deref().unwrap_or("another app"))
        {
            let message = format!("`{other}` has port {} already", port.0);
            faults.push(Fault::new(&["port"], message).within(index));
        }
    }
    faults
}

/// A fault if the chosen profile means nothing to any app.
fn unknown_profile(apps: &[RawApp], base: &Base) -> Option<Fault> {
    let profile = base.profile.as_ref()?;
    let known: Vec<_> =
        apps.iter().flat_map(|app| app.envs.iter().flat_map(BTreeMap::keys)).collect();
    if known.contains(&profile) {
        return None;
    }
    let help = if known.is_empty() {
        format!("add `envs: {{ {profile}: {{ … }} }}` to an app")
    } else {
        let names: BTreeSet<_> = known.iter().map(|name| format!("`{name}`")).collect();
        format!("there is {}", names.into_iter().collect::<Vec<_>>().join(", "))
    };
    Some(Fault::new(&["apps"], format!("no app has a profile `{profile}`")).help(help))
}

/// `path` seen from `folder`, without `.` and doubled slashes. A `..` stays: behind a link it
/// means what only the file system knows.
fn absolute(folder: &Path, path: impl AsRef<Path>) -> PathBuf {
    folder.join(path).components().collect()
}

#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod tests;
