//! How much kernel memory pipes may take.
//!
//! Past `/proc/sys/fs/pipe-user-pages-soft` every new pipe of an unprivileged user shrinks to
//! 8 KiB, those of other programs too (`pipe(7)`); so pipes are widened only while half of that
//! is left.

use std::{collections::BTreeMap, fs, os::fd::OwnedFd};

use rustix::{
    param::page_size,
    pipe::{fcntl_getpipe_size, fcntl_setpipe_size},
    process::geteuid,
};

/// The limit a kernel has unless somebody changed it, in pages.
const SOFT_PAGES_DEFAULT: usize = 16_384;

/// Bytes spent on widening pipes, by pipe, and those left.
#[derive(Debug)]
pub(super) struct Budget {
    left_bytes: usize,
    spent_bytes: BTreeMap<u64, usize>,
}

impl Budget {
    pub(super) fn read() -> Self {
        let soft = fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft");
        let pages = soft.ok().and_then(|text| text.trim().parse().ok());
        let unlimited = geteuid().is_root() || pages == Some(0);
        let bytes = pages.unwrap_or(SOFT_PAGES_DEFAULT).saturating_mul(page_size());
        let left_bytes = if unlimited { usize::MAX } else { bytes / 2 };
        Self { left_bytes, spent_bytes: BTreeMap::new() }
    }

    /// Widens `pipe`, known as `key`, to `wanted_bytes` if that can be afforded; returns its size.
    pub(super) fn widen(&mut self, key: u64, pipe: &OwnedFd, wanted_bytes: usize) -> usize {
        let size = fcntl_getpipe_size(pipe).unwrap_or(page_size());
        let Some(extra) = wanted_bytes.checked_sub(size) else { return size };
        if extra > self.left_bytes {
            return size;
        }
        let Ok(granted) = fcntl_setpipe_size(pipe, wanted_bytes) else { return size };
        let extra = granted.saturating_sub(size);
        self.left_bytes = self.left_bytes.saturating_sub(extra);
        self.spent_bytes.insert(key, extra);
        granted
    }

    /// Takes back what `key` cost.
    pub(super) fn release(&mut self, key: u64) {
        let extra = self.spent_bytes.remove(&key).unwrap_or(0);
        self.left_bytes = self.left_bytes.saturating_add(extra);
    }
}
