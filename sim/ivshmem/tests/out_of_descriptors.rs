//! Devices in a process that runs out of descriptors. The limit is the process's, so nothing else is
//! tested in it.

#![cfg(feature = "kvm")]

use msix_backends::kvm::Routes;
use msix_ivshmem::{
    Board, ConnectError, DeviceError, DeviceOptions, Interrupt, IvshmemDevice, OutOfDescriptors,
    ReceiveError, Receiver, Revision, SessionError, routes_without_vm, send_whole,
};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const LIMIT: u64 = 128;

/// One test, alone.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(LIMIT), maximum }).unwrap();
    alone
}

/// Takes all descriptors but `free`.
fn taken_but(free: usize) -> Vec<File> {
    let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    taken.truncate(taken.len() - free);
    taken
}

fn open() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Counts the messages and assertions of the line.
#[derive(Debug, Clone, Default)]
struct Vmm(Arc<AtomicU32>);

impl Board for Vmm {
    fn write_memory(&self, _: u64, _: u32) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn set_intx(&self, asserted: bool) {
        self.0.fetch_add(asserted.into(), Ordering::Relaxed);
    }
}

/// A device with id 3, and the server's end of its connection.
struct World {
    device: IvshmemDevice<Vmm>,
    server: UnixStream,
    routes: Arc<Routes>,
    vmm: Vmm,
}

const OWN: u16 = 3;

impl World {
    fn new(options: DeviceOptions) -> Self {
        let (server, client) = UnixStream::pair().unwrap();
        greet(&server);
        let vmm = Vmm::default();
        let routes = routes_without_vm(vmm.clone()).unwrap();
        let device = IvshmemDevice::doorbell(client, options, &routes, vmm.clone(), None);
        let mut device = device.unwrap();
        device.write_config(0x10, &0xe000_0000_u32.to_le_bytes());
        device.write_config(4, &[6, 0]);
        device.write_config(0x42, &[0, 0x80]);
        device.write_bar(0, 0, &1_u32.to_le_bytes());
        for vector in 0..u64::from(options.vectors) {
            device.write_bar(1, vector * 16, &0x1000_u64.to_le_bytes());
            device.write_bar(1, vector * 16 + 8, &0_u64.to_le_bytes());
        }
        Self { device, server, routes, vmm }
    }

    fn say(&mut self, value: u16, descriptor: Option<BorrowedFd<'_>>) {
        send_whole(&self.server, value.into(), descriptor).unwrap();
        self.device.serve().unwrap();
        assert!(self.device.server().is_some(), "the connection is kept");
    }

    fn ring(&mut self, peer: u16, vector: u16) {
        let value = u32::from(peer) << 16 | u32::from(vector);
        self.device.write_bar(0, 12, &value.to_le_bytes());
    }

    /// Interrupts since the last call.
    fn interrupts(&mut self) -> u32 {
        self.routes.run(Some(Duration::ZERO)).unwrap();
        self.device.read_bar(0, 4, &mut [0; 4]); // lowers the line
        self.vmm.0.swap(0, Ordering::Relaxed)
    }

    fn reason(&self) -> (&ConnectError, u64) {
        let unconnected = self.device.unconnected().unwrap();
        assert!(unconnected.to_string().contains(" is not connected in full: "), "{unconnected}");
        (&unconnected.reason, unconnected.count)
    }
}

fn greet(server: &UnixStream) {
    let memory = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&memory, 4096).unwrap();
    send_whole(server, 0, None).unwrap();
    send_whole(server, OWN.into(), None).unwrap();
    send_whole(server, -1, Some(memory.as_fd())).unwrap();
}

fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn rung(eventfd: &OwnedFd) -> bool {
    rustix::io::read(eventfd, &mut [0; 8][..]).is_ok()
}

#[test]
fn a_peers_vector_that_is_lost_stays_unconnected_and_the_connection_goes_on() {
    let _alone = alone();
    let mut world = World::new(DeviceOptions::new(3));
    let theirs = [event(), event(), event()];
    let before = open();
    for count in 1..4 {
        world.say(9, Some(theirs[0].as_fd()));
        let taken = taken_but(0);
        world.say(9, Some(theirs[1].as_fd()));
        drop(taken);
        world.say(9, Some(theirs[2].as_fd()));
        let (reason, missed) = world.reason();
        let is_named = matches!(
            reason,
            ConnectError::OutOfDescriptors { vector: 1, source: OutOfDescriptors }
        );
        assert!(is_named && missed == count, "{reason}");
        assert!(reason.to_string().contains("no descriptor was free"), "{reason}");
        assert_eq!(world.device.connected(9), 2);
        (0..4).for_each(|vector| world.ring(9, vector));
        assert_eq!([0, 1, 2].map(|vector| rung(&theirs[vector])), [true, false, true]);
        world.say(9, None);
        assert_eq!((world.device.connected(9), open()), (0, before), "nothing is left");
    }
}

#[test]
fn own_vectors_that_find_no_descriptors_stay_unconnected_and_the_others_work() {
    let _alone = alone();
    for interrupt in [Interrupt::MsiX, Interrupt::Pin] {
        let mut options = DeviceOptions::new(3);
        options.interrupt = interrupt;
        for free in 0..6 {
            let before = open();
            let mut world = World::new(options);
            let own = [event(), event(), event()];
            let taken = taken_but(free);
            world.say(OWN, Some(own[0].as_fd()));
            world.say(OWN, Some(own[1].as_fd()));
            drop(taken);
            world.say(OWN, Some(own[2].as_fd()));
            let connected = world.device.connected(OWN);
            let missed = world.device.unconnected().map_or(0, |unconnected| unconnected.count);
            assert_eq!(connected as u64 + missed, 3, "{interrupt:?}, {free} free");
            assert!(missed == 0 || free < 4, "{interrupt:?}, {free} free");
            assert!(missed > 0 || free > 3, "{interrupt:?}, {free} free");
            world.interrupts();
            rustix::io::write(&own[2], &1_u64.to_ne_bytes()).unwrap();
            assert_eq!(world.interrupts(), 1);
            world.ring(OWN, 2);
            assert_eq!(world.interrupts(), 1);
            drop((world, own));
            assert_eq!(open(), before);
        }
    }
}

#[test]
fn shared_memory_that_is_lost_is_the_named_end_of_the_setup() {
    let _alone = alone();
    let before = open();
    for revision in [Revision::One, Revision::Zero { memory: 4096 }] {
        let (server, client) = UnixStream::pair().unwrap();
        greet(&server);
        let routes = routes_without_vm(Vmm::default()).unwrap();
        let taken = taken_but(0);
        let mut options = DeviceOptions::new(2);
        options.revision = revision;
        let made = IvshmemDevice::doorbell(client, options, &routes, Vmm::default(), None);
        let error = match made {
            Ok(mut device) => device.serve().unwrap_err(),
            Err(DeviceError::Session(error)) => error,
            Err(error) => panic!("{error}"),
        };
        drop((taken, server, routes));
        assert!(matches!(error, SessionError::MemoryLost(OutOfDescriptors)), "{error}");
        let said = "the shared memory: no descriptor was free to receive it (RLIMIT_NOFILE)";
        assert_eq!(error.to_string(), said);
        assert_eq!(open(), before);
    }
}

#[test]
fn peers_take_half_of_the_descriptors_or_as_many_as_they_are_given() {
    let _alone = alone();
    let (theirs, vectors) = (event(), 8);
    for (most_peers, expected) in [(None, 8), (Some(3), 3), (Some(0), 0)] {
        let mut options = DeviceOptions::new(vectors);
        options.most_peers = most_peers;
        let mut world = World::new(options);
        let before = open();
        let told = |world: &mut World, peer| {
            (0..vectors).for_each(|_| world.say(peer, Some(theirs.as_fd())));
        };
        (100..120).for_each(|peer| told(&mut world, peer));
        assert_eq!(world.device.peers().count(), expected);
        assert_eq!(open(), before + expected * usize::from(vectors));
        let (reason, missed) = world.reason();
        assert!(matches!(reason, ConnectError::PeerLimit(most) if *most == expected), "{reason}");
        assert_eq!(missed, (20 - expected as u64) * u64::from(vectors));
        // Who comes when one has gone is connected; itself is no other.
        world.say(100, None);
        told(&mut world, 200);
        assert_eq!(world.device.connected(200), if expected > 0 { 8 } else { 0 });
        world.say(OWN, Some(theirs.as_fd()));
        assert_eq!(world.device.connected(OWN), 1);
        for peer in 101..120 {
            world.say(peer, None);
        }
        told(&mut world, 101);
        assert_eq!(world.device.connected(101), if expected > 1 { 8 } else { 0 });
    }
}

#[test]
fn one_lost_descriptor_is_told_from_too_many() {
    let _alone = alone();
    let null = File::open("/dev/null").unwrap();
    for free in 0..6 {
        for count in 1..6 {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let descriptors = vec![null.as_fd(); count];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(6))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
            let bytes = 7_i64.to_le_bytes();
            sendmsg(&theirs, &[IoSlice::new(&bytes)], &mut control, SendFlags::empty()).unwrap();
            send_whole(&theirs, 8, None).unwrap();
            let mut receiver = Receiver::default();
            let taken = taken_but(free);
            let received = receiver.receive(&ours);
            drop(taken);
            match (free, count, received) {
                (0, _, Ok(Some(message))) => {
                    assert!(matches!(message.descriptor, Some(Err(OutOfDescriptors))));
                    let next = receiver.receive(&ours).unwrap().unwrap();
                    assert!(next.value == 8 && next.descriptor.is_none(), "it goes on");
                }
                (_, 1, Ok(Some(message))) => assert!(matches!(message.descriptor, Some(Ok(_)))),
                (_, 2.., Err(ReceiveError::Descriptors)) => {}
                (_, _, other) => panic!("{free} free, {count} sent: {other:?}"),
            }
        }
    }
}
