//! HTTP on loopback: `/metrics` and the JSON API.
//!
//! Decides what a request asks for, and whether it may; knows no answer itself, it asks the
//! daemon. Serves GET and HEAD, reads no body, sends no CORS header, and answers nobody who came
//! here by a name that is not this machine's (DNS rebinding). Hostile and slow clients cost a
//! bounded number of connections for a bounded time.

mod accept;
mod patience;
mod route;

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, TcpListener},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Body as _, Incoming},
    header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioTimer;
use tokio::{net::TcpStream, sync::Semaphore, task::JoinSet, time};

use self::{
    patience::{Patience, Watched},
    route::{Refusal, Route},
};
use crate::world::{Answer, Question};

/// Connections served at a time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// Longest head of a request; ours need a few hundred bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields of a request.
const HEADERS_MAX: usize = 64;
/// Longest wait for the daemon's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Rest after the kernel refused a connection, as it does when we are out of descriptors.
const REFUSED_DELAY: Duration = Duration::from_millis(100);

const JSON: &str = "application/json; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";
const INDEX: &str = "bunpilot\n\n/metrics             Prometheus and OpenMetrics\n/api/metrics         measurements of every app, JSON\n/api/metrics/<app>   measurements of one app, JSON\n/api/status          every app and worker, JSON\n";

/// Why HTTP is not served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Somebody else has the port.
    #[error(
        "cannot serve metrics on `127.0.0.1:{port}`: the port is in use; set `metrics.httpPort` to a free one"
    )]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// Anything else the kernel refuses.
    #[error("cannot serve metrics on `127.0.0.1:{port}`")]
    Bind {
        /// The port.
        port: u16,
        /// Its reason.
        source: io::Error,
    },
    /// The runtime does not take the listener.
    #[error("cannot serve metrics: the runtime does not take the listening socket")]
    Runtime(#[source] io::Error),
}

/// Opens `port` (0: any free one) on 127.0.0.1.
pub fn listen(port: u16) -> Result<TcpListener, ApiError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            ApiError::PortInUse { port }
        } else {
            ApiError::Bind { port, source }
        }
    })
}

/// Serves until dropped, on the tokio current-thread runtime it is awaited in, inside a
/// `LocalSet`; the connections end with it.
///
/// `ask` gets the daemon's answer; after 10 s without one the client gets 503.
pub async fn serve<Ask, Answering>(listener: TcpListener, ask: Ask) -> Result<Infallible, ApiError>
where
    Ask: Fn(Question) -> Answering + 'static,
    Answering: Future<Output = Answer> + 'static,
{
    listener.set_nonblocking(true).map_err(ApiError::Runtime)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(ApiError::Runtime)?;
    let ask = Rc::new(ask);
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let permit = Arc::clone(&free).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _from)) => {
                let ask = Rc::clone(&ask);
                connections.spawn_local(async move {
                    connection(stream, ask).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "metrics connection refused");
                time::sleep(REFUSED_DELAY).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection<Ask, Answering>(stream: TcpStream, ask: Rc<Ask>)
where
    Ask: Fn(Question) -> Answering,
    Answering: Future<Output = Answer>,
{
    let patience = Rc::new(Patience::new());
    let service = service_fn(|request| {
        let (patience, ask) = (Rc::clone(&patience), Rc::clone(&ask));
        async move {
            patience.asked();
            let response = respond(&request, &*ask).await;
            patience.answered();
            Ok::<_, Infallible>(response)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        // Ours below know an idle client from a slow one.
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(Watched::new(stream, Rc::clone(&patience)), service);
    tokio::select! {
        served = serving => {
            if let Err(error) = served {
                tracing::debug!(%error, "metrics connection broken");
            }
        }
        () = patience.run_out() => tracing::debug!("metrics client too slow"),
    }
}

async fn respond<Ask, Answering>(request: &Request<Incoming>, ask: &Ask) -> Response<Full<Bytes>>
where
    Ask: Fn(Question) -> Answering,
    Answering: Future<Output = Answer>,
{
    if !request.body().is_end_stream() {
        return refuse(&Refusal::Malformed("a GET request has no body"));
    }
    match route::route(request.method(), request.uri(), request.headers()) {
        Ok(Route::Index) => response(StatusCode::OK, PLAIN, INDEX),
        Ok(Route::Ask(question)) => match time::timeout(ANSWER_TIMEOUT, ask(question)).await {
            Ok(Answer { status, content_type, body }) => {
                let status =
                    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                response(status, content_type, body)
            }
            Err(_elapsed) => refuse(&Refusal::Busy),
        },
        Err(refusal) => refuse(&refusal),
    }
}

fn refuse(refusal: &Refusal) -> Response<Full<Bytes>> {
    let body = serde_json::json!({ "error": refusal.to_string() }).to_string();
    let mut response = response(refusal.status(), JSON, body);
    let (name, value) = match refusal {
        Refusal::Method => (ALLOW, "GET, HEAD"),
        // Whoever sends this has lost count of what is a request, or is not one of us.
        Refusal::Malformed(_) | Refusal::ForeignHost => (CONNECTION, "close"),
        Refusal::NotFound(_) | Refusal::Busy => return response,
    };
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_str(content_type);
    headers.insert(
        CONTENT_TYPE,
        content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
