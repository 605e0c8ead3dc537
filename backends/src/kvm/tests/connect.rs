//! Eventfds that are made elsewhere, early, late or never (E5, E8).

use super::{PATIENT, Vmm, World, is_fallback, mask, on_x86, start};
use crate::eventfd::import;
use crate::kvm::{Deferral, EventfdOrigin, Function, FunctionSetup, VmCall};
use msix_core::Vector;
use rustix::event::{EventfdFlags, eventfd};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const V0: Vector = Vector::new(0);

/// A function with two vectors that are not connected to anything.
fn unconnected(deferral: Deferral, limit: u32) -> World {
    let mut world = World::with_limit(2, deferral, limit);
    let layout = world.function.inspect(|engine| *engine.msix().unwrap().layout());
    let eventfds = EventfdOrigin::Connected;
    let setup = FunctionSetup { msix: Some(layout), eventfds, ..on_x86(Vmm::default()) };
    world.function = start(Function::new(&world.routes, setup).unwrap());
    world
}

/// An eventfd, and the end that KVM or the loop gets.
fn pair() -> (EventFd, EventFd) {
    let ours = EventFd::new(EFD_NONBLOCK).unwrap();
    let theirs = ours.try_clone().unwrap();
    (ours, theirs)
}

#[test]
fn e8_unmasking_a_vector_that_nobody_connected_is_no_failure() {
    for limit in [4096, 0] {
        let world = unconnected(Deferral::NONE, limit);
        for masked in [false, true, true, false] {
            mask(&world.function, 1, masked);
        }
        assert_eq!(world.fake.armed(), 0);
        assert_eq!(world.routes.stats().failures, 0);
        world.fire(1);
        assert_eq!(world.delivered(), [0x41], "an event of the device itself takes the long way");
    }
}

#[test]
fn e8_a_vector_that_is_connected_after_the_guest_unmasked_it_is_armed_then() {
    let world = unconnected(Deferral::NONE, 4096);
    world.mask(0, false);
    let (ours, theirs) = pair();
    ours.write(1).unwrap();
    world.function.connect(V0, theirs).unwrap();
    assert_eq!(world.delivered(), [0x40], "what it held is not lost");
    ours.write(1).unwrap();
    assert_eq!(world.delivered(), [0x40]);
    world.mask(0, true);
    ours.write(1).unwrap();
    assert!(world.delivered().is_empty());
    assert_eq!(world.pba(), 1);
    world.mask(0, false);
    assert_eq!(world.delivered(), [0x40]);
    let gsi = world.fake.calls()[1..].to_vec();
    let VmCall::Assign(gsi) = gsi[0] else { panic!("{gsi:?}") };
    let calls =
        [VmCall::SetRoutes, VmCall::Assign(gsi), VmCall::Deassign(gsi), VmCall::Assign(gsi)];
    assert_eq!(world.fake.calls()[..4], calls, "balanced");
}

#[test]
fn a_vector_that_is_connected_while_its_route_waits_is_read_by_userspace_until_it_is_armed() {
    let world = unconnected(PATIENT, 4096);
    world.mask(1, false);
    world.mask(0, false); // waits
    let (ours, theirs) = pair();
    world.function.connect(V0, theirs).unwrap();
    ours.write(1).unwrap();
    assert_eq!((world.delivered(), world.fake.armed()), (vec![0x40], 0));
    world.routes.flush();
    ours.write(1).unwrap();
    assert_eq!((world.delivered(), world.fake.armed()), (vec![0x40], 1));
}

#[test]
fn without_routes_a_connected_vector_is_read_by_userspace() {
    let world = unconnected(Deferral::NONE, 0);
    world.mask(0, false);
    let (ours, theirs) = pair();
    world.function.connect(V0, theirs).unwrap();
    ours.write(1).unwrap();
    assert_eq!(world.delivered(), [0x40]);
    world.mask(0, true);
    ours.write(1).unwrap();
    assert!(world.delivered().is_empty());
    world.mask(0, false);
    assert_eq!(world.delivered(), [0x40]);
    assert_eq!((world.routes.stats().commits, world.fake.armed()), (0, 0));
}

#[test]
fn a_message_that_is_no_interrupt_is_not_armed_when_its_vector_is_connected() {
    let world = unconnected(Deferral::NONE, 4096);
    world.mask(0, false);
    world.mask(0, true);
    world.function.write_table(0, &0x1000_u64.to_le_bytes());
    world.mask(0, false);
    let (ours, theirs) = pair();
    world.function.connect(V0, theirs).unwrap();
    ours.write(1).unwrap();
    assert!(world.delivered().is_empty());
    assert_eq!(world.function.platform(|vmm| vmm.writes.clone()), [(0x1000, 0x40)]);
    assert_eq!(world.fake.armed(), 0);
}

#[test]
fn a_connection_that_kvm_refuses_leaves_the_vector_to_userspace() {
    let world = unconnected(Deferral::NONE, 4096);
    world.mask(0, false);
    world.fake.fail(|_, call| matches!(call, VmCall::Assign(_)));
    let (ours, theirs) = pair();
    world.function.connect(V0, theirs).unwrap();
    ours.write(1).unwrap();
    assert_eq!(world.delivered(), [0x40]);
    assert!(is_fallback(&world.function, 0));
}

#[test]
fn a_vector_is_connected_once_and_must_exist() {
    let world = unconnected(Deferral::NONE, 4096);
    let connect = |vector| world.function.connect(Vector::new(vector), pair().1);
    connect(0).unwrap();
    assert_eq!(connect(0).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(connect(2).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn only_eventfds_are_imported_and_they_do_not_block() {
    let imported = import(eventfd(0, EventfdFlags::empty()).unwrap()).unwrap();
    assert_eq!(imported.read().unwrap_err().kind(), ErrorKind::WouldBlock);
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    for descriptor in [OwnedFd::from(socket), file.into()] {
        let error = import(descriptor).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

#[test]
fn without_routes_an_eventfd_is_read_when_it_is_written_masked_or_not() {
    let world = unconnected(Deferral::NONE, 0);
    let (ours, theirs) = pair();
    world.function.connect(V0, theirs).unwrap();
    for masked in [true, false, true] {
        mask(&world.function, 0, masked);
        ours.write(1).unwrap();
        let delivered = if masked { vec![] } else { vec![0x40, 0x40] };
        assert_eq!(world.delivered(), delivered);
        assert_eq!(ours.read().unwrap_err().kind(), ErrorKind::WouldBlock, "it is empty");
        assert_eq!(world.pba() & 1 == 1, masked);
    }
}

#[test]
fn a_vector_is_connected_to_another_eventfd_in_every_state_and_no_event_is_lost() {
    for (masked, limit) in [(false, 4096), (true, 4096), (false, 0), (true, 0)] {
        let world = unconnected(Deferral::NONE, limit);
        mask(&world.function, 0, false);
        let (before, theirs) = pair();
        world.function.connect(V0, theirs).unwrap();
        mask(&world.function, 0, masked);
        before.write(1).unwrap();
        let (after, theirs) = pair();
        after.write(1).unwrap();
        world.function.reconnect(V0, theirs).unwrap();
        before.write(1).unwrap();
        let mut delivered = world.delivered();
        if masked {
            assert!(delivered.is_empty());
            mask(&world.function, 0, false);
            delivered = world.delivered();
            assert_eq!(delivered, [0x40], "one message stands for both");
        }
        let state = (masked, limit);
        assert!((1..=2).contains(&delivered.len()), "{state:?}: {delivered:?}");
        assert!(world.delivered().is_empty(), "what is written to the old one reaches nobody");
        after.write(1).unwrap();
        assert_eq!(world.delivered(), [0x40], "{state:?}");
        assert_eq!(world.fake.armed(), usize::from(limit > 0));
    }
}

#[test]
fn an_eventfd_of_the_function_itself_is_replaced_and_notify_goes_on() {
    let world = World::new(2, Deferral::NONE);
    world.mask(0, false);
    let notifier = world.function.notifier().unwrap();
    notifier.notify(V0).unwrap();
    assert_eq!(world.delivered(), [0x40]);
    let (ours, theirs) = pair();
    world.function.reconnect(V0, theirs).unwrap();
    ours.write(1).unwrap();
    assert_eq!(world.delivered(), [0x40]);
    notifier.notify(V0).unwrap();
    assert_eq!(world.delivered(), [0x40]);
    assert_eq!(world.function.eventfd(V0).unwrap().write(1).ok(), Some(()));
    assert_eq!(ours.read().ok(), Some(1), "it is the one that was connected");
}

#[test]
fn a_reconnection_while_kvm_keeps_the_eventfd_is_refused_and_changes_nothing() {
    let world = unconnected(Deferral::NONE, 4096);
    mask(&world.function, 0, false);
    let (before, theirs) = pair();
    world.function.connect(V0, theirs).unwrap();
    world.fake.fail(|_, call| matches!(call, VmCall::Deassign(_)));
    let error = world.function.reconnect(V0, pair().1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceBusy);
    before.write(1).unwrap();
    assert_eq!(world.delivered(), [0x40]);
    world.fake.heal();
    world.routes.flush();
    let (after, theirs) = pair();
    world.function.reconnect(V0, theirs).unwrap();
    after.write(1).unwrap();
    assert_eq!(world.delivered(), [0x40]);
    let none = world.function.reconnect(Vector::new(2), pair().1).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::InvalidInput);
}

#[test]
fn an_eventfd_that_was_made_early_is_the_one_that_is_armed() {
    let world = World::new(2, Deferral::NONE);
    world.function.make_eventfds().unwrap();
    let first = world.function.eventfd(V0).unwrap();
    world.function.make_eventfds().unwrap();
    world.mask(0, false);
    first.write(1).unwrap();
    assert_eq!((world.delivered(), world.fake.armed()), (vec![0x40], 1));
}
