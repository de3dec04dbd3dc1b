//! What becomes of a worker's output.

use std::{
    num::{NonZeroU16, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

/// Where a worker's output goes, in which form, and how much of it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSpec {
    /// File of standard output, absolute; `None`: `<app>-<id>-out.log` in the home's log folder.
    pub out_file: Option<PathBuf>,
    /// File of standard error, absolute; `None`: `<app>-<id>-err.log` in the home's log folder.
    pub err_file: Option<PathBuf>,
    /// What is written of each line.
    pub mode: LogMode,
    /// Whether instances share a file.
    pub files: LogFiles,
    /// When a file is rotated, and which rotated ones are kept.
    pub keep: Keep,
    /// What to do when there is no space left.
    pub on_full: OnFull,
}

impl LogSpec {
    /// Raw output, a file for each stream of each instance at the usual place.
    #[must_use]
    pub const fn plain(keep: Keep) -> Self {
        Self {
            out_file: None,
            err_file: None,
            mode: LogMode::Raw,
            files: LogFiles::Each,
            keep,
            on_full: OnFull::Block,
        }
    }
}

/// What is written of each line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogMode {
    /// The bytes as they are.
    #[default]
    Raw,
    /// Each line after the time it came.
    Timestamps,
    /// One JSON object for each line.
    Json,
    /// Nothing: the output goes to `/dev/null`.
    Off,
}

/// Whether the instances of an app share a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFiles {
    /// Each has its own.
    #[default]
    Each,
    /// All write whole lines to one.
    Merged,
}

/// When a file is rotated, and which rotated ones are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Size at which a file is rotated, at the next end of a line.
    pub max_size_bytes: NonZeroU64,
    /// Rotated files kept beside the current one.
    pub max_files: NonZeroU16,
    /// Time after which a file is rotated, whatever its size.
    pub every: Option<Period>,
    /// Age after which a rotated file is removed; counts from its last write.
    pub max_age: Option<Duration>,
    /// What the rotated files of a stream may take on disk together; the oldest go first.
    pub max_total_bytes: Option<NonZeroU64>,
    /// How rotated files are packed.
    pub compression: Option<Compression>,
    /// When written bytes are forced to the disk.
    pub syncing: Syncing,
}

impl Keep {
    /// Rotates at `max_size_bytes`, keeps `max_files` rotated files, and nothing else.
    #[must_use]
    pub const fn new(max_size_bytes: NonZeroU64, max_files: NonZeroU16) -> Self {
        Self {
            max_size_bytes,
            max_files,
            every: None,
            max_age: None,
            max_total_bytes: None,
            compression: None,
            syncing: Syncing::Never,
        }
    }
}

/// How long one file takes output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// To the end of the hour, local time.
    Hour,
    /// To the end of the day, local time.
    Day,
    /// This long from its first byte.
    Span(Duration),
}

/// How rotated files are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compression {
    /// As `gzip(1)`, RFC 1952; the file ends in `.gz`.
    Gzip,
    /// As `zstd(1)`, RFC 8878; the file ends in `.zst`.
    Zstd,
}

impl Compression {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Gzip, Self::Zstd];

    /// The extension of files packed so, without its dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Gzip => "gz",
            Self::Zstd => "zst",
        }
    }
}

/// When written bytes are forced to the disk. What is written survives the death of any process
/// either way; this is about power cuts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syncing {
    /// When the kernel sees fit.
    #[default]
    Never,
    /// Each file once, when it was rotated away.
    Rotated,
}

/// What to do with output while its file cannot grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// Leave it in the pipe: once that is full, the worker waits.
    #[default]
    Block,
    /// Remove the oldest rotated files of this stream to make room; then as [`OnFull::Block`].
    Evict,
    /// Throw it away, count it, and say so in the file once there is space.
    Drop,
}
