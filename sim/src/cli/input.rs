//! Where a log comes from.

use crate::RECORDING;
use std::fs::File;
use std::io;
use std::path::PathBuf;

/// What was asked for.
#[derive(Debug)]
pub(super) enum Source {
    Recording,
    Stdin,
    File(PathBuf),
}

/// An opened log that can be read twice, and its length in bytes.
#[derive(Debug)]
pub(super) enum Input {
    Memory,
    File(File, u64),
}

impl Source {
    pub(super) fn of(path: PathBuf) -> Self {
        if path.as_os_str() == "-" { Self::Stdin } else { Self::File(path) }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Recording => "linux-6.1-q35.log (built in)".to_owned(),
            Self::Stdin => "<stdin>".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// Opens it. What cannot be read twice (the standard input, a pipe) goes to a temporary file
    /// first.
    pub(super) fn open(self) -> Result<Input, String> {
        let name = self.name();
        let failed = |error: io::Error| format!("{name}:1: cannot be read: {error}");
        match self {
            Self::Recording => Ok(Input::Memory),
            Self::Stdin => spooled(io::stdin().lock()).map_err(failed),
            Self::File(path) => {
                let file = File::open(path).map_err(failed)?;
                let kind = file.metadata().map_err(failed)?;
                if kind.is_file() || kind.is_dir() {
                    Ok(Input::File(file, kind.len()))
                } else {
                    spooled(file).map_err(failed)
                }
            }
        }
    }
}

fn spooled(mut from: impl io::Read) -> io::Result<Input> {
    let mut file = tempfile::tempfile()?;
    let len = io::copy(&mut from, &mut file)?;
    Ok(Input::File(file, len))
}

impl Input {
    pub(super) const fn len(&self) -> u64 {
        match self {
            Self::Memory => RECORDING.len() as u64,
            Self::File(_, len) => *len,
        }
    }
}
