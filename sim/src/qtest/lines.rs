//! A connection of lines.

use super::front::FrontError;
use rustix::fd::{AsFd, BorrowedFd};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A connection of lines.
pub(super) struct Lines {
    what: &'static str,
    stream: UnixStream,
    /// A line whose end has not come.
    partial: Vec<u8>,
    longest: usize,
}

impl Lines {
    pub(super) fn new(
        what: &'static str,
        stream: UnixStream,
        longest: usize,
    ) -> Result<Self, FrontError> {
        // Who does not take an answer for so long never will.
        let limited = stream.set_write_timeout(Some(Duration::from_secs(20)));
        limited.map_err(|source| FrontError::System { what, source })?;
        Ok(Self { what, stream, partial: Vec::new(), longest })
    }

    /// The lines that have come to their end; `None` when no more will.
    pub(super) fn receive(&mut self) -> Result<Option<Vec<String>>, FrontError> {
        let mut chunk = [0; 1 << 16];
        let count = match self.stream.read(&mut chunk) {
            Ok(0) => return Ok(None),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return Ok(Some(Vec::new()));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(source) => return Err(FrontError::System { what: self.what, source }),
        };
        let mut lines = Vec::new();
        for piece in chunk[..count].split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if self.partial.len() > self.longest {
                return Err(FrontError::Line(self.longest));
            }
            if piece.ends_with(b"\n") {
                let line = String::from_utf8_lossy(&self.partial);
                lines.push(line.trim_end_matches(['\r', '\n']).to_owned());
                self.partial.clear();
            }
        }
        Ok(Some(lines))
    }

    pub(super) fn send(&mut self, line: &str) -> Result<(), FrontError> {
        let bytes = [line.as_bytes(), b"\n"].concat();
        let sent = self.stream.write_all(&bytes);
        sent.map_err(|source| FrontError::System { what: self.what, source })
    }
}

impl AsFd for Lines {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
