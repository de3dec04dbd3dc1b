//! What the daemon is told about itself: which engine each part of it runs on.

use super::{clock, logs::Pump, meters::Meters, ports::Ports, runtime::Runtime};
use crate::{domain::Pid, guard::wire::Rung, world::Facts};

pub(super) fn facts(
    runtime: &Runtime,
    pump: &Pump,
    rung: Rung,
    meters: &Meters,
    ports: &Ports,
    http: &Result<String, String>,
) -> Facts {
    let (trees, trees_word) = match rung {
        Rung::Cgroup => ("cgroup2", "cgroup"),
        Rung::Session => ("process group", "session"),
    };
    let (Ok(http) | Err(http)) = http;
    let logs = pump.engine().to_string();
    // In one word for programs, and for people.
    let told = [
        ("control", runtime.name(), runtime.name().to_owned()),
        ("logs", logs.as_str(), logs.clone()),
        ("trees", trees_word, trees.to_owned()),
        ("cpu", meters.rung(), meters.engine()),
        ("ports", ports.rung(), ports.engine()),
    ];
    let rungs = told.iter().map(|(part, rung, _)| ((*part).to_owned(), (*rung).to_owned()));
    let rungs = rungs.collect();
    let engines = told.into_iter().map(|(part, _, engine)| (part.to_owned(), engine));
    let engines = engines.chain([("http".to_owned(), http.clone())]).collect();
    Facts {
        version: env!("CARGO_PKG_VERSION"),
        pid: Pid(i32::try_from(std::process::id()).unwrap_or_default()),
        started: clock::now(),
        clock: clock::wall(),
        engines,
        rungs,
    }
}
