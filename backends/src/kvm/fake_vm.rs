//! A VM without a kernel, for the tests of who embeds a function.

use super::message::KvmMessage;
use super::route_table::{MOST, RouteEntry};
use super::vm::Vm;
use crate::eventfd::{take, with};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io};
use vmm_sys_util::eventfd::EventFd;

const EINVAL: i32 = 22;
const EBUSY: i32 = 16;

/// One call of a [`Vm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VmCall {
    /// [`Vm::set_routes`].
    SetRoutes,
    /// [`Vm::assign`], with the GSI.
    Assign(u32),
    /// [`Vm::deassign`], with the GSI.
    Deassign(u32),
    /// [`Vm::signal`].
    Signal(KvmMessage),
    /// [`Vm::pulse_spi`], with the SPI.
    PulseSpi(u32),
}

/// A VM that pretends: it behaves as KVM does towards its callers (K1, K2, K4 to K9), needs neither
/// `/dev/kvm` nor a thread, records every call and fails on demand. Its clones are one VM: give one to
/// the [`Routes`](super::Routes), and look at the other.
///
/// ```
/// # use msix_backends::{Route, kvm::Platform};
/// # struct Vmm;
/// # impl Platform for Vmm {
/// #     fn write_memory(&mut self, _: u64, _: u32) {}
/// #     fn snoop(&mut self, _: Route) {}
/// # }
/// use msix_backends::eventfd::Loop;
/// use msix_backends::kvm::{FakeVm, Function, FunctionSetup, Irqchip, RouteOptions, Routes, VmCall};
/// use msix_core::{BarIndex, Layout, Vector};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vm = FakeVm::new();
/// let routes = Routes::new(Box::new(vm.clone()), RouteOptions::new(Irqchip::Full), Loop::new()?);
/// let layout = Layout::exclusive_bar(2, BarIndex::new(0)?)?;
/// let device = Function::new(&routes, FunctionSetup { msix: Some(layout), ..FunctionSetup::new(Vmm) })?;
/// device.claim(Vector::new(1))?;
/// // What a driver does: bus master, message, unmask, enable.
/// device.write_command(0, &[0x06, 0x00]);
/// device.write_table(0x10, &0xfee0_0000_u64.to_le_bytes());
/// device.write_table(0x18, &0x41_u64.to_le_bytes());
/// device.write_msix(2, &[0x01, 0x80]);
/// // What the device under test does.
/// device.notify(Vector::new(1))?;
/// assert_eq!(vm.delivered()[0].data, 0x41);
///
/// // The same with a kernel that refuses routes: messages are then sent one by one.
/// vm.fail(|_, call| call == VmCall::SetRoutes);
/// device.write_table(0x18, &0x42_u64.to_le_bytes());
/// device.notify(Vector::new(1))?;
/// assert_eq!(vm.delivered()[0].data, 0x42);
/// assert!(matches!(vm.calls().last(), Some(VmCall::Signal(_))));
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// Its methods as a [`Vm`] panic on what loses events in KVM: an irqfd on a GSI without a route (K5),
/// and a deassign of what is not assigned (K9).
#[derive(Clone, Default)]
pub struct FakeVm(Arc<Mutex<FakeKernel>>);

#[derive(Default)]
struct FakeKernel {
    routes: Vec<RouteEntry>,
    irqfds: BTreeMap<RawFd, FakeIrqfd>,
    delivered: Vec<KvmMessage>,
    /// Pins that were raised, SPIs among them.
    raised: Vec<u32>,
    calls: Vec<VmCall>,
    needs_device_ids: bool,
    fails: Option<Box<Fails>>,
}

struct FakeIrqfd {
    eventfd: EventFd,
    gsi: u32,
}

type Fails = dyn FnMut(usize, VmCall) -> bool + Send;

impl FakeVm {
    /// Makes a VM without routes and irqfds, of which no call fails.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the VM one whose messages must carry a device id, as with an Arm ITS (K15).
    pub fn need_device_ids(&self) {
        self.lock().needs_device_ids = true;
    }

    /// Returns all calls so far, including failed ones.
    #[must_use]
    pub fn calls(&self) -> Vec<VmCall> {
        self.lock().calls.clone()
    }

    /// Returns how many of the calls so far `is_meant` returns `true` for.
    #[must_use]
    pub fn count(&self, is_meant: impl FnMut(&&VmCall) -> bool) -> usize {
        self.lock().calls.iter().filter(is_meant).count()
    }

    /// Takes the messages that reached the guest since the last call, in order. An event in an eventfd
    /// that is assigned arrives at the next call of any method, several in the order of their GSIs.
    #[must_use]
    pub fn delivered(&self) -> Vec<KvmMessage> {
        let mut kernel = self.lock();
        kernel.take_events();
        std::mem::take(&mut kernel.delivered)
    }

    /// Takes the pins that were raised since the last call, in order, by [`Vm::pulse_spi`] and by eventfds
    /// with a route to a pin, as [`delivered`](Self::delivered) does.
    #[must_use]
    pub fn raised(&self) -> Vec<u32> {
        let mut kernel = self.lock();
        kernel.take_events();
        std::mem::take(&mut kernel.raised)
    }

    /// Returns the routes in force.
    #[must_use]
    pub fn routes(&self) -> Vec<RouteEntry> {
        self.lock().routes.clone()
    }

    /// Returns how many eventfds are assigned.
    #[must_use]
    pub fn armed(&self) -> usize {
        self.lock().irqfds.len()
    }

    /// Makes those calls fail, from now on, for which `fails` returns `true`, with EINVAL and without an
    /// effect. It gets the number of the call, from 0 on, and the call. It must not use the VM. Replaces
    /// what was given before.
    pub fn fail(&self, fails: impl FnMut(usize, VmCall) -> bool + Send + 'static) {
        self.lock().fails = Some(Box::new(fails));
    }

    /// Makes no call fail any more.
    pub fn heal(&self) {
        self.lock().fails = None;
    }

    fn lock(&self) -> MutexGuard<'_, FakeKernel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FakeKernel {
    /// KVM takes an event at the write; here it does so at the next call, by GSI: a descriptor's number depends
    /// on what else the process does.
    fn take_events(&mut self) {
        let mut irqfds: Vec<&FakeIrqfd> = self.irqfds.values().collect();
        irqfds.sort_by_key(|irqfd| irqfd.gsi);
        for FakeIrqfd { eventfd, gsi } in irqfds {
            if take(eventfd) {
                match self.route(*gsi) {
                    Some(RouteEntry::Msi { msi, .. }) => self.delivered.push(msi),
                    Some(RouteEntry::Pin { pin, .. }) => self.raised.push(pin),
                    None => {}
                }
            }
        }
    }

    /// Returns what `gsi` is routed to.
    fn route(&self, gsi: u32) -> Option<RouteEntry> {
        self.routes.iter().copied().find(|entry| entry.gsi() == gsi)
    }

    fn call(&mut self, call: VmCall) -> io::Result<()> {
        self.take_events();
        let number = self.calls.len();
        self.calls.push(call);
        if self.fails.as_mut().is_some_and(|fails| fails(number, call)) {
            return Err(io::Error::from_raw_os_error(EINVAL));
        }
        Ok(())
    }
}

impl Vm for FakeVm {
    fn set_routes(&self, routes: &[RouteEntry]) -> io::Result<()> {
        let mut kernel = self.lock();
        kernel.call(VmCall::SetRoutes)?;
        let is_past = |entry: &RouteEntry| entry.gsi() >= MOST;
        if routes.len() > MOST as usize || routes.iter().any(is_past) {
            return Err(io::Error::from_raw_os_error(EINVAL)); // K2
        }
        kernel.routes = routes.to_vec();
        let is_routed = |irqfd: &FakeIrqfd| kernel.route(irqfd.gsi).is_some();
        assert!(kernel.irqfds.values().all(is_routed), "K6: a route was removed under an irqfd");
        Ok(())
    }

    fn assign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        let mut kernel = self.lock();
        kernel.call(VmCall::Assign(gsi))?;
        assert!(kernel.route(gsi).is_some(), "K6: armed before its route was committed");
        if kernel.irqfds.contains_key(&eventfd.as_raw_fd()) {
            return Err(io::Error::from_raw_os_error(EBUSY)); // K4
        }
        let irqfd = FakeIrqfd { eventfd: with(eventfd, EventFd::try_clone)?, gsi };
        kernel.irqfds.insert(eventfd.as_raw_fd(), irqfd);
        Ok(())
    }

    fn deassign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        let mut kernel = self.lock();
        kernel.call(VmCall::Deassign(gsi))?;
        let was = kernel.irqfds.remove(&eventfd.as_raw_fd());
        assert_eq!(was.map(|irqfd| irqfd.gsi), Some(gsi), "K9: it was not assigned");
        Ok(())
    }

    fn signal(&self, msi: KvmMessage) -> io::Result<bool> {
        let mut kernel = self.lock();
        kernel.call(VmCall::Signal(msi))?;
        kernel.delivered.push(msi);
        Ok(true)
    }

    fn pulse_spi(&self, spi: u32) -> io::Result<bool> {
        let mut kernel = self.lock();
        kernel.call(VmCall::PulseSpi(spi))?;
        kernel.raised.push(spi);
        Ok(true)
    }

    fn needs_device_ids(&self) -> bool {
        self.lock().needs_device_ids
    }
}

impl fmt::Debug for FakeVm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernel = self.lock();
        f.debug_struct("FakeVm")
            .field("routes", &kernel.routes.len())
            .field("armed", &kernel.irqfds.len())
            .field("calls", &kernel.calls.len())
            .finish_non_exhaustive()
    }
}
