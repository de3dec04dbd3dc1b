//! Programs that know nothing of bunpilot, nor of each other, on one port without any privilege.

use std::{net::TcpStream, path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::{
    reload::reload_under_load,
    survival::both::{another_guard, guard, kill_both},
    test::{
        Clients, Home, Load, Tool, app, declared, free_port, get, kill, merge, need, skip, wait_for,
    },
};

const COPIES: u16 = 4;

/// A home where nothing better than a trap is used.
fn home() -> Home {
    Home::new().with_env("BUNPILOT_PORTS", "trap")
}

/// An app `web` whose workers each open `port` as if they were alone.
fn plain(script: &str, port: u16, more: Value) -> Value {
    let mut app = declared(
        "web",
        &format!("plain/{script}"),
        json!({
            "port": port,
            "instances": COPIES,
            "env": { "PORT": port.to_string() },
            "clustering": { "rollingRestart": { "batchSize": 1, "batchDelay": 0 } },
        }),
    );
    merge(&mut app, more);
    app
}

/// Every worker answers clients of `port`, and nobody else does.
#[track_caller]
fn all_answer(home: &Home, port: u16) {
    let mut left: Vec<u32> = home.online("web", COPIES.into()).iter().map(|it| it.pid).collect();
    let all = left.clone();
    wait_for("an answer of each worker", || {
        let pid = get(port, "/").unwrap().body.parse().unwrap();
        assert!(all.contains(&pid), "{pid} is none of {all:?}");
        left.retain(|it| *it != pid);
        left.is_empty().then_some(())
    });
}

/// Starts it, reloads it twice under load, so that each lane is used, and stops it.
#[track_caller]
fn shares_and_reloads(home: &Home, port: u16, app: Value) {
    home.start([app]).succeeded();
    all_answer(home, port);
    for _ in 0..2 {
        let tally = reload_under_load(home, port, COPIES.into());
        assert!(tally.failed.is_empty(), "{tally:?}");
        all_answer(home, port);
    }
    home.ok(["stop", "web"]);
    refuses(port);
}

#[track_caller]
fn refuses(port: u16) {
    wait_for("a refusal", || {
        let error = get(port, "/").expect_err("nobody is there");
        (error.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
    });
}

#[test]
fn python() {
    need!(Tool::Python);
    let port = free_port();
    shares_and_reloads(&home(), port, plain("http_server.py", port, json!({})));
}

#[test]
fn node() {
    let node = need!(Tool::Node);
    let port = free_port();
    let more = json!({ "interpreter": node });
    shares_and_reloads(&home(), port, plain("node.mjs", port, more));
}

#[test]
fn bun() {
    need!(Tool::Bun);
    let port = free_port();
    shares_and_reloads(&home(), port, plain("bun.ts", port, json!({})));
}

#[test]
fn uvicorn() {
    let uvicorn = need!(Tool::Uvicorn);
    let port = free_port();
    let args = ["--no-access-log", "--port", &port.to_string(), "asgi:app"];
    let cwd = app("plain/asgi.py").parent().map(PathBuf::from);
    let more = json!({ "script": uvicorn, "args": args, "cwd": cwd });
    shares_and_reloads(&home(), port, plain("asgi.py", port, more));
}

#[test]
fn gunicorn() {
    let gunicorn = need!(Tool::Gunicorn);
    let port = free_port();
    let args = ["--workers", "2", "--bind", &format!("127.0.0.1:{port}"), "wsgi:app"];
    let cwd = app("plain/wsgi.py").parent().map(PathBuf::from);
    let more = json!({ "script": gunicorn, "args": args, "cwd": cwd, "killTimeout": 5000 });
    shares_and_reloads(&home(), port, plain("wsgi.py", port, more));
}

#[test]
fn c() {
    let cc = need!(Tool::Cc);
    let (home, port) = (home(), free_port());
    let program = home.path("server");
    let compiled = Command::new(cc).arg("-o").arg(&program).arg(app("plain/server.c")).status();
    assert!(compiled.unwrap().success());
    let more = json!({ "script": program });
    shares_and_reloads(&home, port, plain("server.c", port, more));
}

/// Nobody can be reached where nobody listens: the address is the program's choice.
#[test]
fn no_other_address_is_opened() {
    need!(Tool::Python);
    let (home, port) = (home(), free_port());
    home.start([plain("http_server.py", port, json!({}))]).succeeded();
    all_answer(&home, port);
    for address in ["127.0.0.2", "::1"] {
        let error = TcpStream::connect((address, port)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{address}");
    }
}

/// Daemon and guard die, in turn and under load; neither is noticed, and what comes after is as
/// before.
#[test]
fn whoever_dies_nothing_is_lost() {
    need!(Tool::Python);
    let (home, port) = (home(), free_port());
    home.start([plain("http_server.py", port, json!({}))]).succeeded();
    // the sockets' order is not that of the places
    home.ok(["restart", "web"]);
    all_answer(&home, port);
    let before = home.online("web", COPIES.into());
    let load = Load::start(port, Clients::Fresh, 8);
    load.flows(50);
    let daemon = home.daemon();
    kill(daemon);
    wait_for("another daemon", || (home.daemon() != daemon).then_some(()));
    load.flows(50);
    assert_eq!(home.online("web", COPIES.into()), before);
    let old = guard(&home);
    kill(old);
    another_guard(&home, old);
    load.flows(50);
    assert_eq!(home.online("web", COPIES.into()), before);
    load.lost_nothing();
    for _ in 0..2 {
        let tally = reload_under_load(&home, port, COPIES.into());
        assert!(tally.failed.is_empty(), "{tally:?}");
        all_answer(&home, port);
    }
    // in the middle of a reload
    let load = Load::start(port, Clients::Fresh, 8);
    let reload = home.spawn(home.command(["reload", "web"]));
    load.flows(100);
    kill(home.daemon());
    load.flows(200);
    drop(reload);
    wait_for("the reload to end", || {
        let rows = home.at_rest("web")?;
        (rows.len() == usize::from(COPIES) && rows.iter().all(|it| it.state == "online"))
            .then_some(())
    });
    load.lost_nothing();
    all_answer(&home, port);
}

/// When both died nobody can answer for a worker any more: it is replaced.
#[test]
fn both_die() {
    need!(Tool::Python);
    let (home, port) = (home(), free_port());
    home.start([plain("http_server.py", port, json!({}))]).succeeded();
    let before = home.online("web", COPIES.into());
    kill_both(&home);
    assert!(get(port, "/").is_ok(), "they serve on");
    home.ok(["daemon", "start"]);
    home.run(["start", "web"]);
    let rows = home.online("web", COPIES.into());
    assert!(rows.iter().all(|new| before.iter().all(|old| old.pid != new.pid)));
    all_answer(&home, port);
    let tally = reload_under_load(&home, port, COPIES.into());
    assert!(tally.failed.is_empty(), "{tally:?}");
}

#[test]
fn without_privileges() {
    need!(Tool::Python);
    if !rustix::process::geteuid().is_root() {
        return skip("needs root, to be somebody else");
    }
    let port = free_port();
    let home = home().owned_by(65_534);
    shares_and_reloads(&home, port, plain("http_server.py", port, json!({})));
}

#[test]
fn as_root_without_a_capability() {
    need!(Tool::Python);
    if !rustix::process::geteuid().is_root() {
        return skip("needs root, to give all up");
    }
    let port = free_port();
    let words =
        ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--ambient-caps", "-all"];
    let home = home().run_by(words);
    shares_and_reloads(&home, port, plain("http_server.py", port, json!({})));
}

/// Workers of another user than the guard: they, too, are asked about and given a socket.
#[test]
fn as_somebody_else() {
    need!(Tool::Python);
    if !rustix::process::geteuid().is_root() {
        return skip("needs root, to make workers somebody else");
    }
    let port = free_port();
    let more = json!({ "user": "nobody", "interpreter": "/usr/bin/python3" });
    shares_and_reloads(&home(), port, plain("http_server.py", port, more));
}

/// Where a trap cannot be set a worker is what it is without one, and the daemon says why.
#[test]
fn where_somebody_else_is_asked_already() {
    let python = need!(Tool::Python);
    let port = free_port();
    let home = home().run_by([python.as_os_str(), app("asked_already.py").as_os_str()]);
    home.start([plain(
        "http_server.py",
        port,
        json!({ "instances": 1, "clustering": { "enabled": true } }),
    )])
    .succeeded();
    let pid = home.online("web", 1)[0].pid;
    assert_eq!(get(port, "/").unwrap().body, pid.to_string());
    let status = home.ok(["daemon", "status"]);
    assert!(status.contains("somebody else answers bunpilot's system calls already"), "{status}");
}

/// A port somebody else has is not shared with him.
#[test]
fn a_port_in_use_is_refused() {
    need!(Tool::Python);
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port();
    let home = home();
    home.start([plain("http_server.py", port, json!({}))])
        .refused(&format!("port {port} is in use"));
}

/// The guard does not wait for a worker whose memory cannot be read; others do not notice it.
#[test]
fn a_worker_nobody_can_read_holds_up_nobody() {
    need!(Tool::Python);
    if !rustix::process::geteuid().is_root() {
        return skip("needs root, for userfaultfd(2)");
    }
    let (home, stuck, port) = (home(), free_port(), free_port());
    let waits = json!({ "port": stuck, "instances": 2, "readyTimeout": 60_000 });
    let file = json!({ "apps": [declared("stuck", "stuck_bind.py", waits)] }).to_string();
    let file = home.write("stuck.json", &file);
    let starting =
        home.spawn(home.command(["start".as_ref(), "--config".as_ref(), file.as_os_str()]));
    let log = home.log("stuck", "stuck-0-out.log");
    wait_for("a worker that binds", || {
        std::fs::read_to_string(&log).ok().filter(|it| it.contains("binding"))
    });
    shares_and_reloads(&home, port, plain("http_server.py", port, json!({})));
    home.ok(["delete", "stuck"]);
    assert!(home.pids_of("stuck").is_empty());
    drop(starting);
}

/// Each worker is probed alone, although all share the port: the sick one is replaced.
#[test]
fn one_sick_worker_is_found() {
    need!(Tool::Python);
    let (home, port) = (home(), free_port());
    let sick = home.path("sick");
    let health = json!({ "path": "/health", "interval": 1000, "timeout": 500,
        "unhealthyThreshold": 2 });
    let env = json!({ "PORT": port.to_string(), "SICK": sick });
    home.start([plain("http_server.py", port, json!({ "env": env, "healthCheck": health }))])
        .succeeded();
    let before = home.online("web", COPIES.into());
    wait_for("a probe of each worker", || {
        let asked = |place| std::fs::read(home.log("web", &format!("web-{place}-out.log")));
        (0..COPIES).all(|place| asked(place).is_ok_and(|log| !log.is_empty())).then_some(())
    });
    std::fs::write(&sick, before[2].pid.to_string()).unwrap();
    let after = wait_for("another worker", || {
        let rows = home.at_rest("web")?;
        (rows.len() == before.len() && rows[2].pid != before[2].pid).then_some(rows)
    });
    for place in [0, 1, 3] {
        assert_eq!(after[place].pid, before[place].pid);
    }
}
