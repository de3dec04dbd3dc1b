//! Log files that cannot be written, and how an operator is told.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    domain::AppId,
    world::{Blockage, Meanwhile},
};

/// Those that cannot be written now: at most as many as there are log files.
#[derive(Debug, Default)]
pub(super) struct Blockages(BTreeMap<PathBuf, Blockage>);

impl Blockages {
    pub(super) fn begin(&mut self, blockage: &Blockage) {
        self.0.insert(blockage.path.clone(), blockage.clone());
    }

    pub(super) fn end(&mut self, path: &Path) {
        self.0.remove(path);
    }

    /// All, in words.
    pub(super) fn all(&self) -> impl Iterator<Item = String> {
        self.0.values().map(words)
    }

    /// Those that concern `app`, in words.
    pub(super) fn of(&self, app: AppId) -> impl Iterator<Item = String> {
        self.0.values().filter(move |it| it.apps.contains(&app)).map(words)
    }
}

fn words(blockage: &Blockage) -> String {
    let Blockage { path, reason, output, .. } = blockage;
    let meanwhile = match output {
        Meanwhile::Waits => "workers that write much wait until it can be",
        Meanwhile::Dropped => "output is thrown away until it can be",
    };
    format!("log file `{}` cannot be written: {reason}; {meanwhile}", path.display())
}
