//! Servers that know nothing of bunpilot, and the ways their workers come to share a port.

use serde_json::{Value, json};

use crate::test::{
    Home, Row, Tally, Tool, app, declared, merge, serving_port, skip, tool, wait_for,
};

/// How workers come to share a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rung {
    /// By programs in the kernel.
    Ebpf,
    /// By bind(2), which the guard answers.
    Trap,
    /// By what they do themselves.
    Workers,
}

impl Rung {
    fn home(self) -> Home {
        match self {
            Self::Ebpf => Home::new(),
            Self::Trap => Home::new().with_env("BUNPILOT_BPF", "off"),
            Self::Workers => Home::new().with_env("BUNPILOT_PORTS", "workers"),
        }
    }

    /// Starts the daemon of a home, and says why it does not share ports in this way.
    fn stands(self, home: &Home) -> Result<(), String> {
        home.ok(["daemon", "start"]);
        let told = home.ok(["daemon", "status", "--json"]);
        let status: Value = serde_json::from_str(&told).unwrap_or_default();
        let said = status["engines"]["ports"].as_str().unwrap_or("workers themselves");
        let stands = match self {
            Self::Ebpf => said.starts_with("eBPF"),
            Self::Trap => !said.starts_with("eBPF") && !said.starts_with("workers"),
            Self::Workers => true,
        };
        if stands { Ok(()) } else { Err(format!("not {self:?}: ports are shared by {said}")) }
    }
}

/// A server, and what runs it. All but [`Server::Probed`] and [`Server::Neighbour`] answer the
/// same: their pid and a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Bun,
    Node,
    Asyncio,
    Uvicorn,
    Gunicorn,
    C,
    /// One connection at a time; worker 0 needs 40 ms for each, the others 2.
    Slow,
    /// Notes who asks for `/health`.
    Probed,
    /// Opens another port, too.
    Neighbour,
}

impl Server {
    /// Its declaration; with `reuse` it sets `SO_REUSEPORT` itself. An error is a missing tool.
    fn declared(self, home: &Home, port: u16, reuse: bool) -> Result<Value, String> {
        let args = json!(
            [port.to_string()]
                .into_iter()
                .chain(reuse.then(|| "reuse".to_owned()))
                .collect::<Vec<_>>()
        );
        let python = |script| {
            tool(Tool::Python)?;
            Ok(declared("web", script, json!({ "args": args })))
        };
        match self {
            Self::Asyncio => python("plain.py"),
            Self::Slow => python("slow.py"),
            Self::Probed => python("probed.py"),
            Self::Neighbour => python("neighbour.py"),
            Self::Bun => {
                tool(Tool::Bun)?;
                Ok(declared("web", "plain.ts", json!({ "args": args })))
            }
            Self::Node => {
                let more = json!({ "interpreter": tool(Tool::Node)?, "args": args });
                Ok(declared("web", "plain.mjs", more))
            }
            Self::C => {
                let program = compiled(home)?;
                Ok(declared("web", "plain.c", json!({ "script": program, "args": args })))
            }
            Self::Uvicorn => {
                let port = port.to_string();
                let args = ["--port", &port, "--log-level", "warning", "plain_asgi:app"];
                let folder = app("plain_asgi.py").parent().map(ToOwned::to_owned);
                let more = json!({ "script": tool(Tool::Uvicorn)?, "args": args, "cwd": folder });
                Ok(declared("web", "plain_asgi.py", more))
            }
            Self::Gunicorn => {
                let bind = format!("127.0.0.1:{port}");
                let args = ["--worker-class", "asgi", "--bind", &bind, "--no-control-socket"];
                let args = [&args[..], &["plain_asgi:app"]].concat();
                let folder = app("plain_asgi.py").parent().map(ToOwned::to_owned);
                let more = json!({ "script": tool(Tool::Gunicorn)?, "args": args, "cwd": folder });
                Ok(declared("web", "plain_asgi.py", more))
            }
        }
    }
}

fn compiled(home: &Home) -> Result<std::path::PathBuf, String> {
    let program = home.path("plain");
    let mut cc = std::process::Command::new(tool(Tool::Cc)?);
    let done = cc.args(["-O2", "-o"]).args([&program, &app("plain.c")]).status();
    assert!(done.is_ok_and(|it| it.success()), "cannot compile");
    Ok(program)
}

/// An app `web` whose workers share a port.
pub(super) struct Site {
    pub(super) home: Home,
    pub(super) port: u16,
    count: u16,
    app: Value,
}

impl Site {
    /// Starts `count` workers and waits until each of them serves; skips the test where the rung
    /// or a tool is missing. `more` adds to the declaration, and in `clustering` to that.
    #[track_caller]
    pub(super) fn staged(server: Server, rung: Rung, count: u16, more: Value) -> Option<Self> {
        Self::staged_at(rung.home(), server, rung, count, more)
    }

    /// The same in a home of one's own.
    #[track_caller]
    pub(super) fn staged_at(
        home: Home,
        server: Server,
        rung: Rung,
        count: u16,
        more: Value,
    ) -> Option<Self> {
        match Self::new(home, server, rung, count, more) {
            Ok(site) => Some(site),
            Err(reason) => {
                skip(&reason);
                None
            }
        }
    }

    #[track_caller]
    fn new(
        home: Home,
        server: Server,
        rung: Rung,
        count: u16,
        mut more: Value,
    ) -> Result<Self, String> {
        let port = serving_port();
        let mut app = server.declared(&home, port, rung == Rung::Workers)?;
        rung.stands(&home)?;
        let mut clustering = json!({
            "strategy": "reusePort", "rollingRestart": { "batchSize": 1, "batchDelay": 0 },
        });
        if let Some(own) = more.as_object_mut().and_then(|it| it.remove("clustering")) {
            merge(&mut clustering, own);
        }
        let cluster = json!({ "port": port, "instances": count, "clustering": clustering });
        merge(&mut app, cluster);
        merge(&mut app, more);
        let site = Self { home, port, count, app };
        site.home.start([site.app.clone()]).succeeded();
        site.online();
        Ok(site)
    }

    /// Its declaration with something else in it.
    pub(super) fn with(&self, more: Value) -> Value {
        let mut app = self.app.clone();
        merge(&mut app, more);
        app
    }

    #[track_caller]
    pub(super) fn online(&self) -> Vec<Row> {
        self.home.online("web", self.count.into())
    }
}

/// Asserts that every answer is right in every byte, and gives how many came from each worker.
#[track_caller]
pub(super) fn are_right(tally: &Tally) -> Vec<(u32, u64)> {
    let pattern = "0123456789abcdef".repeat(16);
    let right = |(body, count): (&String, &u64)| {
        let pid = body.split_once(' ').filter(|(_, rest)| *rest == pattern)?.0.parse().ok()?;
        Some((pid, *count))
    };
    let by = tally.bodies.iter().map(right).collect::<Option<_>>();
    by.unwrap_or_else(|| panic!("wrong answers: {tally:#?}"))
}

/// Waits until each of `count` workers has answered.
#[track_caller]
pub(super) fn all_answer(site: &Site, count: usize) {
    let mut seen = std::collections::BTreeSet::new();
    wait_for("an answer of every worker", || {
        let answer = crate::test::get(site.port, "/").ok()?;
        seen.insert(answer.body);
        (seen.len() == count).then_some(())
    });
}
