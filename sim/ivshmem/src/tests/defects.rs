//! What QEMU's device did or does wrong (E7, E8), by name: none of it happens here.

use super::*;
use msix_core::{Boxed, Msix, Vector};

#[test]
fn e8a_a_guest_unmasking_a_vector_the_server_never_connected() {
    let mut world = World::new(DeviceOptions::new(3));
    let own = world.connect(OWN, 1);
    world.program(3);
    for masked in [true, false, false, true, true, false] {
        world.mask(2, masked);
    }
    world.device.write_config(0x42, &[0, 0]);
    world.device.write_config(0x42, &[0, 0x80]);
    world.ring(OWN, 2);
    assert!(world.messages().is_empty(), "nobody can ring it");
    write(&own[0]);
    assert_eq!(world.messages(), [0x100], "the others work");
}

#[test]
fn e8b_a_vector_of_its_own_connected_after_the_guest_has_enabled_it() {
    let mut world = World::new(DeviceOptions::new(2));
    world.program(2);
    let own = world.connect(OWN, 2);
    write(&own[1]);
    assert_eq!(world.messages(), [0x101]);
    for _ in 0..3 {
        world.mask(1, true);
        write(&own[1]);
        assert!(world.messages().is_empty());
        assert_eq!(world.read(1, 0x800), 0b10, "the PBA has it");
        world.mask(1, false);
        assert_eq!(world.messages(), [0x101]);
    }
}

#[test]
fn e8c_reconnect_of_the_same_id() {
    let mut world = World::new(DeviceOptions::new(2));
    for _ in 0..3 {
        let theirs = world.connect(9, 2);
        world.ring(9, 1);
        assert_eq!((taken(&theirs[0]), taken(&theirs[1])), (0, 1));
        world.say(9, None).unwrap();
        world.ring(9, 1);
        assert_eq!(taken(&theirs[1]), 0, "gone is gone");
        assert_eq!((world.device.connected(9), world.device.peers().count()), (0, 0));
        world.say(9, None).unwrap();
    }
}

#[test]
fn e7_masking_a_vector_that_was_never_unmasked() {
    let mut world = World::new(DeviceOptions::new(2));
    let own = world.connect(OWN, 2);
    world.device.write_config(0x42, &[0, 0x80]);
    for _ in 0..3 {
        world.mask(0, true);
    }
    let uses = |world: &World| {
        let counters = msix(&world.device, |msix| *msix.counters());
        (counters.arms, counters.disarms)
    };
    assert_eq!(uses(&world), (0, 0));
    write(&own[0]);
    assert_eq!(world.read(1, 0x800), 1);
    world.program(1);
    assert_eq!(world.messages(), [0x100]);
    world.mask(0, true);
    world.mask(0, true);
    assert_eq!(uses(&world), (1, 1), "balanced");
}

#[test]
fn e3_doorbell_0x100_rings_nobody_and_not_vector_0() {
    for width in [Width::Strict, Width::Qemu] {
        let mut world = World::new(DeviceOptions { width, ..DeviceOptions::new(2) });
        let theirs = world.connect(9, 2);
        world.ring(9, 0x100);
        world.ring(9, 0x101);
        world.ring(9, 0xffff);
        assert_eq!((taken(&theirs[0]), taken(&theirs[1])), (0, 0), "{width:?}");
        assert_eq!(world.device.rings(), 0);
        world.ring(9, 1);
        assert_eq!((taken(&theirs[1]), world.device.rings()), (1, 1));
    }
    let mut many = World::new(DeviceOptions::new(0x101));
    let theirs = many.connect(9, 0x101);
    many.ring(9, 0x100);
    assert_eq!((taken(&theirs[0]), taken(&theirs[0x100])), (0, 1), "16 bits of vector");
}

#[test]
fn e8f_counters_surviving_reset() {
    for policy in [msix_core::Policy::SPEC, msix_core::Policy::QEMU] {
        let mut world = World::new(DeviceOptions { policy, ..DeviceOptions::new(2) });
        let own = world.connect(OWN, 2);
        world.program(2);
        world.mask(1, true);
        write(&own[1]);
        world.device.reset();
        assert_eq!(taken(&own[1]), 0, "the counter too");
        world.switch_on();
        world.program(2);
        assert!(world.messages().is_empty(), "{policy:?}");
        write(&own[1]);
        assert_eq!(world.messages(), [0x101], "and the next one is delivered");
        for _ in 0..3 {
            world.device.reset(); // H9: uses do not grow
        }
        assert_eq!(msix(&world.device, |msix| msix.claims(Vector::new(0))), Some(1));
    }
    let mut line = World::new(DeviceOptions { interrupt: Interrupt::Pin, ..DeviceOptions::new(1) });
    let own = line.connect(OWN, 1);
    line.device.write_bar(0, 0, &1_u32.to_le_bytes());
    write(&own[0]);
    line.device.reset();
    line.device.write_bar(0, 0, &1_u32.to_le_bytes());
    assert_eq!((line.line(), line.read(0, 4)), (vec![], 0));
}

/// Looks at the MSI-X of a device that has it.
fn msix<T>(device: &IvshmemDevice<Vmm>, look: impl FnOnce(&Msix<Boxed>) -> T) -> T {
    let function = device.function.as_ref().unwrap();
    function.inspect(|engine| look(engine.msix().unwrap()))
}

/// With a route table, as on KVM.
#[test]
fn e7_route_of_gsi_0_rewritten() {
    use crate::platform::BoardPlatform;
    use msix_backends::kvm::{EventfdOrigin, FakeVm, Function, FunctionSetup, RouteEntry, VmCall};

    let vm = FakeVm::new();
    let mut options = RouteOptions::new(Irqchip::Full);
    options.deferral = Deferral::NONE;
    let routes = Routes::new(Box::new(vm.clone()), options, Loop::new().unwrap());
    let mut world = World::new(DeviceOptions::new(3));
    let layout = world.device.layout;
    let setup = FunctionSetup {
        msix: Some(layout),
        eventfds: EventfdOrigin::Connected,
        ..FunctionSetup::new(BoardPlatform(world.vmm.clone()))
    };
    world.device.function = Some(Function::new(&routes, setup).expect("no device id is needed"));
    world.switch_on();
    // Vector 2 is never connected; 1 is, late.
    world.connect(OWN, 1);
    world.device.write_config(0x42, &[0, 0x80]);
    for vector in [2, 0, 1] {
        world.device.write_bar(1, vector * 16, &0xfee0_0000_u64.to_le_bytes());
        world.device.write_bar(1, vector * 16 + 12, &[0; 4]);
    }
    world.connect(OWN, 1);
    world.device.write_config(0x42, &[0, 0]);
    world.device.reset();
    let commits = vm.count(|call| **call == VmCall::SetRoutes);
    assert_eq!(commits, 3, "one for each vector that was unmasked");
    let is_pin = |entry: &&RouteEntry| matches!(entry, RouteEntry::Pin { .. });
    let routes = vm.routes();
    let (pins, vectors): (Vec<_>, Vec<_>) = routes.iter().partition(is_pin);
    assert_eq!(pins.len(), 40, "their own");
    assert!(
        vectors.iter().all(|entry| matches!(entry, RouteEntry::Msi { gsi: 24.., .. })),
        "{vectors:?}"
    );
    for call in vm.calls() {
        assert!(
            !matches!(call, VmCall::Assign(..24) | VmCall::Deassign(..24)),
            "{call:?}: a pin's"
        );
    }
}
