//! Servers that lie, stop in the middle, or say nothing.

use super::*;
use crate::{ProtocolViolation, ReceiveError, SharedMemoryError};
use std::io::Write;
use std::time::Instant;

/// What comes of a device whose server says this and then goes, or stays silent.
fn met_with(said: impl FnOnce(&mut UnixStream), stays: bool) -> Result<(), DeviceError> {
    let (mut server, client) = UnixStream::pair().unwrap();
    said(&mut server);
    let kept = stays.then(|| server.try_clone().unwrap());
    drop(server);
    let vmm = Vmm::default();
    let options = DeviceOptions { patience: Duration::from_millis(50), ..DeviceOptions::new(2) };
    let routes = routes_without_vm(vmm.clone()).unwrap();
    let made = IvshmemDevice::doorbell(client, options, &routes, vmm, None).map(drop);
    drop(kept);
    made
}

/// A value and what comes with it.
type Said<'a> = (i64, Option<&'a OwnedFd>);

fn messages(said: &[Said<'_>]) -> impl FnOnce(&mut UnixStream) {
    move |server| {
        for (value, descriptor) in said {
            send_whole(&*server, *value, descriptor.map(AsFd::as_fd)).unwrap();
        }
    }
}

#[test]
fn a_setup_that_breaks_the_protocol_is_refused_with_the_reason() {
    let memory = shared_memory(1 << 20);
    let cases: [(&[Said<'_>], ProtocolViolation); 7] = [
        (&[(7, None)], ProtocolViolation::Version(7)),
        (&[(-1, Some(&memory))], ProtocolViolation::Version(-1)),
        (&[(0, Some(&memory))], ProtocolViolation::UnexpectedDescriptor(0)),
        (&[(0, None), (70000, None)], ProtocolViolation::OwnId(70000)),
        (&[(0, None), (0, None), (-1, None)], ProtocolViolation::NoMemory),
        (&[(0, None), (0, None), (-5, None)], ProtocolViolation::Value(-5)),
        (&[(0, None), (0, None), (0, None)], ProtocolViolation::OwnEnd(0)),
    ];
    for (said, expected) in cases {
        match met_with(messages(said), true) {
            Err(DeviceError::Session(SessionError::Violation(got))) => assert_eq!(got, expected),
            other => panic!("{expected:?}: {other:?}"),
        }
    }
}

#[test]
fn shared_memory_that_no_bar_can_have_is_refused() {
    let socket: OwnedFd = UnixStream::pair().unwrap().0.into();
    for memory in [shared_memory(0), shared_memory(3000), shared_memory(1 << 60), socket, event()] {
        let refused = met_with(messages(&[(0, None), (0, None), (-1, Some(&memory))]), true);
        let is_named = matches!(
            &refused,
            Err(DeviceError::Session(SessionError::Memory(
                SharedMemoryError::NoFile | SharedMemoryError::Size(_)
            )))
        );
        assert!(is_named, "{refused:?}");
    }
}

#[test]
fn a_revision_0_of_a_size_that_no_bar_can_have_is_refused() {
    for memory in [0, 8, 24, 1 << 47, 1 << 63] {
        let revision = Revision::Zero { memory };
        let options = DeviceOptions { revision, ..DeviceOptions::new(2) };
        let vmm = Vmm::default();
        let routes = routes_without_vm(vmm.clone()).unwrap();
        let client = UnixStream::pair().unwrap().1;
        let refused = IvshmemDevice::doorbell(client, options, &routes, vmm, None);
        let is_named = matches!(&refused, Err(DeviceError::Memory(SharedMemoryError::Size(size))) if *size == memory);
        assert!(is_named, "{refused:?}");
    }
}

#[test]
fn a_connection_that_ends_at_any_byte_of_the_setup_is_an_error() {
    let memory = shared_memory(1 << 20);
    let whole = [0_i64.to_le_bytes(), 3_i64.to_le_bytes()].concat();
    for len in 0..=whole.len() {
        let ended = met_with(|server| server.write_all(&whole[..len]).unwrap(), false);
        let inside = len % 8 != 0;
        assert!(
            matches!(
                ended,
                Err(DeviceError::Session(SessionError::Receive(ReceiveError::Closed { inside: i })))
                    if i == inside
            ),
            "{len}: {ended:?}"
        );
    }
    met_with(messages(&[(0, None), (3, None), (-1, Some(&memory))]), false).unwrap();
}

#[test]
fn a_silent_server_is_not_waited_for_longer_than_asked() {
    for said in [0, 1, 2] {
        let start = Instant::now();
        let silent = met_with(messages(&[(0, None), (3, None)][..said]), true);
        assert!(matches!(silent, Err(DeviceError::Session(SessionError::Silent(_)))), "{silent:?}");
        assert!(start.elapsed() >= Duration::from_millis(50));
    }
    // Nor one that goes on talking.
    let (server, client) = UnixStream::pair().unwrap();
    send_whole(&server, 0, None).unwrap();
    send_whole(&server, 3, None).unwrap();
    let talker = std::thread::spawn(move || while send_whole(&server, 9, None).is_ok() {});
    let vmm = Vmm::default();
    let options = DeviceOptions { patience: Duration::from_millis(50), ..DeviceOptions::new(2) };
    let routes = routes_without_vm(vmm.clone()).unwrap();
    let made = IvshmemDevice::doorbell(client, options, &routes, vmm, None);
    assert!(matches!(made, Err(DeviceError::Session(SessionError::Silent(_)))), "{made:?}");
    talker.join().unwrap();
}

#[test]
fn what_is_no_eventfd_ends_the_connection_and_is_never_written() {
    let (near, far) = UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    for peer in [OWN, 9] {
        let mut world = World::new(DeviceOptions::new(2));
        let theirs = world.connect(8, 1);
        let error = world.say(i64::from(peer), Some(near.as_fd())).unwrap_err();
        assert!(matches!(error, SessionError::NoEventfd { vector: 0, .. }), "{error}");
        assert!(world.device.server().is_none());
        world.ring(peer, 0);
        world.ring(8, 0);
        assert_eq!(taken(&theirs[0]), 1, "who was there before still is");
    }
    let mut byte = [0];
    let read = std::io::Read::read(&mut &far, &mut byte);
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn e5_surplus_vectors_are_closed() {
    let mut world = World::new(DeviceOptions::new(1));
    let (near, far) = UnixStream::pair().unwrap();
    for peer in [OWN, 9] {
        world.connect(peer, 1);
        for _ in 0..5 {
            world.say(i64::from(peer), Some(near.as_fd())).unwrap();
        }
        assert_eq!(world.device.connected(peer), 1);
    }
    drop(near);
    assert_eq!(std::io::Read::read(&mut &far, &mut [0]).unwrap(), 0, "nobody has it any more");
}

#[test]
fn a_server_that_breaks_the_protocol_later_is_left_alone_from_then_on() {
    let mut world = World::new(DeviceOptions::new(1));
    let memory = world.memory.try_clone().unwrap();
    let error = world.say(-1, Some(memory.as_fd())).unwrap_err();
    assert!(matches!(error, SessionError::Violation(ProtocolViolation::MemoryTwice)), "{error}");
    assert!(world.device.server().is_none());
    // Nobody reads any more: the connection is closed.
    let mut byte = [0];
    assert_eq!(std::io::Read::read(&mut &world.server, &mut byte).unwrap(), 0);
}
