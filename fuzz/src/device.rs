//! Guests, peers and servers of the ivshmem device, with what is easy to know of it beside it.

use arbitrary::{Arbitrary, Unstructured};
use msix_backends::kvm::Routes;
use msix_core::Policy;
use msix_ivshmem::{
    Board, DeviceOptions, Interrupt, IvshmemDevice, Revision, Width, routes_without_vm, send_whole,
};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Clone)]
struct Vmm;

impl Board for Vmm {
    fn write_memory(&self, _: u64, _: u32) {}
    fn set_intx(&self, _: bool) {}
}

/// Who does something.
#[derive(Debug, Arbitrary)]
enum Step {
    ReadConfig {
        offset: u8,
        len: u8,
    },
    WriteConfig {
        offset: u8,
        len: u8,
        value: u64,
    },
    ReadBar {
        bar: u8,
        offset: u16,
        len: u8,
    },
    WriteBar {
        bar: u8,
        offset: u16,
        len: u8,
        value: u64,
    },
    /// BARs placed, memory space and bus master on.
    SwitchOn,
    Ring {
        peer: u8,
        vector: u8,
    },
    /// The server connects a vector, or says that a peer is gone.
    Connect(u8),
    Disconnect(u8),
    /// A peer rings this device.
    Event(u8),
    Serve,
    Reset,
    SaveAndLoad,
}

const VECTORS: u16 = 3;
const OWN: u8 = 0;
/// Ids that the server speaks of.
const PEERS: u8 = 4;
const MEMORY: u64 = 1 << 16;

/// The bytes: options (1), then steps in the encoding of `arbitrary`.
///
/// # Panics
/// When the device does what its registers do not say.
pub fn ivshmem_device(data: &[u8]) {
    let Some((&choice, steps)) = data.split_first() else { return };
    let width = if choice & 1 == 0 { Width::Strict } else { Width::Qemu };
    let mut options = DeviceOptions::new(VECTORS);
    options.width = width;
    options.policy = if choice & 2 == 0 { Policy::SPEC } else { Policy::QEMU };
    options.interrupt = if choice & 4 == 0 { Interrupt::MsiX } else { Interrupt::Pin };
    options.revision =
        if choice & 8 == 0 { Revision::One } else { Revision::Zero { memory: MEMORY } };
    let mut world = World::new(options);
    let mut steps = Unstructured::new(steps);
    for _ in 0..200 {
        if steps.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut steps) else { break };
        world.step(&step);
    }
    world.check();
}

struct World {
    device: IvshmemDevice<Vmm>,
    server: UnixStream,
    routes: Arc<Routes>,
    strict: bool,
    /// The eventfds of each peer, and how often each was rung.
    peers: BTreeMap<u8, Vec<(OwnedFd, u64)>>,
    /// What the device has not read yet.
    unread: Vec<(u8, Option<OwnedFd>)>,
    /// Configuration space after a reset.
    fresh: [u8; 256],
}

impl World {
    fn new(options: DeviceOptions) -> Self {
        let memory = memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("a file in memory");
        ftruncate(&memory, MEMORY).expect("its size");
        let (server, client) = UnixStream::pair().expect("a pair of sockets");
        for (value, descriptor) in [(0, None), (i64::from(OWN), None), (-1, Some(memory.as_fd()))] {
            send_whole(&server, value, descriptor).expect("there is room");
        }
        let routes = routes_without_vm(Vmm).expect("an epoll instance");
        let device = IvshmemDevice::doorbell(client, options, &routes, Vmm, None);
        let mut device = device.expect("a server that does its part");
        device.serve().expect("the setup of a revision 0");
        device.reset();
        let mut fresh = [0; 256];
        device.read_config(0, &mut fresh);
        let strict = options.width == Width::Strict;
        let (peers, unread) = (BTreeMap::new(), Vec::new());
        Self { device, server, routes, strict, peers, unread, fresh }
    }

    fn step(&mut self, step: &Step) {
        let prefix = |value: &u64, len: &u8| value.to_le_bytes()[..usize::from(*len % 9)].to_vec();
        match step {
            Step::ReadConfig { offset, len } => {
                let mut bytes = vec![0; usize::from(len % 17)];
                self.device.read_config((*offset).into(), &mut bytes);
            }
            Step::WriteConfig { offset, len, value } => {
                self.device.write_config((*offset).into(), &prefix(value, len));
            }
            Step::ReadBar { bar, offset, len } => {
                let mut bytes = vec![0; usize::from(len % 17)];
                self.device.read_bar(bar % 4, (*offset).into(), &mut bytes);
            }
            Step::WriteBar { bar, offset, len, value } => {
                self.write(bar % 4, *offset, &prefix(value, len))
            }
            Step::SwitchOn => {
                for (at, base) in
                    [(0x10, 0xe000_0000_u32), (0x14, 0xe010_0000), (0x18, 0xe080_0000)]
                {
                    self.device.write_config(at, &base.to_le_bytes());
                }
                self.device.write_config(4, &[6, 0]);
            }
            Step::Ring { peer, vector } => {
                let value = u32::from(peer % (PEERS + 1)) << 16 | u32::from(*vector);
                self.write(0, 12, &value.to_le_bytes());
            }
            Step::Connect(peer) => {
                let peer = peer % PEERS;
                let ours = eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd");
                send_whole(&self.server, peer.into(), Some(ours.as_fd())).expect("there is room");
                self.unread.push((peer, Some(ours)));
            }
            Step::Disconnect(peer) => {
                let peer = 1 + peer % (PEERS - 1); // its own end is a violation
                send_whole(&self.server, peer.into(), None).expect("there is room");
                self.unread.push((peer, None));
            }
            Step::Event(vector) => {
                let own = self.peers.get(&OWN).and_then(|own| own.get(usize::from(*vector)));
                if let Some((eventfd, _)) = own {
                    rustix::io::write(eventfd, &1_u64.to_ne_bytes()).expect("it is not full");
                }
                self.routes.run(Some(Duration::ZERO)).expect("epoll");
            }
            Step::Serve => self.serve(),
            Step::Reset => self.reset(),
            Step::SaveAndLoad => {
                let saved = self.device.save().expect("id 0 is the master");
                self.device.load(&saved).expect("its own snapshot");
                self.device.resume();
                assert_eq!(self.device.save().expect("it still is"), saved);
            }
        }
    }

    /// A guest's write. What of it rings is known for the strict device, which takes dwords at 12.
    fn write(&mut self, bar: u8, offset: u16, bytes: &[u8]) {
        let before = self.device.rings();
        self.device.write_bar(bar, offset.into(), bytes);
        if !self.strict {
            // Whatever it rang is taken, and not counted.
            for (eventfd, _) in self.peers.iter().filter(|(id, _)| **id != OWN).flat_map(|(_, v)| v)
            {
                let _ = rustix::io::read(eventfd, &mut [0; 8][..]);
            }
            return;
        }
        let value = <[u8; 4]>::try_from(bytes).map(u32::from_le_bytes);
        let rung = match (bar, offset, value) {
            (0, 12, Ok(value)) => self.count(value),
            _ => false,
        };
        assert_eq!(
            self.device.rings(),
            before + u64::from(rung),
            "bar {bar} {offset:#x} {bytes:?}"
        );
    }

    fn count(&mut self, value: u32) -> bool {
        let (peer, vector) = (value >> 16, value & 0xffff);
        let vectors = u8::try_from(peer).ok().and_then(|peer| self.peers.get_mut(&peer));
        match vectors.and_then(|vectors| vectors.get_mut(vector as usize)) {
            Some((_, rung)) => {
                *rung += 1;
                true
            }
            None => false,
        }
    }

    fn serve(&mut self) {
        self.device.serve().expect("a server that keeps to the protocol");
        for (peer, eventfd) in self.unread.drain(..) {
            match eventfd {
                None => drop(self.peers.remove(&peer)),
                Some(eventfd) => {
                    let vectors = self.peers.entry(peer).or_default();
                    if vectors.len() < usize::from(VECTORS) {
                        vectors.push((eventfd, 0));
                    }
                }
            }
        }
        for id in 0..PEERS {
            let known = self.peers.get(&id).map_or(0, Vec::len);
            assert_eq!(self.device.connected(id.into()), known, "peer {id}");
        }
    }

    fn reset(&mut self) {
        self.device.reset();
        let mut config = [0; 256];
        self.device.read_config(0, &mut config);
        let kept = if self.strict { 256 } else { 0x40 }; // QEMU's scratch bytes stay
        assert_eq!(config[..kept], self.fresh[..kept]);
        let mut word = [0; 4];
        self.device.read_bar(0, 0, &mut word);
        assert_eq!((word, self.device.decode(0xe000_0000)), ([0; 4], None));
    }

    /// Every ring arrived at who was rung.
    fn check(&mut self) {
        self.serve();
        if !self.strict {
            return;
        }
        // Its own are read by the device.
        for (eventfd, rung) in self.peers.iter().filter(|(id, _)| **id != OWN).flat_map(|(_, v)| v)
        {
            let mut bytes = [0; 8];
            let held =
                rustix::io::read(eventfd, &mut bytes[..]).map_or(0, |_| u64::from_ne_bytes(bytes));
            assert_eq!(held, *rung);
        }
    }
}
