//! A function with MSI-X, MSI and INTx, on a fake VM, with a device behind it.

mod device;
mod meeting;

use super::{Bug, attempt, delivered, on_x86};
use crate::eventfd::Loop;
use crate::kvm::{
    AssignedLine, Deferral, FakeVm, Function, FunctionSetup, Irqchip, PassedThrough, RouteOptions,
    Routes,
};
use crate::testing::{in_time, make_blocking};
use device::Device;
use msix_core::{BarIndex, Layout, Mode, MsiCapability, Vector};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct World {
    fake: FakeVm,
    routes: Arc<Routes>,
    device: Device,
    function: Function<Device>,
}

const QUIET: Duration = Duration::from_secs(1);

fn routes(fake: &FakeVm) -> Arc<Routes> {
    let options = RouteOptions { deferral: Deferral::NONE, ..RouteOptions::new(Irqchip::Full) };
    Routes::new(Box::new(fake.clone()), options, Loop::new().unwrap())
}

impl World {
    fn new(resampled: bool, available: u16) -> Self {
        Self::with_failure(resampled, available, None, None)
    }

    fn with_failure(
        resampled: bool,
        available: u16,
        failing: Option<usize>,
        bug: Option<Bug>,
    ) -> Self {
        let (fake, device) = (FakeVm::new(), Device::default());
        device.state().available = available;
        (device.state().failing, device.state().bug) = (failing, bug);
        Self::of(fake.clone(), device, routes(&fake), resampled)
    }

    fn of(fake: FakeVm, device: Device, routes: Arc<Routes>, resampled: bool) -> Self {
        let mut line = AssignedLine::new(Box::new(device.clone())).unwrap();
        if resampled {
            line = line.resampled_by(Box::new(device.clone()), 10);
        }
        let behind = PassedThrough {
            msix: Some(Box::new(device.clone())),
            msi: Some(Box::new(device.clone())),
            line: Some(line),
            quiet: QUIET,
            control: Box::new(device.clone()),
        };
        let setup = FunctionSetup {
            msi: Some(MsiCapability::new(4).unwrap().with_masks()),
            msix: Some(Layout::exclusive_bar(2, BarIndex::new(0).unwrap()).unwrap()),
            pin: Some(Box::new(device.clone())),
            device: Some(behind),
            ..on_x86(device.clone())
        };
        let function = Function::new(&routes, setup).unwrap();
        let world = Self { fake, routes, device, function };
        world.switch_on();
        world
    }

    fn switch_on(&self) {
        self.function.write_command(0, &[6, 0]);
    }

    fn program(&self) {
        self.function.write_msi(4, &0xfee0_0000_u32.to_le_bytes());
        self.function.write_msi(8, &0x50_u16.to_le_bytes());
        for vector in 0..2_u64 {
            self.function.write_table(vector * 16, &0xfee0_0000_u64.to_le_bytes());
            let data = 0x40 + vector; // and unmasked
            self.function.write_table(vector * 16 + 8, &data.to_le_bytes());
        }
    }

    /// Enables MSI with four vectors, or disables it.
    fn msi(&self, on: bool) {
        self.function.write_msi(2, &[0x20 | u8::from(on)]);
    }

    fn msix(&self, on: bool) {
        self.function.write_msix(3, &[if on { 0x80 } else { 0 }]);
    }

    fn delivered(&self) -> Vec<u32> {
        attempt(|| self.routes.run(Some(Duration::ZERO)).unwrap());
        delivered(&self.fake)
    }

    fn log(&self) -> Vec<String> {
        attempt(|| self.routes.run(Some(Duration::ZERO)).unwrap());
        std::mem::take(&mut self.device.state().log)
    }

    fn enabled(&self) -> Option<Mode> {
        self.device.state().enabled
    }
}

#[test]
fn d2_every_switch_disables_the_old_index_before_it_enables_the_new_one() {
    let world = World::new(true, 4);
    world.program();
    assert_eq!(world.enabled(), Some(Mode::Intx), "armed from the start");
    for round in 0..3 {
        world.msi(true);
        assert_eq!((world.enabled(), world.fake.armed()), (Some(Mode::Msi), 4), "{round}");
        world.device.raise(3);
        assert_eq!(world.delivered(), [0x53], "data with its low bits replaced");
        world.msix(true); // beside MSI: MSI-X is preferred (H18)
        assert_eq!((world.enabled(), world.fake.armed()), (Some(Mode::MsiX), 2));
        world.device.raise(1);
        assert_eq!(world.delivered(), [0x41]);
        world.msix(false);
        assert_eq!(world.enabled(), Some(Mode::Msi));
        world.device.raise(0);
        assert_eq!(world.delivered(), [0x50]);
        world.msi(false);
        assert_eq!((world.enabled(), world.fake.armed()), (Some(Mode::Intx), 0));
        world.msix(true);
        world.device.raise(0);
        assert_eq!(world.delivered(), [0x40]);
        world.msix(false);
        assert_eq!(world.enabled(), Some(Mode::Intx));
    }
    assert!(world.log().is_empty(), "the line is KVM's");
}

#[test]
fn an_event_in_flight_over_a_switch_is_delivered_when_its_mode_is_back() {
    let world = World::new(true, 4);
    world.program();
    world.msi(true);
    world.function.write_msi(12, &[0b0010]); // vector 1 is masked
    world.device.raise(1);
    assert!(world.delivered().is_empty());
    let mut pending = [0; 4];
    world.function.read_msi(16, &mut pending);
    assert_eq!(pending, [2, 0, 0, 0], "the eventfd holds it, the guest sees it");
    world.device.raise(1);
    world.msix(true);
    world.msix(false);
    world.function.write_msi(12, &[0]);
    assert_eq!(world.delivered(), [0x51], "both were one pending bit");
}

#[test]
fn d3_a_kernel_with_fewer_msi_vectors_gives_those_it_has() {
    for available in [2, 0] {
        let world = World::new(true, available);
        world.program();
        world.msi(true);
        assert_eq!(world.device.state().bound.len(), usize::from(available));
        if available > 0 {
            world.device.raise(1);
            assert_eq!(world.delivered(), [0x51]);
        }
        world.msi(false);
        assert_eq!(world.enabled(), Some(Mode::Intx));
    }
}

#[test]
fn d12_a_line_that_kvm_drives_is_asserted_until_acknowledged_and_fires_again_if_it_still_asserts() {
    let world = World::new(true, 4);
    world.device.line(true);
    assert!(world.device.state().kernel_line);
    assert!(world.device.state().masked, "automasked");
    world.device.kernel_eoi();
    world.device.state().run();
    assert!(world.device.state().kernel_line, "it still asserts: none lost");
    world.device.line(false);
    world.device.kernel_eoi();
    world.device.state().run();
    assert!(!world.device.state().kernel_line, "none doubled");
    assert!(world.log().is_empty());
}

#[test]
fn c12_without_resampling_userspace_brings_the_line_and_unmaps_the_bars_meanwhile() {
    let world = World::new(false, 4);
    world.device.line(true);
    assert_eq!(world.log(), ["line true", "mapped false"]);
    assert!(world.log().is_empty(), "automasked");
    // The handler touches the device, which is what stands for an EOI.
    world.device.line(false);
    world.function.bar_accessed();
    assert_eq!(world.log(), ["line false"]);
    world.function.bar_accessed();
    world.device.line(true);
    assert_eq!(world.log(), ["line true"], "unmasked, and fired again; not mapped meanwhile");
    world.function.eoi();
    assert_eq!(world.log(), ["line false", "line true"], "it still asserts");
    world.device.line(false);
    let now = Instant::now();
    let next = world.function.tick(now + 2 * QUIET).expect("the line is still asserted");
    assert!(next > now);
    world.function.eoi();
    assert_eq!(world.log(), ["line false"]);
    assert!(world.function.tick(now).expect("not quiet yet") > now);
    assert_eq!(world.function.tick(now + 2 * QUIET), None);
    assert_eq!(world.log(), ["mapped true"]);
    assert_eq!(world.function.tick(now), None);
    world.function.bar_accessed();
    assert!(world.log().is_empty(), "a late access of a mapped BAR is nothing");
}

#[test]
fn a_line_that_is_left_while_it_is_asserted_is_lowered_and_the_bars_are_mapped() {
    let world = World::new(false, 4);
    world.program();
    world.device.line(true);
    assert_eq!(world.log(), ["line true", "mapped false"]);
    world.msix(true);
    assert_eq!(world.log(), ["line false", "mapped true"]);
    assert_eq!(world.enabled(), Some(Mode::MsiX));
    world.msix(false);
    assert_eq!(world.log(), ["line true", "mapped false"], "it still asserts: none lost");
    world.function.write_command(0, &[6, 4]); // Interrupt Disable
    assert_eq!(world.log(), ["line false", "mapped true"]);
    assert_eq!(world.enabled(), None);
    world.function.write_command(1, &[0]);
    assert_eq!(world.log(), ["line true", "mapped false"]);
}

#[test]
fn a_reset_from_every_mode_disarms_resets_and_arms_the_line_again() {
    for resampled in [false, true] {
        for mode in [Mode::Intx, Mode::Msi, Mode::MsiX] {
            let world = World::new(resampled, 4);
            world.program();
            match mode {
                Mode::Msi => world.msi(true),
                Mode::MsiX => world.msix(true),
                _ => world.device.line(true),
            }
            assert_eq!(world.enabled(), Some(mode));
            world.log();
            world.function.reset();
            assert_eq!((world.enabled(), world.fake.armed()), (Some(Mode::Intx), 0), "{mode:?}");
            let log = world.log();
            assert_eq!(log.iter().filter(|line| *line == "reset").count(), 1, "{log:?}");
            assert_eq!(world.function.command_and_status().0, 0, "bus master, memory and I/O off");
            // And it all works again.
            world.switch_on();
            world.program();
            world.msix(true);
            world.device.raise(1);
            assert_eq!(world.delivered(), [0x41], "{mode:?}");
        }
    }
}

#[test]
fn everything_is_given_back_when_the_function_goes() {
    for mode in [Mode::Intx, Mode::Msi, Mode::MsiX] {
        let world = World::new(true, 4);
        world.program();
        match mode {
            Mode::Msi => world.msi(true),
            Mode::MsiX => world.msix(true),
            _ => {}
        }
        let World { fake, routes, device, function } = world;
        drop(function);
        assert_eq!((device.state().enabled, fake.armed()), (None, 0), "{mode:?}");
        assert_eq!(routes.stats().gsis, 0);
        assert!(device.state().resampled.is_none());
    }
}

/// A life with every kind of call in it; which of them could have failed after the function was made.
/// Whatever failed, the next switch works, the line's events reach the guest where the device can fire,
/// and everything is given back.
fn life(resampled: bool, failing: Option<usize>, bug: Option<Bug>) -> Range<usize> {
    let world = World::with_failure(resampled, 4, failing, bug);
    let made = world.device.state().calls;
    attempt(|| world.program());
    let line_works = |when: &str| {
        if world.enabled() != Some(Mode::Intx) {
            assert!(failing.is_some(), "{when}");
            return;
        }
        world.log();
        world.device.line(true);
        let by_kernel = world.device.state().kernel_line;
        let by_userspace = world.log().contains(&"line true".to_owned());
        assert!(by_kernel != by_userspace, "{failing:?} {when}: one of them");
        world.device.line(false);
        if by_kernel {
            world.device.kernel_eoi();
        } else {
            attempt(|| world.function.eoi());
        }
        assert!(!world.device.state().masked, "{failing:?} {when}");
    };
    line_works("at first");
    for _ in 0..2 {
        attempt(|| world.msi(true));
        if world.enabled() == Some(Mode::Msi) {
            world.device.raise(2);
            assert_eq!(world.delivered(), [0x52]);
        }
        attempt(|| world.msix(true));
        if world.device.state().bound.contains_key(&1) {
            world.device.raise(1);
            assert_eq!(world.delivered(), [0x41], "{failing:?}");
        }
        attempt(|| world.msix(false));
        attempt(|| world.msi(false));
        line_works("after the others");
    }
    attempt(|| world.function.reset());
    attempt(|| world.switch_on());
    line_works("after a reset");
    let World { fake, routes, device, function } = world;
    attempt(|| drop(function));
    assert_eq!((device.state().enabled, fake.armed(), routes.stats().gsis), (None, 0, 0));
    assert!(device.state().resampled.is_none());
    made..device.state().calls
}

#[test]
fn whatever_call_to_the_device_fails_or_panics_the_rest_goes_on() {
    for resampled in [true, false] {
        let calls = life(resampled, None, None);
        assert!(calls.end >= if resampled { 16 } else { 8 }, "{calls:?}");
        for failing in 0..calls.end {
            life(resampled, Some(failing), None);
            let bug = Bug::default();
            if failing < calls.start {
                let (fake, device) = (FakeVm::new(), Device::default());
                (device.state().failing, device.state().bug) = (Some(failing), Some(bug.clone()));
                let routes = routes(&fake);
                let make = || World::of(fake.clone(), device.clone(), routes.clone(), resampled);
                attempt(|| drop(make()));
                assert_eq!(bug.reached(), 1, "{failing}: there is no function");
                assert_eq!((device.state().enabled, routes.joined()), (None, 0), "{failing}");
                continue;
            }
            life(resampled, Some(failing), Some(bug.clone()));
            assert_eq!(bug.reached(), 1, "{failing}: it goes on in the caller");
        }
    }
}

#[test]
fn an_emulated_function_sends_by_its_mode_and_drives_its_pin() {
    let (fake, device) = (FakeVm::new(), Device::default());
    let routes = routes(&fake);
    let setup = FunctionSetup {
        msi: Some(MsiCapability::new(4).unwrap()),
        pin: Some(Box::new(device.clone())),
        ..on_x86(device.clone())
    };
    let function = Function::new(&routes, setup).unwrap();
    function.write_command(0, &[6, 0]);
    function.set_level(true);
    function.set_level(true);
    assert_eq!(std::mem::take(&mut device.state().log), ["line true"]);
    assert_eq!(function.command_and_status().1 & 8, 8, "Interrupt Status");
    function.write_msi(4, &0xfee0_0000_u32.to_le_bytes());
    function.write_msi(8, &[0x60, 0]);
    function.write_msi(2, &[0x21]);
    assert_eq!(std::mem::take(&mut device.state().log), ["line false"]);
    function.notify(Vector::new(2)).unwrap();
    assert_eq!(delivered(&fake), [0x62]);
    let saved = function.save();
    function.write_msi(2, &[0]);
    assert_eq!(std::mem::take(&mut device.state().log), ["line true"]);
    function.load(&saved).unwrap();
    function.resume();
    assert_eq!(function.inspect(msix_core::Function::mode), Mode::Msi);
    assert_eq!(std::mem::take(&mut device.state().log), ["line false"]);
    let mut bytes = [0; 2];
    function.read_msix(0, &mut bytes);
    assert_eq!(bytes, [0xff; 2], "no MSI-X");
}

#[test]
fn k14_no_act_waits_for_a_device_that_makes_the_eventfds_of_its_line_blocking() {
    for resampled in [true, false] {
        let acts: [fn(&World); 5] = [
            |world| world.msi(true),
            |world| world.function.reset(),
            |world| world.function.write_command(0, &[6, 4]),
            |world| world.function.eoi(),
            |world| world.device.line(true),
        ];
        for act in acts {
            in_time(move || {
                let world = World::new(resampled, 4);
                world.program();
                {
                    let state = world.device.state();
                    make_blocking(state.trigger.as_ref().unwrap());
                    state.resampled.iter().for_each(|(_, resample)| make_blocking(resample));
                }
                act(&world);
                let _ = world.delivered();
            });
        }
    }
}
