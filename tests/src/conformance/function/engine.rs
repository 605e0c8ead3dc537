//! The engine, and anything else that takes its operations, as a subject.

use crate::vector_effects::VectorEffect;
use crate::whole_function::{PartEffect, vector_effects};
use msix_conformance::{
    FunctionDevice, FunctionReset, FunctionSnapshots, FunctionSubject, MSIX_MESSAGE, MsixBeside,
    NoDevice, PhysicalLine, Refused, Withdrawal,
};
use msix_core::operation::{Answer, FunctionOperation};
use msix_core::{
    Boxed, Function, FunctionEffects, IntxEffect, IntxSource, MAX_FUNCTION_EFFECTS, Message, Mode,
    MsiCapability, Parts, Policy, Vector, Vectors,
};
use msix_subjects::{EventPath, ModelHost, SuiteHost as _, layout, name_of, policy_name};

/// A function that is driven by operations.
pub(super) trait Operated {
    /// One input.
    fn apply(&mut self, operation: &FunctionOperation) -> (Answer, Vec<PartEffect>);
    /// How it interrupts.
    fn mode(&self) -> Mode;
    /// The Status register.
    fn status(&self) -> u16;
    /// Whether a resume is to come.
    fn is_loading(&self) -> bool;
    /// The function, if it can be saved to bytes.
    fn as_engine(&mut self) -> Option<&mut Function<Boxed>> {
        None
    }
}

/// The engine under one policy, with events that take one way.
#[derive(Debug, Clone, Copy)]
pub struct EngineFunctionSubject {
    policy: Policy,
    path: EventPath,
}

impl EngineFunctionSubject {
    /// The engine under `policy`.
    #[must_use]
    pub const fn new(policy: Policy, path: EventPath) -> Self {
        Self { policy, path }
    }
}

impl FunctionSubject for EngineFunctionSubject {
    fn name(&self) -> String {
        format!("function, {}, {}", policy_name(&self.policy), name_of(self.path))
    }

    fn device(&self, vectors: u16, masks: bool) -> Result<Box<dyn FunctionDevice>, NoDevice> {
        let policy = self.policy;
        let make = move |parts| Engine(Function::boxed(parts, policy));
        OperatedDevice::boxed(Box::new(make), self.path, vectors, masks)
    }
}

struct Engine(Function<Boxed>);

impl Operated for Engine {
    fn apply(&mut self, operation: &FunctionOperation) -> (Answer, Vec<PartEffect>) {
        let mut fx = FunctionEffects::<MAX_FUNCTION_EFFECTS>::new();
        let answer = operation.apply(&mut self.0, &mut [], &mut fx);
        (answer, fx.iter().flat_map(|effect| vector_effects(&self.0, effect)).collect())
    }

    fn mode(&self) -> Mode {
        self.0.mode()
    }

    fn status(&self) -> u16 {
        self.0.status()
    }

    fn is_loading(&self) -> bool {
        self.0.is_loading()
    }

    fn as_engine(&mut self) -> Option<&mut Function<Boxed>> {
        Some(&mut self.0)
    }
}

/// A device model around a function: its level, and what the host saw.
pub(super) struct OperatedDevice<F> {
    make: Box<dyn Fn(Parts) -> F>,
    parts: Parts,
    function: F,
    path: EventPath,
    /// Where the messages of MSI and of MSI-X are armed.
    hosts: [ModelHost; 2],
    messages: Vec<Message>,
    line: bool,
    log: Vec<(Mode, bool)>,
    /// The physical line: asserted, armed, masked.
    physical: (bool, bool, bool),
    fired: u32,
}

impl<F: Operated + 'static> OperatedDevice<F> {
    pub(super) fn boxed(
        make: Box<dyn Fn(Parts) -> F>,
        path: EventPath,
        vectors: u16,
        masks: bool,
    ) -> Result<Box<dyn FunctionDevice>, NoDevice> {
        let plain = MsiCapability::new(u32::from(vectors));
        let plain = plain.map_err(|why| NoDevice::Refused(why.to_string()))?.with_64_bit_address();
        let msi = Some(if masks { plain.with_masks() } else { plain });
        let parts = Parts { msi, msix: Some(layout(1)), pin: Some(IntxSource::Emulated) };
        Ok(Box::new(Self::started(make, path, parts)))
    }

    fn started(make: Box<dyn Fn(Parts) -> F>, path: EventPath, parts: Parts) -> Self {
        let mut device = Self {
            function: make(parts),
            make,
            parts,
            path,
            hosts: [ModelHost::default(), ModelHost::default()],
            messages: Vec::new(),
            line: false,
            log: Vec::new(),
            physical: (false, false, false),
            fired: 0,
        };
        let v0 = Vector::new(0);
        device.give(FunctionOperation::Attach);
        device.give(FunctionOperation::WriteCommand { offset: 0, len: 1, value: 4 });
        device.give(FunctionOperation::Claim(v0));
        device.give(FunctionOperation::SetMessage(v0, MSIX_MESSAGE));
        device
    }

    fn give(&mut self, operation: FunctionOperation) -> Answer {
        let (answer, effects) = self.function.apply(&operation);
        for effect in effects {
            self.carry_out(effect);
        }
        if let (true, true, false) = self.physical {
            self.physical.2 = true; // D12
            self.fired += 1;
            self.give(FunctionOperation::ReportFired);
        }
        answer
    }

    fn carry_out(&mut self, effect: PartEffect) {
        let (mode, effect) = match effect {
            PartEffect::MsiX(effect) => (Mode::MsiX, effect),
            PartEffect::Msi(effect) => (Mode::Msi, effect),
            PartEffect::Intx(effect) => {
                match effect {
                    IntxEffect::Assert => self.line = true,
                    IntxEffect::Deassert => self.line = false,
                    IntxEffect::Unmask => self.physical.2 = false,
                    IntxEffect::Arm | IntxEffect::Disarm => {
                        let armed = effect == IntxEffect::Arm;
                        (self.physical.1, self.physical.2) = (armed, false);
                        self.log.push((Mode::Intx, armed));
                    }
                }
                return;
            }
        };
        let host = host_of(&mut self.hosts, mode);
        let was_armed = host.is_armed();
        let mut is_held = None;
        match effect {
            VectorEffect::Send(vector, message) => host.send_one(vector, message),
            VectorEffect::Arm(vector, message) => _ = host.arm_one(vector, message),
            VectorEffect::Reroute(vector, message) => _ = host.reroute_one(vector, message),
            VectorEffect::Disarm(vector) => host.disarm_one(vector),
            VectorEffect::Drain(vector) => host.drain_one(vector),
            VectorEffect::Poll(vector) => is_held = host.poll_one(vector).then_some(vector),
            VectorEffect::Snoop(_) | VectorEffect::IntxDeassert | VectorEffect::IntxReevaluate => {}
        }
        if host.is_armed() != was_armed {
            self.log.push((mode, host.is_armed()));
        }
        self.messages.append(&mut host.messages);
        if let Some(vector) = is_held {
            let held = Vectors::one(Vector::new(vector));
            self.give(FunctionOperation::ReportHeld(mode, held));
        }
    }

    /// The vector that an event of `vector` is sent as.
    fn target(&mut self, mode: Mode, vector: u16) -> u16 {
        let mut control = [0; 2];
        match mode {
            Mode::Msi => self.read_msi(2, &mut control),
            _ => return vector,
        }
        let capable = 1 << (control[0] >> 1 & 7);
        let allocated = 1 << (control[0] >> 4 & 7);
        vector % u16::min(capable, allocated)
    }

    /// Writes at most 8 bytes at a time.
    fn command(&mut self, offset: u8, value: u64) {
        self.give(FunctionOperation::WriteCommand { offset, len: 1, value });
    }
}

fn host_of(hosts: &mut [ModelHost; 2], mode: Mode) -> &mut ModelHost {
    &mut hosts[usize::from(mode == Mode::MsiX)]
}

fn value(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

impl<F: Operated + 'static> FunctionDevice for OperatedDevice<F> {
    fn read_msi(&mut self, offset: usize, bytes: &mut [u8]) {
        let (offset, len) = (offset as u8, bytes.len() as u8);
        self.give(FunctionOperation::PollMsi { offset, len });
        if let Answer::Read(_, value) = self.give(FunctionOperation::ReadMsi { offset, len }) {
            bytes.copy_from_slice(&value.to_le_bytes()[..bytes.len()]);
        }
    }

    fn write_msi(&mut self, offset: usize, bytes: &[u8]) {
        let (offset, len) = (offset as u8, bytes.len() as u8);
        self.give(FunctionOperation::WriteMsi { offset, len, value: value(bytes) });
    }

    fn set_bus_master(&mut self, on: bool) {
        self.command(0, if on { 4 } else { 0 });
    }

    fn set_interrupt_disable(&mut self, on: bool) {
        self.command(1, if on { 4 } else { 0 });
    }

    fn interrupt_status(&mut self) -> bool {
        self.function.status() == 8
    }

    fn fire(&mut self, vector: u16) {
        match self.function.mode() {
            mode @ (Mode::Msi | Mode::MsiX)
                if self.path == EventPath::Irqfd && !self.function.is_loading() =>
            {
                let target = self.target(mode, vector);
                let host = host_of(&mut self.hosts, mode);
                host.signal(target);
                self.messages.append(&mut host.messages);
            }
            Mode::Msi | Mode::MsiX => {
                self.give(FunctionOperation::Notify(Vector::new(vector)));
            }
            Mode::Intx | Mode::None => {
                self.give(FunctionOperation::SetLevel(true));
            }
        }
    }

    fn satisfy(&mut self) {
        self.give(FunctionOperation::SetLevel(false));
    }

    fn messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.messages)
    }

    fn line(&mut self) -> bool {
        self.line
    }

    fn withdrawal(&mut self) -> Option<&mut dyn Withdrawal> {
        Some(self)
    }

    fn msix(&mut self) -> Option<&mut dyn MsixBeside> {
        Some(self)
    }

    fn physical(&mut self) -> Option<&mut dyn PhysicalLine> {
        if self.parts.pin != Some(IntxSource::Physical) {
            let parts = Parts { pin: Some(IntxSource::Physical), ..self.parts };
            let function = (self.make)(parts);
            let make = std::mem::replace(&mut self.make, Box::new(|_| unreachable!("replaced")));
            drop(function);
            *self = Self::started(make, self.path, parts);
        }
        Some(self)
    }

    fn function_reset(&mut self) -> Option<&mut dyn FunctionReset> {
        Some(self)
    }

    fn host_log(&mut self) -> Option<Vec<(Mode, bool)>> {
        Some(std::mem::take(&mut self.log))
    }

    fn snapshots(&mut self) -> Option<&mut dyn FunctionSnapshots> {
        self.function.as_engine()?;
        Some(self)
    }
}

impl<F: Operated + 'static> FunctionSnapshots for OperatedDevice<F> {
    fn save(&mut self) -> Vec<u8> {
        self.give(FunctionOperation::PrepareSave);
        let engine = self.function.as_engine().expect("it was offered");
        let mut bytes = vec![0; engine.saved_len()];
        engine.save(&mut bytes).expect("there is room");
        bytes
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let engine = self.function.as_engine().expect("it was offered");
        engine.load(bytes).map_err(Refused::because)
    }

    fn resume(&mut self) {
        self.give(FunctionOperation::Resume);
    }
}

impl<F: Operated + 'static> Withdrawal for OperatedDevice<F> {
    fn withdraw(&mut self, vector: u32) -> Result<(), Refused> {
        let vector = Vector::new(u16::try_from(vector).map_err(Refused::because)?);
        match self.give(FunctionOperation::Withdraw(Mode::Msi, vector)) {
            Answer::Withdrawn(_) => Ok(()),
            _ => Err(Refused("no such vector".to_owned())),
        }
    }
}

impl<F: Operated + 'static> MsixBeside for OperatedDevice<F> {
    fn set_enabled(&mut self, on: bool) {
        let value = if on { 0x80 } else { 0 };
        self.give(FunctionOperation::WriteMsix { offset: 3, len: 1, value });
    }
}

impl<F: Operated + 'static> FunctionReset for OperatedDevice<F> {
    fn reset(&mut self) {
        self.give(FunctionOperation::Reset);
    }
}

impl<F: Operated + 'static> PhysicalLine for OperatedDevice<F> {
    fn assert(&mut self, high: bool) {
        self.physical.0 = high;
        self.give(FunctionOperation::PrepareSave); // an input that changes nothing
    }

    fn eoi(&mut self) {
        self.give(FunctionOperation::Eoi);
    }

    fn fired(&mut self) -> u32 {
        self.fired
    }
}
