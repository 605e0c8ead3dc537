//! The server: hands out ids, the shared memory, and every client's eventfds to all others (E4).

use super::hub::{Hub, Tell};
use super::wire;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What a server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Vectors of each client, 1 to 2048. QEMU's own server has 64 at most.
    pub vectors: u16,
    /// Bytes of shared memory: a power of two, from 16.
    pub size: u64,
}

impl ServerOptions {
    /// Makes options for clients of `vectors` vectors and `size` bytes of shared memory.
    #[must_use]
    pub const fn new(vectors: u16, size: u64) -> Self {
        Self { vectors, size }
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// No function has so many vectors, or none.
    #[error("{0} vectors, of 1 to 2048")]
    Vectors(u16),
    /// No BAR has this size.
    #[error("{0} bytes of shared memory; a BAR has a power of two, from 16")]
    Size(u64),
    /// The socket cannot be made.
    #[error("{path}: {source}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The shared memory cannot be made.
    #[error("the shared memory: {0}")]
    Memory(#[source] io::Error),
}

/// A server, its socket and its clients. The socket's file goes with it; the clients keep what they
/// were given.
#[derive(Debug)]
pub struct Server {
    options: ServerOptions,
    path: PathBuf,
    listener: UnixListener,
    memory: Arc<OwnedFd>,
    hub: Hub<Arc<OwnedFd>>,
    clients: BTreeMap<u16, Client>,
    /// No descriptor is free for whoever knocks.
    full: bool,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    /// What it is still to be told.
    queue: VecDeque<(i64, Option<Arc<OwnedFd>>)>,
    /// Bytes of the first of them that went already.
    sent: usize,
    /// It cannot be told more before something else happens.
    stalled: bool,
}

impl Server {
    /// Creates the socket at `path`, which must not exist, and the shared memory, which nobody can
    /// resize.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn bind(path: &Path, options: ServerOptions) -> Result<Self, ServerError> {
        if !(1..=2048).contains(&options.vectors) {
            return Err(ServerError::Vectors(options.vectors));
        }
        if !options.size.is_power_of_two() || options.size < 16 {
            return Err(ServerError::Size(options.size));
        }
        let memory = sealed_memory(options.size).map_err(ServerError::Memory)?;
        let failed = |source| ServerError::Socket { path: path.to_owned(), source };
        let listener = UnixListener::bind(path).map_err(failed)?;
        let server = Self {
            options,
            path: path.to_owned(),
            listener,
            memory: Arc::new(memory),
            hub: Hub::new(),
            clients: BTreeMap::new(),
            full: false,
        };
        server.listener.set_nonblocking(true).map_err(failed)?;
        Ok(server)
    }

    /// Returns how many clients there are.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.hub.len()
    }

    /// Does one round: waits for something to do, for `timeout` at most (`None`: until there is), and does
    /// it. A signal ends the wait. A client that sends anything, or goes, is dropped, and the others are
    /// told.
    ///
    /// # Errors
    /// Of `poll` and of `accept`. What goes wrong with one client ends that client.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let (newcomer, gone) = self.wait(timeout)?;
        gone.into_iter().for_each(|id| self.drop_client(id));
        if newcomer {
            match self.listener.accept() {
                Ok((stream, _)) => self.welcome(stream),
                Err(error) if is_passing(&error) => {}
                Err(error) if is_full(&error) => self.full = true,
                Err(error) => return Err(error),
            }
        }
        self.flush();
        Ok(())
    }

    /// Whether somebody knocks, and who is gone.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<(bool, Vec<u16>)> {
        let stalled = self.full || self.clients.values().any(|client| client.stalled);
        let limit = match (timeout, stalled) {
            (Some(timeout), true) => Some(timeout.min(RETRY)),
            (None, true) => Some(RETRY),
            (timeout, false) => timeout,
        };
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let asked = |asked| if asked { PollFlags::IN } else { PollFlags::empty() };
        let mut polled = vec![PollFd::new(&self.listener, asked(!self.full))];
        polled.extend(self.clients.values().map(|client| {
            let waits = !client.queue.is_empty() && !client.stalled;
            let out = if waits { PollFlags::OUT } else { PollFlags::empty() };
            PollFd::new(&client.stream, PollFlags::IN | out)
        }));
        match poll(&mut polled, limit.as_ref()) {
            Err(Errno::INTR) => return Ok((false, Vec::new())),
            waited => waited?,
        };
        let over = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        let mut answers = polled.iter().map(|answer| answer.revents().intersects(over));
        let newcomer = answers.next().unwrap_or(false);
        let gone = self.clients.keys().zip(answers).filter(|(_, over)| *over);
        let gone = gone.map(|(id, _)| *id).collect();
        self.full = false;
        self.clients.values_mut().for_each(|client| client.stalled = false);
        Ok((newcomer, gone))
    }

    fn welcome(&mut self, stream: UnixStream) {
        let vectors =
            || (0..self.options.vectors).map(|_| Ok(Arc::new(eventfd(0, FLAGS)?))).collect();
        // Without an id, or without descriptors, it is turned away: its stream is closed.
        let Some(id) = self.hub.free() else { return };
        let vectors: io::Result<Vec<Arc<OwnedFd>>> = vectors();
        let (Ok(vectors), Ok(())) = (vectors, stream.set_nonblocking(true)) else { return };
        let client = Client { stream, queue: VecDeque::new(), sent: 0, stalled: false };
        self.clients.insert(id, client);
        let told = self.hub.join(id, Arc::clone(&self.memory), vectors);
        self.queue(told);
    }

    fn drop_client(&mut self, id: u16) {
        if self.clients.remove(&id).is_some() {
            let told = self.hub.leave(id);
            self.queue(told);
        }
    }

    fn queue(&mut self, told: Vec<Tell<Arc<OwnedFd>>>) {
        for Tell { to, value, descriptor } in told {
            if let Some(client) = self.clients.get_mut(&to) {
                client.queue.push_back((value, descriptor));
            }
        }
    }

    /// Tells everybody as much as they take. Who has gone, or takes too little, is dropped, which is
    /// more to tell.
    fn flush(&mut self) {
        loop {
            let failed = |(id, client): (&u16, &mut Client)| client.flush().is_err().then_some(*id);
            let gone: Vec<u16> = self.clients.iter_mut().filter_map(failed).collect();
            if gone.is_empty() {
                break;
            }
            gone.into_iter().for_each(|id| self.drop_client(id));
        }
    }
}

impl Client {
    /// # Errors
    /// It is to be dropped.
    fn flush(&mut self) -> io::Result<()> {
        while let Some((value, descriptor)) = self.queue.front() {
            let descriptor = descriptor.as_ref().map(|descriptor| descriptor.as_fd());
            match wire::send(&self.stream, *value, descriptor, self.sent) {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Too many descriptors are on their way to somebody (`RLIMIT_NOFILE`).
                Err(error) if error.raw_os_error() == Some(Errno::TOOMANYREFS.raw_os_error()) => {
                    self.stalled = true;
                    break;
                }
                Err(error) => return Err(error),
            }
            if self.sent == wire::LEN {
                self.sent = 0;
                self.queue.pop_front();
            }
        }
        // Who never reads must not make this grow without end.
        if self.queue.len() > MOST_QUEUED { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl AsFd for Server {
    /// The listening socket.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn sealed_memory(size: u64) -> io::Result<OwnedFd> {
    let memory = memfd_create("ivshmem", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&memory, size)?;
    fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(memory)
}

/// Who knocked has gone again, or a signal came.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | Interrupted | WouldBlock)
}

/// No descriptor is free.
fn is_full(error: &io::Error) -> bool {
    let codes = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

const FLAGS: EventfdFlags = EventfdFlags::CLOEXEC.union(EventfdFlags::NONBLOCK);
/// How soon a client is told more to whom nothing could be sent.
const RETRY: Duration = Duration::from_millis(10);
/// Messages that may wait for one client.
const MOST_QUEUED: usize = 1 << 20;
