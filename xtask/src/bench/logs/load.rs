//! The loads: what is written, by how many, how fast.

use std::path::Path;

use super::writer;

/// A way to write much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Load {
    /// Lines of 100 bytes, one in each write
    L1,
    /// Lines of 100 bytes, 64 KiB in each write
    L2,
    /// Lines of 1000 bytes, one in each write
    L3,
    /// 100 writers, each of which writes a line of 100 bytes 200 times a second
    Q,
    /// 20,000 lines of 100 bytes a second, followed by nobody and by many (bunpilot alone)
    F,
    /// 100 writers of lines of 100 bytes, as fast as they can: the daemon's memory (bunpilot alone)
    M,
}

/// Writers of [`Load::Q`] and [`Load::M`].
const MANY: u16 = 100;

/// Lines each writer of [`Load::Q`], and the one of [`Load::F`], writes in a second.
const QUIET_PACE: u32 = 200;
const FOLLOWED_PACE: u32 = 20_000;

impl Load {
    pub(super) const ALL: [Self; 6] = [Self::L1, Self::L2, Self::L3, Self::Q, Self::F, Self::M];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::L1 => "L1",
            Self::L2 => "L2",
            Self::L3 => "L3",
            Self::Q => "Q",
            Self::F => "F",
            Self::M => "M",
        }
    }

    pub(super) fn what(self) -> &'static str {
        match self {
            Self::L1 => "100 B lines, one a write",
            Self::L2 => "100 B lines in 64 KiB writes",
            Self::L3 => "1 kB lines, one a write",
            Self::Q => "100 writers, 20,000 lines/s of 100 B in total",
            Self::F => "20,000 lines/s of 100 B, followed",
            Self::M => "100 writers of 100 B lines, one a write",
        }
    }

    pub(super) fn writers(self) -> u16 {
        if matches!(self, Self::Q | Self::M) { MANY } else { 1 }
    }

    pub(super) fn line_bytes(self) -> usize {
        if self == Self::L3 { 1_000 } else { 100 }
    }

    /// Lines one writer writes.
    pub(super) fn lines(self, effort: Effort) -> u64 {
        let Effort { millions, quiet_seconds } = effort;
        match self {
            Self::L1 => millions * 10_000,
            Self::L2 => 2 * millions * 10_000,
            Self::L3 => 2 * millions * 1_000,
            Self::Q => (quiet_seconds + 2) * u64::from(QUIET_PACE),
            Self::F => (quiet_seconds + 2) * u64::from(FOLLOWED_PACE),
            Self::M => 3 * millions * 10_000 / u64::from(MANY),
        }
    }

    /// What a writer of this load is told.
    pub(super) fn writer(self, effort: Effort, yard: &Path) -> writer::Args {
        let line = self.line_bytes();
        let bytes = self.lines(effort) * u64::try_from(line).unwrap_or(u64::MAX);
        let chunk = if self == Self::L2 { 64 << 10 } else { line };
        let pace = match self {
            Self::Q => QUIET_PACE,
            Self::F => FOLLOWED_PACE,
            Self::L1 | Self::L2 | Self::L3 | Self::M => 0,
        };
        writer::Args { line, chunk, bytes, pace, yard: yard.to_owned() }
    }
}

/// How much is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Millions of bytes under [`Load::L1`]; the others write twice as much.
    pub(super) millions: u64,
    /// How long those of [`Load::Q`] and [`Load::F`] are watched.
    pub(super) quiet_seconds: u64,
}

impl Effort {
    pub(super) const FULL: Self = Self { millions: 300, quiet_seconds: 10 };
    pub(super) const QUICK: Self = Self { millions: 100, quiet_seconds: 3 };
    /// So little that all rotated files are kept.
    pub(super) const VERIFY: Self = Self { millions: 150, quiet_seconds: 2 };
}
