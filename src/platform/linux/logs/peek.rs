//! Looks at what waits in a pipe and leaves it there.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, tee},
};

/// What a look at the head of a pipe found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen<'a> {
    /// These bytes, and perhaps more after them.
    Bytes(&'a [u8]),
    /// Nothing now.
    Nothing,
    /// Nothing, ever: nobody is left to write.
    End,
}

/// A scratch pipe that `tee(2)` copies to, always empty between two looks.
#[derive(Debug)]
pub(super) struct Peek {
    reader: File,
    writer: OwnedFd,
    capacity: usize,
    buffer: Vec<u8>,
}

impl Peek {
    pub(super) fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let capacity = fcntl_getpipe_size(&writer)?;
        Ok(Self { reader: reader.into(), writer, capacity, buffer: Vec::new() })
    }

    /// Grows the scratch pipe so that a look can see all of a pipe of `capacity` bytes. If that
    /// is refused, a look sees the head of it only, and cuts are found in more steps.
    pub(super) fn fit(&mut self, capacity: usize) {
        if capacity > self.capacity
            && let Ok(granted) = fcntl_setpipe_size(&self.writer, capacity)
        {
            self.capacity = granted;
        }
    }

    /// Copies up to `len_max` bytes from the head of `pipe`.
    pub(super) fn look(&mut self, pipe: BorrowedFd<'_>, len_max: usize) -> io::Result<Seen<'_>> {
        let copied = match tee(pipe, &self.writer, len_max.max(1), SpliceFlags::NONBLOCK) {
            Ok(0) => return Ok(Seen::End),
            Ok(copied) => copied,
            Err(Errno::AGAIN) => return Ok(Seen::Nothing),
            Err(error) => return Err(error.into()),
        };
        self.buffer.resize(copied, 0);
        self.reader.read_exact(&mut self.buffer)?;
        Ok(Seen::Bytes(&self.buffer))
    }

    /// What the last look saw.
    pub(super) fn seen(&self) -> &[u8] {
        &self.buffer
    }

    /// Gives the memory of the last look back.
    pub(super) fn forget(&mut self) {
        self.buffer = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::fd::AsFd as _};

    use super::*;

    #[test]
    fn a_look_leaves_the_bytes_where_they_are() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let mut peek = Peek::new().unwrap();
        assert_eq!(peek.look(reader.as_fd(), 9).unwrap(), Seen::Nothing);
        writer.write_all(b"hello").unwrap();
        assert_eq!(peek.look(reader.as_fd(), 3).unwrap(), Seen::Bytes(b"hel"));
        assert_eq!(peek.look(reader.as_fd(), 9).unwrap(), Seen::Bytes(b"hello"));
        drop(writer);
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, "hello");
        assert_eq!(peek.look(reader.as_fd(), 9).unwrap(), Seen::End);
    }

    #[test]
    fn a_full_pipe_of_many_small_writes_is_seen_whole() {
        let (reader, mut writer) = io::pipe().unwrap();
        fcntl_setpipe_size(&writer, 1 << 18).unwrap();
        let mut peek = Peek::new().unwrap();
        peek.fit(1 << 18);
        let line = [b'x'; 100];
        for _ in 0..2_000 {
            writer.write_all(&line).unwrap();
        }
        let Seen::Bytes(seen) = peek.look(reader.as_fd(), 1 << 18).unwrap() else { panic!() };
        assert_eq!(seen.len(), 200_000);
    }
}
