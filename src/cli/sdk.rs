//! `bunpilot sdk install`: puts the worker SDK into a project.
//!
//! Decides which files go where, and tells how to keep them there. Never touches a file that is
//! not the SDK's.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::sdk::{JS, PYTHON, SdkFile};

/// Folder of the npm package in projects that pin it, beside `package.json`.
const PINNED: &str = "bunpilot-sdk";

/// Which SDK to install.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum What {
    /// That of the languages the project is written in, as its files tell; JavaScript if they
    /// tell nothing.
    #[default]
    Detect,
    /// The npm package.
    Js,
    /// The Python module.
    Python,
}

/// Why the SDK is not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// There is no such project.
    #[error("`{}` is not a folder; name the one your project is in", path.display())]
    NoFolder {
        /// What was named.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write `{}`; check who owns it", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody listens to what was done.
    #[error("the SDK is installed, but this could not be printed")]
    Say(#[from] io::Error),
}

/// Installs `what` into the project in `dir` and tells `out` what was done and what is to do.
///
/// # Errors
///
/// [`InstallError`]; files written before stay.
pub fn install(dir: &Path, what: What, out: &mut dyn Write) -> Result<(), InstallError> {
    if !dir.is_dir() {
        return Err(InstallError::NoFolder { path: dir.to_owned() });
    }
    let (js, python) = match what {
        What::Js => (true, false),
        What::Python => (false, true),
        What::Detect => detect(dir),
    };
    if js {
        install_js(dir, out)?;
    }
    if python {
        install_python(dir, out)?;
    }
    Ok(())
}

/// Whether the project is written in JavaScript and whether in Python.
fn detect(dir: &Path) -> (bool, bool) {
    let names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !JS.iter().chain(PYTHON).any(|file| file.name == name))
        .collect();
    let any = |signs: &[&str]| signs.iter().any(|sign| names.iter().any(|it| it.ends_with(sign)));
    let python = any(&["pyproject.toml", "requirements.txt", ".py"]);
    let js = any(&["package.json", ".js", ".mjs", ".cjs", ".ts", ".mts"]);
    (js || !python, python)
}

fn install_js(dir: &Path, out: &mut dyn Write) -> Result<(), InstallError> {
    let installed = dir.join("node_modules").join("bunpilot");
    let Some(package) = read_package(dir) else {
        write_files(&installed, JS)?;
        writeln!(out, "wrote `node_modules/bunpilot`: import from 'bunpilot/worker'")?;
        return Ok(());
    };
    write_files(&dir.join(PINNED), JS)?;
    writeln!(out, "wrote `{PINNED}`: keep it with your project")?;
    write_files(&installed, JS)?;
    writeln!(out, "wrote `node_modules/bunpilot`: import from 'bunpilot/worker'")?;
    let wanted = format!("file:./{PINNED}");
    match dependency(&package) {
        Some(version)
            if version.trim_end_matches('/') == wanted || version == format!("file:{PINNED}") =>
        {
            writeln!(out, "`package.json` already depends on it")?;
        }
        Some(version) => writeln!(
            out,
            "`package.json` wants `bunpilot` {version}, which the next install puts back; \
             run `npm install ./{PINNED}` (or `bun add ./{PINNED}`) to use this one instead"
        )?,
        None => writeln!(
            out,
            "the next install removes it from `node_modules` unless `package.json` depends on it: \
             run `npm install ./{PINNED}` (or `bun add ./{PINNED}`), which adds \
             `\"bunpilot\": \"{wanted}\"`"
        )?,
    }
    Ok(())
}

fn read_package(dir: &Path) -> Option<Value> {
    let text = fs::read_to_string(dir.join("package.json")).ok()?;
    Some(serde_json::from_str(&text).unwrap_or_default())
}

/// The version of `bunpilot` a `package.json` asks for.
fn dependency(package: &Value) -> Option<&str> {
    ["dependencies", "devDependencies", "optionalDependencies"]
        .iter()
        .find_map(|kind| package.get(kind)?.get("bunpilot")?.as_str())
}

fn install_python(dir: &Path, out: &mut dyn Write) -> Result<(), InstallError> {
    write_files(dir, PYTHON)?;
    writeln!(out, "wrote `bunpilot_worker.py`: `import bunpilot_worker`")?;
    Ok(())
}

/// Writes each file whole: a worker that starts meanwhile reads the old one or the new one.
fn write_files(folder: &Path, files: &[SdkFile]) -> Result<(), InstallError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| InstallError::Write { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    for file in files {
        let (path, part) = (folder.join(file.name), folder.join(format!("{}.part", file.name)));
        fs::write(&part, file.text).map_err(failed(&part))?;
        fs::rename(&part, &path).map_err(failed(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Installs into a project with these files and compares what is said; returns what is there.
    #[track_caller]
    fn check(test: &str, files: &[(&str, &str)], what: What, said: &Expect) -> Vec<String> {
        let name = format!("bunpilot-sdk-{test}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        for (name, text) in files {
            fs::write(dir.join(name), text).unwrap();
        }
        let mut out = Vec::new();
        install(&dir, what, &mut out).unwrap();
        install(&dir, what, &mut Vec::new()).unwrap();
        said.assert_eq(&String::from_utf8(out).unwrap());
        let mut there = Vec::new();
        for folder in ["", "bunpilot-sdk", "node_modules/bunpilot"] {
            for entry in fs::read_dir(dir.join(folder)).into_iter().flatten() {
                let path = entry.unwrap().path();
                there.push(path.strip_prefix(&dir).unwrap().display().to_string());
            }
        }
        fs::remove_dir_all(&dir).unwrap();
        there.sort();
        there
    }

    #[test]
    fn into_a_python_project() {
        let said = expect![[r#"
            wrote `bunpilot_worker.py`: `import bunpilot_worker`
        "#]];
        let there = check("python", &[("app.py", "")], What::Detect, &said);
        assert_eq!(there, ["app.py", "bunpilot_worker.py"]);
    }

    #[test]
    fn into_a_folder_of_scripts() {
        let said = expect![[r#"
            wrote `node_modules/bunpilot`: import from 'bunpilot/worker'
        "#]];
        let there = check("scripts", &[("server.ts", "")], What::Detect, &said);
        assert!(there.contains(&"node_modules/bunpilot/worker.mjs".to_owned()), "{there:?}");
        assert_eq!(there.len(), 2 + JS.len(), "{there:?}");
    }

    #[test]
    fn into_a_package() {
        let said = expect![[r#"
            wrote `bunpilot-sdk`: keep it with your project
            wrote `node_modules/bunpilot`: import from 'bunpilot/worker'
            the next install removes it from `node_modules` unless `package.json` depends on it: run `npm install ./bunpilot-sdk` (or `bun add ./bunpilot-sdk`), which adds `"bunpilot": "file:./bunpilot-sdk"`
        "#]];
        let there = check("package", &[("package.json", "{}")], What::Detect, &said);
        assert_eq!(there.len(), 3 + 2 * JS.len(), "{there:?}");
    }

    #[test]
    fn into_a_package_that_is_pinned() {
        let package = r#"{"dependencies":{"bunpilot":"file:bunpilot-sdk"}}"#;
        let said = expect![[r#"
            wrote `bunpilot-sdk`: keep it with your project
            wrote `node_modules/bunpilot`: import from 'bunpilot/worker'
            `package.json` already depends on it
        "#]];
        check("pinned", &[("package.json", package)], What::Js, &said);
    }

    #[test]
    fn into_a_package_that_wants_another() {
        let package = r#"{"devDependencies":{"bunpilot":"^0.2.1"}}"#;
        let said = expect![[r#"
            wrote `bunpilot-sdk`: keep it with your project
            wrote `node_modules/bunpilot`: import from 'bunpilot/worker'
            `package.json` wants `bunpilot` ^0.2.1, which the next install puts back; run `npm install ./bunpilot-sdk` (or `bun add ./bunpilot-sdk`) to use this one instead
        "#]];
        check("other", &[("package.json", package)], What::Js, &said);
    }

    #[test]
    fn into_nothing() {
        let error = install(Path::new("/nonexistent/x"), What::Js, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, InstallError::NoFolder { .. }));
    }
}
