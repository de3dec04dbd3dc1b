//! How the descriptors of a loaded object are named at the guard, which keeps them while there is
//! no daemon.

use std::{collections::BTreeMap, os::fd::OwnedFd};

/// The names of one object's descriptors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    /// What they all begin with, whichever version of the object they are of.
    pub(super) prefix: &'static str,
    /// The object: another version's maps have other layouts.
    pub(super) object: &'static [u8],
}

impl Names {
    /// Names one of them.
    pub(super) fn key(&self, part: &str) -> String {
        format!("{}{}.{part}", self.prefix, crate::guard::hash(self.object))
    }

    /// The names of all, also of other versions', among those the guard keeps.
    pub(super) fn all(&self, kept: &BTreeMap<String, OwnedFd>) -> Vec<String> {
        kept.keys().filter(|it| it.starts_with(self.prefix)).cloned().collect()
    }

    /// Takes the descriptors `parts`, if all are there.
    pub(super) fn take<const N: usize>(
        &self,
        kept: &mut BTreeMap<String, OwnedFd>,
        parts: [&str; N],
    ) -> Option<[OwnedFd; N]> {
        let taken: Option<Vec<_>> = parts.iter().map(|it| kept.remove(&self.key(it))).collect();
        taken?.try_into().ok()
    }
}
