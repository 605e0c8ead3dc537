//! A passed-through device on a pretended VFIO and a pretended KVM.

mod hand_over;

use super::irqs::MockIrqs;
use super::{DeviceMsix, IrqIndex, WhileMasked};
use crate::eventfd::{Loop, with};
use crate::kvm::tests::{PATIENT, Vmm, delivered, is_fallback, mask, on_x86, program};
use crate::kvm::{
    Deferral, DeviceControl, FakeVm, Function, FunctionSetup, Irqchip, PassedThrough, RouteOptions,
    Routes,
};
use msix_core::{BarIndex, Layout};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use vmm_sys_util::eventfd::EventFd;

/// A vfio-pci device as the kernels were seen to behave (D3 to D8, D16).
#[derive(Debug, Default)]
struct PretendedState {
    count: u32,
    noresize: bool,
    /// Host vectors to be had.
    available: u32,
    /// Vectors below are allocated; `None` when the index is idle.
    allocated: Option<u32>,
    bound: BTreeMap<u32, EventFd>,
    /// The device's own pending bits.
    pba: BTreeSet<u32>,
    /// Vectors that were bound when a call named them again.
    disturbed: BTreeSet<u32>,
    calls: Vec<String>,
    failing: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
struct Device(Arc<Mutex<PretendedState>>);

impl Device {
    fn new(count: u32, noresize: bool) -> Self {
        let state =
            PretendedState { count, noresize, available: count, ..PretendedState::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, PretendedState> {
        self.0.lock().unwrap()
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state().calls)
    }

    /// The device sends a message.
    fn raise(&self, vector: u32) {
        let mut state = self.state();
        match state.bound.get(&vector) {
            Some(eventfd) => eventfd.write(1).unwrap(),
            None => _ = state.pba.insert(vector),
        }
    }

    fn index(&self) -> IrqIndex {
        let state = self.state();
        IrqIndex { count: state.count, noresize: state.noresize, holes: true }
    }

    fn irqs(&self) -> MockIrqs {
        let mut irqs = MockIrqs::new();
        let device = self.clone();
        irqs.expect_set().returning(move |start, eventfds| device.state().set(start, eventfds));
        let device = self.clone();
        irqs.expect_disable().returning(move || device.state().disable());
        irqs
    }
}

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(22)
}

impl PretendedState {
    fn call(&mut self, call: String) -> bool {
        self.calls.push(call);
        self.failing.contains(&(self.calls.len() - 1))
    }

    fn set(&mut self, start: u32, eventfds: &[Option<BorrowedFd<'_>>]) -> io::Result<u32> {
        let end = start + eventfds.len() as u32;
        let states: String =
            eventfds.iter().map(|fd| if fd.is_some() { 'x' } else { '.' }).collect();
        let fails = self.call(format!("{start}{states}"));
        assert!(start < self.count && end <= self.count && !eventfds.is_empty(), "D1");
        match self.allocated {
            None if end > self.available => return Ok(self.available), // D3
            None => self.allocated = Some(end),
            Some(allocated) if self.noresize && end > allocated => return Err(invalid()), // D16
            Some(_) if end > self.available => return Err(io::ErrorKind::StorageFull.into()),
            Some(_) => {}
        }
        for (vector, eventfd) in (start..).zip(eventfds) {
            if self.bound.contains_key(&vector) {
                self.disturbed.insert(vector);
            }
            self.bound.remove(&vector);
            if fails && vector + 1 == end {
                (start..end).for_each(|vector| _ = self.bound.remove(&vector)); // D4
                return Err(io::Error::from_raw_os_error(9));
            }
            if let Some(eventfd) = eventfd {
                let eventfd = with(*eventfd, EventFd::try_clone).unwrap();
                if self.pba.remove(&vector) {
                    eventfd.write(1).unwrap(); // D8
                }
                self.bound.insert(vector, eventfd);
            }
        }
        Ok(0)
    }

    fn disable(&mut self) -> io::Result<()> {
        let fails = self.call("disable".to_owned());
        if self.allocated.is_none() {
            return Err(invalid()); // D5
        }
        if fails {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.allocated = None;
        self.bound.clear();
        self.pba.clear(); // D8
        Ok(())
    }
}

/// A device without BARs, and without a reset.
struct Fixed;

impl DeviceControl for Fixed {
    fn set_mappings(&mut self, _: bool) {}
    fn reset_device(&mut self) {}
}

struct World {
    fake: FakeVm,
    device: Device,
    routes: Arc<Routes>,
    function: Function<Vmm>,
}

impl World {
    fn new(vectors: u16, noresize: bool, while_masked: WhileMasked) -> Self {
        Self::with(vectors, Device::new(vectors.into(), noresize), while_masked)
    }

    fn with(vectors: u16, device: Device, while_masked: WhileMasked) -> Self {
        let physical = DeviceMsix::new(device.irqs(), device.index(), while_masked);
        let world = Self::idle(vectors, device, physical);
        world.function.write_command(0, &[6, 0]);
        for vector in 0..vectors {
            program(&world.function, vector, 0x40 + u32::from(vector));
        }
        world
    }

    /// With a function that no guest has touched.
    fn idle(vectors: u16, device: Device, physical: DeviceMsix<MockIrqs>) -> Self {
        let fake = FakeVm::new();
        let deferral = if vectors > 64 { PATIENT } else { Deferral::NONE };
        let options = RouteOptions { deferral, ..RouteOptions::new(Irqchip::Full) };
        let routes = Routes::new(Box::new(fake.clone()), options, Loop::new().unwrap());
        let layout = Layout::exclusive_bar(vectors.into(), BarIndex::new(0).unwrap()).unwrap();
        let device_behind =
            PassedThrough { msix: Some(Box::new(physical)), ..PassedThrough::new(Box::new(Fixed)) };
        let function = Function::new(
            &routes,
            FunctionSetup {
                msix: Some(layout),
                device: Some(device_behind),
                ..on_x86(Vmm::default())
            },
        )
        .unwrap();
        Self { fake, device, routes, function }
    }

    fn mask(&self, vector: u16, masked: bool) {
        mask(&self.function, vector, masked);
    }

    fn delivered(&self) -> Vec<u32> {
        self.routes.run(Some(Duration::ZERO)).unwrap();
        delivered(&self.fake)
    }

    fn pba(&self) -> u64 {
        let mut bytes = [0; 8];
        self.function.read_pba(0, &mut bytes);
        u64::from_le_bytes(bytes)
    }
}

#[test]
fn d7_the_device_is_enabled_and_disabled_with_the_guests_bit() {
    let world = World::new(4, false, WhileMasked::Eventfd);
    assert!(world.device.calls().is_empty());
    world.function.write_msix(3, &[0xc0]);
    assert_eq!(world.device.calls(), ["0."], "at once, with no vector");
    world.function.write_msix(3, &[0x80]);
    world.function.write_msix(3, &[0x80]);
    assert!(world.device.calls().is_empty());
    world.mask(2, false);
    assert_eq!(world.device.calls(), ["0xxx"]);
    world.function.write_msix(3, &[0]);
    assert_eq!(world.device.calls(), ["disable"]);
    world.function.write_msix(3, &[0x80]);
    // Vector 2 is unmasked still: bound with the enable, in one call.
    assert_eq!(world.device.calls(), ["0xxx"]);
    world.function.reset();
    assert_eq!(world.device.calls(), ["disable"]);
    world.function.write_command(0, &[6, 0]);
    world.function.write_msix(3, &[0x80]);
    world.mask(0, false);
    world.device.calls();
    drop(world.function);
    assert_eq!(world.device.calls(), ["disable"]);
    assert_eq!((world.routes.stats().gsis, world.fake.armed()), (0, 0));
}

#[test]
fn bringing_up_2048_vectors_one_by_one_takes_a_logarithm_of_calls() {
    for (noresize, most) in [(false, 6), (true, 10)] {
        let world = World::new(2048, noresize, WhileMasked::Eventfd);
        world.function.write_msix(3, &[0x80]);
        for vector in 0..2048 {
            world.mask(vector, false);
            world.device.raise(vector.into());
            assert_eq!(world.delivered(), [0x40 + u32::from(vector)]);
        }
        world.routes.flush();
        let calls = world.device.calls().len();
        assert!(calls <= most, "{calls} SET_IRQS, noresize {noresize}");
        assert!(world.routes.stats().commits <= 5);
        assert_eq!(world.device.state().disturbed.len(), 0, "nothing bound was bound again");
        world.device.raise(7);
        world.device.raise(2047);
        assert_eq!(world.delivered(), [0x47, 0x40 + 2047]);
    }
}

#[test]
fn an_event_while_masked_is_pending_and_delivered_once() {
    for noresize in [false, true] {
        let world = World::new(4, noresize, WhileMasked::Eventfd);
        world.function.write_msix(3, &[0x80]);
        world.mask(1, false);
        world.device.calls();
        world.mask(1, true);
        world.device.raise(1);
        world.device.raise(1);
        assert_eq!((world.delivered(), world.pba()), (vec![], 2));
        world.mask(1, false);
        assert_eq!((world.delivered(), world.pba()), (vec![0x41], 0));
        world.mask(1, true);
        world.device.raise(1);
        world.mask(1, false);
        assert_eq!(world.delivered(), [0x41]);
        assert!(world.device.calls().is_empty(), "masking takes no call");
    }
}

#[test]
fn d8_by_policy_the_device_keeps_what_comes_while_masked() {
    for noresize in [false, true] {
        let world = World::new(4, noresize, WhileMasked::Physical);
        world.function.write_msix(3, &[0x80]);
        world.mask(1, false);
        world.mask(1, true);
        assert!(!world.device.state().bound.contains_key(&1));
        world.device.raise(1);
        assert_eq!((world.delivered(), world.pba()), (vec![], 0));
        assert_eq!(world.device.state().pba.len(), 1);
        world.mask(1, false);
        assert_eq!(world.delivered(), [0x41]);
        world.device.raise(1);
        assert_eq!(world.delivered(), [0x41]);
    }
}

#[test]
fn d4_every_call_may_fail_once_and_nothing_stays_unbound() {
    for noresize in [false, true] {
        for position in 0..12 {
            let what = format!("call {position}, noresize {noresize}");
            let world = World::new(12, noresize, WhileMasked::Eventfd);
            world.device.state().failing.insert(position);
            world.function.write_msix(3, &[0x80]);
            for vector in [0, 1, 2, 9, 3] {
                world.mask(vector, false);
            }
            for vector in [0, 1, 2, 3, 9] {
                let fallback = is_fallback(&world.function, vector);
                assert!(!fallback, "{what}");
                world.device.raise(vector.into());
                assert_eq!(world.delivered(), [0x40 + u32::from(vector)], "{what}");
            }
            world.function.write_msix(3, &[0]);
            world.function.write_msix(3, &[0x80]);
            world.device.raise(9);
            assert_eq!(world.delivered(), [0x49], "{what}");
            drop(world.function);
            assert_eq!(world.device.state().allocated, None, "{what}");
        }
    }
}

#[test]
fn d3_a_host_with_fewer_vectors_gives_what_it_has_to_those_that_are_live() {
    for noresize in [false, true] {
        let device = Device::new(64, noresize);
        device.state().available = 5;
        let world = World::with(64, device, WhileMasked::Eventfd);
        world.function.write_msix(3, &[0x80]);
        for vector in 0..8 {
            world.mask(vector, false);
        }
        for vector in 0..8_u16 {
            let fallback = is_fallback(&world.function, vector);
            assert_eq!(fallback, vector >= 5, "vector {vector}, noresize {noresize}");
            if vector < 5 {
                world.device.raise(vector.into());
                assert_eq!(world.delivered(), [0x40 + u32::from(vector)]);
            }
        }
        // Those that come now are refused without disturbing the others.
        world.device.calls();
        world.mask(20, false);
        assert!(is_fallback(&world.function, 20));
        assert!(world.device.calls().is_empty());
        // The host has more again: tried at the next unmask.
        world.device.state().available = 64;
        world.mask(7, true);
        world.mask(7, false);
        world.device.raise(7);
        assert_eq!(world.delivered(), [0x47]);
        world.mask(21, false);
        world.device.raise(21);
        assert_eq!(world.delivered(), [0x40 + 21]);
    }
}

#[test]
fn what_the_host_has_is_found_in_few_calls_without_disturbing_what_is_bound() {
    for (noresize, most) in [(false, 40), (true, 60)] {
        let device = Device::new(512, noresize);
        device.state().available = 194;
        let world = World::with(512, device, WhileMasked::Eventfd);
        world.function.write_msix(3, &[0x80]);
        for vector in 0..512 {
            world.mask(vector, false);
        }
        let calls = world.device.calls().len();
        assert!(calls <= most, "{calls} SET_IRQS, noresize {noresize}");
        let state = world.device.state();
        assert!(state.bound.keys().copied().eq(0..194), "noresize {noresize}");
        assert!(state.disturbed.is_empty());
    }
}

#[test]
fn a_table_that_is_larger_than_the_devices_is_used_as_far_as_there_is_a_device() {
    let world = World::with(8, Device::new(4, false), WhileMasked::Eventfd);
    world.function.write_msix(3, &[0x80]);
    world.mask(3, false);
    world.mask(4, false);
    let fallback = |vector| is_fallback(&world.function, vector);
    assert_eq!((fallback(3), fallback(4)), (false, true));
}
