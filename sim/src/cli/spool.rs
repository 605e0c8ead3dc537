//! What comes through a pipe, kept so that it can be read again.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most bytes that are kept, and how to say so.
const LIMIT: u64 = 1 << 30;
const TOO_LONG: &str = "more than 1 GiB comes through a pipe or is unpacked, and all of it is kept to be \
    read twice: write it to a file as it is, and name that";

/// Reads from a pipe; what was read goes to a temporary file, and can be read again after a seek.
#[derive(Debug)]
pub(super) struct Spool<R> {
    from: R,
    file: File,
    /// Bytes in the file.
    len: u64,
    /// Where the next read begins.
    at: u64,
    limit: u64,
}

impl<R: Read> Spool<R> {
    pub(super) fn new(from: R) -> io::Result<Self> {
        let file = tempfile::tempfile().map_err(unkept)?;
        Ok(Self { from, file, len: 0, at: 0, limit: LIMIT })
    }
}

impl<R: Read> Read for Spool<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at < self.len {
            let kept = self.file.read_at(buffer, self.at)?;
            self.at += kept as u64;
            return Ok(kept);
        }
        let read = self.from.read(buffer)?;
        if self.len + read as u64 > self.limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, TOO_LONG));
        }
        let new = buffer.get(..read).unwrap_or_default();
        self.file.write_all_at(new, self.len).map_err(unkept)?;
        self.len += read as u64;
        self.at = self.len;
        Ok(read)
    }
}

impl<R> Seek for Spool<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Start(at) if at <= self.len => self.at = at,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(self.at)
    }
}

fn unkept(error: io::Error) -> io::Error {
    let folder = std::env::temp_dir();
    io::Error::new(error.kind(), format!("cannot be kept in {}: {error}", folder.display()))
}

/// A pipe that is waited for until a flag is set: a signal does not end a read.
#[derive(Debug)]
pub(super) struct Awaited {
    from: File,
    stop: Arc<AtomicBool>,
}

impl Awaited {
    pub(super) const fn new(from: File, stop: Arc<AtomicBool>) -> Self {
        Self { from, stop }
    }
}

impl Read for Awaited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A signal ends the wait, unless it came just before.
        let turn = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("interrupted"));
            }
            let mut polled = [PollFd::new(&self.from, PollFlags::IN)];
            match poll(&mut polled, Some(&turn)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return self.from.read(buffer),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};

    #[test]
    fn what_was_read_can_be_read_again_and_the_rest_comes_after_it() {
        let text = "one\ntwo\nthree\n";
        let mut spool = BufReader::with_capacity(6, Spool::new(text.as_bytes()).unwrap());
        let mut line = String::new();
        spool.read_line(&mut line).unwrap();
        assert_eq!((&*line, spool.get_ref().len), ("one\n", 6));
        for _ in 0..2 {
            spool.rewind().unwrap();
            let mut all = String::new();
            spool.read_to_string(&mut all).unwrap();
            assert_eq!(all, text);
        }
        assert!(spool.seek(SeekFrom::Start(100)).is_err());
    }

    #[test]
    fn more_than_the_limit_is_refused_and_not_kept() {
        let mut spool = Spool::new(io::repeat(b'x')).unwrap();
        spool.limit = 1000;
        let error = io::copy(&mut spool, &mut io::sink()).unwrap_err();
        assert!(error.to_string().starts_with("more than 1 GiB"), "{error}");
        assert!(spool.file.metadata().unwrap().len() <= 1000);
    }
}
