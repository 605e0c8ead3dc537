//! Who is rung, and by which way.

use super::*;
use msix_backends::kvm::Ioeventfds;
use rustix::fs::{OFlags, fcntl_setfl};
use std::io;
use std::os::fd::BorrowedFd;

#[test]
fn a_ring_reaches_the_vector_of_the_peer_and_nobody_else() {
    let mut world = World::new(DeviceOptions::new(4));
    let (seven, max) = (world.connect(7, 3), world.connect(65535, 4));
    world.ring(7, 2);
    world.ring(65535, 3);
    world.ring(65535, 3);
    for (peer, vector) in [(7, 3), (8, 0), (0, 0), (OWN, 0), (7, 65535)] {
        world.ring(peer, vector);
    }
    let counts = |eventfds: &[OwnedFd]| eventfds.iter().map(taken).collect::<Vec<_>>();
    assert_eq!((counts(&seven), counts(&max)), (vec![0, 0, 1], vec![0, 0, 0, 2]));
    assert_eq!(world.device.peers().collect::<Vec<_>>(), [7, 65535]);
}

#[test]
fn a_full_eventfd_does_not_stop_the_guest() {
    let mut world = World::new(DeviceOptions::new(1));
    let theirs = world.connect(7, 1);
    rustix::io::write(&theirs[0], &(u64::MAX - 1).to_ne_bytes()).unwrap();
    world.ring(7, 0);
    assert_eq!(world.device.rings(), 1, "an event is in it");
}

#[test]
fn k14_a_peer_that_makes_a_full_eventfd_blocking_does_not_stop_the_guest_either() {
    in_time(|| {
        let mut world = World::new(DeviceOptions::new(1));
        let theirs = world.connect(7, 1);
        rustix::io::write(&theirs[0], &(u64::MAX - 1).to_ne_bytes()).unwrap();
        fcntl_setfl(&theirs[0], OFlags::empty()).unwrap();
        world.ring(7, 0);
        assert_eq!(world.device.rings(), 1, "an event is in it");
        assert!(taken(&theirs[0]) >= u64::MAX - 1);
    });
}

#[test]
fn k14_a_peer_that_makes_an_own_vector_blocking_stops_neither_the_pin_nor_a_reset() {
    for interrupt in [Interrupt::Pin, Interrupt::MsiX] {
        in_time(move || {
            let mut world = World::new(DeviceOptions { interrupt, ..DeviceOptions::new(1) });
            let own = world.connect(OWN, 1);
            fcntl_setfl(&own[0], OFlags::empty()).unwrap();
            world.device.write_bar(0, 0, &1_u32.to_le_bytes());
            world.device.reset();
            world.switch_on();
            world.device.write_bar(0, 0, &1_u32.to_le_bytes());
            write(&own[0]);
            let expected = if interrupt == Interrupt::Pin { vec![true] } else { vec![] };
            assert_eq!(world.line(), expected);
            world.device.reset();
            let _ = world.device.save();
        });
    }
}

/// What KVM_IOEVENTFD was asked: address and value of what is there, in order of value.
#[derive(Debug, Clone, Default)]
struct There(Arc<Mutex<Vec<(u64, u32)>>>);

impl Ioeventfds for There {
    fn assign(&self, address: u64, value: u32, _: BorrowedFd<'_>) -> io::Result<()> {
        self.0.lock().unwrap().push((address, value));
        Ok(())
    }
    fn deassign(&self, address: u64, value: u32, _: BorrowedFd<'_>) -> io::Result<()> {
        let mut there = self.0.lock().unwrap();
        let at = there.iter().position(|it| *it == (address, value));
        there.remove(at.expect("only what was assigned"));
        Ok(())
    }
}

#[test]
fn with_kvm_rings_follow_bar0_and_the_peers() {
    let there = There::default();
    let now = || there.0.lock().unwrap().clone();
    let mut world = World::new(DeviceOptions::new(2));
    let vm: Box<dyn Ioeventfds> = Box::new(there.clone());
    let (server, client) = UnixStream::pair().unwrap();
    send_whole(&server, 0, None).unwrap();
    send_whole(&server, 5, None).unwrap();
    send_whole(&server, -1, Some(world.memory.as_fd())).unwrap();
    world.device = IvshmemDevice::doorbell(
        client,
        DeviceOptions::new(2),
        &world.routes,
        Vmm::default(),
        Some(vm),
    )
    .unwrap();
    world.server = server;
    world.connect(7, 2);
    assert_eq!(now(), [], "BAR0 lies nowhere");
    world.switch_on();
    let doorbell = REGISTERS + 12;
    assert_eq!(now(), [(doorbell, 0x7_0000), (doorbell, 0x7_0001)]);
    world.connect(5, 1);
    assert_eq!(world.device.armed_rings(), 3, "itself too");
    world.say(7, None).unwrap();
    assert_eq!(now(), [(doorbell, 0x5_0000)]);
    world.device.write_config(0x10, &0xf000_0000_u32.to_le_bytes());
    assert_eq!(now(), [(0xf000_000c, 0x5_0000)]);
    world.device.write_config(4, &[0]);
    assert_eq!(now(), []);
    world.device.write_config(4, &[2]);
    world.device.reset();
    assert_eq!(now(), []);
    world.switch_on();
    let World { device, .. } = world;
    drop(device);
    assert_eq!(now(), [], "and none is left behind");
}
