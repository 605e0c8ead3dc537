//! Where a log or a script comes from. Either is read twice.

use super::spool::{Awaited, Spool};
use crate::RECORDING;
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read as _, Seek};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What was asked for.
#[derive(Debug)]
pub(super) enum Source {
    Recording,
    Stdin,
    File(PathBuf),
}

/// Something that was opened.
#[derive(Debug)]
pub(super) struct Input {
    /// What it is called, for people.
    pub(super) name: String,
    /// `None` is the recording that is built in.
    file: Option<File>,
    /// Length in bytes, of what can be read twice as it is.
    len: Option<u64>,
    /// Device and inode.
    identity: Option<(u64, u64)>,
}

/// Text that can be read twice.
pub(super) trait Twice: BufRead + Seek {}
impl<T: BufRead + Seek> Twice for T {}

impl Source {
    pub(super) fn of(path: PathBuf) -> Self {
        if path.as_os_str() == "-" { Self::Stdin } else { Self::File(path) }
    }

    fn name(&self) -> String {
        match self {
            Self::Recording => "linux-6.1-q35.log (built in)".to_owned(),
            Self::Stdin => "<stdin>".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// Opens it. Waits for the other end of a named pipe, so that signals had better still be fatal.
    pub(super) fn open(self) -> Result<Input, String> {
        let name = self.name();
        let (file, is_stdin) = match self {
            Self::Recording => {
                let len = Some(RECORDING.len() as u64);
                return Ok(Input { name, file: None, len, identity: None });
            }
            Self::Stdin => (io::stdin().as_fd().try_clone_to_owned().map(File::from), true),
            Self::File(path) => (File::open(path), false),
        };
        let found = file.and_then(|file| Ok((file.metadata()?, file)));
        let (kind, file) = found.map_err(|error| format!("{name}:1: cannot be read: {error}"))?;
        // The standard input need not begin where its file does.
        let len = (!is_stdin && (kind.is_file() || kind.is_dir())).then_some(kind.len());
        let identity = Some((kind.dev(), kind.ino()));
        Ok(Input { name, file: Some(file), len, identity })
    }
}

impl Input {
    /// Its length in bytes, if that is known before it was read.
    pub(super) const fn len(&self) -> Option<u64> {
        self.len
    }

    /// Device and inode, if it is a file.
    pub(super) const fn identity(&self) -> Option<(u64, u64)> {
        self.identity
    }

    /// Its text. What comes through a pipe, or is unpacked, goes to a temporary file when it is read
    /// first. A pipe is read until `stop` is set.
    pub(super) fn text(&mut self, stop: &Arc<AtomicBool>) -> io::Result<Box<dyn Twice>> {
        let Some(file) = self.file.take() else { return Ok(Box::new(Cursor::new(RECORDING))) };
        if self.len.is_none() {
            let pipe = BufReader::with_capacity(BUFFER, Awaited::new(file, Arc::clone(stop)));
            return kept(pipe);
        }
        let mut file = BufReader::with_capacity(BUFFER, file);
        if file.fill_buf()?.starts_with(&GZIP) {
            self.len = None;
            return kept(file);
        }
        Ok(Box::new(file))
    }
}

/// What can be read once, kept and unpacked if it is packed.
fn kept(mut from: impl BufRead + 'static) -> io::Result<Box<dyn Twice>> {
    fn spooled(from: impl io::Read + 'static) -> io::Result<Box<dyn Twice>> {
        Ok(Box::new(BufReader::with_capacity(BUFFER, Spool::new(from)?)))
    }
    let is_packed = from.fill_buf()?.starts_with(&GZIP);
    if is_packed { spooled(MultiGzDecoder::new(from)) } else { spooled(from) }
}

/// How a gzipped file begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The first bytes of `text`, at most `most`, which is then as if it had not been read.
pub(super) fn start_of(text: &mut dyn Twice, most: u64) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    text.take(most).read_to_end(&mut start)?;
    text.rewind()?;
    Ok(start)
}

/// All of a small text.
pub(super) fn whole(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MOST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than 16 MiB"));
    }
    Ok(text)
}

/// Most bytes of such a text.
const MOST: u64 = 16 << 20;
const BUFFER: usize = 256 * 1024;
