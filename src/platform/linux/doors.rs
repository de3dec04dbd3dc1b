//! The daemon's own two listening sockets, which outlive it with the guard.
//!
//! Decides whether the one the guard kept is used again; never accepts on any.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt as _, net::UnixListener},
    },
};

use super::daemon::{Config, DaemonError};

/// Names under which the guard keeps the daemon's own sockets.
pub(super) const CONTROL_KEY: &str = "control";
pub(super) const HTTP_KEY: &str = "http";

/// What the guard kept, by name.
pub(super) type Held = BTreeMap<String, OwnedFd>;

/// The control socket: the one the guard kept, else a new one.
///
/// # Errors
///
/// If it cannot be opened.
pub(super) fn control_socket(
    config: &Config,
    held: &mut Held,
) -> Result<UnixListener, DaemonError> {
    if let Some(fd) = held.remove(CONTROL_KEY)
        && config.socket.exists()
    {
        return Ok(UnixListener::from(fd));
    }
    let failed = |source| DaemonError::Socket { path: config.socket.clone(), source };
    match std::fs::remove_file(&config.socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => (),
    }
    let listener = UnixListener::bind(&config.socket).map_err(failed)?;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&config.socket, mode).map_err(failed)?;
    Ok(listener)
}

/// The metrics server's socket, and what to say about it.
pub(super) fn http_socket(
    port: Option<u16>,
    held: &mut Held,
) -> (Option<TcpListener>, Result<String, String>) {
    let kept = held.remove(HTTP_KEY).map(TcpListener::from);
    let Some(port) = port else { return (None, Ok("off".to_owned())) };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match kept.map_or_else(|| TcpListener::bind(address), Ok) {
        Ok(listener) => {
            let bound = listener.local_addr().unwrap_or(address);
            (Some(listener), Ok(bound.to_string()))
        }
        Err(error) => (
            None,
            Err(format!(
                "no metrics server: cannot listen on {address} ({error}); free the port, or set \
                 `BUNPILOT_HTTP_PORT` and restart the daemon"
            )),
        ),
    }
}
