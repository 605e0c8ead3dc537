//! The shared memory, as a file that another process made and may shrink at any time. It is read and
//! written, never touched through a mapping: a mapping of what is gone kills the process.

use rustix::fs::{FileType, OFlags, Stat, fcntl_getfl, fstat};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
#[cfg(target_pointer_width = "64")]
use vm_memory::{FileOffset, MmapRegion};

/// BAR2.
#[derive(Debug)]
pub struct SharedMemory {
    file: Arc<File>,
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
    /// Guests read and write it, at places of their choice.
    #[error("the shared memory is opened {0}; it must be open for reading and writing")]
    Opened(&'static str),
    /// A VMM maps it for its guest, as shared memory to read and write.
    #[error("the shared memory cannot be mapped: {0}")]
    NotMappable(#[source] io::Error),
    /// The system failed.
    #[error("the shared memory: {0}")]
    System(#[from] io::Error),
}

impl SharedMemory {
    /// Takes over a file that can be read, written and mapped, and has the size of a BAR.
    ///
    /// # Errors
    /// [`SharedMemoryError`]; the descriptor is then closed.
    pub fn new(descriptor: OwnedFd) -> Result<Self, SharedMemoryError> {
        let stat = fstat(&descriptor).map_err(io::Error::from)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(SharedMemoryError::NoFile);
        }
        let len = u64::try_from(stat.st_size).unwrap_or(0);
        if !is_bar_size(len) {
            return Err(SharedMemoryError::Size(len));
        }
        let flags = fcntl_getfl(&descriptor).map_err(io::Error::from)?;
        if let Some(how) = unsuitable(flags) {
            return Err(SharedMemoryError::Opened(how));
        }
        let file = Arc::new(File::from(descriptor));
        check_mapping(&file, &stat).map_err(SharedMemoryError::NotMappable)?;
        Ok(Self { file, len })
    }

    /// Returns its size on arrival, which is that of the BAR, in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.len
    }

    /// Returns the file, for a VMM that maps it for its guest.
    #[must_use]
    pub fn file(&self) -> &File {
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

/// Whether a BAR can have `len` bytes.
pub(super) const fn is_bar_size(len: u64) -> bool {
    len.is_power_of_two() && len >= 16 && len <= 1 << MOST_BITS
}

/// What is wrong with how the file was opened. What is written to one that appends goes behind its end,
/// and one without a cache takes only whole blocks.
fn unsuitable(flags: OFlags) -> Option<&'static str> {
    match flags & OFlags::RWMODE {
        _ if flags.contains(OFlags::PATH) => Some("with O_PATH"),
        OFlags::RDONLY => Some("for reading only"),
        OFlags::WRONLY => Some("for writing only"),
        _ if flags.contains(OFlags::APPEND) => Some("with O_APPEND"),
        _ if flags.contains(OFlags::DIRECT) => Some("with O_DIRECT"),
        _ => None,
    }
}

/// Maps a page of the file, which nobody touches: not every file can be mapped, and a seal may forbid it.
#[cfg(target_pointer_width = "64")]
fn check_mapping(file: &Arc<File>, stat: &Stat) -> io::Result<()> {
    // A file of huge pages can be mapped in whole ones only; they are its blocks.
    let page = usize::try_from(stat.st_size.min(stat.st_blksize)).unwrap_or(1).max(1);
    let whole = FileOffset::from_arc(Arc::clone(file), 0);
    match MmapRegion::<()>::from_file(whole, page) {
        Ok(_) => Ok(()),
        Err(vm_memory::mmap::MmapRegionError::Mmap(error)) => Err(error),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Nobody maps it: no VMM runs on such a machine, where the device is not built either.
#[cfg(not(target_pointer_width = "64"))]
const fn check_mapping(_: &Arc<File>, _: &Stat) -> io::Result<()> {
    Ok(())
}

/// No address space is larger.
pub(super) const MOST_BITS: u32 = 46;

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, fcntl_setfl, ftruncate, memfd_create};
    #[cfg(target_pointer_width = "64")]
    use rustix::fs::{SealFlags, fcntl_add_seals};
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
    fn a_file_that_a_guest_cannot_read_and_write_anywhere_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory");
        std::fs::write(&path, [0; 4096]).unwrap();
        let mut options = [File::options(), File::options(), File::options()];
        options[0].read(true);
        options[1].write(true);
        options[2].read(true).append(true);
        for (options, how) in
            options.iter().zip(["for reading only", "for writing only", "with O_APPEND"])
        {
            let refused = SharedMemory::new(options.open(&path).unwrap().into());
            assert!(matches!(refused, Err(SharedMemoryError::Opened(h)) if h == how), "{how}");
        }
        let later = sized(4096);
        fcntl_setfl(&later, OFlags::APPEND).unwrap();
        let refused = SharedMemory::new(later).unwrap_err();
        let said =
            "the shared memory is opened with O_APPEND; it must be open for reading and writing";
        assert_eq!(refused.to_string(), said);
        for (flags, how) in [(OFlags::PATH, "with O_PATH"), (OFlags::DIRECT, "with O_DIRECT")] {
            let opened = rustix::fs::open(&path, OFlags::RDWR | flags, rustix::fs::Mode::empty());
            let Ok(file) = opened else { continue }; // not every file system knows O_DIRECT
            let refused = SharedMemory::new(file);
            assert!(matches!(refused, Err(SharedMemoryError::Opened(h)) if h == how), "{how}");
        }
        File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map(OwnedFd::from)
            .map(SharedMemory::new)
            .unwrap()
            .unwrap();
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_file_that_cannot_be_mapped_is_refused_with_the_reason() {
        for seal in [SealFlags::WRITE, SealFlags::FUTURE_WRITE] {
            let file = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
            let file = file.unwrap();
            ftruncate(&file, 4096).unwrap();
            fcntl_add_seals(&file, seal).unwrap();
            let refused = SharedMemory::new(file);
            assert!(matches!(refused, Err(SharedMemoryError::NotMappable(_))), "{refused:?}");
        }
    }

    #[test]
    fn memory_of_huge_pages_is_taken() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
        let Ok(file) = memfd_create("test", flags) else { return }; // the kernel has none
        ftruncate(&file, 4 << 20).unwrap();
        assert_eq!(SharedMemory::new(file).unwrap().size(), 4 << 20);
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
