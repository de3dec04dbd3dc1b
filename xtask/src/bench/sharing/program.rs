//! The servers: programs that know nothing of bunpilot and handle no signal.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    shell::{Failure, root, run, say},
    tools,
};

/// A server, all of which answer the same: their pid and a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::bench) enum Program {
    Bun,
    Node,
    /// Python's own loop
    Asyncio,
    Uvicorn,
    Gunicorn,
    C,
    Go,
    /// Python, one connection at a time; worker 0 needs 40 ms for each, the others 2
    #[value(skip)]
    Slow,
}

impl Program {
    pub(in crate::bench) const ALL: [Self; 7] =
        [Self::Bun, Self::Node, Self::Asyncio, Self::Uvicorn, Self::Gunicorn, Self::C, Self::Go];

    pub(in crate::bench) fn name(self) -> &'static str {
        match self {
            Self::Bun => "bun",
            Self::Node => "node",
            Self::Asyncio => "asyncio",
            Self::Uvicorn => "uvicorn",
            Self::Gunicorn => "gunicorn",
            Self::C => "C",
            Self::Go => "Go",
            Self::Slow => "one at a time",
        }
    }

    /// Whether it can be told to set `SO_REUSEPORT`; node 20, uvicorn and Go cannot.
    pub(in crate::bench) fn can_reuse(self) -> bool {
        !matches!(self, Self::Node | Self::Uvicorn | Self::Go)
    }

    /// Whether it can be run here; says what is missing.
    pub(in crate::bench) fn is_there(self) -> bool {
        let there = self.words(0, false);
        if let Err(error) = &there {
            say(format_args!("without {}: {error}; {}", self.name(), self.source()));
        }
        there.is_ok()
    }

    /// Where to get what runs it.
    fn source(self) -> &'static str {
        match self {
            Self::Bun => "npm has it: `npm install bun`",
            Self::Node => "`apt-get install nodejs` has it",
            Self::Asyncio | Self::Slow => "`apt-get install python3` has it",
            Self::Uvicorn => "pip has it: `pip install uvicorn`",
            Self::Gunicorn => "pip has it: `pip install gunicorn`",
            Self::C => "`apt-get install gcc` has it",
            Self::Go => "`apt-get install golang-go` has it",
        }
    }

    /// What runs it on `port`; with `reuse` it sets `SO_REUSEPORT` itself.
    pub(super) fn words(self, port: u16, reuse: bool) -> Result<Vec<String>, Failure> {
        let own = reuse.then_some("reuse");
        let apps = apps().display().to_string();
        let port = port.to_string();
        let plain = |file: &str| Some(apps.clone() + "/" + file);
        let (program, script, rest): (_, _, Vec<&str>) = match self {
            Self::Bun => (tools::program("bun")?, plain("plain.ts"), vec![&port]),
            Self::Node => (tools::program("node")?, plain("plain.mjs"), vec![&port]),
            Self::Asyncio => (tools::program("python3")?, plain("plain.py"), vec![&port]),
            Self::Slow => (tools::program("python3")?, plain("slow.py"), vec![&port]),
            Self::C => (compiled("cc", &["-O2"], "plain.c")?, None, vec![&port]),
            Self::Go => (compiled("go", &["build"], "plain.go")?, None, vec![&port]),
            Self::Uvicorn => {
                let words = ["--app-dir", &apps, "--log-level", "warning", "--port", &port];
                let words = [&words[..], &["plain_asgi:app"]].concat();
                return Ok(spelled(&tools::program("uvicorn")?, None, &words));
            }
            Self::Gunicorn => {
                let program = tools::program("gunicorn")?;
                let bind = format!("127.0.0.1:{port}");
                let words = ["--chdir", &apps, "--worker-class", "asgi", "--bind", &bind];
                let more = ["--no-control-socket", "plain_asgi:app"];
                let reuse = reuse.then_some("--reuse-port");
                let words = words.into_iter().chain(reuse).chain(more).collect::<Vec<_>>();
                return Ok(spelled(&program, None, &words));
            }
        };
        let rest: Vec<_> = rest.into_iter().chain(own).collect();
        Ok(spelled(&program, script, &rest))
    }
}

fn spelled(program: &Path, script: Option<String>, rest: &[&str]) -> Vec<String> {
    let program = program.display().to_string();
    let rest = rest.iter().map(|it| (*it).to_owned());
    [program].into_iter().chain(script).chain(rest).collect()
}

fn apps() -> PathBuf {
    root().join("tests/cli/apps")
}

/// A server that must be compiled, unless it was since its source changed.
fn compiled(compiler: &'static str, words: &[&str], source: &str) -> Result<PathBuf, Failure> {
    let program = root().join("target/bench").join(source.replace('.', "-"));
    let source = apps().join(source);
    let changed = |path: &Path| fs::metadata(path).and_then(|it| it.modified()).ok();
    if changed(&program) > changed(&source) {
        return Ok(program);
    }
    let folder = program.parent().unwrap_or(&program);
    let made = fs::create_dir_all(folder);
    made.map_err(|source| Failure::File { what: "make", path: folder.to_owned(), source })?;
    let mut compile = Command::new(tools::installed(compiler)?);
    run(compile.args(words).arg("-o").args([&program, &source]))?;
    Ok(program)
}
