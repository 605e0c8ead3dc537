//! Interrupts without a table.

use super::{PATIENT, Vmm, delivered, on_x86};
use crate::eventfd::Loop;
use crate::kvm::{
    Deferral, FakeVm, GsiTaken, Irqchip, KeepError, MessageGroup, MessageGroupError,
    MessageGroupSetup, Notified, RouteEntry, RouteOptions, Routes, RoutesError, VmCall,
};
use msix_core::{Delivery, Message, Vector, VectorError};
use std::sync::Arc;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// As the fake has them: vectors are given 24 and more.
fn routes(deferral: Deferral) -> (FakeVm, Arc<Routes>) {
    let fake = FakeVm::new();
    let options = RouteOptions { deferral, ..RouteOptions::new(Irqchip::Full) };
    let routes = Routes::new(Box::new(fake.clone()), options, Loop::new().unwrap());
    (fake, routes)
}

fn commits(fake: &FakeVm) -> usize {
    fake.count(|call| **call == VmCall::SetRoutes)
}

fn group(routes: &Arc<Routes>, interrupts: u16) -> MessageGroup<Vmm> {
    let format = on_x86(()).format;
    let setup = MessageGroupSetup { format, ..MessageGroupSetup::new(interrupts, Vmm::default()) };
    MessageGroup::new(routes, setup).unwrap()
}

const fn message(data: u32) -> Message {
    Message { address: 0xfee0_0000, data }
}

const V0: Vector = Vector::new(0);

#[test]
fn an_interrupt_without_a_table_is_routed_and_masked_as_the_vmm_says() {
    let (fake, routes) = routes(Deferral::NONE);
    let group = group(&routes, 3);
    assert_eq!(group.notify(V0), Ok(Delivery::Pending), "masked at first");
    group.update(V0, message(0x31), false).unwrap();
    assert_eq!(delivered(&fake), [0x31]);
    assert_eq!((commits(&fake), fake.armed()), (1, 1));
    group.notify(V0).unwrap();
    assert_eq!(delivered(&fake), [0x31]);
    // Replaced in place, under its irqfd.
    group.update(V0, message(0x32), false).unwrap();
    group.notify(V0).unwrap();
    assert_eq!(delivered(&fake), [0x32]);
    assert_eq!(fake.count(|call| matches!(call, VmCall::Deassign(_))), 0);
    // Masked, with what the hardware would drop.
    group.update(V0, message(0x33), true).unwrap();
    group.notify(V0).unwrap();
    assert_eq!((group.withdraw(V0), group.withdraw(V0)), (Ok(true), Ok(false)));
    group.update(V0, message(0x33), false).unwrap();
    assert!(delivered(&fake).is_empty());
    group.reset();
    assert_eq!(fake.armed(), 0);
    group.update(V0, message(0x34), false).unwrap();
    assert_eq!(group.notifier().unwrap().notify(V0), Ok(Notified::Taken(Delivery::Sent)));
    assert_eq!(delivered(&fake), [0x34]);
    let past = VectorError::OutOfRange { vector: Vector::new(3), vectors: 3 };
    assert_eq!(group.update(Vector::new(3), message(1), true), Err(past));
    drop(group);
    assert_eq!((fake.armed(), routes.stats().gsis, routes.joined()), (0, 0, 0));
}

#[test]
fn a_message_to_memory_is_the_platforms_and_others_write_eventfds() {
    let (fake, routes) = routes(Deferral::NONE);
    let group = group(&routes, 2);
    group.update(V0, Message { address: 0x1000, data: 5 }, false).unwrap();
    group.notify(V0).unwrap();
    assert_eq!(group.platform(|vmm| vmm.writes.clone()), [(0x1000, 5)]);
    group.update(Vector::new(1), message(0x41), false).unwrap();
    group.eventfd(Vector::new(1)).unwrap().write(1).unwrap();
    assert_eq!(delivered(&fake), [0x41]);
    let other = EventFd::new(EFD_NONBLOCK).unwrap();
    let theirs = other.try_clone().unwrap();
    group.reconnect(Vector::new(1), other).unwrap();
    theirs.write(1).unwrap();
    assert_eq!(delivered(&fake), [0x41]);
}

#[test]
fn groups_and_functions_share_one_table_and_one_commit() {
    let (fake, routes) = routes(PATIENT);
    let hold = routes.hold();
    let group = group(&routes, 8);
    let function = super::World::add(&routes, 8);
    for interrupt in (0..8).map(Vector::new) {
        group.update(interrupt, message(0x50), false).unwrap();
        super::mask(&function, interrupt.index(), false);
    }
    drop(hold);
    assert_eq!((commits(&fake), fake.armed()), (1, 16));
}

#[test]
fn the_pins_of_an_io_apic_have_their_gsis() {
    // With a split irqchip, where nothing has GSIs below 24.
    let vm = FakeVm::new();
    let options = RouteOptions { deferral: Deferral::NONE, ..RouteOptions::new(Irqchip::Split) };
    let routes = Routes::new(Box::new(vm.clone()), options, Loop::new().unwrap());
    let gsis = || {
        let mut gsis: Vec<u32> = vm.routes().iter().map(|entry| entry.gsi()).collect();
        gsis.sort_unstable(); // the kernel takes them in any order
        gsis
    };
    let pins =
        MessageGroupSetup { first_gsi: Some(0), ..MessageGroupSetup::new(24, Vmm::default()) };
    let group = MessageGroup::new(&routes, pins.clone_with(Vmm::default())).unwrap();
    let again = MessageGroup::new(&routes, pins.clone_with(Vmm::default())).unwrap_err();
    assert_eq!(again, MessageGroupError::Gsi(GsiTaken(0)));
    let kept = vec![RouteEntry::Pin { gsi: 4, irqchip: 2, pin: 4 }];
    assert!(matches!(routes.keep(kept), Err(RoutesError::Keep(KeepError::Gsi(4)))));
    group.update(Vector::new(9), message(0x8039), false).unwrap();
    group.update(Vector::new(4), message(0x34), false).unwrap();
    assert_eq!(gsis(), [4, 9]);
    let function = super::World::add(&routes, 1);
    super::mask(&function, 0, false);
    assert_eq!(gsis(), [4, 9, 24]);
    drop(group);
    drop(function);
    let group = MessageGroup::new(&routes, pins).unwrap();
    group.update(Vector::new(1), message(0x31), false).unwrap();
    assert_eq!(gsis(), [1]);
}

#[test]
fn a_group_has_1_to_2048_interrupts() {
    let (_fake, routes) = routes(Deferral::NONE);
    for interrupts in [0, 2049] {
        let setup = MessageGroupSetup::new(interrupts, Vmm::default());
        let error = MessageGroup::new(&routes, setup).unwrap_err();
        assert_eq!(error, MessageGroupError::Interrupts(interrupts));
    }
}

impl MessageGroupSetup<Vmm> {
    fn clone_with(&self, platform: Vmm) -> Self {
        Self { platform, ..*self }
    }
}
