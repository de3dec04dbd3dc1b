//! What a worker can be run with, here and now.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Where `node` is; `None`, with the reason said, if it is not.
pub(crate) fn node() -> Option<PathBuf> {
    found("node").or_else(|| skip("no `node` on PATH"))
}

/// Where `python3` is.
pub(crate) fn python() -> Option<PathBuf> {
    found("python3").or_else(|| skip("no `python3` on PATH"))
}

/// Where `bun` is; installed from npm, once per target folder, if it must be.
pub(crate) fn bun() -> Option<PathBuf> {
    if let Some(bun) = found("bun") {
        return Some(bun);
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bun");
    fs::create_dir_all(&cache).unwrap();
    let lock = File::create(cache.join("lock")).unwrap();
    lock.lock().unwrap(); // tests may run in processes of their own
    let bun = cache.join("node_modules/.bin/bun");
    if answers(&bun) {
        return Some(bun);
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&cache).arg("bun@1");
    let installed = npm.output().is_ok_and(|npm| npm.status.success());
    if installed && answers(&bun) { Some(bun) } else { skip("npm cannot install `bun` here") }
}

fn found(program: &str) -> Option<PathBuf> {
    answers(Path::new(program)).then(|| program.into())
}

fn answers(program: &Path) -> bool {
    let mut version = Command::new(program);
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

fn skip<T>(why: &str) -> Option<T> {
    writeln!(std::io::stderr(), "skipped: {why}").unwrap();
    None
}
