//! The way out for configurations that import npm packages: bun or node evaluates the file and
//! prints it as JSON.
//!
//! Needs the program installed, and takes as long as the file takes.

use std::path::Path;

use serde_json::Value;

use super::{fault::Problem, host::Host, resolve::Base};

/// What the other program runs; prints one line of JSON after [`MARK`].
const SCRIPT: &str = include_str!("runtime/evaluate.mjs");

/// Begins the line that holds the value: the configuration may print, too.
const MARK: &str = "bunpilot:config:";

pub(super) fn evaluate(
    program: &str,
    file: &Path,
    caller: &Base,
    host: &dyn Host,
) -> Result<Value, Problem> {
    let path = caller.env.get("PATH").map_or("", String::as_str);
    let Some(found) = host.find_program(program, path) else {
        return Err(Problem::new(format!(
            "`--config-runtime {program}` needs `{program}`, which is not installed"
        )));
    };
    let mut argv = vec![found.to_string_lossy().into_owned()];
    if program == "node" {
        argv.push("--input-type=module".to_owned());
    }
    argv.extend(["-e".to_owned(), SCRIPT.to_owned(), file.to_string_lossy().into_owned()]);
    let ran = host
        .run(&argv, &caller.cwd)
        .map_err(|error| Problem::new(format!("cannot run `{}`: {error}", found.display())))?;
    let line = ran.stdout.lines().rev().find_map(|line| line.strip_prefix(MARK));
    match line.filter(|_| ran.ok) {
        Some(line) => serde_json::from_str(line)
            .map_err(|error| Problem::new(format!("`{program}` printed no JSON: {error}"))),
        None => Err(Problem::new(format!("`{program}` could not evaluate `{}`", file.display()))
            .help("its own message stands above")),
    }
}
