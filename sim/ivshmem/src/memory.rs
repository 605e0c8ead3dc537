//! The shared memory, as a file that another process made and may shrink at any time. It is read and
//! written, never touched through a mapping: a mapping of what is gone kills the process.

use rustix::fs::{FileType, fstat};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// BAR2.
#[derive(Debug)]
pub struct SharedMemory {
    file: File,
    len: u64,
}

/// Why a descriptor is no shared memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharedMemoryError {
    /// Not a file.
    #[error("the shared memory is no file")]
    NoFile,
    /// A BAR has a size that is a power of two, and there is a limit.
    #[error("shared memory of {0} bytes; a BAR has a power of two, from 16 to 2^{MOST_BITS}")]
    Size(u64),
    /// The system failed.
    #[error("the shared memory: {0}")]
    System(#[from] io::Error),
}

impl SharedMemory {
    /// Takes over a file of a size that a BAR can have.
    ///
    /// # Errors
    /// [`SharedMemoryError`]; the descriptor is then closed.
    pub fn new(descriptor: OwnedFd) -> Result<Self, SharedMemoryError> {
        let stat = fstat(&descriptor).map_err(io::Error::from)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(SharedMemoryError::NoFile);
        }
        let len = u64::try_from(stat.st_size).unwrap_or(0);
        if !len.is_power_of_two() || !(16..=1 << MOST_BITS).contains(&len) {
            return Err(SharedMemoryError::Size(len));
        }
        Ok(Self { file: File::from(descriptor), len })
    }

    /// Returns its size on arrival, which is that of the BAR, in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.len
    }

    /// Returns the file, for a VMM that maps it for its guest.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Reads at byte `offset`. Bytes past the end read as all ones.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) {
        bytes.fill(0xff);
        let inside = self.inside(offset, bytes.len());
        // What the file does not have any more is not there.
        let _ = self.file.read_exact_at(&mut bytes[..inside], offset);
    }

    /// Writes at byte `offset`. Bytes past the end are ignored.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        let inside = self.inside(offset, bytes.len());
        let _ = self.file.write_all_at(&bytes[..inside], offset);
    }

    fn inside(&self, offset: u64, len: usize) -> usize {
        usize::try_from(self.len.saturating_sub(offset)).map_or(len, |left| left.min(len))
    }
}

/// No address space is larger.
const MOST_BITS: u32 = 46;

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use std::os::fd::AsFd;

    fn sized(len: u64) -> OwnedFd {
        let file = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, len).unwrap();
        file
    }

    #[test]
    fn only_a_file_of_a_size_that_a_bar_can_have_is_taken() {
        for len in [16, 4096, 1 << 40] {
            assert_eq!(SharedMemory::new(sized(len)).unwrap().size(), len);
        }
        for len in [0, 1, 8, 4095, 3 << 20, 1 << 47, i64::MAX as u64] {
            let refused = SharedMemory::new(sized(len));
            assert!(
                matches!(refused, Err(SharedMemoryError::Size(l)) if l == len),
                "{len}: {refused:?}"
            );
        }
        let socket = std::os::unix::net::UnixStream::pair().unwrap().0;
        assert!(matches!(SharedMemory::new(socket.into()), Err(SharedMemoryError::NoFile)));
        let folder = File::open("/").unwrap();
        assert!(matches!(SharedMemory::new(folder.into()), Err(SharedMemoryError::NoFile)));
    }

    #[test]
    fn memory_that_its_maker_shrinks_is_gone_and_kills_nobody() {
        let file = sized(4096);
        let memory = SharedMemory::new(file.as_fd().try_clone_to_owned().unwrap()).unwrap();
        memory.write(4092, &[1, 2, 3, 4, 5]);
        let mut bytes = [0; 8];
        memory.read(4092, &mut bytes);
        assert_eq!(bytes, [1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff]);
        memory.read(u64::MAX, &mut bytes);
        assert_eq!(bytes, [0xff; 8]);
        memory.write(u64::MAX, &bytes);
        ftruncate(&file, 0).unwrap();
        memory.read(0, &mut bytes);
        assert_eq!(bytes, [0xff; 8]);
        memory.write(4096, &bytes);
        assert_eq!(fstat(&file).unwrap().st_size, 0, "the BAR does not grow the file");
    }
}
