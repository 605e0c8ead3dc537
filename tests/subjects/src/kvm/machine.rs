//! The virtual machines that devices are judged on.

use super::fault::{Fault, between};
use super::record::{Recorder, Shared};
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{Deferral, Format, Irqchip, KvmMessage, RouteOptions, Routes, Vm};
use msix_conformance::{Message, NoDevice};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use vmm_sys_util::eventfd::EventFd;

/// A virtual machine of the real KVM, whose processors never run.
pub trait Machine: Send {
    /// Takes the routes of the last device, and the interrupts that it requested.
    ///
    /// # Errors
    /// What KVM refused.
    fn renew(&self) -> Result<(), String>;
    /// The system calls.
    fn vm(&self) -> Box<dyn Vm>;
    /// The interrupt controllers.
    fn irqchip(&self) -> Irqchip;
    /// How KVM takes messages. Those of the suite to 0xFEE00000 and the next 64 KiB must be interrupts.
    fn format(&self) -> Format;
    /// The interrupts requested in the controllers since the last call must be those that these messages ask
    /// for. A controller remembers an interrupt once: number and order are the record's to tell.
    ///
    /// # Panics
    /// When they are not.
    fn compare(&self, messages: &[KvmMessage]);
}

/// Machines, which take longer to make than a device lives.
#[derive(Clone)]
pub(super) struct Machines {
    make: fn() -> Result<Box<dyn Machine>, String>,
    spare: Arc<Mutex<Vec<Box<dyn Machine>>>>,
}

impl Machines {
    pub(super) fn new(make: fn() -> Result<Box<dyn Machine>, String>) -> Self {
        Self { make, spare: Arc::default() }
    }

    /// One that nobody uses, as new.
    pub(super) fn lease(&self) -> Result<Lease, String> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let machine = spare.map_or_else(self.make, Ok)?;
        machine.renew()?;
        Ok(Lease { machine: Some(machine), owner: self.clone() })
    }
}

impl fmt::Debug for Machines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machines").finish_non_exhaustive()
    }
}

/// A machine for one device.
pub(super) struct Lease {
    /// There until this is dropped.
    machine: Option<Box<dyn Machine>>,
    owner: Machines,
}

impl Lease {
    fn machine(&self) -> &dyn Machine {
        self.machine.as_deref().expect("it is not dropped yet")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut spare = self.owner.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.extend(self.machine.take());
    }
}

/// A machine with the backend's routes on it, and the record of what they ask for.
pub(super) struct RoutedMachine {
    pub(super) routes: Arc<Routes>,
    pub(super) record: Shared,
    lease: Lease,
}

impl RoutedMachine {
    /// Puts the record between backend and kernel, and faults behind and before it.
    pub(super) fn new(
        machines: &Machines,
        backend: Option<Fault>,
        kernel: Option<Fault>,
    ) -> Result<Self, NoDevice> {
        let lease = machines.lease().map_err(NoDevice::NotOffered)?;
        let events = Loop::new().map_err(|why| NoDevice::NotOffered(why.to_string()))?;
        let record = Shared::default();
        let kernel = between(kernel, lease.machine().vm());
        let recorder = Recorder { kernel, record: record.clone() };
        let mut options = RouteOptions::new(lease.machine().irqchip());
        // Every change is committed at once, so that a look after an input sees all of it.
        options.deferral = Deferral::NONE;
        let routes = Routes::new(between(backend, Box::new(recorder)), options, events);
        Ok(Self { routes, record, lease })
    }

    /// How its KVM takes messages.
    pub(super) fn format(&self) -> Format {
        self.lease.machine().format()
    }

    /// The record hears whose eventfd that is.
    pub(super) fn introduce(&self, eventfd: &EventFd, vector: u16) {
        self.record.lock().introduce(eventfd, vector);
    }

    /// Writes an eventfd, as a device does.
    pub(super) fn signal(&self, eventfd: &EventFd) {
        eventfd.write(1).expect("a counter of a few events is not full");
        self.record.lock().written(eventfd);
    }

    /// What was delivered by now must be what the interrupt controllers say.
    pub(super) fn compare(&self) {
        let requested = self.record.lock().take_requested();
        self.lease.machine().compare(&requested);
    }

    /// The messages since the last call.
    pub(super) fn messages(&self) -> Vec<Message> {
        self.compare();
        self.record.lock().take_messages()
    }

    /// The device gave back what it had. The table is this device's alone: with no GSI given out, each of
    /// its own is back.
    pub(super) fn detached(&self) {
        if self.routes.stats().gsis == 0 {
            self.record.lock().given_back();
        }
    }
}
