//! The reference model as a subject: the same cases, another implementation.

use crate::reference::Reference;
use crate::vector_effects::VectorEffect;
use msix_conformance::{
    Attachment, BackendLog, BusMaster, Choices, Claims, Device, FunctionReset, HostCall, HostLog,
    HostScript, IntxCall, IntxLog, Layouts, Message, NoDevice, QemuField, Refused, SideChannel,
    Snapshots, Subject, Withdrawal,
};
use msix_core::operation::{Answer, Operation};
use msix_core::{Policy, Vector, Vectors};
use msix_subjects::{EventPath, ModelHost, SuiteHost as _, name_of, policy_name, vector_of};

/// The reference model under one policy, with events that take one way.
#[derive(Debug, Clone, Copy)]
pub struct NaiveSubject {
    policy: Policy,
    path: EventPath,
}

impl NaiveSubject {
    /// The model under `policy`.
    #[must_use]
    pub const fn new(policy: Policy, path: EventPath) -> Self {
        Self { policy, path }
    }
}

impl Subject for NaiveSubject {
    fn name(&self) -> String {
        let (policy, path) = (policy_name(&self.policy), name_of(self.path));
        format!("reference model, {policy}, {path}")
    }

    fn choices(&self) -> Choices {
        Choices::of(&self.policy)
    }

    fn device(&self, vectors: u32) -> Result<Box<dyn Device>, NoDevice> {
        match u16::try_from(vectors) {
            Ok(n @ 1..=MOST) => {
                let model = Reference::new(n, self.policy);
                let mut device = NaiveDevice { model, host: ModelHost::default(), path: self.path };
                device.attach();
                Ok(Box::new(device))
            }
            Ok(n @ ..=2048) if n > MOST => Err(NoDevice::NotOffered(format!(
                "the model walks over all vectors at every input: at most {MOST} here"
            ))),
            // The model takes its count for granted.
            _ => Err(NoDevice::NotOffered("the model does not check its vector count".into())),
        }
    }

    fn layouts(&self) -> Option<&dyn Layouts> {
        None
    }
}

/// Vectors that the model can be asked for and stay quick.
const MOST: u16 = 129;

#[derive(Debug)]
struct NaiveDevice {
    model: Reference,
    host: ModelHost,
    path: EventPath,
}

impl NaiveDevice {
    /// One input; what it tells the host is carried out, and what the host answers is fed back.
    fn input(&mut self, operation: &Operation) -> Answer {
        let (answer, effects) = self.model.apply(operation);
        self.carry_out(effects);
        self.serve_fallback();
        answer
    }

    /// What the host cannot deliver, userspace reads from the eventfd (H11), and everything while
    /// there is no host.
    fn serve_fallback(&mut self) {
        let model = &self.model;
        let by_userspace = |v| !model.is_attached() || model.is_fallback(usize::from(v));
        for v in self.host.take_held(&by_userspace) {
            let (_, effects) = self.model.apply(&Operation::Notify(Vector::new(v)));
            self.carry_out(effects);
        }
    }

    fn carry_out(&mut self, effects: Vec<VectorEffect>) {
        let (mut failed, mut held) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                VectorEffect::Arm(v, message) if !self.host.arm_one(v, message) => failed.push(v),
                VectorEffect::Reroute(v, message) if !self.host.reroute_one(v, message) => {
                    failed.push(v)
                }
                VectorEffect::Poll(v) if self.host.poll_one(v) => held.push(v),
                VectorEffect::Disarm(v) => self.host.disarm_one(v),
                VectorEffect::Drain(v) => self.host.drain_one(v),
                VectorEffect::Send(v, message) => self.host.send_one(v, message),
                VectorEffect::IntxDeassert => self.host.intx.push(IntxCall::Deassert),
                VectorEffect::IntxReevaluate => self.host.intx.push(IntxCall::Reevaluate),
                VectorEffect::Arm(..)
                | VectorEffect::Reroute(..)
                | VectorEffect::Poll(_)
                | VectorEffect::Snoop(_) => {}
            }
        }
        for v in failed {
            self.model.apply(&Operation::ReportFailed(Vectors::one(Vector::new(v))));
        }
        for v in held {
            let (_, effects) =
                self.model.apply(&Operation::ReportHeld(Vectors::one(Vector::new(v))));
            self.carry_out(effects);
        }
    }

    fn about(&mut self, vector: u32, input: impl Fn(Vector) -> Operation) -> Result<(), Refused> {
        let vector = self.checked(vector)?;
        self.input(&input(vector));
        Ok(())
    }

    fn checked(&self, vector: u32) -> Result<Vector, Refused> {
        let checked = vector_of(vector)?;
        if usize::from(checked.index()) < self.model.vectors() {
            return Ok(checked);
        }
        Err(Refused(format!("no vector {vector}")))
    }
}

/// An access as an operation names it: 16 bits of offset reach past every table.
fn place(offset: u64, bytes: &[u8]) -> (u16, u8) {
    (u16::try_from(offset).unwrap_or(u16::MAX), u8::try_from(bytes.len()).unwrap_or(u8::MAX))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn answer(answer: Answer, bytes: &mut [u8]) {
    if let Answer::Read(_, value) = answer {
        bytes.iter_mut().zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
    }
}

impl Device for NaiveDevice {
    fn read_config(&mut self, offset: usize, bytes: &mut [u8]) {
        let config = self.model.config();
        for (at, byte) in (offset..).zip(bytes) {
            *byte = config.get(at).copied().unwrap_or(0xff);
        }
    }

    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        let (offset, len) = place(offset as u64, bytes);
        let offset = u8::try_from(offset).unwrap_or(u8::MAX);
        self.input(&Operation::WriteConfig { offset, len, value: number(bytes) });
    }

    fn read_table(&mut self, offset: u64, bytes: &mut [u8]) {
        let (offset, len) = place(offset, bytes);
        answer(self.input(&Operation::ReadTable { offset, len }), bytes);
    }

    fn write_table(&mut self, offset: u64, bytes: &[u8]) {
        let (offset, len) = place(offset, bytes);
        self.input(&Operation::WriteTable { offset, len, value: number(bytes) });
    }

    fn read_pba(&mut self, offset: u64, bytes: &mut [u8]) {
        let (offset, len) = place(offset, bytes);
        self.input(&Operation::PollPba { offset, len });
        answer(self.input(&Operation::ReadPba { offset, len }), bytes);
    }

    fn write_pba(&mut self, offset: u64, bytes: &[u8]) {
        let (offset, len) = place(offset, bytes);
        self.input(&Operation::WritePba { offset, len });
    }

    fn fire(&mut self, vector: u32) -> Result<(), Refused> {
        let checked = self.checked(vector)?;
        let claimed = self.model.claims(usize::from(checked.index())) > 0;
        let listens = self.model.is_attached() && !self.model.is_loading();
        if claimed && self.path == EventPath::Irqfd && listens {
            self.signal(checked.index());
            return Ok(());
        }
        self.about(vector, Operation::Notify)
    }

    fn messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.host.messages)
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
    fn intx(&mut self) -> Option<&mut dyn IntxLog> {
        Some(self)
    }
    fn host_log(&mut self) -> Option<&mut dyn HostLog> {
        Some(self)
    }
    fn host_script(&mut self) -> Option<&mut dyn HostScript> {
        Some(self)
    }
    fn backend_log(&mut self) -> Option<&mut dyn BackendLog> {
        None
    }
    fn attachment(&mut self) -> Option<&mut dyn Attachment> {
        Some(self)
    }
    fn snapshots(&mut self) -> Option<&mut dyn Snapshots> {
        Some(self)
    }
    fn qemu_field(&mut self) -> Option<&mut dyn QemuField> {
        Some(self)
    }
}

impl Claims for NaiveDevice {
    fn claim(&mut self, vector: u32) -> Result<(), Refused> {
        self.about(vector, Operation::Claim)
    }

    fn unclaim(&mut self, vector: u32) -> Result<(), Refused> {
        self.about(vector, Operation::Unclaim)
    }

    fn count(&mut self, vector: u32) -> Result<u32, Refused> {
        let vector = self.checked(vector)?;
        Ok(u32::from(self.model.claims(usize::from(vector.index()))))
    }
}

impl Withdrawal for NaiveDevice {
    fn withdraw(&mut self, vector: u32) -> Result<(), Refused> {
        self.about(vector, Operation::Withdraw)
    }
}

impl SideChannel for NaiveDevice {
    fn set_mask(&mut self, vector: u32, masked: bool) -> Result<(), Refused> {
        self.about(vector, |vector| Operation::SetMask(vector, masked))
    }

    fn set_message(&mut self, vector: u32, message: Message) -> Result<(), Refused> {
        self.about(vector, |vector| Operation::SetMessage(vector, message))
    }
}

impl FunctionReset for NaiveDevice {
    fn reset(&mut self) {
        self.input(&Operation::Reset);
    }
}

impl BusMaster for NaiveDevice {
    fn set_bus_master(&mut self, on: bool) {
        self.input(&Operation::SetBusMaster(on));
    }
}

impl IntxLog for NaiveDevice {
    fn calls(&mut self) -> Vec<IntxCall> {
        std::mem::take(&mut self.host.intx)
    }
}

impl HostLog for NaiveDevice {
    fn calls(&mut self) -> Vec<HostCall> {
        std::mem::take(&mut self.host.calls)
    }
}

impl HostScript for NaiveDevice {
    fn fail_arm(&mut self, vector: u16, fail: bool) {
        self.host.fail_arm(vector, fail);
    }

    fn signal(&mut self, vector: u16) {
        self.host.signal(vector);
        self.serve_fallback();
    }
}

impl Attachment for NaiveDevice {
    fn attach(&mut self) {
        self.input(&Operation::Attach);
    }

    fn detach(&mut self) {
        self.input(&Operation::Detach);
    }
}

impl Snapshots for NaiveDevice {
    fn save(&mut self) -> Vec<u8> {
        self.input(&Operation::PrepareSave);
        self.model.saved()
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.model.load(bytes).map_err(Refused::because)
    }

    fn resume(&mut self) {
        self.input(&Operation::Resume);
    }
}

impl QemuField for NaiveDevice {
    fn save_field(&mut self) -> Vec<u8> {
        self.input(&Operation::PrepareSave);
        self.model.saved_qemu()
    }

    fn load_field(&mut self, control: u16, field: &[u8]) -> Result<(), Refused> {
        self.model.load_qemu(control, field).map_err(Refused::because)
    }

    fn resume_field(&mut self) {
        self.input(&Operation::Resume);
    }
}
