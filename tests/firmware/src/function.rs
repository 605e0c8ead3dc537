//! A whole function as firmware embeds it, with MSI, MSI-X and a pin, as a subject of the cases.

#![expect(unsafe_code, reason = "a device is in static memory, and given back when it is dropped")]

use crate::backend::Backend;
use crate::device::{Path, Room};
use crate::embedded::{POLICY, layout};
use crate::pool::{Key, Pool};
use crate::record::Record;
use crate::{arena, stack};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;
use core::mem::take;
use msix_conformance::{
    FunctionDevice, FunctionReset, FunctionSnapshots, FunctionSubject, MSIX_MESSAGE, Message, Mode,
    MsixBeside, NoDevice, PhysicalLine, Refused, Withdrawal,
};
use msix_core::{
    Effect, Function, FunctionEffect, FunctionEffects, Inline, IntxEffect, IntxSource,
    MAX_FUNCTION_EFFECTS, MsiCapability, NotCarriedOut, Parts, Vector, Vectors,
};

/// The whole function, with events that take one path.
pub(crate) struct FirmwareFunction(pub(crate) Path);

impl FunctionSubject for FirmwareFunction {
    fn name(&self) -> String {
        format!("firmware, function, events by the {}", self.0.name())
    }

    fn device(&self, vectors: u16, masks: bool) -> Result<Box<dyn FunctionDevice>, NoDevice> {
        let msi = MsiCapability::new(u32::from(vectors));
        let msi = msi.map_err(|why| NoDevice::Refused(why.to_string()))?.with_64_bit_address();
        let msi = if masks { msi.with_masks() } else { msi };
        let msix = layout(64).map_err(|why| NoDevice::Refused(why.to_string()))?;
        let pin = Some(IntxSource::Emulated);
        let parts = Parts { msi: Some(msi), msix: Some(msix), pin };
        // SAFETY: the key is dropped with the device.
        let (room, key) =
            unsafe { FUNCTIONS.take() }.ok_or_else(|| NoDevice::NotOffered("no room".into()))?;
        room.record.clear();
        let embedded = room.embedded.write(Embedded::new(parts));
        let mut device =
            Placed { embedded, record: &mut room.record, path: self.0, parts, _key: key };
        device.start();
        Ok(Box::new(device))
    }
}

type Engine = Function<Inline<64, 1>>;
type List = FunctionEffects<MAX_FUNCTION_EFFECTS>;

static FUNCTIONS: Pool<Room<(), Embedded>, 4> = Pool::new();

/// The function over its backends.
struct Embedded {
    function: Engine,
    list: List,
    msi: Backend<32>,
    msix: Backend<64>,
    /// The level that the guest's interrupt controller sees.
    line: bool,
    physical: Physical,
    /// The modes that were armed and disarmed.
    log: heapless::Vec<(Mode, bool), 256>,
}

/// The line of a real device.
#[derive(Default)]
struct Physical {
    is_asserted: bool,
    is_armed: bool,
    is_masked: bool,
    fired: u32,
}

impl Embedded {
    fn new(parts: Parts) -> Self {
        Self {
            function: Function::new(parts, POLICY).expect("there is room for 64 vectors"),
            list: List::new(),
            msi: Backend::new(),
            msix: Backend::new(),
            line: false,
            physical: Physical::default(),
            log: heapless::Vec::new(),
        }
    }

    /// Has the engine take an input on its own stack, and carries out what it emits.
    fn input<T>(
        &mut self,
        record: &mut Record,
        input: impl FnOnce(&mut Engine, &mut List) -> T,
    ) -> T {
        arena::shut(|| {
            stack::on(|| {
                let answer = input(&mut self.function, &mut self.list);
                self.settle(record);
                record.forget_calls();
                answer
            })
        })
    }

    fn settle(&mut self, record: &mut Record) {
        // As many as a Poll of every vector of both modes can answer.
        let mut held = heapless::Vec::<(Mode, Vectors), 2>::new();
        loop {
            while let Some(effect) = self.list.take() {
                match effect {
                    FunctionEffect::MsiX(effect) => {
                        let answered = self.messages(Mode::MsiX, effect, record);
                        answered
                            .into_iter()
                            .for_each(|vectors| _ = held.push((Mode::MsiX, vectors)));
                    }
                    FunctionEffect::Msi(effect) => {
                        let answered = self.messages(Mode::Msi, effect, record);
                        answered
                            .into_iter()
                            .for_each(|vectors| _ = held.push((Mode::Msi, vectors)));
                    }
                    FunctionEffect::Intx(effect) => self.pin(effect),
                }
            }
            let physical = &mut self.physical;
            let reported = if let Some((mode, vectors)) = held.pop() {
                self.function.report_held(mode, vectors, &mut self.list)
            } else if physical.is_asserted && physical.is_armed && !physical.is_masked {
                physical.is_masked = true; // D12
                physical.fired += 1;
                self.function.report_fired(&mut self.list)
            } else {
                return;
            };
            debug_assert!(reported.is_ok(), "the list was carried out");
        }
    }

    /// Carries out one effect of MSI or MSI-X; returns the vectors whose events were held.
    fn messages(&mut self, mode: Mode, effect: Effect, record: &mut Record) -> Option<Vectors> {
        let message = |vector| self.function.message(mode, vector);
        let (was_armed, answer, is_armed) = if mode == Mode::Msi {
            let was_armed = self.msi.is_armed();
            (was_armed, self.msi.carry_out(effect, message, record), self.msi.is_armed())
        } else {
            let was_armed = self.msix.is_armed();
            (was_armed, self.msix.carry_out(effect, message, record), self.msix.is_armed())
        };
        if is_armed != was_armed {
            self.note(mode, is_armed);
        }
        self.function.report_failed(mode, answer.failed);
        Some(answer.held).filter(|held| held.bits() != 0)
    }

    fn pin(&mut self, effect: IntxEffect) {
        match effect {
            IntxEffect::Assert => self.line = true,
            IntxEffect::Deassert => self.line = false,
            IntxEffect::Unmask => self.physical.is_masked = false,
            IntxEffect::Arm | IntxEffect::Disarm => {
                self.physical.is_armed = effect == IntxEffect::Arm;
                self.physical.is_masked = false;
                self.note(Mode::Intx, self.physical.is_armed);
            }
        }
    }

    fn note(&mut self, mode: Mode, is_armed: bool) {
        assert!(self.log.push((mode, is_armed)).is_ok(), "a case looks often enough");
    }
}

/// A function in static memory.
struct Placed {
    embedded: &'static mut Embedded,
    record: &'static mut Record,
    path: Path,
    parts: Parts,
    _key: Key,
}

impl Placed {
    fn start(&mut self) {
        let v0 = Vector::new(0);
        self.always(Function::attach);
        self.always(|function, list| function.write_command(0, &[4], list));
        let claimed = self.embedded.input(self.record, |function, list| function.claim(v0, list));
        claimed.expect("vector 0 is in the table");
        let set = self
            .embedded
            .input(self.record, |function, list| function.set_message(v0, MSIX_MESSAGE, list));
        set.expect("vector 0 is in the table");
    }

    fn always(&mut self, input: impl FnOnce(&mut Engine, &mut List) -> Result<(), NotCarriedOut>) {
        let answer = self.embedded.input(self.record, input);
        assert!(answer.is_ok(), "the list was carried out");
    }
}

impl FunctionDevice for Placed {
    fn read_msi(&mut self, offset: usize, bytes: &mut [u8]) {
        self.always(|function, list| function.poll_msi(offset, bytes.len(), list));
        self.embedded.input(self.record, |function, _| function.read_msi(offset, bytes));
    }

    fn write_msi(&mut self, offset: usize, bytes: &[u8]) {
        self.always(|function, list| function.write_msi(offset, bytes, list));
    }

    fn set_bus_master(&mut self, on: bool) {
        self.always(|function, list| function.write_command(0, &[if on { 4 } else { 0 }], list));
    }

    fn set_interrupt_disable(&mut self, on: bool) {
        self.always(|function, list| function.write_command(1, &[if on { 4 } else { 0 }], list));
    }

    fn interrupt_status(&mut self) -> bool {
        self.embedded.function.status() == 8
    }

    fn fire(&mut self, vector: u16) {
        let function = &self.embedded.function;
        let (mode, vector) = (function.mode(), Vector::new(vector));
        let by_backend = self.path == Path::Backend && !function.is_loading();
        match mode {
            Mode::Msi if by_backend => {
                let target = function.msi().map_or(vector, |msi| msi.vector_for(vector));
                self.embedded.msi.signal(target, self.record);
            }
            Mode::MsiX if by_backend => self.embedded.msix.signal(vector, self.record),
            Mode::Msi | Mode::MsiX => {
                let _ = self
                    .embedded
                    .input(self.record, |function, list| function.notify(vector, list));
            }
            Mode::Intx | Mode::None => {
                self.always(|function, list| function.set_level(true, list));
            }
        }
    }

    fn satisfy(&mut self) {
        self.always(|function, list| function.set_level(false, list));
    }

    fn messages(&mut self) -> Vec<Message> {
        self.record.take_messages()
    }

    fn line(&mut self) -> bool {
        self.embedded.line
    }

    fn withdrawal(&mut self) -> Option<&mut dyn Withdrawal> {
        Some(self)
    }

    fn msix(&mut self) -> Option<&mut dyn MsixBeside> {
        Some(self)
    }

    fn physical(&mut self) -> Option<&mut dyn PhysicalLine> {
        if self.parts.pin != Some(IntxSource::Physical) {
            self.parts.pin = Some(IntxSource::Physical);
            *self.embedded = Embedded::new(self.parts);
            self.start();
        }
        Some(self)
    }

    fn function_reset(&mut self) -> Option<&mut dyn FunctionReset> {
        Some(self)
    }

    fn host_log(&mut self) -> Option<Vec<(Mode, bool)>> {
        Some(take(&mut self.embedded.log).to_vec())
    }

    fn snapshots(&mut self) -> Option<&mut dyn FunctionSnapshots> {
        Some(self)
    }
}

impl FunctionSnapshots for Placed {
    fn save(&mut self) -> Vec<u8> {
        self.always(Function::prepare_save);
        let mut bytes = vec![0; self.embedded.function.saved_len()];
        let saved = self.embedded.input(self.record, |function, _| function.save(&mut bytes));
        saved.expect("the buffer has the length asked for");
        bytes
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let loaded = self.embedded.input(self.record, |function, _| function.load(bytes));
        loaded.map_err(Refused::because)
    }

    fn resume(&mut self) {
        self.always(Function::resume);
    }
}

impl Withdrawal for Placed {
    fn withdraw(&mut self, vector: u32) -> Result<(), Refused> {
        let vector = Vector::new(u16::try_from(vector).map_err(Refused::because)?);
        let withdrawn = self
            .embedded
            .input(self.record, |function, list| function.withdraw(Mode::Msi, vector, list));
        withdrawn.map(drop).map_err(Refused::because)
    }
}

impl MsixBeside for Placed {
    fn set_enabled(&mut self, on: bool) {
        self.always(|function, list| function.write_msix(3, &[if on { 0x80 } else { 0 }], list));
    }
}

impl FunctionReset for Placed {
    fn reset(&mut self) {
        self.always(Function::reset);
    }
}

impl PhysicalLine for Placed {
    fn assert(&mut self, high: bool) {
        self.embedded.physical.is_asserted = high;
        self.embedded.input(self.record, |_, _| ());
    }

    fn eoi(&mut self) {
        self.always(Function::eoi);
    }

    fn fired(&mut self) -> u32 {
        self.embedded.physical.fired
    }
}
