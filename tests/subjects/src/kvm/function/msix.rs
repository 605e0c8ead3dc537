//! MSI-X of the whole function, judged by the cases about MSI-X alone.
//!
//! The function is a black box: what it asks of its host between its parts is not logged, what it asks
//! of the kernel is.

use super::{KvmFunction, KvmFunctionSubject, Memory};
use crate::engine::vector_of;
use crate::layout;
use msix_backends::kvm::Function;
use msix_conformance::{
    Attachment, BackendCall, BackendLog, BusMaster, Choices, Claims, Device, FunctionReset,
    HostLog, HostScript, IntxLog, Layouts, Message, NoDevice, QemuField, Refused, SideChannel,
    Snapshots, Subject, Withdrawal,
};
use msix_core::{Mode, Policy, Vector, VectorError};

impl Subject for KvmFunctionSubject {
    fn name(&self) -> String {
        "function, SPEC, KVM".into()
    }

    fn choices(&self) -> Choices {
        Choices::of(&Policy::SPEC)
    }

    fn device(&self, vectors: u32) -> Result<Box<dyn Device>, NoDevice> {
        self.0.provided(vectors)?;
        let count = u16::try_from(vectors).ok().filter(|count| (1..=2048).contains(count));
        let Some(count) = count else {
            return Err(NoDevice::Refused(format!("{vectors} vectors: a table has 1 to 2048")));
        };
        let device = self.function(|setup, _| setup.msix = Some(layout(count)))?;
        for vector in 0..count {
            device.eventfd(vector);
        }
        Ok(Box::new(MsixOfKvmFunction { device, attached: true }))
    }

    /// It is given a layout that was checked.
    fn layouts(&self) -> Option<&dyn Layouts> {
        self.0.layouts()
    }
}

/// Its MSI-X capability, table and PBA.
struct MsixOfKvmFunction {
    device: KvmFunction,
    attached: bool,
}

impl MsixOfKvmFunction {
    const fn function(&self) -> &Function<Memory> {
        &self.device.function
    }

    fn claims_of(&self, vector: u32) -> Result<u32, Refused> {
        let index = vector_of(vector)?;
        let claims = self.function().inspect(|engine| engine.msix()?.claims(index));
        claims.map(u32::from).ok_or_else(|| Refused(format!("no vector {vector}")))
    }

    fn about<T>(
        &self,
        vector: u32,
        input: impl FnOnce(&Function<Memory>, Vector) -> Result<T, VectorError>,
    ) -> Result<(), Refused> {
        input(self.function(), vector_of(vector)?).map(drop).map_err(Refused::because)
    }
}

impl Device for MsixOfKvmFunction {
    fn read_config(&mut self, offset: usize, bytes: &mut [u8]) {
        self.function().read_msix(offset, bytes);
    }

    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        self.function().write_msix(offset, bytes);
    }

    fn read_table(&mut self, offset: u64, bytes: &mut [u8]) {
        self.function().read_table(offset, bytes);
    }

    fn write_table(&mut self, offset: u64, bytes: &[u8]) {
        self.function().write_table(offset, bytes);
    }

    fn read_pba(&mut self, offset: u64, bytes: &mut [u8]) {
        self.function().read_pba(offset, bytes);
    }

    fn write_pba(&mut self, offset: u64, bytes: &[u8]) {
        self.function().write_pba(offset, bytes);
    }

    /// A device writes the eventfds of the vectors it claims, while a backend listens.
    fn fire(&mut self, vector: u32) -> Result<(), Refused> {
        match (self.claims_of(vector)?, u16::try_from(vector)) {
            (1.., Ok(index)) if self.attached => {
                self.device.signal(index);
                Ok(())
            }
            _ => self.about(vector, Function::notify),
        }
    }

    fn messages(&mut self) -> Vec<Message> {
        self.device.take_messages()
    }

    fn claims(&mut self) -> Option<&mut dyn Claims> {
        Some(self)
    }
    fn withdrawal(&mut self) -> Option<&mut dyn Withdrawal> {
        Some(self)
    }
    fn side_channel(&mut self) -> Option<&mut dyn SideChannel> {
        Some(self)
    }
    fn function_reset(&mut self) -> Option<&mut dyn FunctionReset> {
        Some(self)
    }
    fn bus_master(&mut self) -> Option<&mut dyn BusMaster> {
        Some(self)
    }
    /// Its pin is driven for all its modes together: the cases about whole functions look at it.
    fn intx(&mut self) -> Option<&mut dyn IntxLog> {
        None
    }
    /// What its parts ask each other for is its own affair.
    fn host_log(&mut self) -> Option<&mut dyn HostLog> {
        None
    }
    fn host_script(&mut self) -> Option<&mut dyn HostScript> {
        Some(self)
    }
    fn backend_log(&mut self) -> Option<&mut dyn BackendLog> {
        Some(self)
    }
    fn attachment(&mut self) -> Option<&mut dyn Attachment> {
        Some(self)
    }
    fn snapshots(&mut self) -> Option<&mut dyn Snapshots> {
        Some(self)
    }
    /// A whole function has an encoding of its own.
    fn qemu_field(&mut self) -> Option<&mut dyn QemuField> {
        None
    }
}

impl Claims for MsixOfKvmFunction {
    fn claim(&mut self, vector: u32) -> Result<(), Refused> {
        self.about(vector, Function::claim)
    }

    fn unclaim(&mut self, vector: u32) -> Result<(), Refused> {
        self.about(vector, Function::unclaim)
    }

    fn count(&mut self, vector: u32) -> Result<u32, Refused> {
        self.claims_of(vector)
    }
}

impl Withdrawal for MsixOfKvmFunction {
    fn withdraw(&mut self, vector: u32) -> Result<(), Refused> {
        self.about(vector, |function, vector| function.withdraw(Mode::MsiX, vector))
    }
}

impl SideChannel for MsixOfKvmFunction {
    fn set_mask(&mut self, vector: u32, masked: bool) -> Result<(), Refused> {
        self.about(vector, |function, vector| function.set_mask(vector, masked))
    }

    fn set_message(&mut self, vector: u32, message: Message) -> Result<(), Refused> {
        self.about(vector, |function, vector| function.set_message(vector, message))
    }
}

impl FunctionReset for MsixOfKvmFunction {
    fn reset(&mut self) {
        self.function().reset();
    }
}

impl BusMaster for MsixOfKvmFunction {
    fn set_bus_master(&mut self, on: bool) {
        self.function().write_command(0, &[if on { 4 } else { 0 }]);
    }
}

impl HostScript for MsixOfKvmFunction {
    fn fail_arm(&mut self, vector: u16, fail: bool) {
        let eventfd = self.device.eventfd(vector);
        self.device.machine.record.lock().fail_assigns(&eventfd, fail);
    }

    fn signal(&mut self, vector: u16) {
        self.device.signal(vector);
    }
}

impl BackendLog for MsixOfKvmFunction {
    fn calls(&mut self) -> Vec<BackendCall> {
        self.device.machine.record.lock().take_calls()
    }
}

impl Attachment for MsixOfKvmFunction {
    fn attach(&mut self) {
        self.function().attach();
        self.attached = true;
    }

    fn detach(&mut self) {
        self.function().detach();
        self.attached = false;
        self.device.machine.detached();
    }
}

impl Snapshots for MsixOfKvmFunction {
    fn save(&mut self) -> Vec<u8> {
        self.function().save()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.function().load(bytes).map_err(Refused::because)
    }

    fn resume(&mut self) {
        self.function().resume();
    }
}
