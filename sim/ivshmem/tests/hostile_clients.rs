//! Clients that do not read, and descriptors that run out, on a server that may have 256 of them and has
//! no privileges. The limit is the process's, so nothing else is tested in it.

use msix_ivshmem::{
    Client, ClientEvent, Server, ServerError, ServerIncident, ServerOptions, Session,
};
use rustix::io::Errno;
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, sendmsg, shutdown,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::set_thread_res_uid;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const LIMIT: u64 = 256;
const PATIENCE: Duration = Duration::from_secs(30);

/// One test, alone and confined, and a folder of its own.
struct Confined {
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Confined {
    fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = Rlimit { current: Some(LIMIT), maximum: Some(LIMIT) };
        setrlimit(Resource::Nofile, limit).unwrap();
        if rustix::process::geteuid().is_root() {
            // Somebody who has nothing else on its way: that is counted for each user.
            let nobody = rustix::process::Uid::from_raw(20_000 + std::process::id() % 40_000);
            set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        Self { folder: tempfile::tempdir().unwrap(), _alone: alone }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("server")
    }

    fn server(&self, vectors: u16, patience: Duration) -> Server {
        let mut options = ServerOptions::new(vectors, 4096);
        options.patience = patience;
        Server::bind(&self.socket(), options).unwrap()
    }
}

/// A client that reads when it is told to, and who is there as far as it has heard.
struct Reader {
    session: Session,
    peers: BTreeSet<u16>,
}

impl Reader {
    fn new(socket: &Path, vectors: u16) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        let session = Session::new(stream, Client::new(vectors)).unwrap();
        Self { session, peers: BTreeSet::new() }
    }

    fn id(&self) -> Option<u16> {
        self.session.client().id()
    }

    fn read(&mut self) {
        while let Some(event) = self.session.receive().unwrap() {
            match event {
                ClientEvent::Connected { peer, .. } => drop(self.peers.insert(peer)),
                ClientEvent::Disconnected { peer } => drop(self.peers.remove(&peer)),
                _ => {}
            }
        }
    }

    /// Reads until it knows these with `vectors` vectors each, and nobody else.
    fn reads_of(&mut self, server: &mut Server, peers: &[u16], vectors: u16) {
        let since = Instant::now();
        let client = |reader: &Self, peer| reader.session.client().connected(peer);
        while !self.peers.iter().eq(peers) || peers.iter().any(|peer| client(self, *peer) < vectors)
        {
            server.turn(Some(Duration::from_millis(1))).unwrap();
            self.read();
            assert!(since.elapsed() < PATIENCE, "{:?} instead of {peers:?}", self.peers);
        }
    }
}

fn turns(server: &mut Server, count: usize) -> Vec<ServerIncident> {
    (0..count).flat_map(|_| server.turn(Some(Duration::ZERO)).unwrap()).collect()
}

fn open() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Has as many descriptors on their way as the kernel allows this user.
fn all_on_their_way() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    near.set_nonblocking(true).unwrap();
    let error = loop {
        let descriptors = [null.as_fd(); 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(10))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let sent = sendmsg(&near, &[IoSlice::new(b"x")], &mut control, SendFlags::empty());
        if let Err(error) = sent {
            break error;
        }
    };
    assert_eq!(error, Errno::TOOMANYREFS, "these tests show nothing otherwise");
    (near, far)
}

#[test]
fn what_others_of_the_user_have_on_their_way_is_waited_for() {
    let confined = Confined::new();
    let mut server = confined.server(2, Duration::from_millis(1));
    let others = all_on_their_way();
    let mut reader = Reader::new(&confined.socket(), 2);
    let since = Instant::now();
    let mut turns = 0;
    while since.elapsed() < Duration::from_millis(200) {
        server.turn(Some(Duration::from_millis(200))).unwrap();
        reader.read();
        turns += 1;
    }
    assert!(turns < 100, "{turns}: it spins");
    assert!(reader.id() == Some(0) && !reader.session.client().is_set_up());
    drop(others);
    reader.reads_of(&mut server, &[0], 2);
}

#[test]
fn a_client_that_never_reads_keeps_nothing_of_those_who_come_and_go() {
    let confined = Confined::new();
    let mut server = confined.server(16, PATIENCE);
    let _deaf = UnixStream::connect(confined.socket()).unwrap();
    turns(&mut server, 1);
    let before = open();
    for id in 1..200 {
        let mut reader = Reader::new(&confined.socket(), 16);
        reader.reads_of(&mut server, &[0, id], 16);
        drop(reader);
        turns(&mut server, 2);
        assert_eq!((server.clients(), open()), (1, before), "{id}");
    }
}

#[test]
fn a_client_that_pauses_hears_in_the_end_who_is_there() {
    let confined = Confined::new();
    let mut server = confined.server(4, PATIENCE);
    // At every point of the greeting and of what follows.
    for read in 0..20 {
        let mut paused = Reader::new(&confined.socket(), 4);
        turns(&mut server, 3);
        for _ in 0..read {
            let _ = paused.session.receive().unwrap().map(|event| match event {
                ClientEvent::Connected { peer, .. } => drop(paused.peers.insert(peer)),
                ClientEvent::Disconnected { peer } => drop(paused.peers.remove(&peer)),
                _ => {}
            });
            turns(&mut server, 1);
        }
        let mut latest = Vec::new();
        for _ in 0..10 {
            latest.push(Reader::new(&confined.socket(), 4));
            if latest.len() > 2 {
                latest.remove(0);
            }
            turns(&mut server, 3);
            latest.iter_mut().for_each(Reader::read);
        }
        let own = 11 * read;
        paused.reads_of(&mut server, &[own, own + 9, own + 10], 4);
        drop((paused, latest));
        turns(&mut server, 2);
        assert_eq!(server.clients(), 0);
    }
}

/// A client that reads the first two messages, which have no descriptor, and leaves as many unread
/// as it can.
fn holding_back(socket: &Path, server: &mut Server) -> UnixStream {
    let mut client = UnixStream::connect(socket).unwrap();
    turns(server, 2);
    client.read_exact(&mut [0; 16]).unwrap();
    turns(server, 2);
    client
}

#[test]
fn clients_that_hold_back_all_they_can_do_not_disturb_who_reads() {
    let confined = Confined::new();
    let mut server = confined.server(1, PATIENCE);
    let mut stayer = Reader::new(&confined.socket(), 1);
    stayer.reads_of(&mut server, &[0], 1);
    drop(all_on_their_way());
    let _deaf: Vec<UnixStream> = (0..62)
        .map(|_| {
            let deaf = holding_back(&confined.socket(), &mut server);
            stayer.read();
            deaf
        })
        .collect();
    let mut newcomer = Reader::new(&confined.socket(), 1);
    let everybody: Vec<u16> = (0..64).collect();
    newcomer.reads_of(&mut server, &everybody, 1);
    stayer.reads_of(&mut server, &everybody, 1);
    // There is no more place before one goes.
    let mut next = Reader::new(&confined.socket(), 1);
    turns(&mut server, 5);
    assert!(next.session.receive().unwrap().is_none() && server.clients() == 64);
    drop(newcomer);
    next.reads_of(&mut server, &(0..65).filter(|id| *id != 63).collect::<Vec<_>>(), 1);
}

#[test]
fn who_was_dropped_keeps_its_place_as_long_as_it_holds_descriptors_back() {
    let confined = Confined::new();
    let mut server = confined.server(1, Duration::from_millis(1));
    let ways: [fn(&UnixStream); 3] = [
        |_| {},
        |client| shutdown(client, Shutdown::Both).unwrap(),
        |mut client| std::io::Write::write_all(&mut client, b"x").unwrap(),
    ];
    let mut deaf = Vec::new();
    for way in ways {
        for _ in 0..64 {
            let client = holding_back(&confined.socket(), &mut server);
            way(&client);
            deaf.push(client);
            if deaf.len() == 64 {
                break;
            }
        }
        while server.clients() > 0 {
            server.turn(Some(Duration::from_millis(2))).unwrap();
        }
        let mut next = Reader::new(&confined.socket(), 1);
        turns(&mut server, 5);
        assert!(next.session.receive().unwrap().is_none(), "no place");
        // One that reads, or closes, makes place.
        let last = deaf.pop().unwrap();
        last.set_nonblocking(true).unwrap();
        let _ = (&last).read_to_end(&mut Vec::new());
        let since = Instant::now();
        while next.id().is_none() {
            server.turn(Some(Duration::from_millis(5))).unwrap();
            next.read();
            assert!(since.elapsed() < PATIENCE);
        }
        deaf.clear();
        drop(next);
        server.turn(Some(Duration::from_millis(5))).unwrap();
    }
}

#[test]
fn who_does_not_read_is_dropped_and_who_pauses_with_nothing_unread_is_not() {
    let confined = Confined::new();
    let mut server = confined.server(4, Duration::from_millis(50));
    let mut deaf = UnixStream::connect(confined.socket()).unwrap();
    let mut reader = Reader::new(&confined.socket(), 4);
    let mut incidents = turns(&mut server, 2);
    reader.read();
    while server.clients() > 1 {
        incidents.extend(server.turn(Some(Duration::from_millis(10))).unwrap());
        reader.read();
    }
    reader.reads_of(&mut server, &[1], 4);
    for _ in 0..20 {
        incidents.extend(server.turn(Some(Duration::from_millis(10))).unwrap());
    }
    assert_eq!(server.clients(), 1);
    let [incident] = &incidents[..] else { panic!("{incidents:?}") };
    let said = "client 0 is dropped: it left messages unread for 0.05 s";
    assert_eq!(incident.to_string(), said);
    // What was on its way comes, then the end.
    deaf.set_nonblocking(true).unwrap();
    let mut heard = Vec::new();
    while deaf.read_to_end(&mut heard).is_err() {
        server.turn(Some(Duration::from_millis(5))).unwrap();
    }
    assert_eq!(heard.len(), 8 * (2 + 4));
}

#[test]
fn a_client_that_does_not_fit_is_turned_away_and_nothing_else_happens() {
    let confined = Confined::new();
    let mut server = confined.server(16, PATIENCE);
    let mut stayer = Reader::new(&confined.socket(), 16);
    stayer.reads_of(&mut server, &[0], 16);
    let waiting = UnixStream::connect(confined.socket()).unwrap();
    // All descriptors are taken: nobody can even be turned away. Then one is free, then all.
    let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let rounds = |server: &mut Server| {
        let since = Instant::now();
        let (mut turns, mut incidents) = (0, Vec::new());
        while since.elapsed() < Duration::from_millis(400) {
            incidents.extend(server.turn(Some(Duration::from_millis(400))).unwrap());
            turns += 1;
        }
        (turns, incidents)
    };
    let (turns, incidents) = rounds(&mut server);
    assert!((1..50).contains(&turns), "{turns}: it spins");
    assert_eq!(server.clients(), 1);
    let full = |error: &std::io::Error| error.raw_os_error() == Some(Errno::MFILE.raw_os_error());
    for incident in &incidents {
        assert!(matches!(incident, ServerIncident::Closed(e) if full(e)), "{incident}");
    }
    assert!(!incidents.is_empty());
    taken.pop();
    let (_, incidents) = rounds(&mut server);
    let is_turned_away = matches!(&incidents[..], [ServerIncident::TurnedAway(e)] if full(e));
    assert!(is_turned_away, "{incidents:?}");
    let ended = (&waiting).read(&mut [0]).unwrap();
    assert_eq!((ended, server.clients()), (0, 1));
    drop(taken);
    let mut next = Reader::new(&confined.socket(), 16);
    next.reads_of(&mut server, &[0, 1], 16);
}

#[test]
fn a_listener_that_fails_for_good_ends_nothing() {
    let confined = Confined::new();
    let mut server = confined.server(1, PATIENCE);
    let mut readers = [0, 1].map(|_| Reader::new(&confined.socket(), 1));
    readers.iter_mut().for_each(|reader| reader.reads_of(&mut server, &[0, 1], 1));
    shutdown(&server, Shutdown::Both).unwrap();
    let since = Instant::now();
    let mut turns = 0;
    while since.elapsed() < Duration::from_millis(300) {
        server.turn(Some(Duration::from_millis(300))).unwrap();
        turns += 1;
    }
    assert!(turns < 50, "{turns}: it spins");
    let [mut stayer, gone] = readers;
    let own = stayer.id().unwrap();
    drop(gone);
    stayer.reads_of(&mut server, &[own], 1);
}

#[test]
fn a_server_without_room_for_one_client_says_so_at_the_start() {
    let confined = Confined::new();
    let free = usize::try_from(LIMIT).unwrap() - open() + 1; // the folder that was just read
    // The memory and the socket are the server's own.
    let most = u16::try_from(free - 3).unwrap();
    let error = Server::bind(&confined.socket(), ServerOptions::new(most + 1, 4096)).unwrap_err();
    let ServerError::Descriptors { vectors, limit, free } = error else { panic!("{error}") };
    assert_eq!((vectors, limit, free), (most + 1, LIMIT, usize::from(most) + 1));
    let said = format!("takes {} descriptors; of the 256 that this", most + 2);
    assert!(error.to_string().contains(&said), "{error}");
    assert!(!confined.socket().exists(), "nothing is left behind");
    drop(Server::bind(&confined.socket(), ServerOptions::new(most, 4096)).unwrap());
}
