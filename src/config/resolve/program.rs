//! Which program runs the script: the interpreter the user named, or the best one installed for
//! the script's kind.
//!
//! Asks the machine only through [`Host`]; never starts anything but `node --version`.

use std::path::{Path, PathBuf};

use super::absolute;
use crate::config::{
    fault::Fault,
    host::{FileKind, Host},
};

/// Where programs are looked for if the app's environment has no `PATH`.
pub(super) const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What the user asked for.
pub(super) struct Wanted<'a> {
    pub(super) script: &'a str,
    pub(super) interpreter: Option<Vec<String>>,
    pub(super) cwd: &'a Path,
    pub(super) path: &'a str,
}

/// What will be run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) script: PathBuf,
    /// Empty if the script runs by itself.
    pub(super) interpreter: Vec<String>,
}

/// What a script is written in, by its extension.
#[derive(Clone, Copy)]
enum Language {
    TypeScript,
    /// Both kinds of JSX, which node cannot run.
    Jsx,
    JavaScript,
    Python,
    Shell,
    Ruby,
    /// The file must know itself.
    Unknown,
}

pub(super) fn choose(wanted: Wanted<'_>, host: &dyn Host) -> Result<Program, Fault> {
    let Wanted { script, interpreter, cwd, path } = wanted;
    let file = absolute(cwd, script);
    let search = Search { cwd, path, host };
    let kind = host.file_kind(&file);
    match interpreter.as_deref() {
        None if kind == FileKind::Missing => search.bare(script, &file),
        None => search.by_language(present(file, kind)?),
        Some([] | [_]) if itself(interpreter.as_deref()) => match kind {
            FileKind::Missing => search.bare(script, &file),
            FileKind::Executable => Ok(alone(file)),
            FileKind::Folder | FileKind::File => Err(not_executable(&present(file, kind)?)),
        },
        Some(words) => {
            if kind == FileKind::Missing {
                return Err(missing(script, &file, cwd));
            }
            let script = present(file, kind)?;
            Ok(Program { script, interpreter: search.named(words)? })
        }
    }
}

/// Whether the user says that the script runs by itself.
fn itself(interpreter: Option<&[String]>) -> bool {
    match interpreter {
        Some([]) => true,
        Some([word]) => word == "none" || word.is_empty(),
        Some(_) | None => false,
    }
}

fn alone(script: PathBuf) -> Program {
    Program { script, interpreter: Vec::new() }
}

fn present(file: PathBuf, kind: FileKind) -> Result<PathBuf, Fault> {
    if kind != FileKind::Folder {
        return Ok(file);
    }
    let message = format!("`script` is a folder: `{}`", file.display());
    Err(Fault::new(&["script"], message).help("name the file in it that starts the app"))
}

fn missing(script: &str, file: &Path, cwd: &Path) -> Fault {
    let message = format!("`script` does not exist: `{}`", file.display());
    let fault = Fault::new(&["script"], message);
    if Path::new(script).is_absolute() {
        return fault;
    }
    fault.help(format!("`{script}` was looked for in `cwd`, which is `{}`", cwd.display()))
}

fn not_executable(file: &Path) -> Fault {
    let message = format!("bunpilot does not know how to run `{}`", file.display());
    Fault::new(&["script"], message).help(format!(
        "make it executable with `chmod +x {}`, or set `interpreter`",
        file.display()
    ))
}

struct Search<'a> {
    cwd: &'a Path,
    path: &'a str,
    host: &'a dyn Host,
}

impl Search<'_> {
    /// A bare word that is no file may be a program on `PATH`.
    fn bare(&self, script: &str, file: &Path) -> Result<Program, Fault> {
        let found = if script.contains('/') { None } else { self.find(script) };
        found.map(alone).ok_or_else(|| missing(script, file, self.cwd))
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        self.host.find_program(name, self.path)
    }

    /// The interpreter the user named, made absolute.
    fn named(&self, words: &[String]) -> Result<Vec<String>, Fault> {
        let Some((first, rest)) = words.split_first() else { return Ok(Vec::new()) };
        let found = if first.contains('/') {
            let file = absolute(self.cwd, first);
            (self.host.file_kind(&file) == FileKind::Executable).then_some(file)
        } else {
            self.find(first)
        };
        let program = found.ok_or_else(|| {
            let message = format!("interpreter `{first}` is not installed");
            Fault::new(&["interpreter"], message).help(format!(
                "it was looked for in `{}`",
                if first.contains('/') {
                    self.cwd.display().to_string()
                } else {
                    self.path.to_owned()
                }
            ))
        })?;
        Ok([vec![text(&program)], rest.to_vec()].concat())
    }

    fn by_language(&self, script: PathBuf) -> Result<Program, Fault> {
        let interpreter = match Language::of(&script) {
            Language::TypeScript => {
                self.bun().or(self.deno()).map_or_else(|| self.typed_node(&script), Ok)
            }
            Language::Jsx => self.bun().or(self.deno()).ok_or_else(|| {
                absent(&script, "bun or deno", "https://bun.sh or https://deno.com")
            }),
            Language::JavaScript => {
                self.bun().or(self.plain("node")).or(self.deno()).ok_or_else(|| {
                    absent(&script, "bun, node or deno", "https://bun.sh or https://nodejs.org")
                })
            }
            Language::Python => self.python().ok_or_else(|| {
                absent(&script, "python3", "your system's packages or https://python.org")
            }),
            Language::Ruby => self.plain("ruby").ok_or_else(|| {
                absent(&script, "ruby", "your system's packages or https://ruby-lang.org")
            }),
            Language::Shell => self.shell(&script),
            Language::Unknown => self.itself(&script),
        }?;
        Ok(Program { script, interpreter })
    }

    fn plain(&self, name: &str) -> Option<Vec<String>> {
        self.find(name).map(|program| vec![text(&program)])
    }

    /// `bun run` executes the script in its own process: same pid, same signals.
    fn bun(&self) -> Option<Vec<String>> {
        self.find("bun").map(|bun| vec![text(&bun), "run".to_owned()])
    }

    fn deno(&self) -> Option<Vec<String>> {
        self.find("deno").map(|deno| vec![text(&deno), "run".to_owned(), "-A".to_owned()])
    }

    /// A virtual environment in the working directory comes before the system's Python.
    fn python(&self) -> Option<Vec<String>> {
        let own = self.cwd.join(".venv/bin/python");
        if self.host.file_kind(&own) == FileKind::Executable {
            return Some(vec![text(&own)]);
        }
        self.plain("python3")
    }

    /// Node, if it is new enough to strip types.
    fn typed_node(&self, script: &Path) -> Result<Vec<String>, Fault> {
        let needs = "bun, deno, or node 22.6 or newer";
        let from = "https://bun.sh, https://deno.com or https://nodejs.org";
        let node = self.find("node").ok_or_else(|| absent(script, needs, from))?;
        let argv = [text(&node), "--version".to_owned()];
        let version = match self.host.run(&argv, self.cwd) {
            Ok(ran) => ran.stdout.trim().to_owned(),
            Err(error) => format!("of unknown version: {error}"),
        };
        match types_in_node(&version) {
            Types::Stripped => Ok(vec![text(&node)]),
            Types::OnRequest => Ok(vec![text(&node), "--experimental-strip-types".to_owned()]),
            Types::Refused => {
                let mut fault = absent(script, needs, from);
                fault.message = format!("{}; `{}` is {version}", fault.message, node.display());
                Err(fault)
            }
        }
    }

    /// The interpreter of the `#!` line, else `sh`.
    fn shell(&self, script: &Path) -> Result<Vec<String>, Fault> {
        let line = self.host.read(script).unwrap_or_default();
        match line.lines().next().and_then(|line| line.strip_prefix("#!")) {
            Some(_) if self.host.file_kind(script) == FileKind::Executable => Ok(Vec::new()),
            Some(shebang) => Ok(shebang.split_whitespace().map(str::to_owned).collect()),
            None => self.plain("sh").ok_or_else(|| absent(script, "sh", "your system's packages")),
        }
    }

    fn itself(&self, script: &Path) -> Result<Vec<String>, Fault> {
        match self.host.file_kind(script) {
            FileKind::Executable => Ok(Vec::new()),
            FileKind::File | FileKind::Folder | FileKind::Missing => Err(not_executable(script)),
        }
    }
}

fn absent(script: &Path, needs: &str, from: &str) -> Fault {
    let name = script.file_name().unwrap_or_default().to_string_lossy();
    Fault::new(&["script"], format!("`{name}` needs {needs}, and none is installed"))
        .help(format!("install one from {from}, or set `interpreter`"))
}

impl Language {
    fn of(script: &Path) -> Self {
        match script.extension().and_then(|extension| extension.to_str()) {
            Some("ts" | "mts" | "cts") => Self::TypeScript,
            Some("tsx" | "jsx") => Self::Jsx,
            Some("js" | "mjs" | "cjs") => Self::JavaScript,
            Some("py") => Self::Python,
            Some("sh") => Self::Shell,
            Some("rb") => Self::Ruby,
            Some(_) | None => Self::Unknown,
        }
    }
}

/// What a version of node does with types.
#[derive(Debug, PartialEq, Eq)]
enum Types {
    Stripped,
    /// With `--experimental-strip-types`.
    OnRequest,
    Refused,
}

/// Reads a version like `v22.18.0`.
fn types_in_node(version: &str) -> Types {
    let mut numbers = version.trim_start_matches('v').split('.').map(|part| part.parse().ok());
    let major: u32 = numbers.next().flatten().unwrap_or(0);
    let minor: u32 = numbers.next().flatten().unwrap_or(0);
    match (major, minor) {
        (24.., _) | (23, 6..) | (22, 18..) => Types::Stripped,
        (23, _) | (22, 6..) => Types::OnRequest,
        _ => Types::Refused,
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Types, types_in_node};

    #[test]
    fn node_strips_types_since_22() {
        for (version, expected) in [
            ("v20.20.2", Types::Refused),
            ("v22.5.1", Types::Refused),
            ("v22.6.0", Types::OnRequest),
            ("v22.18.0", Types::Stripped),
            ("v23.5.0", Types::OnRequest),
            ("v23.6.0", Types::Stripped),
            ("v26.1.0", Types::Stripped),
            ("what?", Types::Refused),
        ] {
            assert_eq!(types_in_node(version), expected, "{version}");
        }
    }
}
