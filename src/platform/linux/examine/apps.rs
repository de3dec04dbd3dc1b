//! What stands in the way of an app.

use std::path::Path;

use rustix::fs::{Access, access};

use super::{held, trial};
use crate::{
    doctor::facts::{App, Trial},
    domain::AppSpec,
};

/// Where nothing is kept.
const NOWHERE: &str = "/dev/null";

pub(super) fn look(spec: &AppSpec) -> App {
    let chosen = [&spec.logs.out_file, &spec.logs.err_file].into_iter().flatten();
    let kept = chosen.filter(|it| *it != Path::new(NOWHERE));
    App {
        name: spec.name.to_string(),
        port: spec.port.map(std::num::NonZeroU16::get),
        holder: spec.port.and_then(|port| held(port.get())),
        user: spec.user.map(|it| it.uid),
        files: spec.limits.get("nofile").copied().flatten(),
        logs: kept.map(|file| (file.clone(), writable(file))).collect(),
    }
}

/// Whether a file can be written, or made: its folders are, where they are missing.
fn writable(file: &Path) -> Trial {
    let there = file.ancestors().find(|it| it.exists()).unwrap_or(Path::new("/"));
    let rights = if there.is_dir() { Access::WRITE_OK | Access::EXEC_OK } else { Access::WRITE_OK };
    trial(access(there, rights))
}
