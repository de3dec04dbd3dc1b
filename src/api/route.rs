//! What a request asks for, and whether it may. Pure.

use std::net::IpAddr;

use hyper::{
    HeaderMap, Method, StatusCode, Uri,
    header::{ACCEPT, HOST},
};

use super::accept;
use crate::world::Question;

/// Longest name of an app we look for.
const NAME_BYTES_MAX: usize = 256;

/// Where a request leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/`
    Index,
    /// To the daemon.
    Ask(Question),
}

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("this server answers to `localhost` and loopback addresses only")]
    ForeignHost,
    #[error("nothing is at `{0}`; try `/metrics`, `/api/metrics` or `/api/status`")]
    NotFound(String),
    #[error("only GET and HEAD are served")]
    Method,
    #[error("the daemon is busy and did not answer in time")]
    Busy,
}

impl Refusal {
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::ForeignHost => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

pub(super) fn route(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Route, Refusal> {
    check_host(uri, headers)?;
    let path = uri.path();
    let route = match path {
        "/" => Route::Index,
        "/metrics" => Route::Ask(Question::Exposition(accept::dialect(&accepted(headers)))),
        "/api/metrics" => Route::Ask(Question::Metrics(None)),
        "/api/status" => Route::Ask(Question::Status),
        _ => match path.strip_prefix("/api/metrics/").filter(|name| !name.is_empty()) {
            Some(name) => Route::Ask(Question::Metrics(Some(decode(name)?))),
            None => return Err(Refusal::NotFound(shortened(path))),
        },
    };
    if *method == Method::GET || *method == Method::HEAD { Ok(route) } else { Err(Refusal::Method) }
}

/// All `Accept` lines as one list.
fn accepted(headers: &HeaderMap) -> String {
    let lines: Vec<&str> =
        headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok()).collect();
    lines.join(",")
}

/// A page of another name must not read us through its visitor's browser. A client of HTTP/1.0
/// may leave the name out; a browser never does.
fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let header = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::Malformed("more than one `Host` header"));
    }
    let header = match header.map(|host| host.to_str()) {
        None => None,
        Some(Ok(host)) => Some(host),
        Some(Err(_not_text)) => return Err(Refusal::ForeignHost),
    };
    let named = uri.authority().map(hyper::http::uri::Authority::as_str).into_iter().chain(header);
    if named.into_iter().all(is_this_machine) { Ok(()) } else { Err(Refusal::ForeignHost) }
}

fn is_this_machine(authority: &str) -> bool {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => address,
        Some((address, port)) if is_port(port) => address,
        Some(_) => return false,
        None => match authority.split_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            Some(_) => return false,
            None => authority,
        },
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Percent-decoding (RFC 3986 §2.1) of one path segment.
fn decode(segment: &str) -> Result<String, Refusal> {
    const BAD: Refusal = Refusal::Malformed("the app's name is not percent-encoded UTF-8");
    if segment.len() > NAME_BYTES_MAX {
        return Err(Refusal::NotFound(shortened(segment)));
    }
    let mut bytes = segment.bytes();
    let mut decoded = Vec::with_capacity(segment.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (digit(bytes.next()), digit(bytes.next()));
            let (Some(high), Some(low)) = (high, low) else { return Err(BAD) };
            decoded.push(u8::try_from(high << 4 | low).or(Err(BAD))?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).or(Err(BAD))
}

fn shortened(path: &str) -> String {
    path.chars().take(NAME_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::world::Dialect;

    fn ask(method: &str, uri: &'static str, host: &'static str) -> Result<Route, Refusal> {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
        let method = Method::from_bytes(method.as_bytes()).unwrap_or(Method::GET);
        route(&method, &Uri::from_static(uri), &headers)
    }

    #[track_caller]
    fn check(uri: &'static str, expected: Result<Question, u16>) {
        let answer = ask("GET", uri, "localhost:9615").map_err(|refusal| refusal.status().as_u16());
        assert_eq!(answer, expected.map(Route::Ask), "{uri}");
    }

    #[test]
    fn paths_lead_where_they_always_did() {
        check("/metrics", Ok(Question::Exposition(Dialect::Text)));
        check("/metrics?x=1", Ok(Question::Exposition(Dialect::Text)));
        check("/api/metrics", Ok(Question::Metrics(None)));
        check("/api/metrics/api-1", Ok(Question::Metrics(Some("api-1".to_owned()))));
        check("/api/metrics/a%2Fb%20%C3%BC", Ok(Question::Metrics(Some("a/b ü".to_owned()))));
        check("/api/status", Ok(Question::Status));
        check("http://127.0.0.1:9615/api/status", Ok(Question::Status));
        assert_eq!(ask("GET", "/", "localhost"), Ok(Route::Index));
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for path in ["/x", "/metrics/", "/api", "/api/metrics/", "/api/status/x", "//metrics"] {
            check(path, Err(404));
        }
        for path in ["/api/metrics/%", "/api/metrics/%4", "/api/metrics/%zz", "/api/metrics/%ff"] {
            check(path, Err(400));
        }
    }

    #[test]
    fn nothing_can_be_changed() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
            assert_eq!(ask(method, "/metrics", "localhost"), Err(Refusal::Method), "{method}");
        }
        assert!(ask("HEAD", "/metrics", "localhost").is_ok());
    }

    #[test]
    fn only_this_machine_s_names_are_answered() {
        for host in
            ["localhost", "LOCALHOST:80", "127.0.0.1:9615", "127.9.9.9", "[::1]:9615", "[::1]"]
        {
            assert!(ask("GET", "/metrics", host).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "[::2]:9615",
            "127.0.0.1.evil.example",
            "localhost:80:80",
            "[::1",
            "[::1]x",
            "",
            "127.0.0.1:x",
            "0.0.0.0",
            "localhost@evil.example",
        ] {
            assert_eq!(ask("GET", "/metrics", host), Err(Refusal::ForeignHost), "{host}");
        }
        assert_eq!(
            ask("GET", "http://evil.example/metrics", "localhost"),
            Err(Refusal::ForeignHost)
        );
    }

    proptest! {
        #[test]
        fn names_survive_encoding(name in "\\PC{1,20}") {
            let encoded: Vec<String> = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(decode(&encoded.concat()), Ok(name));
        }

        #[test]
        fn hostile_hosts_are_never_a_panic(host in ".*") {
            is_this_machine(&host);
        }
    }
}
