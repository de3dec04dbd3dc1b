//! `cargo xtask build-ebpf [--check]`: builds what runs in the kernel, or proves that what is
//! committed is what the sources say.
//!
//! The objects, one for each `[[bin]]` of `ebpf/Cargo.toml`, lie in `ebpf/prebuilt`, so nobody but
//! who changes `ebpf/` needs what this needs: a compiler with unstable features and the source of
//! `core`, and bpf-linker. On Debian, root gets them fetched; others are told what is missing. The
//! same tools make the same bytes wherever they stand: paths are mapped to fixed ones, and what
//! only debuggers read is left out. Other tools make other bytes, which proves nothing about the
//! sources; `BUILD.txt` names those that made the objects.

mod object;
mod toolchain;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use self::toolchain::Toolchain;
pub(crate) use self::toolchain::{LINKER, LINKER_PROFILE, LLVM, PACKAGES};
use crate::{
    shell::{self, root, say},
    tools,
};

/// The target every kernel with little-endian words runs.
const TARGET: &str = "bpfel-unknown-none";

/// Names the tools that made the objects.
const BUILD_FILE: &str = "BUILD.txt";

/// How the committed objects compare with those built here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They are the same, byte for byte.
    Same,
    /// These differ, and so do the tools: nothing follows.
    OtherTools(Vec<String>),
}

/// Why there is no verdict, or a bad one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// No compiler or linker that could.
    #[error(
        "nothing here can build for `{TARGET}`:\n  {}\nbunpilot itself builds without: the objects \
         in ebpf/prebuilt are committed", .0.join("\n  ")
    )]
    NoTools(Vec<String>),
    /// The build failed.
    #[error(transparent)]
    Build(#[from] shell::Failure),
    /// Cargo does not tell what it would build.
    #[error("cannot tell which objects `ebpf/Cargo.toml` makes; try `cargo metadata` there")]
    NoNames,
    /// What the linker wrote is not as expected.
    #[error("cannot strip the object `{name}`: {why}")]
    Strip { name: String, why: String },
    /// A file could not be read or written.
    #[error("cannot {what} `{}`: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    /// The tools are those of [`BUILD_FILE`], the bytes are not.
    #[error(
        "not what the sources say, though the tools are the same: {}; run `cargo xtask build-ebpf` \
         and commit ebpf/prebuilt", .0.join(", ")
    )]
    Differs(Vec<String>),
    /// Objects without a source, or sources without an object.
    #[error(
        "committed is {committed}, `ebpf/Cargo.toml` makes {made}; run `cargo xtask build-ebpf` \
         and commit ebpf/prebuilt"
    )]
    Others { committed: String, made: String },
}

pub(crate) fn run(check: bool) -> ExitCode {
    let outcome = if check { self::check().map(|verdict| tell(&verdict)) } else { build() };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            say(format_args!("build-ebpf: {fault}"));
            ExitCode::FAILURE
        }
    }
}

/// Says how a check went that did not fail.
pub(crate) fn tell(verdict: &Verdict) {
    match verdict {
        Verdict::Same => say("build-ebpf: what is committed is what the sources say"),
        Verdict::OtherTools(names) => say(format_args!(
            "build-ebpf: not comparable: {} differ, but other tools made them (see \
             ebpf/prebuilt/{BUILD_FILE})",
            names.join(", ")
        )),
    }
}

/// Builds and compares; changes nothing that is committed.
pub(crate) fn check() -> Result<Verdict, Fault> {
    let (made, tools) = made()?;
    let committed = committed()?;
    if !made.keys().eq(committed.keys()) {
        let (committed, made) = (listed(committed.keys()), listed(made.keys()));
        return Err(Fault::Others { committed, made });
    }
    let pairs = made.iter().zip(committed.values());
    let differ = pairs.filter(|((_, made), committed)| made != committed);
    let differ: Vec<_> = differ.map(|((name, _), _)| name.clone()).collect();
    let same_tools = read(&prebuilt().join(BUILD_FILE))? == tools.as_bytes();
    match (differ.is_empty(), same_tools) {
        (true, _) => Ok(Verdict::Same),
        (false, true) => Err(Fault::Differs(differ)),
        (false, false) => Ok(Verdict::OtherTools(differ)),
    }
}

fn build() -> Result<(), Fault> {
    let (made, tools) = made()?;
    for name in committed()?.keys().filter(|it| !made.contains_key(*it)) {
        say(format_args!("build-ebpf: {name}: has no source any more"));
        remove(&file(name))?;
    }
    for (name, bytes) in made {
        say(format_args!("build-ebpf: {name}: {} bytes", bytes.len()));
        write(&file(&name), &bytes)?;
    }
    write(&prebuilt().join(BUILD_FILE), tools.as_bytes())
}

/// Bytes of objects by their names.
type Objects = BTreeMap<String, Vec<u8>>;

/// Builds all objects; with them comes what made them.
fn made() -> Result<(Objects, String), Fault> {
    let toolchain = Toolchain::find().or_else(fetch).map_err(Fault::NoTools)?;
    say(format_args!("build-ebpf: by {}", toolchain.name()));
    let target = root().join("target/ebpf");
    shell::run(&mut command(&toolchain, &target))?;
    let mut objects = BTreeMap::new();
    for name in names(&toolchain)? {
        let linked = read(&target.join(TARGET).join("release").join(&name))?;
        let bytes = object::strip(&linked);
        let bytes = bytes.map_err(|why| Fault::Strip { name: name.clone(), why })?;
        objects.insert(name, bytes);
    }
    Ok((objects, toolchain.tools()))
}

/// Fetches what is missing, if we know where from; `lacks` is why.
fn fetch(mut lacks: Vec<String>) -> Result<Toolchain, Vec<String>> {
    if !toolchain::is_free() {
        return Err(lacks);
    }
    say(format_args!("build-ebpf: fetching what is missing:\n  {}", lacks.join("\n  ")));
    if let Err(error) = tools::for_ebpf() {
        lacks.push(format!("and it could not be fetched: {error}"));
        return Err(lacks);
    }
    Toolchain::find()
}

/// What is in `ebpf/prebuilt`.
fn committed() -> Result<Objects, Fault> {
    let folder = prebuilt();
    let fault = |source| Fault::File { what: "read", path: folder.clone(), source };
    let mut objects = BTreeMap::new();
    for entry in fs::read_dir(&folder).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        if path.extension().is_some_and(|it| it == "o")
            && let Some(name) = path.file_stem().and_then(|it| it.to_str())
        {
            objects.insert(name.to_owned(), read(&path)?);
        }
    }
    Ok(objects)
}

/// The programs of `ebpf/Cargo.toml`.
fn names(toolchain: &Toolchain) -> Result<Vec<String>, Fault> {
    let mut command = toolchain.cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(home());
    let told = toolchain::answer(&mut command).ok_or(Fault::NoNames)?;
    bins(&told).filter(|it| !it.is_empty()).ok_or(Fault::NoNames)
}

/// The programs in what `cargo metadata` says.
fn bins(told: &str) -> Option<Vec<String>> {
    let told: serde_json::Value = serde_json::from_str(told).ok()?;
    let packages = told.get("packages")?.as_array()?;
    let targets = packages.iter().filter_map(|it| it.get("targets")?.as_array()).flatten();
    let is_bin = |it: &&serde_json::Value| {
        it.get("kind")
            .and_then(|it| it.as_array())
            .is_some_and(|it| it.iter().any(|it| it == "bin"))
    };
    let names = targets.filter(is_bin).map(|it| it.get("name")?.as_str().map(str::to_owned));
    names.collect()
}

fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<_> = names.map(String::as_str).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn command(toolchain: &Toolchain, target: &Path) -> Command {
    let home = home();
    let mut flags = vec![
        // Nothing of what the objects do depends on it: they read no registers of user space.
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ];
    // Paths are part of the BTF. The last one that matches wins.
    flags.extend(toolchain.remapped());
    flags.push(format!("--remap-path-prefix={}=/ebpf", home.display()));
    let mut command = toolchain.cargo();
    command
        .args(["build", "--quiet", "--locked", "--release", "-Z", "build-std=core"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .current_dir(home);
    command
}

fn home() -> PathBuf {
    root().join("ebpf")
}

fn prebuilt() -> PathBuf {
    home().join("prebuilt")
}

fn file(name: &str) -> PathBuf {
    prebuilt().join(name).with_extension("o")
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let fault = |source| Fault::File { what: "read", path: path.to_owned(), source };
    fs::read(path).map_err(fault)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let fault = |source| Fault::File { what: "write", path: path.to_owned(), source };
    fs::write(path, bytes).map_err(fault)
}

fn remove(path: &Path) -> Result<(), Fault> {
    let fault = |source| Fault::File { what: "remove", path: path.to_owned(), source };
    fs::remove_file(path).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_of_a_package_is_an_object() {
        let told = r#"{"packages": [{"targets": [
            {"kind": ["lib"], "name": "all"}, {"kind": ["bin"], "name": "cpu"},
            {"kind": ["bin"], "name": "ports"}, {"kind": ["custom-build"], "name": "build"}]}]}"#;
        assert_eq!(bins(told).unwrap(), ["cpu", "ports"]);
        assert_eq!(bins("error: no such file"), None);
    }
}
