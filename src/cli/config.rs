//! `bunpilot config check` and `bunpilot config schema`.

use std::{
    io::{self, Write},
    path::Path,
    rc::Rc,
};

use serde_json::json;

use crate::config::{
    Base, Engine, Host, Look, Problem, Rejected, discover, load, raw::RawApp, schema, write_problem,
};

/// Whether a configuration is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Good,
    /// It is not, and why was written.
    Bad,
}

/// How [`check`] shows the apps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Human,
    /// As JSON.
    Json,
}

/// Reads `file`, or the configuration of the caller's folder, and shows its apps with every
/// default filled in on `out`; or what is wrong with it on `err`.
///
/// The inherited part of the environment is not shown.
///
/// # Errors
///
/// Those of `out` and `err`.
pub fn check(
    file: Option<&Path>,
    engine: Engine,
    caller: &Base,
    host: &Rc<dyn Host>,
    form: Form,
    look: Look,
    (out, err): (&mut dyn Write, &mut dyn Write),
) -> io::Result<Verdict> {
    let found = match file {
        Some(file) => Ok(file.to_path_buf()),
        None => discover(&caller.cwd, &**host).ok_or_else(|| none_in(&caller.cwd)),
    };
    let loaded = match found.and_then(|file| load(&file, engine, caller, host)) {
        Ok(loaded) => loaded,
        Err(rejected) => return rejected.write(err, look).map(|()| Verdict::Bad),
    };
    for warning in &loaded.warnings {
        write_problem(warning, err, look)?;
    }
    let apps: Vec<RawApp> =
        loaded.apps.iter().map(|spec| shown(RawApp::of(spec), caller)).collect();
    if form == Form::Human {
        let count = apps.len();
        let noun = if count == 1 { "app" } else { "apps" };
        writeln!(out, "{} is right: {count} {noun}", loaded.file.display())?;
    }
    let text = serde_json::to_string_pretty(&json!({ "apps": apps })).map_err(io::Error::other)?;
    writeln!(out, "{text}")?;
    Ok(Verdict::Good)
}

/// Writes the JSON Schema of the configuration.
///
/// # Errors
///
/// Those of `out`.
pub fn print_schema(out: &mut dyn Write) -> io::Result<()> {
    let text = serde_json::to_string_pretty(&schema()).map_err(io::Error::other)?;
    writeln!(out, "{text}")
}

fn none_in(folder: &Path) -> Rejected {
    Problem::new(format!("there is no configuration in `{}`", folder.display()))
        .help("`bunpilot init` writes one; or name a file")
        .into()
}

/// The app without what it merely inherits.
fn shown(mut app: RawApp, caller: &Base) -> RawApp {
    if let Some(env) = &mut app.env {
        env.retain(|name, value| caller.env.get(name) != Some(value));
    }
    app.inherit_env = Some(true);
    app
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::host::Machine;

    /// Writes `text` into a folder of its own and checks it.
    fn checked(name: &str, text: &str) -> (Verdict, String, String) {
        let folder = format!("bunpilot-check-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("bunpilot.json"), text).unwrap();
        let env = [("PATH".to_owned(), "/bin".to_owned())].into();
        let caller = Base { cwd: folder.clone(), env, profile: None };
        let host: Rc<dyn Host> = Rc::new(Machine);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let streams: (&mut dyn Write, &mut dyn Write) = (&mut out, &mut err);
        let verdict =
            check(None, Engine::BuiltIn, &caller, &host, Form::Json, Look::Plain, streams);
        std::fs::remove_dir_all(&folder).unwrap();
        (verdict.unwrap(), String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_good_file_is_shown_whole_and_loads_again() {
        let text = r#"{ "name": "a", "script": "sh", "cwd": "/", "env": { "A": "1" } }"#;
        let (verdict, out, err) = checked("good", text);
        assert_eq!((verdict, &*err), (Verdict::Good, ""));
        let shown: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(shown["apps"][0]["env"], json!({ "A": "1" }));
        assert_eq!(shown["apps"][0]["killTimeout"], 5000);
        let (again, twice, err) = checked("again", &out);
        assert_eq!((again, &*err), (Verdict::Good, ""));
        assert_eq!(twice, out);
    }

    #[test]
    fn a_bad_file_is_explained() {
        let (verdict, out, err) = checked("bad", r#"{ "name": "a", "script": "sh", "porrt": 1 }"#);
        assert_eq!((verdict, &*out), (Verdict::Bad, ""));
        assert!(err.contains("did you mean `port`?"), "{err}");
    }

    #[test]
    fn the_schema_is_json() {
        let mut out = Vec::new();
        print_schema(&mut out).unwrap();
        let schema: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert!(schema["$defs"]["RawApp"]["properties"]["killTimeout"].is_object());
    }
}
