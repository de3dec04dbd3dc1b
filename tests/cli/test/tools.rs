//! Other people's programs: from `BUNPILOT_TOOLS/bin` as `cargo xtask test` fetched them, else
//! from the `PATH`, else a skipped test.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, Write as _},
    path::PathBuf,
    thread,
};

/// A program some test needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tool {
    Bun,
    Cc,
    Gunicorn,
    Node,
    Promtool,
    Python,
    Uvicorn,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::Bun => "bun",
            Self::Cc => "cc",
            Self::Gunicorn => "gunicorn",
            Self::Node => "node",
            Self::Promtool => "promtool",
            Self::Python => "python3",
            Self::Uvicorn => "uvicorn",
        }
    }
}

/// Where `tool` is, or why it is not.
pub(crate) fn tool(tool: Tool) -> Result<PathBuf, String> {
    let name = tool.name();
    let found = env::split_paths(&path()).map(|it| it.join(name)).find(|it| it.is_file());
    found.ok_or_else(|| format!("`{name}`: {}", reason(name)))
}

/// Why it could not be fetched, if somebody tried.
fn reason(name: &str) -> String {
    let tried = env::var_os("BUNPILOT_TOOLS")
        .and_then(|it| fs::read_to_string(PathBuf::from(it).join("missing")).ok());
    let lines = tried.unwrap_or_default();
    let line = lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
    line.unwrap_or("not on the PATH; `cargo xtask test` fetches it").to_owned()
}

/// The `PATH` tests and workers see.
pub(super) fn path() -> OsString {
    let fetched = env::var_os("BUNPILOT_TOOLS").map(|it| PathBuf::from(it).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(fetched.into_iter().chain(env::split_paths(&path))).unwrap()
}

/// Says that this test cannot run here, and why; fails where nothing may be skipped.
#[track_caller]
pub(crate) fn skip(reason: &str) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("?");
    let strict = env::var_os("BUNPILOT_REQUIRE").is_some_and(|it| it == "all");
    assert!(!strict, "may not be skipped: {test}: {reason}");
    say(&format!("skipped: {test}: {reason}"));
}

/// Writes past libtest, which would swallow it.
pub(crate) fn say(line: &str) {
    drop(io::stderr().write_all(format!("{line}\n").as_bytes()));
}

/// The path of each tool, or a skipped test.
macro_rules! need {
    ($which:expr) => {
        match $crate::test::tool($which) {
            Ok(path) => path,
            Err(reason) => return $crate::test::skip(&reason),
        }
    };
}
pub(crate) use need;
