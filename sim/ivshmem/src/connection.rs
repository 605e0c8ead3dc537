//! A client's connection, and what the client has not read.

use super::hub::Hub;
use super::wire;
use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, ioctl};
use rustix::net::sockopt::set_socket_send_buffer_size;
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// The stream of one client. The descriptors that it has not read count for all clients together (E9),
/// so each may leave [`MOST_UNREAD`] unread.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    /// A message that went in part, and how many bytes of it.
    rest: Option<(i64, usize)>,
    /// Descriptors that it may not have read.
    held: usize,
    /// Since when it may not have read more than one message.
    unread: Option<Instant>,
}

/// How far a client was told what is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    /// All of it, or as much as it may leave unread.
    Told,
    /// The kernel takes no more for now, for reasons that are not this client's.
    Refused,
}

impl Connection {
    /// # Errors
    /// Of `fcntl` and `setsockopt`.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        // As small as the kernel allows, half a dozen messages. It is then writable with one unread
        // message, and not with two.
        set_socket_send_buffer_size(&stream, 1)?;
        Ok(Self { stream, rest: None, held: 0, unread: None })
    }

    /// Since when it has left messages unread; `None` when it has read them, but for one perhaps.
    pub(super) const fn unread(&self) -> Option<Instant> {
        self.unread
    }

    /// The socket is writable: at most one message is unread.
    pub(super) fn has_read(&mut self) {
        self.unread = None;
        self.held = self.held.min(1);
    }

    /// Whether a descriptor may be on its way still, even if the client has ended the connection: it
    /// can do so and keep what it has not read.
    pub(super) fn holds(&self) -> bool {
        self.held > 0 && unread_bytes(&self.stream) != Ok(0)
    }

    /// Tells it, client `id`, as much of what is due as it may leave unread.
    ///
    /// # Errors
    /// It has gone.
    pub(super) fn flush(&mut self, id: u16, hub: &mut Hub<OwnedFd>) -> io::Result<Flushed> {
        loop {
            let (value, descriptor, sent) = match (self.rest, hub.due(id)) {
                (Some((value, sent)), _) => (value, None, sent),
                (None, Some((value, descriptor))) => (value, descriptor.map(AsFd::as_fd), 0),
                (None, None) => return Ok(Flushed::Told),
            };
            if descriptor.is_some() && self.held == MOST_UNREAD {
                return Ok(Flushed::Told);
            }
            let with = usize::from(descriptor.is_some());
            match wire::send(&self.stream, value, descriptor, sent) {
                Ok(bytes) => {
                    if sent == 0 {
                        hub.told(id);
                    }
                    let sent = sent + bytes;
                    self.rest = (sent < wire::LEN).then_some((value, sent));
                    self.held += with;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Flushed::Told);
                }
                Err(error) if is_refused(&error) => return Ok(Flushed::Refused),
                Err(error) => return Err(error),
            }
            self.unread.get_or_insert_with(Instant::now);
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Bytes that the other side has not read, with what the kernel needs for each message.
#[expect(unsafe_code, reason = "rustix knows the request for what was received only")]
fn unread_bytes(stream: &UnixStream) -> rustix::io::Result<c_int> {
    const SIOCOUTQ: Opcode = libc::TIOCOUTQ as Opcode;
    // SAFETY: the request writes an int.
    unsafe { ioctl(stream, Getter::<SIOCOUTQ, c_int>::new()) }
}

/// Too many descriptors are on their way (E9), or there is no memory.
fn is_refused(error: &io::Error) -> bool {
    let codes = [Errno::TOOMANYREFS, Errno::NOBUFS, Errno::NOMEM].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Descriptors that one client may leave unread.
pub(super) const MOST_UNREAD: usize = 4;
