//! Where bunpilot keeps its files.

use std::{
    env,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf, absolute},
};

use super::failure::Failure;

/// Longest path of a socket in bytes: `sun_path` less its NUL, see unix(7).
pub(crate) const SOCKET_PATH_MAX: usize = 107;

/// The folder all of one daemon's files are in, and its socket.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    folder: PathBuf,
    socket: PathBuf,
    /// Which metrics server the daemon started here has.
    http: Http,
}

/// Whether a daemon serves metrics over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http {
    /// As the environment says, else the apps, else the usual one.
    Usual,
    /// As the apps it is started for say.
    At(u16),
    /// It does not: it is not the machine's only daemon.
    Off,
}

impl Home {
    /// `BUNPILOT_HOME`, else `~/.bunpilot`; the socket may lie elsewhere (`BUNPILOT_SOCKET`).
    pub(crate) fn find() -> Result<Self, Failure> {
        let set = |name: &str| env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
        let folder = set("BUNPILOT_HOME")
            .or_else(|| set("HOME").map(|it| it.join(".bunpilot")))
            .ok_or_else(|| {
                Failure::Local(
                    "neither `BUNPILOT_HOME` nor `HOME` is set; set one to say where files go"
                        .to_owned(),
                )
            })?;
        let home = Self::at(&folder)?;
        let home = match set("BUNPILOT_SOCKET") {
            Some(socket) => Self { socket: whole(&socket)?, ..home },
            None => home,
        };
        let bytes = home.socket.as_os_str().len();
        if bytes > SOCKET_PATH_MAX {
            return Err(Failure::SocketPath { socket: home.socket, bytes });
        }
        Ok(home)
    }

    /// A home in `folder`, with the socket in it.
    pub(crate) fn at(folder: &Path) -> Result<Self, Failure> {
        let folder = whole(folder)?;
        let socket = folder.join("bunpilot.sock");
        Ok(Self { folder, socket, http: Http::Usual })
    }

    /// The same home; its daemon will have no metrics server.
    pub(crate) fn without_http(self) -> Self {
        Self { http: Http::Off, ..self }
    }

    /// The same home; a daemon started here serves metrics on `port`, if the environment does not
    /// say otherwise.
    pub(crate) fn with_http_port(self, port: Option<u16>) -> Self {
        match port {
            Some(port) if env::var_os("BUNPILOT_HTTP_PORT").is_none() => {
                Self { http: Http::At(port), ..self }
            }
            Some(_) | None => self,
        }
    }

    /// Which metrics server a daemon started here has.
    pub(crate) fn http(&self) -> Http {
        self.http
    }

    /// Makes the folder if it is missing, for this user alone.
    pub(crate) fn create(&self) -> Result<(), Failure> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|source| Failure::Home { folder: self.folder.clone(), source })
    }

    /// The folder itself.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The control socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What the daemon and its guard print.
    pub(crate) fn daemon_log(&self) -> PathBuf {
        self.folder.join("bunpilot-daemon.log")
    }

    /// The folder of the apps' logs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }
}

fn whole(path: &Path) -> Result<PathBuf, Failure> {
    absolute(path).map_err(Failure::io(format!("resolve `{}`", path.display())))
}
