//! On the programs people run. One that is not on the `PATH` is skipped, and said so.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::*;

/// Starts with its socket as descriptor 3 and the port as `$1`.
const PY_ACCEPT: &str = r#"exec python3 -c '
import socket
s = socket.socket(fileno=3)
while True:
    c, _ = s.accept()
    c.recv(999); c.sendall(b"HTTP/1.0 200 OK\r\n\r\nok"); c.close()'"#;
const PY_HTTP_SERVER: &str = r#"exec python3 -c '
import socket, http.server as h
s = h.ThreadingHTTPServer(("", 0), h.SimpleHTTPRequestHandler, bind_and_activate=False)
s.socket = socket.socket(fileno=3); s.serve_forever()'"#;
const PY_SELECT: &str = r#"exec python3 -c '
import socket, select
s = socket.socket(fileno=3)
while True:
    select.select([s], [], [])
    c, _ = s.accept()
    c.recv(999); c.sendall(b"HTTP/1.0 200 OK\r\n\r\nok"); c.close()'"#;
const PY_FORKED: &str = r#"exec python3 -c '
import os, socket
s = socket.socket(fileno=3)
if os.fork(): os.wait()
while True:
    c, _ = s.accept()
    c.recv(999); c.sendall(b"HTTP/1.0 200 OK\r\n\r\nok"); c.close()'"#;
const NODE_FD: &str =
    "exec node -e 'require(\"http\").createServer((q, s) => s.end(\"ok\")).listen({fd: 3})'";
const BUN_FD: &str = r#"exec bun -e '
Bun.listen({fd: 3, socket: {data(s) { s.end("HTTP/1.0 200 OK\r\n\r\nok") }}}); setInterval(() => {}, 9e5)'"#;

#[test]
fn inherited_sockets_are_seen_waited_for() {
    check_accepting("python3", PY_ACCEPT);
    check_accepting("python3", PY_SELECT);
    check_accepting("python3", PY_FORKED);
    check_accepting("python3", PY_HTTP_SERVER);
    check_accepting("node", NODE_FD);
    check_accepting("bun", BUN_FD);
    check_accepting("uvicorn", "exec uvicorn --fd 3 app:asgi");
    check_accepting("gunicorn", "exec gunicorn -b fd://3 app:wsgi");
    check_accepting("gunicorn", "exec gunicorn -b fd://3 -w 2 -k gthread app:wsgi");
    check_accepting("hypercorn", "exec hypercorn -b fd://3 app:asgi");
}

#[test]
fn own_sockets_are_seen_listening() {
    check_listening("python3", "exec python3 -m http.server $1");
    check_listening("python3", "python3 -m http.server $1 & wait");
    check_listening(
        "node",
        "exec node -e 'require(\"http\").createServer((q, s) => s.end(\"ok\")).listen('$1')'",
    );
    check_listening(
        "bun",
        "exec bun -e 'Bun.serve({port: '$1', fetch: () => new Response(\"ok\")})'",
    );
    check_listening("uvicorn", "exec uvicorn --port $1 app:asgi");
    check_listening("gunicorn", "exec gunicorn -b 127.0.0.1:$1 app:wsgi");
    check_listening("hypercorn", "exec hypercorn -b 127.0.0.1:$1 app:asgi");
}

#[test]
fn a_worker_in_a_network_of_its_own_is_seen() {
    let may_unshare = Command::new("unshare").args(["-n", "true"]).stderr(Stdio::null()).status();
    if !may_unshare.is_ok_and(|status| status.success()) {
        writeln!(std::io::stderr(), "skipped: no network namespace may be made here").unwrap();
        return;
    }
    // A port that is also taken in our own network, by us.
    let ours = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = ours.local_addr().unwrap().port();
    let script = "exec unshare -n python3 -c '
import socket, sys, time
s = socket.socket(); s.bind((\"\", int(sys.argv[1]))); s.listen(); time.sleep(1000)' $1";
    let server = Server::start(script, port, None);
    until(script, || listening(server.pid(), port));
    assert!(!listening(server.pid(), 1));
}

#[test]
fn holding_a_socket_is_not_waiting_for_it() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let server = Server::start("sleep 1000", 0, listener.as_fd().try_clone_to_owned().ok());
    assert!(!accepting(server.pid(), inode(&listener)));
    // Polling for anything else is not waiting either.
    assert!(waiting::holds(server.pid(), &[inode(&listener)]));
}

#[test]
fn the_port_of_another_is_not_ours() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let me = Pid(i32::try_from(std::process::id()).unwrap());
    assert!(listening(me, port));
    let server = Server::start("sleep 1000", 0, None);
    assert!(!listening(server.pid(), port));
    assert!(in_use(port));
    drop(listener);
    assert!(!listening(me, port));
}

fn check_accepting(program: &str, script: &str) {
    if !on_path(program) {
        return;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let inode = inode(&listener);
    let server = Server::start(script, port, Some(OwnedFd::from(listener)));
    until(script, || accepting(server.pid(), inode));
    assert_served(script, port);
}

fn check_listening(program: &str, script: &str) {
    if !on_path(program) {
        return;
    }
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let server = Server::start(script, port, None);
    until(script, || listening(server.pid(), port));
    assert_served(script, port);
}

#[track_caller]
fn assert_served(script: &str, port: u16) {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 200 "), "{script}: {answer}");
}

fn inode(listener: &TcpListener) -> u64 {
    rustix::fs::fstat(listener).unwrap().st_ino
}

/// Looks every 10 ms, for at most half a minute.
#[track_caller]
fn until(script: &str, mut true_at_last: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if true_at_last() {
            return;
        }
        pause();
    }
    panic!("never seen: {script}");
}

#[expect(clippy::disallowed_methods, reason = "the time between two looks of a poll")]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !found {
        writeln!(std::io::stderr(), "skipped: `{program}` is not on the PATH").unwrap();
        assert!(std::env::var_os("BUNPILOT_REQUIRE").is_none(), "`{program}` is required");
    }
    found
}

/// A server in a folder of its own, killed with all its descendants.
struct Server {
    child: Child,
    folder: PathBuf,
}

impl Server {
    fn start(script: &str, port: u16, socket: Option<OwnedFd>) -> Self {
        let folder = folder();
        let child = Command::new("sh")
            .args(["-c", &format!("exec 3<&0 0</dev/null\n{script}"), "sh", &port.to_string()])
            .current_dir(&folder)
            .stdin(socket.map_or(Stdio::null(), Stdio::from))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    fn pid(&self) -> Pid {
        Pid(i32::try_from(self.child.id()).unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for pid in usage::tree(self.pid()) {
            let pid = rustix::process::Pid::from_raw(pid.0).unwrap();
            // One may have ended by itself, with its parent.
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap_or_default();
        }
        self.child.wait().unwrap();
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

fn folder() -> PathBuf {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder =
        std::env::temp_dir().join(format!("bunpilot-listen-{}-{count}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    write(&folder.join("app.py"));
    folder
}

fn write(app: &Path) {
    let text = r#"
async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown": return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})

def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]
"#;
    fs::write(app, text).unwrap();
}

/// How much one look costs. Run with `--ignored --nocapture` on a quiet machine.
#[test]
#[ignore = "a measurement, not a check"]
fn cost() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (port, inode) = (listener.local_addr().unwrap().port(), inode(&listener));
    let server = Server::start(NODE_FD, port, Some(OwnedFd::from(listener)));
    until(NODE_FD, || accepting(server.pid(), inode));
    let me = Pid(i32::try_from(std::process::id()).unwrap());
    let looks: [(&str, &dyn Fn() -> bool); 3] = [
        ("listening", &|| listening(server.pid(), port)),
        ("not listening", &|| listening(server.pid(), 1)),
        ("accepting", &|| accepting(server.pid(), inode)),
    ];
    for (name, look) in looks {
        let before = crate::platform::sys::process_cpu(me).unwrap();
        assert_eq!(
            (0..500).filter(|_| look()).count(),
            if name.starts_with("not") { 0 } else { 500 }
        );
        let after = crate::platform::sys::process_cpu(me).unwrap();
        let spent = after.saturating_sub(before) / 500;
        writeln!(std::io::stdout(), "{name}: {spent:?} a look at node").unwrap();
    }
}
