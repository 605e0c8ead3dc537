//! A function that goes on in another process, with the same device.

use super::{Device, World};
use crate::kvm::tests::delivered;
use crate::kvm::{HandedOver, IndexState, VmCall};
use crate::vfio::{DeviceMsix, WhileMasked};
use std::sync::Arc;

const VECTORS: u16 = 4;

/// The next process: another VM, and descriptors of its own.
fn take_over(device: &Device, handed: HandedOver, while_masked: WhileMasked) -> World {
    let copy = |of: &Arc<_>| vmm_sys_util::eventfd::EventFd::try_clone(of).unwrap();
    let copies = handed.eventfds.iter().map(|(vector, eventfd)| (*vector, Arc::new(copy(eventfd))));
    let physical =
        DeviceMsix::taken_over(device.irqs(), device.index(), while_masked, handed.msix, copies);
    let world = World::idle(VECTORS, device.clone(), physical);
    world.function.load(&handed.snapshot).unwrap();
    for (vector, eventfd) in &handed.eventfds {
        world.function.connect(*vector, copy(eventfd)).unwrap();
    }
    world
}

/// Vector 0 is live, 1 masked, and 2 and 3 were never unmasked.
fn started(noresize: bool, while_masked: WhileMasked) -> World {
    let world = World::new(VECTORS, noresize, while_masked);
    world.function.write_msix(3, &[0x80]);
    world.mask(0, false);
    world.mask(1, false);
    world.mask(1, true);
    world.device.raise(0);
    assert_eq!(world.delivered(), [0x40]);
    world.device.calls();
    world
}

#[test]
fn what_the_device_raises_before_between_and_after_is_delivered_once() {
    for noresize in [false, true] {
        for while_masked in [WhileMasked::Eventfd, WhileMasked::Physical] {
            let old = started(noresize, while_masked);
            let device = old.device.clone();
            old.device.raise(1); // pending
            let handed = old.function.hand_over().unwrap();
            device.raise(0); // nobody has the eventfd
            device.raise(1);
            drop(old.function);
            assert_eq!(delivered(&old.fake), [0; 0], "the old machine is silent");
            device.raise(0);
            let new = take_over(&device, handed, while_masked);
            assert_eq!(new.delivered(), [0; 0], "before the resume");
            device.raise(0);
            new.function.resume();
            assert_eq!(new.delivered(), [0x40]);
            if while_masked == WhileMasked::Eventfd {
                assert_eq!(device.calls(), [""; 0], "the device was not touched");
            }
            assert!(!device.calls().contains(&"disable".to_owned()));
            new.mask(1, false);
            assert_eq!(new.delivered(), [0x41], "once");
            device.raise(0);
            device.raise(1);
            assert_eq!(new.delivered(), [0x40, 0x41]);
            // It goes on as any function.
            new.mask(3, false);
            device.raise(3);
            assert_eq!(new.delivered(), [0x43]);
            new.function.write_msix(3, &[0]);
            assert!(device.calls().contains(&"disable".to_owned()));
        }
    }
}

#[test]
fn an_idle_device_is_handed_over_as_well() {
    let old = World::new(VECTORS, false, WhileMasked::Eventfd);
    let handed = old.function.hand_over().unwrap();
    assert_eq!((&handed.msix, handed.msi, handed.eventfds.len()), (&IndexState::Idle, 0, 0));
    let new = take_over(&old.device, handed, WhileMasked::Eventfd);
    new.function.resume();
    new.function.write_msix(3, &[0x80]);
    new.mask(2, false);
    new.device.raise(2);
    assert_eq!(new.delivered(), [0x42]);
}

#[test]
fn a_kernel_that_does_not_let_go_is_an_error_and_the_function_goes_on() {
    let old = started(false, WhileMasked::Eventfd);
    old.fake.fail(|_, call| matches!(call, VmCall::Deassign(_)));
    assert_eq!(old.function.hand_over().unwrap_err().kind(), std::io::ErrorKind::ResourceBusy);
    old.fake.heal();
    old.device.raise(0);
    assert_eq!(old.delivered(), [0x40]);
    let handed = old.function.hand_over().unwrap();
    let new = take_over(&old.device, handed, WhileMasked::Eventfd);
    new.function.resume();
    old.device.raise(0);
    assert_eq!(new.delivered(), [0x40]);
}

#[test]
fn what_was_left_without_an_eventfd_is_bound_anew() {
    let old = started(false, WhileMasked::Eventfd);
    let device = old.device.clone();
    let mut handed = old.function.hand_over().unwrap();
    handed.eventfds.clear(); // a VMM that lost them
    let new = take_over(&device, handed, WhileMasked::Eventfd);
    new.function.resume();
    device.raise(0);
    assert_eq!(new.delivered(), [0x40]);
}
