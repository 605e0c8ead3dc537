//! Many peers at once, and signals.

#![cfg(feature = "kvm")]

use msix_backends::kvm::Routes;
use msix_ivshmem::{
    Board, DeviceOptions, IvshmemDevice, Server, ServerError, ServerOptions, routes_without_vm,
    send_whole,
};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};
use vmm_sys_util::signal::{Killable, SIGRTMIN};

/// Counts the messages of each vector: the data says which.
#[derive(Debug, Clone, Default)]
struct Counts(Arc<[AtomicU32; 16]>);

impl Board for Counts {
    fn write_memory(&self, _: u64, data: u32) {
        self.0[data as usize].fetch_add(1, Ordering::Relaxed);
    }
    fn set_intx(&self, _: bool) {}
}

/// A device whose vectors all are unmasked, and what it needs.
struct Peer {
    device: IvshmemDevice<Counts>,
    routes: Arc<Routes>,
    counts: Counts,
}

impl Peer {
    fn new(socket: &Path, vectors: u16) -> Self {
        let counts = Counts::default();
        let routes = routes_without_vm(counts.clone()).unwrap();
        let stream = UnixStream::connect(socket).unwrap();
        let options = DeviceOptions::new(vectors);
        let mut device =
            IvshmemDevice::doorbell(stream, options, &routes, counts.clone(), None).unwrap();
        device.write_config(0x10, &0xe000_0000_u32.to_le_bytes());
        device.write_config(4, &[6, 0]);
        device.write_config(0x42, &[0, 0x80]);
        for vector in 0..u64::from(vectors) {
            device.write_bar(1, vector * 16, &0x1000_u64.to_le_bytes());
            device.write_bar(1, vector * 16 + 8, &vector.to_le_bytes()); // data, and unmasked
        }
        Self { device, routes, counts }
    }

    fn word(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.device.read_bar(2, at, &mut bytes);
        u32::from_le_bytes(bytes)
    }
}

/// A server in a thread.
fn served(socket: &Path, options: ServerOptions) -> (Arc<AtomicBool>, thread::JoinHandle<()>) {
    let mut server = Server::bind(socket, options).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            server.turn(Some(Duration::from_millis(10))).unwrap();
        }
    });
    (stop, thread)
}

const PEERS: u16 = 16;
const RINGS: u32 = 300;
const PATIENCE: Duration = Duration::from_secs(60);

/// Peer p rings vector p of everybody. Before each ring it counts in the shared memory; a handler
/// notes how far the count is. Where the last count was noted, no ring was lost.
#[test]
fn sixteen_peers_that_ring_each_other_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("server");
    let (stop, server) = served(&socket, ServerOptions::new(PEERS, 1 << 16));
    let start = Arc::new(Barrier::new(PEERS.into()));
    let peers: Vec<_> = (0..PEERS)
        .map(|_| {
            let (socket, start) = (socket.clone(), Arc::clone(&start));
            thread::spawn(move || ring_everybody(Peer::new(&socket, PEERS), &start))
        })
        .collect();
    let mut ids: Vec<u16> = peers.into_iter().map(|peer| peer.join().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..PEERS).collect::<Vec<_>>());
    stop.store(true, Ordering::Relaxed);
    server.join().unwrap();
    assert!(!socket.exists(), "the socket goes with the server");
}

/// Plays one peer; its id.
fn ring_everybody(mut peer: Peer, start: &Barrier) -> u16 {
    let own = peer.device.id().unwrap();
    let since = Instant::now();
    while (0..PEERS).any(|id| peer.device.connected(id) < PEERS.into()) {
        peer.device.serve().unwrap();
        assert!(since.elapsed() < PATIENCE, "peers do not come");
        thread::sleep(Duration::from_millis(1));
    }
    start.wait();
    let count_of = |id: u16| 64 * u64::from(id);
    let mut noted = [0; PEERS as usize];
    let mut seen = [0; PEERS as usize];
    let mut look = |peer: &Peer, wait| {
        peer.routes.run(Some(wait)).unwrap();
        for (id, (noted, seen)) in (0..).zip(noted.iter_mut().zip(&mut seen)) {
            let taken = peer.counts.0[usize::from(id)].load(Ordering::Relaxed);
            if taken != *seen {
                *seen = taken;
                *noted = peer.word(count_of(id));
            }
        }
        noted.iter().all(|count| *count == RINGS)
    };
    for count in 1..=RINGS {
        peer.device.write_bar(2, count_of(own), &count.to_le_bytes());
        for id in 0..PEERS {
            let value = u32::from(id) << 16 | u32::from(own);
            peer.device.write_bar(0, 12, &value.to_le_bytes());
        }
        look(&peer, Duration::ZERO);
    }
    assert_eq!(peer.device.rings(), u64::from(RINGS) * u64::from(PEERS));
    let since = Instant::now();
    while !look(&peer, Duration::from_millis(20)) {
        assert!(since.elapsed() < PATIENCE, "{own}: {noted:?}");
    }
    // Nobody goes before all are done: a ring to who is gone reaches nobody.
    start.wait();
    let taken = peer.counts.0.iter().map(|count| count.load(Ordering::Relaxed));
    assert!(taken.into_iter().all(|taken| (1..=RINGS).contains(&taken)), "coalesced, not doubled");
    own
}

#[test]
fn signals_do_not_disturb_a_setup_that_comes_byte_by_byte() {
    signal_hook::flag::register(SIGRTMIN(), Arc::default()).unwrap();
    let (server, client) = UnixStream::pair().unwrap();
    let memory = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&memory, 4096).unwrap();
    let device = thread::spawn(move || {
        let counts = Counts::default();
        let routes = routes_without_vm(counts.clone()).unwrap();
        let made = IvshmemDevice::doorbell(client, DeviceOptions::new(1), &routes, counts, None);
        made.map(|device| device.id())
    });
    let bytes = [0_i64.to_le_bytes(), 77_i64.to_le_bytes()].concat();
    for byte in bytes {
        std::io::Write::write_all(&mut &server, &[byte]).unwrap();
        for _ in 0..5 {
            device.kill(SIGRTMIN()).unwrap();
            thread::sleep(Duration::from_micros(300));
        }
    }
    send_whole(&server, -1, Some(memory.as_fd())).unwrap();
    assert_eq!(device.join().unwrap().unwrap(), Some(77));
}

#[test]
fn a_client_that_talks_or_reads_nothing_does_not_disturb_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("server");
    let (stop, server) = served(&socket, ServerOptions::new(16, 4096));
    let mut peer = Peer::new(&socket, 16);
    // So much is said to this one that its socket is full.
    let deaf = UnixStream::connect(&socket).unwrap();
    for _ in 0..100 {
        let mut talker = UnixStream::connect(&socket).unwrap();
        std::io::Write::write_all(&mut talker, b"hello").unwrap();
    }
    let since = Instant::now();
    // Ids 0 to 101 were given; what is left is known to who reads.
    while peer.device.peers().ne([0, 1]) {
        peer.device.serve().unwrap();
        let known: Vec<u16> = peer.device.peers().collect();
        assert!(since.elapsed() < PATIENCE, "{known:?}");
        thread::sleep(Duration::from_millis(1));
    }
    let latest = Peer::new(&socket, 16);
    assert_eq!(latest.device.id(), Some(102), "ids are not used again soon");
    drop(deaf);
    stop.store(true, Ordering::Relaxed);
    server.join().unwrap();
}

#[test]
fn a_server_that_cannot_be_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("server");
    let bind = |vectors, size| Server::bind(&socket, ServerOptions::new(vectors, size));
    assert!(matches!(bind(0, 4096), Err(ServerError::Vectors(0))));
    assert!(matches!(bind(2049, 4096), Err(ServerError::Vectors(2049))));
    assert!(matches!(bind(1, 4095), Err(ServerError::Size(4095))));
    assert!(matches!(bind(1, 8), Err(ServerError::Size(8))));
    // What a device refuses: no address space is so large.
    for size in [1 << 47, 1 << 63] {
        assert!(matches!(bind(1, size), Err(ServerError::Size(s)) if s == size));
    }
    drop(bind(1, 1 << 46).unwrap());
}
