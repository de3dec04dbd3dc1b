//! Python: with threads, with asyncio, and with nothing at all.

use std::{
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::Path,
    time::Duration,
};

use bunpilot::{
    cli::sdk::What,
    ipc::{
        channel::{Dialect, Message, Request},
        notify::{self, Notice},
    },
};
use rustix::process::Signal;

use crate::{
    runtime::python,
    worker::{Project, Worker},
};

/// `serve_forever` must be shut down from another thread than its own.
const THREADS: &str = "
import http.server, os, bunpilot_worker as bunpilot
server = http.server.HTTPServer(('127.0.0.1', 0), http.server.BaseHTTPRequestHandler)
def close():
    print('closed', flush=True)
    server.shutdown()
bunpilot.on_shutdown(close)
bunpilot.on_config_update(lambda config: bunpilot.custom('config', config))
bunpilot.start_metrics(1e6)
bunpilot.heartbeat(1e6)
bunpilot.ready()
assert 'NODE_CHANNEL_FD' not in os.environ
server.serve_forever()
print('returned')
";

#[test]
fn threads() {
    let Some(python) = python() else { return };
    let project = Project::new("py-threads", What::Python, "worker.py", THREADS);
    let mut worker = Worker::spawn(project.command(&python, "worker.py"));
    worker.expect(&Message::ShutdownHandler);
    worker.expect_heartbeat();
    worker.expect(&Message::Ready(Dialect::Ours));
    worker.say(&Request::CollectMetrics);
    let Some(Message::Metrics(report)) = worker.hear() else { panic!("no metrics") };
    assert!(report.rss_bytes.is_some_and(|bytes| bytes > 1_000_000), "{report:?}");
    assert!(report.user.is_some_and(|user| user > Duration::ZERO), "{report:?}");
    worker.say(&Request::Ping);
    worker.expect_heartbeat();
    let config = serde_json::json!({"port": 3001});
    worker.say(&Request::ConfigUpdate { config: config.clone() });
    worker.expect(&Message::Custom { channel: "config".into(), data: config });
    worker.shutdown();
    worker.expect(&Message::Stopping);
    worker.expect_end(0, "closed\nreturned\n");
}

const ASYNCIO: &str = "
import asyncio, bunpilot_worker as bunpilot
async def main():
    done = asyncio.Event()
    async def close():
        await asyncio.sleep(0.01)
        done.set()
        print('closed', flush=True)
    bunpilot.on_shutdown(close)
    bunpilot.heartbeat(1e6)
    bunpilot.ready()
    await done.wait()
    print('returned')
asyncio.run(main())
";

#[test]
fn asyncio_and_a_signal() {
    let Some(python) = python() else { return };
    let project = Project::new("py-asyncio", What::Python, "worker.py", ASYNCIO);
    for signal in [None, Some(Signal::TERM), Some(Signal::INT)] {
        let mut worker = Worker::spawn(project.command(&python, "worker.py"));
        worker.expect(&Message::ShutdownHandler);
        worker.expect_heartbeat();
        worker.expect(&Message::Ready(Dialect::Ours));
        match signal {
            Some(signal) => worker.signal(signal),
            None => worker.shutdown(),
        }
        worker.expect(&Message::Stopping);
        worker.expect_end(0, "closed\nreturned\n");
    }
}

/// A main thread that never returns by itself is unwound.
const ENDLESS: &str = "
import sys, threading, bunpilot_worker as bunpilot
def close():
    print('closed', flush=True)
    if len(sys.argv) > 1: raise ValueError('cannot close')
bunpilot.on_shutdown(close)
bunpilot.ready()
try:
    threading.Event().wait()
finally:
    print('unwound')
";

#[test]
fn a_main_thread_that_never_returns() {
    let Some(python) = python() else { return };
    let project = Project::new("py-endless", What::Python, "worker.py", ENDLESS);
    for code in [0, 1] {
        let mut command = project.command(&python, "worker.py");
        if code == 1 {
            command.arg("fail").stderr(std::process::Stdio::null());
        }
        let mut worker = Worker::spawn(command);
        worker.expect(&Message::ShutdownHandler);
        worker.expect(&Message::Ready(Dialect::Ours));
        worker.shutdown();
        worker.expect(&Message::Stopping);
        worker.expect_end(code, "closed\nunwound\n");
    }
}

#[test]
fn a_forked_child_is_not_the_worker() {
    let Some(python) = python() else { return };
    let script = "
import os, bunpilot_worker as bunpilot
bunpilot.on_shutdown(lambda: print('never'))
pid = os.fork()
if pid == 0:
    bunpilot.ready()
    bunpilot.custom('child', 1)
    os._exit(0)
os.waitpid(pid, 0)
bunpilot.custom('parent', 1)
";
    let project = Project::new("py-fork", What::Python, "worker.py", script);
    let mut worker = Worker::spawn(project.command(&python, "worker.py"));
    worker.expect(&Message::ShutdownHandler);
    worker.expect(&Message::Custom { channel: "parent".into(), data: 1.into() });
    worker.expect_end(0, "");
}

#[test]
fn sd_notify() {
    let Some(python) = python() else { return };
    let script = "
import bunpilot_worker as bunpilot
bunpilot.ready()
bunpilot.status('two\\nlines')
";
    let project = Project::new("py-notify", What::Python, "worker.py", script);
    let path = project.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut command = project.command(&python, "worker.py");
    command.env("NOTIFY_SOCKET", &path).env("BUNPILOT_WORKER_ID", "0");
    assert!(command.status().unwrap().success());
    socket.set_nonblocking(true).unwrap();
    let mut bytes = [0; notify::DATAGRAM_MAX];
    for expected in [Notice::Ready, Notice::Status("two lines".into())] {
        let length = socket.recv(&mut bytes).unwrap();
        assert_eq!(notify::parse(&bytes[..length]), [expected]);
    }
}

#[test]
fn inherited_sockets() {
    let Some(_python) = python() else { return };
    let script = "
import bunpilot_worker as bunpilot
print(*[s.getsockname()[1] for s in bunpilot.listen_sockets()])
";
    let project = Project::new("py-listen", What::Python, "worker.py", script);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // The first inherited descriptor is number 3, and the process is told that it is meant.
    let shell = "exec 3<&0; LISTEN_FDS=1 LISTEN_PID=$1 exec python3 worker.py";
    for (pid, printed) in [("$$", format!("{port}\n")), ("1", "\n".to_owned())] {
        let shell = shell.replace("$1", pid);
        let mut command = project.command(Path::new("sh"), "-c");
        let output = command
            .arg(shell)
            .stdin(OwnedFd::from(listener.try_clone().unwrap()))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), printed, "LISTEN_PID={pid}");
    }
}

#[test]
fn nothing_happens_elsewhere() {
    let Some(python) = python() else { return };
    let script = "
import signal, threading, bunpilot_worker as bunpilot
bunpilot.on_shutdown(print)
bunpilot.start_metrics()
bunpilot.heartbeat()
bunpilot.ready()
bunpilot.status('x')
print(threading.active_count(), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
";
    let project = Project::new("py-alone", What::Python, "worker.py", script);
    let output = project.command(&python, "worker.py").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1 True\n");
    assert_eq!(output.status.code(), Some(0));
}
