//! What `start` was asked to start: scripts, folders, environments and files are resolved here,
//! where the caller is, so that the daemon never has to guess them.

use std::{
    collections::BTreeMap,
    num::NonZeroU16,
    path::{Path, PathBuf},
    rc::Rc,
};

use serde_json::Value;

use super::{
    args::{Env, Instances, Start},
    failure::Failure,
    output::look,
};
use crate::{
    config::{
        Base, Engine, Host, Problem, Rejected, discover, is_config, load,
        raw::{self, Count, RawApp, Words},
        resolve,
    },
    domain::{AppName, AppSpec, LogFiles, LogMode},
    platform::host::{Machine, caller},
};

/// One app to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Its name.
    pub(crate) name: String,
    /// Its configuration for the daemon; `None`: the one the daemon knows.
    pub(crate) config: Option<Value>,
    /// The file it came from.
    pub(crate) config_path: Option<String>,
    /// How many workers it will have, if we know.
    pub(crate) instances: Option<u16>,
}

/// The apps to start, and what to tell the user about them.
#[derive(Debug)]
pub(crate) struct Plan {
    /// In the order of the file.
    pub(crate) apps: Vec<Planned>,
    /// Warnings about the file, ready to print.
    pub(crate) warnings: Vec<String>,
    /// Port of the metrics server the apps ask for.
    pub(crate) http_port: Option<u16>,
}

/// Makes the plan.
pub(crate) fn plan(args: &Start) -> Result<Plan, Failure> {
    let profile = profile(&args.env)?;
    let base = caller(profile.clone()).map_err(Failure::io("find the current folder"))?;
    match source(args, &base.cwd)? {
        Source::File(file) => from_file(args, &file, &base),
        Source::Script(_) | Source::Known(_) if profile.is_some() => Err(Failure::Usage(format!(
            "`--env {}` chooses a profile of a config file; write `--env KEY=VALUE` for a variable",
            profile.unwrap_or_default()
        ))),
        Source::Script(script) => Ok(script_alone(args, script, &base)?.into()),
        Source::Known(name) => known(args, name).map(Plan::from),
    }
}

/// Reads apps from a configuration file, as `reload --config` does.
pub(crate) fn of_file(
    file: &Path,
    engine: Engine,
    profile: Option<String>,
) -> Result<Plan, Failure> {
    let base = caller(profile).map_err(Failure::io("find the current folder"))?;
    let args = Start { config_runtime: engine, ..Start::default() };
    from_file(&args, file, &base)
}

/// The apps of a configuration file, as they stand there.
pub(crate) fn specs(file: &Path, engine: Engine) -> Result<Vec<AppSpec>, Failure> {
    let base = caller(None).map_err(Failure::io("find the current folder"))?;
    let host: Rc<dyn Host> = Rc::new(Machine);
    let loaded = load(file, engine, &base, &host).map_err(|it| rejected(WRONG, &it))?;
    Ok(loaded.apps)
}

/// Fills in all that an app's configuration leaves out, for this machine and user.
pub(crate) fn resolved(config: Value) -> Result<Value, Failure> {
    let raw = serde_json::from_value(config)
        .map_err(|error| Failure::config(format!("cannot read the configuration: {error}")))?;
    let base = caller(None).map_err(Failure::io("find the current folder"))?;
    let spec = resolve::app(&raw, &base, &Machine).map_err(|it| rejected(WRONG, &it.into()))?;
    json(&spec)
}

impl From<Planned> for Plan {
    fn from(app: Planned) -> Self {
        Self { apps: vec![app], warnings: Vec::new(), http_port: None }
    }
}

/// What is to be started.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    File(PathBuf),
    Script(String),
    Known(String),
}

fn source(args: &Start, folder: &Path) -> Result<Source, Failure> {
    if let Some(Some(file)) = &args.config {
        return Ok(Source::File(file.clone()));
    }
    let Some(what) = &args.what else {
        return discover(folder, &Machine).map(Source::File).ok_or_else(|| {
            Failure::Usage(format!(
                "nothing to start: name a script, a config file or an app; there is no config file in `{}` (`bunpilot init` writes one)",
                folder.display()
            ))
        });
    };
    let path = Path::new(what);
    let is_file = Machine.file_kind(&folder.join(path)).is_file();
    Ok(if args.config.is_some() || is_file && is_config(path) {
        Source::File(path.to_owned())
    } else if is_file || !is_name(what) {
        Source::Script(what.clone())
    } else {
        Source::Known(what.clone())
    })
}

/// Whether a text that names no file may be the name of an app.
fn is_name(text: &str) -> bool {
    // `server.ts` could be one, but is a script that is missing.
    text.parse::<AppName>().is_ok() && Path::new(text).extension().is_none()
}

fn profile(env: &[Env]) -> Result<Option<String>, Failure> {
    let mut profiles = env.iter().filter_map(|it| match it {
        Env::Profile(name) => Some(name.clone()),
        Env::Set(..) => None,
    });
    match (profiles.next(), profiles.next()) {
        (Some(one), Some(other)) => Err(Failure::Usage(format!(
            "`--env {one}` and `--env {other}` both choose a profile; write `--env KEY=VALUE` for a variable"
        ))),
        (one, _) => Ok(one),
    }
}

fn variables(env: &[Env]) -> BTreeMap<String, String> {
    env.iter()
        .filter_map(|it| match it {
            Env::Set(key, value) => Some((key.clone(), value.clone())),
            Env::Profile(_) => None,
        })
        .collect()
}

fn script_alone(args: &Start, script: String, base: &Base) -> Result<Planned, Failure> {
    let name = args.name.clone().unwrap_or_else(|| name_of(&script));
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let raw = RawApp {
        name: Some(name.clone()),
        // A bare word is a file of this folder first; without one it may be a program.
        script: Some(script),
        args: Some(Words::List(args.args.clone())),
        interpreter: args.interpreter.clone().map(Words::Line),
        cwd: args.cwd.as_ref().map(text),
        instances: args.instances.map(|it| match it {
            Instances::Count(count) => raw::Instances::Count(count.get().into()),
            Instances::Max => raw::Instances::Max,
        }),
        port: args.port.map(|it| Count(it.get().into())),
        env: Some(variables(&args.env)),
        ..RawApp::default()
    };
    let spec = resolve::app(&raw, base, &Machine)
        .map_err(|it| rejected(format!("cannot start \"{name}\""), &it.into()))?;
    planned(&logged(spec, args), None)
}

/// `./src/server.ts` → `server`.
fn name_of(script: &str) -> String {
    let stem = Path::new(script).file_stem().unwrap_or_default().to_string_lossy();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = stem.chars().map(|c| if legal(c) { c } else { '_' }).collect();
    name.trim_start_matches(['.', '-']).chars().take(64).collect()
}

fn from_file(args: &Start, file: &Path, base: &Base) -> Result<Plan, Failure> {
    for (given, flag) in [
        (args.cwd.is_some(), "--cwd"),
        (args.interpreter.is_some(), "--interpreter"),
        (!args.args.is_empty(), "arguments after `--`"),
    ] {
        if given {
            return Err(Failure::Usage(format!(
                "{flag} goes with a script; in a config file it is a key of each app"
            )));
        }
    }
    let host: Rc<dyn Host> = Rc::new(Machine);
    let loaded = load(file, args.config_runtime, base, &host).map_err(|it| rejected(WRONG, &it))?;
    let mut specs = loaded.apps;
    if let Some(name) = &args.name {
        specs = vec![only(specs, name, file)?];
    }
    if specs.len() > 1 && (args.port.is_some() || args.instances.is_some()) {
        return Err(Failure::Usage(
            "the config file has several apps; choose the one `--port` and `--instances` are for with `--name`"
                .to_owned(),
        ));
    }
    let config_path = loaded.file.to_string_lossy().into_owned();
    let apps = specs
        .iter()
        .map(|spec| planned(&adjusted(spec, args), Some(config_path.clone())))
        .collect::<Result<_, _>>()?;
    let warnings = loaded.warnings.iter().map(Problem::line).collect();
    Ok(Plan { apps, warnings, http_port: resolve::http_port(&specs) })
}

fn only(specs: Vec<AppSpec>, name: &str, file: &Path) -> Result<AppSpec, Failure> {
    let names: Vec<_> = specs.iter().map(|it| format!("`{}`", it.name)).collect();
    specs.into_iter().find(|it| it.name.as_str() == name).ok_or_else(|| {
        let (file, names) = (file.display(), names.join(", "));
        Failure::config(format!("`{file}` has no app `{name}`; there is {names}"))
    })
}

/// The spec with what the command line says otherwise.
fn adjusted(spec: &AppSpec, args: &Start) -> AppSpec {
    let mut spec = logged(spec.clone(), args);
    spec.port = args.port.or(spec.port);
    spec.env.extend(variables(&args.env));
    match args.instances {
        None => spec,
        Some(Instances::Count(count)) => resolve::rescale(&spec, count),
        Some(Instances::Max) => resolve::rescale(&spec, Machine.cpus()),
    }
}

/// The same for what becomes of its output.
fn logged(mut spec: AppSpec, args: &Start) -> AppSpec {
    if args.merge_logs {
        spec.logs.files = LogFiles::Merged;
    }
    if args.time {
        spec.logs.mode = LogMode::Timestamps;
    }
    spec
}

fn known(args: &Start, name: String) -> Result<Planned, Failure> {
    let plain = Start { what: args.what.clone(), no_daemon: args.no_daemon, ..Start::default() };
    if plain != *args {
        return Err(Failure::Usage(format!(
            "there is no file `{name}`; an app that is known starts as it was, without flags (see `bunpilot scale`, `bunpilot reload --config`)"
        )));
    }
    Ok(Planned { name, config: None, config_path: None, instances: None })
}

fn planned(spec: &AppSpec, config_path: Option<String>) -> Result<Planned, Failure> {
    let (name, instances) = (spec.name.to_string(), Some(NonZeroU16::get(spec.instances)));
    Ok(Planned { name, config: Some(json(spec)?), config_path, instances })
}

fn json(spec: &AppSpec) -> Result<Value, Failure> {
    serde_json::to_value(RawApp::of(spec))
        .map_err(|error| Failure::Local(format!("cannot write `{}` as JSON: {error}", spec.name)))
}

/// What is said above the pictures of a file that is wrong.
const WRONG: &str = "the configuration is wrong";

/// All that is wrong with a configuration, with pictures.
fn rejected(headline: impl Into<String>, rejected: &Rejected) -> Failure {
    let mut picture = Vec::new();
    let drawn = rejected.write(&mut picture, look());
    Failure::Config {
        headline: headline.into(),
        message: rejected.to_string(),
        // The message says it all, too.
        picture: drawn.map(|()| String::from_utf8_lossy(&picture).into_owned()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
