//! Over real connections.

use std::cell::RefCell;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime, task,
};

use super::*;

/// Runs `talk` against a server whose answer repeats the question.
fn with_server<Talk: Future<Output = ()>>(
    builder: &mut runtime::Builder,
    talk: impl FnOnce(u16, Rc<RefCell<Vec<Question>>>) -> Talk,
) {
    let runtime = builder.enable_all().build().unwrap();
    task::LocalSet::new().block_on(&runtime, async {
        let listener = listen(0).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&asked);
        let ask = move |question: Question| {
            log.borrow_mut().push(question.clone());
            async move { answer(question).await }
        };
        tokio::select! {
            served = serve(listener, ask) => panic!("{served:?}"),
            () = talk(port, asked) => {}
        }
    });
}

async fn answer(question: Question) -> Answer {
    if question == Question::Metrics(Some("slow".to_owned())) {
        std::future::pending::<()>().await;
    }
    Answer { status: 200, content_type: PLAIN, body: format!("{question:?}").into_bytes() }
}

/// Sends `request` whole and reads until the server closes.
async fn exchange(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // A hostile request may end in a reset.
    stream.read_to_end(&mut answer).await.unwrap_or_default();
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").into_bytes()
}

#[test]
fn answers_have_type_and_length() {
    with_server(&mut runtime::Builder::new_current_thread(), async |port, asked| {
        let answer = exchange(port, &get("/api/status")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-type: text/plain; charset=utf-8\r\n"), "{answer}");
        assert!(answer.contains("content-length: 6\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nStatus"), "{answer}");
        assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
        let head = exchange(port, b"HEAD /api/status HTTP/1.0\r\n\r\n").await;
        assert!(head.contains("content-length: 6\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        assert_eq!(*asked.borrow(), [Question::Status, Question::Status]);
    });
}

#[test]
fn refusals_are_json() {
    with_server(&mut runtime::Builder::new_current_thread(), async |port, asked| {
        for (request, status, body) in [
            ("GET /x HTTP/1.0\r\n\r\n", "404", r#"{"error":"nothing is at `/x`"#),
            ("POST /metrics HTTP/1.0\r\n\r\n", "405", r#"{"error":"only GET"#),
            (
                "GET /metrics HTTP/1.0\r\nHost: evil.example\r\n\r\n",
                "403",
                r#"{"error":"this server"#,
            ),
            (
                "GET /metrics HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
                "400",
                r#"{"error":"a GET"#,
            ),
            ("GET /api/metrics/%ff HTTP/1.0\r\n\r\n", "400", r#"{"error":"the app's name"#),
        ] {
            let answer = exchange(port, request.as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.0 {status} ")), "{request}: {answer}");
            assert!(answer.contains(body), "{request}: {answer}");
        }
        assert!(
            exchange(port, b"DELETE / HTTP/1.0\r\n\r\n").await.contains("allow: GET, HEAD\r\n")
        );
        assert_eq!(*asked.borrow(), []);
    });
}

#[test]
fn one_connection_carries_many_requests() {
    with_server(&mut runtime::Builder::new_current_thread(), async |port, asked| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        for _ in 0..100 {
            stream.write_all(b"GET /api/status HTTP/1.1\r\nHost: [::1]\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\nStatus") {
                assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
            }
        }
        assert_eq!(asked.borrow().len(), 100);
    });
}

#[test]
fn hostile_bytes_hurt_nobody() {
    with_server(&mut runtime::Builder::new_current_thread(), async |port, _asked| {
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(10_000));
        for request in [
            long.as_bytes(),
            many.as_bytes(),
            b"\0\0\0\0\0\0\0\0\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET  / HTTP/1.1\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nHost: \xff\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz",
            b"CONNECT evil.example:80 HTTP/1.1\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        ] {
            let answer = exchange(port, request).await;
            assert!(!answer.contains(" 200 "), "{request:?}: {answer}");
        }
        assert!(exchange(port, &get("/")).await.contains("/api/metrics/<app>"));
    });
}

/// Time stands still but for the timers, so that a minute takes no time.
fn paused() -> runtime::Builder {
    let mut builder = runtime::Builder::new_current_thread();
    builder.start_paused(true);
    builder
}

#[test]
fn slow_clients_are_cut_off_and_idle_ones_later() {
    with_server(&mut paused(), async |port, _asked| {
        let begin = time::Instant::now();
        assert_eq!(exchange(port, b"").await, "");
        assert_eq!(begin.elapsed().as_secs(), 10);
        assert_eq!(exchange(port, b"GET /metrics HT").await, "");
        assert_eq!(begin.elapsed().as_secs(), 20);
        let answer = exchange(port, b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert!(answer.ends_with("Status"));
        assert_eq!(begin.elapsed().as_secs(), 80);
    });
}

#[test]
fn a_silent_daemon_is_said_to_be_busy() {
    with_server(&mut paused(), async |port, _asked| {
        let answer = exchange(port, &get("/api/metrics/slow")).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    });
}

#[test]
fn the_crowd_waits_until_the_slow_are_gone() {
    with_server(&mut paused(), async |port, _asked| {
        let mut slow = Vec::new();
        for _ in 0..CONNECTIONS_MAX + 10 {
            slow.push(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap());
        }
        let begin = time::Instant::now();
        assert!(exchange(port, &get("/")).await.contains(" 200 "));
        assert!(begin.elapsed() >= Duration::from_secs(10));
        drop(slow);
    });
}

#[test]
fn a_taken_port_is_told() {
    let first = listen(0).unwrap();
    let port = first.local_addr().unwrap().port();
    assert!(matches!(listen(port), Err(ApiError::PortInUse { port: told }) if told == port));
}
