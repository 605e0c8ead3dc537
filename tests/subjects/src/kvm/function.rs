//! A whole function on the real KVM backend, as a subject.
//!
//! Its events are written to its eventfds, as a device outside the VMM writes them: what KVM does not
//! take, the loop of the backend finds. Recorded and compared as for MSI-X alone.

mod msix;

use super::machine::{Machine, RoutedMachine};
use super::record::Memory;
use super::{Fault, KvmSubject};
use crate::layout;
use msix_backends::kvm::{Function, FunctionSetup, GuestPin};
use msix_conformance::{
    FunctionDevice, FunctionReset, FunctionSnapshots, FunctionSubject, MSIX_MESSAGE, Message,
    MsixBeside, NoDevice, PhysicalLine, Refused, Withdrawal,
};
use msix_core::{Mode, MsiCapability, Vector};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use vmm_sys_util::eventfd::EventFd;

/// The function under [`Policy::SPEC`](msix_core::Policy::SPEC), on KVM.
#[derive(Debug, Clone)]
pub struct KvmFunctionSubject(KvmSubject);

impl KvmFunctionSubject {
    /// As [`KvmSubject::new`].
    ///
    /// # Errors
    /// No machine could be made.
    pub fn new(make: fn() -> Result<Box<dyn Machine>, String>, most: u32) -> Result<Self, String> {
        KvmSubject::new(make, most).map(Self)
    }

    /// As [`KvmSubject::with_backend`].
    #[must_use]
    pub fn with_backend(self, fault: Fault) -> Self {
        Self(self.0.with_backend(fault))
    }

    /// As [`KvmSubject::with_kernel`].
    #[must_use]
    pub fn with_kernel(self, fault: Fault) -> Self {
        Self(self.0.with_kernel(fault))
    }

    /// A function on a machine of its own, with what `parts` adds, and bus master on.
    fn function(
        &self,
        parts: impl FnOnce(&mut FunctionSetup<Memory>, &Arc<AtomicBool>),
    ) -> Result<KvmFunction, NoDevice> {
        let machine = self.0.machine()?;
        let line = Arc::new(AtomicBool::new(false));
        let mut setup = FunctionSetup::new(Memory(machine.record.clone()));
        setup.format = machine.format();
        parts(&mut setup, &line);
        let function = Function::new(&machine.routes, setup);
        let function = function.expect("the format has the device id, if one is needed");
        function.write_command(0, &[4]);
        Ok(KvmFunction { function, line, machine })
    }
}

impl FunctionSubject for KvmFunctionSubject {
    fn name(&self) -> String {
        "function, KVM, SPEC".into()
    }

    fn device(&self, vectors: u16, masks: bool) -> Result<Box<dyn FunctionDevice>, NoDevice> {
        let plain = MsiCapability::new(u32::from(vectors));
        let plain = plain.map_err(|why| NoDevice::Refused(why.to_string()))?.with_64_bit_address();
        let device = self.function(|setup, line| {
            setup.msi = Some(if masks { plain.with_masks() } else { plain });
            setup.msix = Some(layout(1));
            setup.pin = Some(Box::new(Pin(Arc::clone(line))));
        })?;
        device.claim();
        Ok(Box::new(device))
    }
}

struct Pin(Arc<AtomicBool>);

impl GuestPin for Pin {
    fn set_level(&mut self, asserted: bool) {
        self.0.store(asserted, Ordering::Relaxed);
    }
}

struct KvmFunction {
    // Before the machine, so that it has let go of it when that is the next one's.
    function: Function<Memory>,
    line: Arc<AtomicBool>,
    machine: RoutedMachine,
}

impl KvmFunction {
    fn claim(&self) {
        let v0 = Vector::new(0);
        self.function.claim(v0).expect("a vector of the table");
        self.function.set_message(v0, MSIX_MESSAGE).expect("a vector of the table");
    }

    /// Lets the loop read what there is to read.
    fn run(&self) {
        self.machine.routes.run(Some(Duration::ZERO)).expect("epoll works");
    }

    /// The eventfd of a vector, which the record hears of.
    fn eventfd(&self, vector: u16) -> Arc<EventFd> {
        let eventfd = self.function.eventfd(Vector::new(vector));
        let eventfd = eventfd.expect("descriptors were provided for");
        self.machine.introduce(&eventfd, vector);
        eventfd
    }

    /// An event of a device that writes eventfds.
    fn signal(&self, vector: u16) {
        self.machine.signal(&self.eventfd(vector));
        self.run();
    }

    /// The messages sent so far, which must be what the interrupt controllers say.
    fn take_messages(&self) -> Vec<Message> {
        self.run();
        self.machine.messages()
    }
}

impl FunctionDevice for KvmFunction {
    fn read_msi(&mut self, offset: usize, bytes: &mut [u8]) {
        self.run();
        self.function.read_msi(offset, bytes);
    }

    fn write_msi(&mut self, offset: usize, bytes: &[u8]) {
        self.function.write_msi(offset, bytes);
    }

    fn set_bus_master(&mut self, on: bool) {
        self.function.write_command(0, &[if on { 4 } else { 0 }]);
    }

    fn set_interrupt_disable(&mut self, on: bool) {
        self.function.write_command(1, &[if on { 4 } else { 0 }]);
    }

    fn interrupt_status(&mut self) -> bool {
        self.function.command_and_status().1 == 8
    }

    fn fire(&mut self, vector: u16) {
        match self.function.inspect(msix_core::Function::mode) {
            Mode::Msi | Mode::MsiX => self.signal(vector),
            Mode::Intx | Mode::None => self.function.set_level(true),
        }
    }

    fn satisfy(&mut self) {
        self.function.set_level(false);
    }

    fn messages(&mut self) -> Vec<Message> {
        self.take_messages()
    }

    fn line(&mut self) -> bool {
        self.line.load(Ordering::Relaxed)
    }

    fn withdrawal(&mut self) -> Option<&mut dyn Withdrawal> {
        Some(self)
    }

    fn msix(&mut self) -> Option<&mut dyn MsixBeside> {
        Some(self)
    }

    /// The machine's tests have real devices.
    fn physical(&mut self) -> Option<&mut dyn PhysicalLine> {
        None
    }

    fn function_reset(&mut self) -> Option<&mut dyn FunctionReset> {
        Some(self)
    }

    fn host_log(&mut self) -> Option<Vec<(Mode, bool)>> {
        None
    }

    fn snapshots(&mut self) -> Option<&mut dyn FunctionSnapshots> {
        Some(self)
    }
}

impl Withdrawal for KvmFunction {
    fn withdraw(&mut self, vector: u32) -> Result<(), Refused> {
        let vector = Vector::new(u16::try_from(vector).map_err(Refused::because)?);
        self.function.withdraw(Mode::Msi, vector).map(drop).map_err(Refused::because)
    }
}

impl MsixBeside for KvmFunction {
    fn set_enabled(&mut self, on: bool) {
        self.function.write_msix(3, &[if on { 0x80 } else { 0 }]);
    }
}

impl FunctionReset for KvmFunction {
    fn reset(&mut self) {
        self.function.reset();
    }
}

impl FunctionSnapshots for KvmFunction {
    fn save(&mut self) -> Vec<u8> {
        self.function.save()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.function.load(bytes).map_err(Refused::because)
    }

    fn resume(&mut self) {
        self.function.resume();
    }
}
