//! Speaks to the caller and runs other programs, saying each command before it runs.

use std::{
    fmt,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

/// Why another program did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It could not be started.
    #[error("cannot run `{program}`: {source}")]
    Start { program: String, source: io::Error },
    /// It ended otherwise than well.
    #[error("`{program}` failed: {status}")]
    Status { program: String, status: ExitStatus },
    /// It cannot be found.
    #[error("`{0}` is not on the PATH")]
    Missing(&'static str),
    /// It may be used by root only.
    #[error("`{0}` needs root")]
    Forbidden(&'static str),
    /// Tools the tests must have are not there; the reasons were said before.
    #[error("tools are missing: {0}")]
    ToolsMissing(String),
    /// It does not do what it is waited for.
    #[error("{who}: {what}")]
    Stuck { who: String, what: String },
    /// A file could not be read or written.
    #[error("cannot {what} `{}`: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
}

/// Writes one line to stderr; a closed stderr is not worth a word.
pub(crate) fn say(line: impl fmt::Display) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}

/// The folder that holds the workspace.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// A cargo command in the workspace, by the cargo that runs this task.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root());
    command
}

/// Says the command, runs it without stdin and waits until it ended well.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    say(format_args!("» {}", spelled(command)));
    let program = program(command);
    let status = match command.stdin(Stdio::null()).status() {
        Ok(status) => status,
        Err(source) => return Err(Failure::Start { program, source }),
    };
    if status.success() { Ok(()) } else { Err(Failure::Status { program, status }) }
}

/// Where `program` stands on the `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The program's bare name, as messages name it.
pub(crate) fn program(command: &Command) -> String {
    let path = Path::new(command.get_program());
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The command as one would type it.
pub(crate) fn spelled(command: &Command) -> String {
    let mut line = program(command);
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_spelled_as_typed() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["test", "--lib"]);
        assert_eq!(spelled(&command), "cargo test --lib");
    }

    #[test]
    fn a_failed_command_names_program_and_status() {
        let error = run(&mut Command::new("false")).unwrap_err();
        assert_eq!(error.to_string(), "`false` failed: exit status: 1");
        let error = run(&mut Command::new("no-such-program")).unwrap_err();
        assert!(error.to_string().starts_with("cannot run `no-such-program`:"), "{error}");
    }

    #[test]
    fn programs_are_found_on_the_path_only() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program"), None);
    }
}
