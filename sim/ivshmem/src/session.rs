//! A connection to the server.

use super::client::{Client, ClientEvent, ProtocolViolation};
use super::memory::SharedMemoryError;
use super::wire::{OutOfDescriptors, ReceiveError, Receiver};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Why a connection ended, or there is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Nothing more comes.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The server broke the protocol.
    #[error("the server broke the protocol: {0}")]
    Violation(#[from] ProtocolViolation),
    /// What came as shared memory is none.
    #[error(transparent)]
    Memory(#[from] SharedMemoryError),
    /// The shared memory was lost: the setup cannot be completed.
    #[error("the shared memory: {0}")]
    MemoryLost(#[from] OutOfDescriptors),
    /// What came as a vector is no eventfd.
    #[error("vector {vector} of peer {peer}: {source}")]
    NoEventfd {
        /// Whose.
        peer: u16,
        /// Which.
        vector: u16,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The setup did not come in time.
    #[error("the server did not complete the setup within {} ms", .0.as_millis())]
    Silent(Duration),
    /// The socket failed.
    #[error("the socket of the server: {0}")]
    Socket(#[from] io::Error),
}

/// A client and its stream.
#[derive(Debug)]
pub struct Session {
    stream: UnixStream,
    receiver: Receiver,
    client: Client,
}

impl Session {
    /// Begins the session of `client` on a connected stream, which does not block from now on.
    ///
    /// # Errors
    /// Of `fcntl`.
    pub fn new(stream: UnixStream, client: Client) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, receiver: Receiver::default(), client })
    }

    /// Takes the next event that has arrived; `None` when there is no more.
    ///
    /// # Errors
    /// [`SessionError`]: the connection is of no use any more.
    pub fn receive(&mut self) -> Result<Option<ClientEvent<OwnedFd>>, SessionError> {
        let message = self.receiver.receive(&self.stream)?;
        Ok(message.map(|message| self.client.receive(message)).transpose()?)
    }

    /// Waits until something comes, not longer than `patience` after `since`. A signal ends the wait.
    ///
    /// # Errors
    /// [`SessionError::Silent`], [`SessionError::Socket`].
    pub fn wait(&self, since: Instant, patience: Duration) -> Result<(), SessionError> {
        let left = patience.checked_sub(since.elapsed());
        let Some(left) = left else { return Err(SessionError::Silent(patience)) };
        let limit = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        match poll(&mut [PollFd::new(&self.stream, PollFlags::IN)], Some(&limit)) {
            // A signal; the time that is left is counted anew.
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(SessionError::Socket(error.into())),
        }
    }

    /// Returns the client, which knows the id and the peers.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
