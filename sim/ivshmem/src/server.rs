//! The server: hands out ids, the shared memory, and every client's eventfds to all others (E4).

use super::connection::{Connection, Flushed, MOST_UNREAD};
use super::descriptors::{descriptor_limit, eventfds};
use super::hub::Hub;
use super::memory::{MOST_BITS, is_bar_size};
use super::socket::ListeningSocket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Vectors of each client, 1 to 2048. QEMU's own server has 64 at most.
    pub vectors: u16,
    /// Bytes of shared memory: a power of two, from 16 to 2^46.
    pub size: u64,
    /// How long a client may leave two messages or more unread.
    pub patience: Duration,
}

impl ServerOptions {
    /// Makes options for clients of `vectors` vectors and `size` bytes of shared memory, with a
    /// patience of 10 s.
    #[must_use]
    pub const fn new(vectors: u16, size: u64) -> Self {
        Self { vectors, size, patience: Duration::from_secs(10) }
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
    #[error("{0} bytes of shared memory; a BAR has a power of two, from 16 to 2^{MOST_BITS}")]
    Size(u64),
    /// Not one client would fit. See [`raise_descriptor_limit`](crate::raise_descriptor_limit).
    #[error(
        "a client with {vectors} vectors takes {} descriptors; of the {limit} that this process may \
         have (ulimit -n), {free} are free",
        *.vectors as u32 + 1
    )]
    Descriptors {
        /// Vectors of each client.
        vectors: u16,
        /// The soft limit of this process.
        limit: u64,
        /// Descriptors that are free for clients.
        free: usize,
    },
    /// The eventfds of a client cannot be made.
    #[error("eventfds: {0}")]
    Eventfds(#[source] io::Error),
    /// Somebody listens on the socket.
    #[error("{path}: a server listens there already")]
    Live {
        /// Where.
        path: PathBuf,
    },
    /// The file is not a socket, and stays.
    #[error("{path}: there is a file that is no socket")]
    NoSocket {
        /// Where.
        path: PathBuf,
    },
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

/// Something that went wrong with one client, or with letting clients in. The server goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerIncident {
    /// A client does not read.
    #[error("client {id} is dropped: it left messages unread for {} s", .patience.as_secs_f32())]
    Unread {
        /// Which.
        id: u16,
        /// The server's patience.
        patience: Duration,
    },
    /// A client cannot be given what it needs.
    #[error("a client is turned away: {0}")]
    TurnedAway(#[source] io::Error),
    /// The connection of a client cannot be taken.
    #[error("nobody is let in for now: {0}")]
    Closed(#[source] io::Error),
}

/// A server, its socket and its clients. The socket's file goes with it; the clients keep what they
/// were given.
///
/// Whoever can connect gets everybody's eventfds and the memory; the permissions of the socket and its
/// folder are what keeps others out. A client can take a place, but not keep the server from serving the
/// others (E9): nothing that it sends is read, what it has not been told of those who are gone is
/// forgotten, and one that does not read is dropped ([`ServerOptions::patience`]).
///
/// The limit of descriptors (`RLIMIT_NOFILE`) counts the places: a client takes one descriptor more than
/// it has vectors, and there are at most a quarter as many connections as descriptors. A connection with
/// unread descriptors keeps its place until the client reads or closes it, also when it was dropped.
#[derive(Debug)]
pub struct Server {
    options: ServerOptions,
    socket: ListeningSocket,
    hub: Hub<OwnedFd>,
    clients: BTreeMap<u16, Connection>,
    /// Of clients that were dropped and hold descriptors back.
    lingering: Vec<Connection>,
    /// Until then nobody is let in, because the last one could not be.
    closed: Option<Instant>,
    /// The kernel took no more for some client.
    refused: bool,
}

impl Server {
    /// Creates the socket at `path`, and the shared memory, which nobody can resize. A socket on which
    /// nobody listens any more is replaced; every other file stays.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn bind(path: &Path, options: ServerOptions) -> Result<Self, ServerError> {
        if !(1..=2048).contains(&options.vectors) {
            return Err(ServerError::Vectors(options.vectors));
        }
        if !is_bar_size(options.size) {
            return Err(ServerError::Size(options.size));
        }
        let memory = sealed_memory(options.size).map_err(ServerError::Memory)?;
        let socket = ListeningSocket::bind(path)?;
        check_room(options.vectors)?;
        Ok(Self {
            options,
            socket,
            hub: Hub::new(memory),
            clients: BTreeMap::new(),
            lingering: Vec::new(),
            closed: None,
            refused: false,
        })
    }

    /// Returns how many clients there are.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.hub.len()
    }

    /// Does one round: waits for something to do, for `timeout` at most (`None`: until there is), and does
    /// it. Returns what the operator may want to know. A signal ends the wait.
    ///
    /// A client is told as much as it may leave unread, and more in later rounds, when it has read. One that
    /// sends anything, goes, or does not read is dropped, and the others are told. Nobody is let in while
    /// there is no place, or `accept` fails; that is tried again. Who cannot be given its eventfds is turned
    /// away.
    ///
    /// # Errors
    /// Of `poll`. What goes wrong with one client ends that client.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Vec<ServerIncident>> {
        let (newcomer, gone, deaf) = self.wait(timeout)?;
        gone.into_iter().chain(deaf.iter().copied()).for_each(|id| self.drop_client(id));
        let patience = self.options.patience;
        let unread = deaf.into_iter().map(|id| ServerIncident::Unread { id, patience });
        let mut incidents: Vec<ServerIncident> = unread.collect();
        self.lingering.retain(Connection::holds);
        if newcomer {
            incidents.extend(self.let_in().err());
        }
        self.flush();
        Ok(incidents)
    }

    /// Whether somebody knocks, who is gone, and who does not read.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<(bool, Vec<u16>, Vec<u16>)> {
        let limit = self.next_deadline().into_iter().chain(timeout).min();
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let is_open = self.closed.is_none_or(|until| until <= Instant::now()) && self.has_place();
        let mut polled: Vec<PollFd<'_>> = self.clients.values().map(asked).collect();
        // Last, and not at all while it is closed: it may have failed for good.
        polled.extend(is_open.then(|| PollFd::new(&self.socket, PollFlags::IN)));
        match poll(&mut polled, limit.as_ref()) {
            Err(Errno::INTR) => return Ok((false, Vec::new(), Vec::new())),
            waited => waited?,
        };
        let answers: Vec<PollFlags> = polled.iter().map(PollFd::revents).collect();
        let newcomer = answers.get(self.clients.len()).is_some_and(|answer| !answer.is_empty());
        let over = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        let (mut gone, mut deaf) = (Vec::new(), Vec::new());
        for ((id, client), answer) in self.clients.iter_mut().zip(answers) {
            if answer.contains(PollFlags::OUT) {
                client.has_read();
            }
            let unread = client.unread().map(|since| since.elapsed());
            if answer.intersects(over) {
                gone.push(*id);
            } else if unread.is_some_and(|unread| unread >= self.options.patience) {
                deaf.push(*id);
            }
        }
        Ok((newcomer, gone, deaf))
    }

    /// When something is to be done that no descriptor tells.
    fn next_deadline(&self) -> Option<Duration> {
        let left = |since: Instant| self.options.patience.saturating_sub(since.elapsed());
        let deaf = self.clients.values().filter_map(Connection::unread).map(left).min();
        let closed = self.closed.map(|until| until.saturating_duration_since(Instant::now()));
        let closed = closed.filter(|left| !left.is_zero());
        let lingering = (!self.lingering.is_empty()).then_some(PAUSE);
        [deaf, closed, lingering, self.refused.then_some(RETRY)].into_iter().flatten().min()
    }

    /// Whether what one more connection may leave unread is within what the kernel allows for all.
    fn has_place(&self) -> bool {
        let connections = self.clients.len() + self.lingering.len() + 1;
        (connections * MOST_UNREAD) as u64 <= descriptor_limit()
    }

    /// Takes the connection of who knocks.
    fn let_in(&mut self) -> Result<(), ServerIncident> {
        let stream = match self.socket.accept() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => {
                self.closed = Some(Instant::now() + PAUSE);
                return Err(ServerIncident::Closed(error));
            }
            Ok(stream) => stream,
        };
        self.welcome(stream).map_err(ServerIncident::TurnedAway)
    }

    /// # Errors
    /// Its stream is closed.
    fn welcome(&mut self, stream: UnixStream) -> io::Result<()> {
        let id = self.hub.free().ok_or_else(|| io::Error::other("all ids are taken"))?;
        let vectors = eventfds(self.options.vectors.into()).map_err(|(_, error)| error)?;
        self.clients.insert(id, Connection::new(stream)?);
        self.hub.join(id, vectors);
        Ok(())
    }

    fn drop_client(&mut self, id: u16) {
        self.lingering.extend(self.clients.remove(&id).filter(Connection::holds));
        self.hub.leave(id);
    }

    /// Tells everybody as much as they take. Who has gone is dropped, which is more to tell.
    fn flush(&mut self) {
        self.refused = false;
        loop {
            let mut gone = Vec::new();
            for (id, client) in &mut self.clients {
                match client.flush(*id, &mut self.hub) {
                    Ok(Flushed::Told) => {}
                    Ok(Flushed::Refused) => self.refused = true,
                    Err(_) => gone.push(*id),
                }
            }
            if gone.is_empty() {
                break;
            }
            gone.into_iter().for_each(|id| self.drop_client(id));
        }
    }
}

impl AsFd for Server {
    /// The listening socket. It does not tell that a client has read: whoever waits for it elsewhere calls
    /// [`turn`](Server::turn) from time to time, too.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What is asked about a client: whether it says something or goes, and whether it has read.
fn asked(client: &Connection) -> PollFd<'_> {
    let out = if client.unread().is_some() { PollFlags::OUT } else { PollFlags::empty() };
    PollFd::new(client, PollFlags::IN | out)
}

/// Whether one client has room.
fn check_room(vectors: u16) -> Result<(), ServerError> {
    match eventfds(usize::from(vectors) + 1) {
        Ok(_) => Ok(()),
        Err((free, Errno::MFILE)) => {
            Err(ServerError::Descriptors { vectors, limit: descriptor_limit(), free })
        }
        Err((_, error)) => Err(ServerError::Eventfds(error.into())),
    }
}

fn sealed_memory(size: u64) -> io::Result<OwnedFd> {
    let memory = memfd_create("ivshmem", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&memory, size)?;
    fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(memory)
}

/// How soon a client is told more for whom the kernel took nothing.
const RETRY: Duration = Duration::from_millis(10);
/// How soon somebody is let in after that failed, and how often is looked whether a connection ended.
const PAUSE: Duration = Duration::from_millis(100);
