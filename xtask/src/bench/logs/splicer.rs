//! The bare limit: moves a pipe to a file by `splice(2)` and does nothing else.

use std::{fs::File, io, path::Path};

use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, splice};

/// The size bunpilot gives its pipes.
const PIPE_BYTES: usize = 256 << 10;

/// Moves standard input to a new file at `path` until it ends.
pub(super) fn run(path: &Path) -> io::Result<()> {
    let (input, file) = (io::stdin(), File::create(path)?);
    fcntl_setpipe_size(&input, PIPE_BYTES)?;
    let mut end = 0;
    while splice(&input, None, &file, Some(&mut end), PIPE_BYTES, SpliceFlags::MOVE)? > 0 {}
    Ok(())
}
