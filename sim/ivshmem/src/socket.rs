//! The server's socket, and its file.

use super::server::ServerError;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::fs::{Metadata, remove_file, symlink_metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A socket that listens. Its file goes with it, unless another is in its place by then.
#[derive(Debug)]
pub(super) struct ListeningSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Which file is its own. No other can have this number while the socket is open.
    file: Option<FileIdentity>,
}

/// Device and inode.
type FileIdentity = (u64, u64);

impl ListeningSocket {
    /// Listens at `path`, in the place of a socket on which nobody listens any more.
    ///
    /// # Errors
    /// Those of [`ServerError`] about sockets.
    pub(super) fn bind(path: &Path) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Socket { path: path.to_owned(), source };
        let whole = std::path::absolute(path).map_err(failed)?;
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                UnixListener::bind(path)
            }
            bound => bound,
        };
        let listener = listener.map_err(failed)?;
        let file = symlink_metadata(path).ok().map(|file| identity(&file));
        let bound = Self { listener, path: whole, file };
        bound.listener.set_nonblocking(true).map_err(failed)?;
        Ok(bound)
    }

    /// Takes the next connection, without waiting.
    ///
    /// # Errors
    /// Of `accept`.
    pub(super) fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().map(|(stream, _)| stream)
    }
}

impl AsFd for ListeningSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for ListeningSocket {
    fn drop(&mut self) {
        let there = symlink_metadata(&self.path).ok().map(|file| identity(&file));
        if there.is_some() && there == self.file {
            // It may be gone by now.
            let _ = remove_file(&self.path);
        }
    }
}

/// Removes a socket on which nobody listens.
fn remove_stale(path: &Path) -> Result<(), ServerError> {
    let failed = |source| ServerError::Socket { path: path.to_owned(), source };
    let file = symlink_metadata(path).map_err(failed)?;
    if !file.file_type().is_socket() {
        return Err(ServerError::NoSocket { path: path.to_owned() });
    }
    match connected(path) {
        Err(Errno::CONNREFUSED) => {}
        // One that has no room for more connections listens, too.
        Ok(()) | Err(Errno::AGAIN) => return Err(ServerError::Live { path: path.to_owned() }),
        Err(error) => return Err(failed(error.into())),
    }
    // Another server may have replaced it meanwhile.
    if identity(&symlink_metadata(path).map_err(failed)?) != identity(&file) {
        return Err(ServerError::Live { path: path.to_owned() });
    }
    remove_file(path).map_err(failed)
}

/// Connects without waiting, and ends the connection.
fn connected(path: &Path) -> rustix::io::Result<()> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}

fn identity(file: &Metadata) -> FileIdentity {
    (file.dev(), file.ino())
}
