//! `cargo xtask build-ebpf [--check]`: builds what runs in the kernel, or proves that what is
//! committed is what the sources say.
//!
//! The objects lie in `ebpf/prebuilt`, so nobody but who changes `ebpf/` needs what this needs: a
//! compiler with unstable features and the source of `core`, and bpf-linker. It installs nothing,
//! it says what is missing. The same tools make the same bytes wherever they stand: paths are
//! mapped to fixed ones, and what only debuggers read is left out. Other tools make other bytes,
//! which proves nothing about the sources; `BUILD.txt` names those that made the objects.

mod object;
mod toolchain;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use self::toolchain::Toolchain;
pub(crate) use self::toolchain::{LINKER, PACKAGES};
use crate::shell::{self, root, say};

/// Objects, each of one file in `ebpf/src/bin`.
const OBJECTS: &[&str] = &["cpu", "ports"];

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
    OtherTools(Vec<&'static str>),
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
    /// What the linker wrote is not as expected.
    #[error("cannot strip the object `{name}`: {why}")]
    Strip { name: &'static str, why: String },
    /// A file could not be read or written.
    #[error("cannot {what} `{}`: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    /// The tools are those of [`BUILD_FILE`], the bytes are not.
    #[error(
        "not what the sources say, though the tools are the same: {}; run `cargo xtask build-ebpf` \
         and commit ebpf/prebuilt", .0.join(", ")
    )]
    Differs(Vec<&'static str>),
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
    let (objects, tools) = made()?;
    let mut differ = Vec::new();
    for (name, bytes) in objects {
        if read(&prebuilt(name))? != bytes {
            differ.push(name);
        }
    }
    let same_tools = read(&build_file())? == tools.as_bytes();
    match (differ.is_empty(), same_tools) {
        (true, _) => Ok(Verdict::Same),
        (false, true) => Err(Fault::Differs(differ)),
        (false, false) => Ok(Verdict::OtherTools(differ)),
    }
}

fn build() -> Result<(), Fault> {
    let (objects, tools) = made()?;
    for (name, bytes) in objects {
        say(format_args!("build-ebpf: {name}: {} bytes", bytes.len()));
        write(&prebuilt(name), &bytes)?;
    }
    write(&build_file(), tools.as_bytes())
}

/// An object's name and bytes.
type Made = (&'static str, Vec<u8>);

/// Builds all objects; with them comes what made them.
fn made() -> Result<(Vec<Made>, String), Fault> {
    let toolchain = Toolchain::find().map_err(Fault::NoTools)?;
    say(format_args!("build-ebpf: by {}", toolchain.name()));
    let target = root().join("target/ebpf");
    shell::run(&mut command(&toolchain, &target))?;
    let mut objects = Vec::new();
    for name in OBJECTS {
        let linked = read(&target.join(TARGET).join("release").join(name))?;
        let bytes = object::strip(&linked).map_err(|why| Fault::Strip { name, why })?;
        objects.push((*name, bytes));
    }
    Ok((objects, toolchain.tools()))
}

fn command(toolchain: &Toolchain, target: &Path) -> Command {
    let home = root().join("ebpf");
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

fn prebuilt(name: &str) -> PathBuf {
    root().join("ebpf/prebuilt").join(name).with_extension("o")
}

fn build_file() -> PathBuf {
    root().join("ebpf/prebuilt").join(BUILD_FILE)
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let fault = |source| Fault::File { what: "read", path: path.to_owned(), source };
    fs::read(path).map_err(fault)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let fault = |source| Fault::File { what: "write", path: path.to_owned(), source };
    fs::write(path, bytes).map_err(fault)
}
