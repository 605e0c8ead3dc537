//! Where features meet: a load and what comes before its resume, a backend that is detached, a device
//! that goes, and MSI of which the kernel can bind a part.

use super::*;
use crate::kvm::KvmMessage;
use msix_core::{Delivery, Policy};

const V0: Vector = Vector::new(0);

/// A function to which only bus master was written.
fn fresh() -> World {
    World::new(true, 4)
}

fn started(mode: Mode) -> World {
    let world = fresh();
    world.program();
    match mode {
        Mode::Msi => world.msi(true),
        Mode::MsiX => world.msix(true),
        _ => {}
    }
    world
}

fn read_msi_pending(world: &World) -> u32 {
    let mut bytes = [0; 4];
    world.function.read_msi(16, &mut bytes);
    u32::from_le_bytes(bytes)
}

fn read_pba(world: &World) -> u8 {
    let mut bytes = [0; 8];
    world.function.read_pba(0, &mut bytes);
    bytes[0]
}

/// Everything that may come between a load and its resume, and changes nothing.
fn idle(world: &World) {
    let function = &world.function;
    let mut bytes = [0; 8];
    function.read_msi(0, &mut bytes[..4]);
    function.read_msix(0, &mut bytes[..4]);
    function.read_table(0, &mut bytes);
    function.read_pba(0, &mut bytes);
    function.write_command(0, &function.command_and_status().0.to_le_bytes());
    function.eoi();
    function.bar_accessed();
    function.flush();
    function.tick(Instant::now());
    assert!(!function.save().is_empty());
    world.routes.run(Some(Duration::ZERO)).unwrap();
}

#[test]
fn a10_a_restore_into_a_new_process_works_from_every_mode_to_every_mode() {
    for from in [Mode::Intx, Mode::Msi, Mode::MsiX] {
        let saved = started(from).function.save();
        for to in [Mode::Intx, Mode::Msi, Mode::MsiX] {
            for between in [false, true] {
                let world = started(to);
                world.function.load(&saved).unwrap();
                if between {
                    idle(&world);
                    assert_eq!(world.enabled(), Some(to), "H15: the device hears of nothing yet");
                }
                world.function.resume();
                assert_eq!(world.enabled(), Some(from), "{to:?} to {from:?}, {between}");
                match from {
                    Mode::Msi => world.device.raise(2),
                    Mode::MsiX => world.device.raise(1),
                    _ => continue,
                }
                let data = if from == Mode::Msi { 0x52 } else { 0x41 };
                assert_eq!(world.delivered(), [data], "{to:?} to {from:?}, {between}");
            }
        }
    }
}

#[test]
fn d7_a_restore_with_all_vectors_masked_leaves_the_device_enabled_as_the_guest_has_it() {
    let world = started(Mode::MsiX);
    world.function.write_msix(3, &[0xc0]);
    let saved = world.function.save();
    let restored = fresh();
    restored.function.load(&saved).unwrap();
    idle(&restored);
    restored.function.resume();
    assert_eq!(restored.enabled(), Some(Mode::MsiX));
    restored.function.write_msix(3, &[0x80]);
    restored.device.raise(1);
    assert_eq!(restored.delivered(), [0x41]);
}

#[test]
fn h15_the_way_past_the_lock_is_closed_between_load_and_resume() {
    for mode in [Mode::Msi, Mode::MsiX] {
        let world = started(mode);
        assert_eq!(world.function.notify(V0), Ok(Delivery::Sent));
        let old = world.delivered();
        let saved = {
            let other = started(mode);
            other.function.write_msi(8, &0x60_u16.to_le_bytes());
            other.function.write_msi(2, &[0x21]);
            other.function.write_table(8, &0x61_u32.to_le_bytes());
            other.function.save()
        };
        world.function.load(&saved).unwrap();
        assert_eq!(world.function.notify(V0), Ok(Delivery::Pending), "{mode:?}");
        assert_eq!(world.fake.armed(), 0, "nothing goes out by a route of before");
        assert!(world.delivered().is_empty());
        world.function.resume();
        let new = world.delivered();
        assert_eq!((old.len(), new.len()), (1, 1), "{mode:?}");
        assert_ne!(old, new);
        assert_eq!(world.function.notify(V0), Ok(Delivery::Sent));
        assert_eq!(world.delivered(), new, "and KVM has it again");
    }
}

#[test]
fn h15_an_event_of_a_device_between_load_and_resume_is_delivered_once_after_it() {
    for mode in [Mode::Msi, Mode::MsiX] {
        for between in [false, true] {
            let world = started(mode);
            let saved = world.function.save();
            world.function.load(&saved).unwrap();
            world.device.raise(1);
            if between {
                idle(&world);
            }
            assert!(world.delivered().is_empty(), "{mode:?}");
            let again = world.function.save(); // knows it already
            world.function.resume();
            assert_eq!(world.delivered().len(), 1, "{mode:?}");
            let other = fresh();
            other.function.load(&again).unwrap();
            other.function.resume();
            assert_eq!(other.delivered().len(), 1, "{mode:?}");
        }
    }
}

#[test]
fn a_load_that_is_refused_leaves_the_way_past_the_lock_open() {
    let world = started(Mode::MsiX);
    let commits = world.routes.stats().commits;
    assert!(world.function.load(&[0; 9]).is_err());
    world.device.raise(1);
    assert_eq!((world.delivered(), world.routes.stats().commits), (vec![0x41], commits));
}

#[test]
fn a_reset_instead_of_a_resume_ends_the_load() {
    let world = started(Mode::MsiX);
    let saved = world.function.save();
    world.function.load(&saved).unwrap();
    world.function.reset();
    assert_eq!(world.enabled(), Some(Mode::Intx));
    world.switch_on();
    world.program();
    world.msix(true);
    world.device.raise(1);
    assert_eq!(world.delivered(), [0x41]);
}

#[test]
fn c42_what_eventfds_hold_while_the_backend_is_detached_is_saved_and_read() {
    let world = started(Mode::MsiX);
    world.function.write_msix(3, &[0xc0]); // Function Mask
    world.function.detach();
    world.device.raise(1);
    assert_eq!(read_pba(&world), 2, "the guest sees it");
    let saved = world.function.save();
    world.device.raise(0);
    let later = world.function.save();
    for (saved, pending) in [(saved, 2), (later, 3)] {
        let restored = fresh();
        restored.function.load(&saved).unwrap();
        restored.function.resume();
        assert_eq!(read_pba(&restored), pending);
        restored.function.write_msix(3, &[0x80]);
        assert_eq!(restored.delivered().len(), pending.count_ones() as usize);
    }
    world.function.attach();
    world.function.write_msix(3, &[0x80]);
    assert_eq!(world.delivered(), [0x40, 0x41], "each once");
}

#[test]
fn c42_the_same_of_msi() {
    let world = started(Mode::Msi);
    world.function.write_msi(12, &[0xf]); // all masked
    world.function.detach();
    world.device.raise(3);
    assert_eq!(read_msi_pending(&world), 8);
    let restored = fresh();
    restored.function.load(&world.function.save()).unwrap();
    restored.function.resume();
    assert_eq!(read_msi_pending(&restored), 8);
    restored.function.write_msi(12, &[0]);
    assert_eq!(restored.delivered(), [0x53]);
}

#[test]
fn a13_a_reset_while_the_backend_is_detached_drops_what_eventfds_hold() {
    for mode in [Mode::Msi, Mode::MsiX] {
        let world = started(mode);
        world.function.write_msi(12, &[0xf]);
        world.function.write_msix(3, &[if mode == Mode::MsiX { 0xc0 } else { 0 }]);
        world.function.detach();
        world.device.raise(1);
        world.function.reset();
        world.function.attach();
        world.switch_on();
        world.program();
        world.msi(mode == Mode::Msi);
        world.msix(mode == Mode::MsiX);
        assert!(world.delivered().is_empty(), "{mode:?}");
        world.device.raise(1);
        assert_eq!(world.delivered().len(), 1, "{mode:?}");
    }
}

#[test]
fn a8_a_withdrawal_while_the_backend_is_detached_finds_what_eventfds_hold() {
    let world = started(Mode::MsiX);
    world.function.write_msix(3, &[0xc0]);
    world.function.detach();
    world.device.raise(1);
    assert_eq!(world.function.withdraw(Mode::MsiX, Vector::new(1)), Ok(true));
    world.function.attach();
    world.function.write_msix(3, &[0x80]);
    assert!(world.delivered().is_empty());
}

#[test]
fn h11_msi_vectors_that_the_kernel_did_not_bind_are_failures_and_tried_again() {
    for available in [2, 0] {
        let world = World::new(true, available);
        world.program();
        world.msi(true);
        let failures = world.function.inspect(|engine| engine.msi().unwrap().counters().failures);
        assert_eq!(failures, u64::from(4 - available));
        let fallback = world.function.inspect(|engine| engine.msi().unwrap().fallback());
        assert_eq!(fallback.iter().count(), usize::from(4 - available));
        assert_eq!(world.function.notify(Vector::new(3)), Ok(Delivery::Sent), "from userspace");
        assert_eq!(world.delivered(), [0x53]);
        world.device.state().available = 4;
        world.function.write_msi(12, &[0b0001]);
        if available > 0 {
            world.function.write_msi(12, &[0]);
            assert_eq!(world.device.state().bound.len(), 2, "vector 0 is bound: nothing to try");
        }
        world.function.write_msi(12, &[0b1000]);
        world.function.write_msi(12, &[0]);
        assert_eq!(world.device.state().bound.len(), 4, "tried again at the unmask");
        for vector in 0..4 {
            world.device.raise(vector);
            assert_eq!(world.delivered(), [0x50 + u32::from(vector)]);
        }
        let fallback = world.function.inspect(|engine| engine.msi().unwrap().fallback());
        assert!(fallback.iter().all(|vector| vector.index() < 3), "{fallback:?}");
    }
}

#[test]
fn a_function_that_goes_leaves_its_line_low() {
    let world = World::new(false, 4);
    world.device.line(true);
    assert_eq!(world.log(), ["line true", "mapped false"]);
    let World { device, function, routes: _routes, fake: _fake } = world;
    drop(function);
    assert_eq!(std::mem::take(&mut device.state().log), ["line false"], "driven by userspace");
    let fake = FakeVm::new();
    let routes = routes(&fake);
    for high in [true, false] {
        let device = Device::default();
        let setup = FunctionSetup { pin: Some(Box::new(device.clone())), ..on_x86(device.clone()) };
        let function = Function::new(&routes, setup).unwrap();
        function.set_level(high);
        device.state().log.clear();
        drop(function);
        let log = std::mem::take(&mut device.state().log);
        assert_eq!(log, ["line false"], "emulated, and high or not: a controller may be restored");
    }
}

#[test]
fn h15_a_resume_drives_the_pin_to_its_level_because_the_restored_controller_may_have_another() {
    // The line is high when it is saved, and with it the controller. The device was reset since.
    let world = World::new(false, 4);
    world.device.line(true);
    assert_eq!(world.log(), ["line true", "mapped false"]);
    let saved = world.function.save();
    for asserts in [false, true] {
        let restored = World::new(false, 4);
        restored.function.load(&saved).unwrap();
        restored.device.line(asserts);
        assert!(restored.log().is_empty(), "H15: not before the resume");
        restored.function.resume();
        let mut expected = vec!["line false"];
        if asserts {
            expected.extend(["line true", "mapped false"]); // by the loop
        }
        assert_eq!(restored.log(), expected);
        restored.function.resume(); // of no load
        assert!(restored.log().is_empty());
    }
    // KVM lowers by itself what it brings.
    let restored = World::new(true, 4);
    restored.function.load(&saved).unwrap();
    restored.function.resume();
    assert!(restored.log().is_empty());
}

#[test]
fn a17_interrupt_status_behind_a_physical_pin_is_left_to_the_device() {
    for resampled in [true, false] {
        let world = World::new(resampled, 4);
        world.device.line(true);
        world.log();
        let kept = world.function.command_and_status().1;
        assert_eq!(kept & 8, 0, "the config map gives the guest the device's");
    }
}

/// The messages that arrived since the last call.
fn sent(fake: &FakeVm, routes: &Routes) -> Vec<(u64, u32)> {
    routes.run(Some(Duration::ZERO)).unwrap();
    let of =
        |msi: KvmMessage| (u64::from(msi.address_hi) << 32 | u64::from(msi.address_lo), msi.data);
    fake.delivered().into_iter().map(of).collect()
}

/// One way to write the MSI address and data of a live vector anew: accesses, at offsets of the
/// capability. After each of them an event goes out as the registers say.
fn rewrite(policy: Policy, wide: bool, accesses: &[(usize, &[u8])]) {
    let (fake, device) = (FakeVm::new(), Device::default());
    let routes = routes(&fake);
    let msi = MsiCapability::new(1).unwrap();
    let setup = FunctionSetup {
        msi: Some(if wide { msi.with_64_bit_address() } else { msi }),
        policy,
        ..on_x86(device.clone())
    };
    let function = Function::new(&routes, setup).unwrap();
    function.write_command(0, &[6, 0]);
    function.write_msi(4, &0xfee0_0000_u32.to_le_bytes());
    function.write_msi(if wide { 12 } else { 8 }, &[0x50, 0]);
    function.write_msi(2, &[1]);
    let outside = function.eventfd(V0).unwrap();
    for (offset, bytes) in accesses {
        function.write_msi(*offset, bytes);
        let message = function.inspect(|engine| engine.message(Mode::Msi, V0)).unwrap();
        for way in ["notify", "eventfd"] {
            match way {
                "notify" => assert_eq!(function.notify(V0), Ok(Delivery::Sent)),
                _ => outside.write(1).unwrap(),
            }
            let sent = sent(&fake, &routes);
            assert_eq!(
                sent,
                [(message.address, message.data)],
                "{way} after {bytes:x?} at {offset}"
            );
        }
        outside.write(1).unwrap();
        let saved = function.save(); // nothing of it may stay in an eventfd that nobody reads
        assert!(!saved.is_empty());
        assert_eq!(sent(&fake, &routes).len(), 1);
    }
}

#[test]
fn h4_whatever_is_written_of_a_live_message_the_next_event_goes_as_the_registers_say() {
    for policy in [Policy::SPEC, Policy::QEMU] {
        let low: &[u8] = &0xfee0_1000_u32.to_le_bytes();
        rewrite(policy, true, &[(4, low)]);
        rewrite(policy, true, &[(12, &[0x60, 0]), (4, low)]);
        rewrite(policy, true, &[(4, low), (8, &[0; 4]), (12, &[0x60, 0])]);
        rewrite(
            policy,
            true,
            &[(4, &low[..2]), (6, &low[2..]), (4, &0xfee0_0000_u32.to_le_bytes())],
        );
        rewrite(policy, false, &[(5, &low[1..2]), (4, low), (8, &[0x60]), (9, &[1])]);
    }
}

#[test]
fn h4_an_entry_that_is_rewritten_while_it_is_unmasked_sends_as_it_reads() {
    for policy in [Policy::SPEC, Policy::QEMU] {
        let (fake, device) = (FakeVm::new(), Device::default());
        let routes = routes(&fake);
        let layout = Layout::exclusive_bar(1, BarIndex::new(0).unwrap()).unwrap();
        let setup = FunctionSetup { msix: Some(layout), policy, ..on_x86(device.clone()) };
        let function = Function::new(&routes, setup).unwrap();
        function.write_command(0, &[6, 0]);
        function.claim(V0).unwrap();
        function.write_table(0, &0xfee0_0000_u64.to_le_bytes());
        function.write_table(8, &0x40_u64.to_le_bytes());
        function.write_msix(3, &[0x80]);
        let outside = function.eventfd(V0).unwrap();
        assert_eq!(fake.armed(), 1);
        for (offset, value) in
            [(8, 0x41), (0, 0xfee0_1000_u32), (4, 0), (8, 0x42), (0, 0xfee0_2000)]
        {
            function.write_table(offset, &value.to_le_bytes());
            let message = function.inspect(|engine| engine.message(Mode::MsiX, V0)).unwrap();
            outside.write(1).unwrap();
            let sent = sent(&fake, &routes);
            assert_eq!(sent, [(message.address, message.data)], "{value:#x} at {offset}");
        }
        function.write_table(12, &[1, 0, 0, 0]);
        function.write_table(12, &[0; 4]);
        assert_eq!(fake.armed(), 1, "the next unmask gives it back to KVM");
    }
}
