//! Packs full files on a thread of its own, which yields to everybody else.
//!
//! Writes [`Slot::Packing`] and nothing else: who changes names is the pump's thread, which takes
//! the result as a [`Parcel`]. Holds a block of a file and the packer's own tables, never a file.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    },
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread,
};

use flate2::{GzBuilder, write::GzEncoder};
use rustix::io::Errno;

use super::row::{self, Row};
use crate::{
    domain::Compression,
    logs::{
        index::{self, BLOCK_BYTES, Header},
        packed,
        rotation::{FileId, Slot},
    },
};

/// Files that may wait to be packed, each of another row; what finds no place is asked for again.
const WAITING_MAX: usize = 64;

/// As `gzip(1)` and the original's users know it.
const GZIP_LEVEL: flate2::Compression = flate2::Compression::new(6);

/// As `zstd(1)`.
const ZSTD_LEVEL: i32 = 3;

/// Bytes read at a time.
const BLOCK: usize = 1 << 16;

/// Index bytes read at most; longer ones are not kept for packed files.
const INDEX_BYTES_MAX: u64 = 16 << 20;

/// How much the packer yields: as `nice -n 19`.
const NICE: i32 = 19;

/// A plain file to pack.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) row: Row,
    /// Open until it is settled: its number cannot become another file's.
    pub(super) plain: File,
    pub(super) how: Compression,
    /// Folder of the indexes.
    pub(super) indexes: Option<PathBuf>,
}

/// What became of a [`Job`].
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) job: Job,
    /// Which file [`Slot::Packing`] is now.
    pub(super) outcome: io::Result<FileId>,
}

impl Parcel {
    /// Where the file is one of.
    pub(super) fn row(&self) -> &Row {
        &self.job.row
    }
}

/// Has files packed, one of a row at a time. The thread starts with the first one and ends with
/// its owner.
#[derive(Debug)]
pub(super) struct Packer {
    jobs: Option<SyncSender<Job>>,
    parcels: (Sender<Parcel>, Receiver<Parcel>),
    /// The rows that have a file being packed, and which.
    busy: BTreeMap<PathBuf, FileId>,
    /// Wakes the owner, who then asks for [`Packer::next`].
    bell: Option<OwnedFd>,
}

impl Packer {
    pub(super) fn new(bell: Option<OwnedFd>) -> Self {
        Self { jobs: None, parcels: channel(), busy: BTreeMap::new(), bell }
    }

    /// Which file of the row is being packed.
    pub(super) fn packs(&self, row: &Row) -> Option<FileId> {
        self.busy.get(row.path()).copied()
    }

    /// Has a file packed, unless too many wait or no thread can be had.
    pub(super) fn pack(&mut self, origin: FileId, job: Job) {
        if self.jobs.is_none() {
            self.jobs = self.start();
        }
        let path = job.row.path().to_owned();
        if let Some(jobs) = &self.jobs
            && jobs.try_send(job).is_ok()
        {
            self.busy.insert(path, origin);
        }
    }

    /// The next file that was dealt with; its row is free for another.
    pub(super) fn next(&mut self) -> Option<Parcel> {
        let parcel = self.parcels.1.try_recv().ok()?;
        self.busy.remove(parcel.job.row.path());
        Some(parcel)
    }

    fn start(&self) -> Option<SyncSender<Job>> {
        let (sender, jobs) = sync_channel::<Job>(WAITING_MAX);
        let parcels = self.parcels.0.clone();
        let bell = self.bell.as_ref().and_then(|bell| bell.try_clone().ok());
        let work = move || {
            yield_to_all();
            for job in jobs {
                let outcome = pack(&job);
                if parcels.send(Parcel { job, outcome }).is_err() {
                    return;
                }
                let rung = bell.as_ref().map(|bell| rustix::io::write(bell, b"!"));
                // A bell too full to be rung again has been rung.
                debug_assert!(matches!(rung, None | Some(Ok(_) | Err(Errno::AGAIN | Errno::PIPE))));
            }
        };
        thread::Builder::new().name("logs-packer".into()).spawn(work).ok()?;
        Some(sender)
    }
}

impl Default for Packer {
    fn default() -> Self {
        Self::new(None)
    }
}

fn yield_to_all() {
    // On Linux this is about the calling thread (`setpriority(2)`, "C library/kernel differences").
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "log files are packed at normal priority");
    }
}

fn pack(job: &Job) -> io::Result<FileId> {
    let target = Slot::Packing(job.how).path(job.row.path());
    let packed = write(job, &target);
    if packed.is_err() {
        drop(fs::remove_file(&target));
    }
    packed
}

fn write(job: &Job, target: &Path) -> io::Result<FileId> {
    if let Err(error) = fs::remove_file(target)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
    let facts = job.plain.metadata()?;
    let origin = row::id(&facts);
    match job.how {
        Compression::Gzip => {
            let seconds = u32::try_from(facts.mtime()).unwrap_or(0);
            let extra = packed::gzip_extra(origin);
            let builder = GzBuilder::new().mtime(seconds).extra(extra);
            let mut packer: GzEncoder<&File> = builder.write(&file, GZIP_LEVEL);
            copy(&job.plain, &mut packer)?;
            packer.finish()?;
        }
        Compression::Zstd => {
            (&file).write_all(&packed::zstd_frame(origin))?;
            let mut packer = zstd::stream::write::Encoder::new(&file, ZSTD_LEVEL)?;
            packer.include_checksum(true)?;
            packer.set_pledged_src_size(Some(facts.len()))?;
            copy(&job.plain, &mut packer)?;
            packer.finish()?;
        }
    }
    let packed = file.metadata()?;
    if (packed.uid(), packed.gid()) != (facts.uid(), facts.gid()) {
        // Only root may; anybody else owns both files anyway, or reads them by their group.
        drop(fchown(&file, Some(facts.uid()), Some(facts.gid())));
    }
    file.set_permissions(facts.permissions())?;
    file.set_modified(facts.modified()?)?;
    file.sync_data()?;
    if let Some(folder) = &job.indexes {
        copy_index(folder, &facts, &packed);
    }
    Ok(row::id(&packed))
}

/// Copies all of `plain`, unless it is removed meanwhile: then nobody wants it packed.
fn copy(mut plain: &File, packer: &mut impl Write) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    loop {
        let len = plain.read(&mut block)?;
        if len == 0 {
            return Ok(());
        }
        packer.write_all(&block[..len])?;
        if plain.metadata()?.nlink() == 0 {
            return Err(io::ErrorKind::NotFound.into());
        }
    }
}

/// Gives the packed file an index of its own, as its origin's. Without one, its lines have no
/// times.
fn copy_index(folder: &Path, plain: &fs::Metadata, packed: &fs::Metadata) {
    let copied = || -> io::Result<()> {
        let file = File::open(index::path(folder, row::id(plain)))?;
        let mut bytes = Vec::new();
        file.take(INDEX_BYTES_MAX).read_to_end(&mut bytes)?;
        let born = |facts| Header { born_unix_micros: row::born_unix_micros(facts) };
        if Header::parse(&bytes) != Some(born(plain)) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        bytes[..BLOCK_BYTES].copy_from_slice(&born(packed).block());
        fs::write(index::path(folder, row::id(packed)), bytes)
    };
    if let Err(error) = copied() {
        tracing::debug!(%error, "a packed log file has no index");
    }
}
