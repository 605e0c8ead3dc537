//! A function with MSI-X, MSI and INTx, on a fake VM, with a device that behaves as VFIO says one does.

use super::fake::Fake;
use crate::eventfd::Loop;
use crate::kvm::intx::Resampling;
use crate::kvm::{
    Deferral, Format, Irqchip, Options, Parts, PassedThrough, PciFunction, PciPlatform, Physical,
    PhysicalLine, PhysicalMsi, Routes,
};
use msix_core::{BarIndex, Layout, Mode, MsiCapability, Policy, Vector};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::EventFd;

/// One index of the device at a time (D2).
#[derive(Debug, Default)]
struct State {
    enabled: Option<Mode>,
    bound: BTreeMap<u16, Arc<EventFd>>,
    /// The line's eventfds: trigger, and what unmasks it.
    trigger: Option<EventFd>,
    unmask: Option<EventFd>,
    /// It fired and was not unmasked (D12).
    masked: bool,
    /// The device asserts.
    asserts: bool,
    /// MSI vectors the kernel has.
    available: u16,
    log: Vec<String>,
    /// The guest's irqchip: the resampled line's eventfds.
    resampled: Option<(EventFd, EventFd)>,
    /// KVM's view of the line.
    kernel_line: bool,
}

impl State {
    fn enable(&mut self, mode: Mode) -> bool {
        assert!(self.enabled.is_none() || self.enabled == Some(mode), "D2: {:?}", self.enabled);
        self.enabled = Some(mode);
        true
    }

    fn disable(&mut self, mode: Mode) {
        assert!(self.enabled.is_none() || self.enabled == Some(mode), "D2: {:?}", self.enabled);
        self.enabled = None;
        self.bound.clear();
        (self.trigger, self.unmask, self.masked) = (None, None, false);
    }

    /// What the kernel does by itself: the line's way there and back.
    fn run(&mut self) {
        if let Some(unmask) = &self.unmask
            && unmask.read().is_ok()
        {
            self.masked = false;
        }
        if self.asserts
            && !self.masked
            && let Some(trigger) = &self.trigger
        {
            trigger.write(1).unwrap();
            self.masked = true;
        }
        if let Some((trigger, _)) = &self.resampled
            && trigger.read().is_ok()
        {
            self.kernel_line = true;
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Device(Arc<Mutex<State>>);

impl Device {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The device raises a vector of the index that is enabled.
    fn raise(&self, vector: u16) {
        let state = self.state();
        assert!(matches!(state.enabled, Some(Mode::Msi | Mode::MsiX)), "{:?}", state.enabled);
        state.bound[&vector].write(1).unwrap();
    }

    /// The device asserts its line, or not.
    fn line(&self, asserts: bool) {
        let mut state = self.state();
        state.asserts = asserts;
        state.run();
    }

    /// The guest acknowledges a line that KVM drives.
    fn kernel_eoi(&self) {
        let mut state = self.state();
        state.kernel_line = false;
        state.resampled.as_ref().unwrap().1.write(1).unwrap();
        state.run();
    }
}

impl Physical for Device {
    fn set_enabled(&mut self, enabled: bool) {
        let mut state = self.state();
        if enabled {
            state.enable(Mode::MsiX);
        } else {
            state.disable(Mode::MsiX);
        }
    }

    fn bind(
        &mut self,
        vectors: &[Vector],
        eventfd: &mut dyn FnMut(Vector) -> io::Result<Arc<EventFd>>,
    ) -> Vec<Vector> {
        for &vector in vectors {
            let made = eventfd(vector).unwrap();
            let mut state = self.state();
            state.enable(Mode::MsiX);
            state.bound.insert(vector.index(), made);
        }
        Vec::new()
    }

    fn unused(&mut self, _: &[Vector]) {}
}

impl PhysicalMsi for Device {
    fn enable(
        &mut self,
        vectors: u16,
        eventfd: &mut dyn FnMut(Vector) -> io::Result<Arc<EventFd>>,
    ) -> u16 {
        let count = vectors.min(self.state().available);
        for vector in 0..count {
            let made = eventfd(Vector::new(vector)).unwrap();
            self.state().bound.insert(vector, made);
        }
        if count > 0 {
            self.state().enable(Mode::Msi);
        }
        count
    }

    fn disable(&mut self) {
        self.state().disable(Mode::Msi);
    }
}

impl PhysicalLine for Device {
    fn enable(&mut self, trigger: &EventFd) -> io::Result<()> {
        let mut state = self.state();
        state.enable(Mode::Intx);
        state.trigger = Some(trigger.try_clone()?);
        state.run();
        Ok(())
    }
    fn unmask_by(&mut self, eventfd: &EventFd) -> io::Result<()> {
        self.state().unmask = Some(eventfd.try_clone()?);
        Ok(())
    }
    fn unmask(&mut self) {
        let mut state = self.state();
        state.masked = false;
        state.run();
    }
    fn disable(&mut self) {
        self.state().disable(Mode::Intx);
    }
}

impl Resampling for Device {
    fn assign(&self, trigger: &EventFd, resample: &EventFd, gsi: u32) -> io::Result<()> {
        assert_eq!(gsi, 10);
        self.state().resampled = Some((trigger.try_clone()?, resample.try_clone()?));
        Ok(())
    }
    fn deassign(&self, _: &EventFd, _: u32) -> io::Result<()> {
        let mut state = self.state();
        assert!(state.resampled.take().is_some());
        state.kernel_line = false;
        Ok(())
    }
}

impl PciPlatform for Device {
    fn write_memory(&mut self, address: u64, data: u32) {
        self.state().log.push(format!("write {address:#x} {data:#x}"));
    }
    fn set_line(&mut self, asserted: bool) {
        self.state().log.push(format!("line {asserted}"));
    }
    fn set_mappings(&mut self, mapped: bool) {
        self.state().log.push(format!("mapped {mapped}"));
    }
    fn reset_device(&mut self) {
        let mut state = self.state();
        assert_eq!((state.enabled, state.bound.len()), (None, 0), "nothing is bound");
        state.asserts = false;
        state.log.push("reset".to_owned());
    }
}

struct World {
    fake: Fake,
    routes: Arc<Routes>,
    device: Device,
    function: PciFunction<Device>,
}

const QUIET: Duration = Duration::from_secs(1);

impl World {
    fn new(resampled: bool, available: u16) -> Self {
        let (fake, device) = (Fake::default(), Device::default());
        device.state().available = available;
        let options = Options { deferral: Deferral::NONE, ..Options::new(Irqchip::Full) };
        let routes = Routes::new(Box::new(fake.vm()), options, Loop::new().unwrap());
        let parts = Parts {
            msi: Some(MsiCapability::new(4).unwrap().with_masks()),
            msix: Some(Layout::exclusive_bar(2, BarIndex::new(0).unwrap()).unwrap()),
            pin: true,
        };
        let behind = PassedThrough {
            msix: Some(Box::new(device.clone())),
            msi: Some(Box::new(device.clone())),
            line: Some(Box::new(device.clone())),
            resampled: resampled.then(|| (Box::new(device.clone()) as Box<dyn Resampling>, 10)),
            quiet: QUIET,
        };
        let (policy, format) = (Policy::SPEC, Format::default());
        let function =
            PciFunction::new(&routes, parts, policy, format, device.clone(), Some(behind)).unwrap();
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
        self.routes.run(Some(Duration::ZERO)).unwrap();
        self.fake.delivered()
    }

    fn log(&self) -> Vec<String> {
        self.routes.run(Some(Duration::ZERO)).unwrap();
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
fn a_reset_from_every_mode_releases_resets_and_arms_the_line_again() {
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

#[test]
fn an_emulated_function_sends_by_its_mode_and_drives_its_pin() {
    let (fake, device) = (Fake::default(), Device::default());
    let options = Options { deferral: Deferral::NONE, ..Options::new(Irqchip::Full) };
    let routes = Routes::new(Box::new(fake.vm()), options, Loop::new().unwrap());
    let parts = Parts { msi: Some(MsiCapability::new(4).unwrap()), msix: None, pin: true };
    let (policy, format) = (Policy::SPEC, Format::default());
    let function = PciFunction::new(&routes, parts, policy, format, device.clone(), None).unwrap();
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
    assert_eq!(fake.delivered(), [0x62]);
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
