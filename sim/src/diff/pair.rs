//! One function twice: the engine's and QEMU's, with the memory its messages go to.

use super::questions::{Expected, Question, Questions};
use msix_backends::{Host, Route, carry_out};
use msix_core::operation::{Answer, Operation};
use msix_core::policy::WhileDisabled;
use msix_core::{BarIndex, Boxed, Effects, Layout, MAX_EFFECTS, Msix, Policy, Vector, Vectors};
use msix_peers::{QemuError, QemuFunction};

/// Memory where the messages of device 0 go; each device has its own part.
const FIRST_WINDOW: u32 = 0x20_0000;
const WINDOW_SPACING: u32 = 0x1_0000;

/// Command: memory, with or without bus master.
const COMMAND: [u16; 2] = [0b010, 0b110];

/// Where the two sides differ.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PeerDifference {
    /// The input after which they do, as a line of a script.
    pub input: String,
    /// What was compared.
    pub what: String,
    /// The engine's.
    pub engine: String,
    /// QEMU's.
    pub qemu: String,
}

/// What was compared so far.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Compared {
    /// Inputs given to both sides.
    pub operations: u64,
    /// Reads of configuration space, table and PBA.
    pub reads: u64,
    /// Messages that the engine sent, each looked for in QEMU's memory.
    pub messages: u64,
    /// Events raised.
    pub events: u64,
    /// Machine resets.
    pub resets: u64,
    /// Migration streams whose msix field was compared, and loaded on both sides.
    pub migrations: u64,
}

/// The engine's side.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) function: QemuFunction,
    msix: Msix<Boxed>,
    memory: Memory,
    /// The last input, if QEMU was not asked for the memory since.
    unasked: Option<Operation>,
}

/// The window of memory that a function's messages go to, as it should be.
#[derive(Debug)]
struct Memory {
    base: u64,
    bytes: Vec<u8>,
    written: bool,
    messages: u64,
}

impl Memory {
    fn new(base: u32, len: u32) -> Self {
        let bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        Self { base: u64::from(base), bytes, written: false, messages: 0 }
    }
}

impl Host for Memory {
    fn send(&mut self, route: Route) {
        self.messages += 1;
        let offset = route.message.address.checked_sub(self.base);
        let place = offset.and_then(|offset| usize::try_from(offset).ok()).and_then(|offset| {
            self.bytes.get_mut(offset..).and_then(|bytes| bytes.first_chunk_mut())
        });
        if let Some(place) = place {
            *place = route.message.data.to_le_bytes();
            self.written = true;
        }
    }

    // QEMU's device delivers from userspace here: nothing is routed, armed or held.
    fn arm(&mut self, _: &[Route]) -> Vec<Vector> {
        Vec::new()
    }
    fn disarm(&mut self, _: &[Vectors]) {}
    fn reroute(&mut self, _: &[Route]) -> Vec<Vector> {
        Vec::new()
    }
    fn poll(&mut self, _: &[Vectors]) -> Vec<Vectors> {
        Vec::new()
    }
    fn drain(&mut self, _: &[Vectors]) {}
    fn snoop(&mut self, _: Route) {}
    fn intx_deassert(&mut self) {}
    fn intx_reevaluate(&mut self) {}
}

/// Window of device `index` with `vectors` vectors: base and length, bytes.
pub(super) fn window(index: usize, vectors: u16) -> (u32, u32) {
    let base = FIRST_WINDOW + WINDOW_SPACING * u32::try_from(index).unwrap_or(0);
    (base, (u32::from(vectors) * 4 + 16).next_multiple_of(64))
}

impl Pair {
    /// The engine's side in its reset state; [`begin_lines`](Self::begin_lines) are QEMU's.
    pub(super) fn new(
        function: QemuFunction,
        vectors: u16,
        policy: Policy,
    ) -> Result<Self, QemuError> {
        let broken = |error: &dyn std::fmt::Display| QemuError::Device(error.to_string());
        let bar = BarIndex::new(1).map_err(|error| broken(&error))?;
        let layout =
            Layout::exclusive_bar(u32::from(vectors), bar).map_err(|error| broken(&error))?;
        // H3: the ivshmem device itself drops an event while MSI-X is disabled.
        let policy = Policy { while_disabled: WhileDisabled::Drop, ..policy };
        let mut msix = Msix::new(layout, policy).map_err(|error| broken(&error))?;
        let mut fx = Effects::<MAX_EFFECTS>::new();
        for vector in (0..vectors).map(Vector::new) {
            msix.claim(vector, &mut fx).map_err(|error| broken(&error))?;
        }
        let (base, len) = window(function.index, vectors);
        Ok(Self { function, msix, memory: Memory::new(base, len), unasked: None })
    }

    /// The commands to QEMU's device after a reset.
    pub(super) fn begin_lines(&self) -> impl Iterator<Item = String> {
        self.function.place_lines().into_iter().chain([self.clearing()])
    }

    pub(super) const fn msix(&self) -> &Msix<Boxed> {
        &self.msix
    }

    /// Gives one input to the engine. If it sends, the memory is asked for first: what QEMU sent and
    /// should not have is not taken for what it is about to send. So inputs that send nothing need no
    /// question of their own. Machine resets and migrations concern all functions and are not done here.
    pub(super) fn begin(
        &mut self,
        operation: &Operation,
        questions: &mut Questions,
        compared: &mut Compared,
    ) -> Answer {
        let answer = self.apply(operation);
        if self.memory.written
            && let Some(last) = self.unasked.take()
        {
            let nothing = vec![0; self.memory.bytes.len()];
            self.ask(last, nothing, questions, compared);
        }
        compared.operations += 1;
        answer
    }

    /// Gives QEMU the input that the engine answered with `answer`, and asks about it. Of an event it
    /// asks only: that was raised before.
    pub(super) fn follow(
        &mut self,
        operation: &Operation,
        answer: Answer,
        questions: &mut Questions,
        compared: &mut Compared,
    ) {
        compared.events += u64::from(matches!(operation, Operation::Notify(_)));
        self.unasked = Some(*operation);
        if let Answer::Read(_, ours) = answer {
            compared.reads += 1;
            let (lines, expected) = self.read_of(operation, ours);
            let question = Question { operation: *operation, compared: *compared, expected };
            questions.ask(lines, question);
            return;
        }
        questions.tell(self.write_of(operation));
        if self.memory.written {
            self.ask_memory(questions, compared);
        }
    }

    /// Gives one input to the engine alone.
    pub(super) fn apply(&mut self, operation: &Operation) -> Answer {
        let mut fx = Effects::<MAX_EFFECTS>::new();
        let answer = operation.apply(&mut self.msix, &mut [], &mut fx);
        carry_out(&mut self.msix, &mut fx, &mut self.memory);
        answer
    }

    /// The commands of a read, and what the last of them is answered with if it reads `ours` too.
    fn read_of(&self, operation: &Operation, ours: u64) -> (Vec<String>, Expected) {
        let QemuFunction { capability, table, pba, .. } = self.function;
        let memory = |base: u64, offset: u16, len: u8| {
            let len = usize::from(len.min(8));
            let line = QemuFunction::read_line(base + u64::from(offset), len);
            (line.into_iter().collect(), Expected::Bytes { ours, len })
        };
        match *operation {
            Operation::ReadConfig { offset, len } => {
                // The link to the next capability is the device's own.
                let link = if offset == 0 && len > 1 { 0xff00 } else { 0 };
                let link = if offset == 1 { 0xff } else { link };
                let lines = self.function.config_lines(capability + offset, len).into();
                (lines, Expected::Number { ours, mask: !link })
            }
            Operation::ReadTable { offset, len } => memory(table, offset, len),
            Operation::ReadPba { offset, len } => memory(pba, offset, len),
            _ => (Vec::new(), Expected::Bytes { ours, len: 0 }), // nothing else reads
        }
    }

    /// The commands of an input that writes.
    fn write_of(&self, operation: &Operation) -> Vec<String> {
        let QemuFunction { capability, table, pba, .. } = self.function;
        let prefix = |bytes: [u8; 8], len: u8| bytes[..usize::from(len.min(8))].to_vec();
        let memory = |base: u64, offset: u16, bytes: Vec<u8>| {
            QemuFunction::write_line(base + u64::from(offset), &bytes).into_iter().collect()
        };
        match *operation {
            Operation::WriteConfig { offset, len, value } => {
                let kept = if len < 8 { value & ((1 << (len * 8)) - 1) } else { value };
                self.function.set_config_lines(capability + offset, len, kept).into()
            }
            Operation::WriteTable { offset, len, value } => {
                memory(table, offset, prefix(value.to_le_bytes(), len))
            }
            Operation::WritePba { offset, len } => memory(pba, offset, prefix([0xff; 8], len)),
            Operation::SetBusMaster(on) => {
                self.function.command_lines(COMMAND[usize::from(on)]).into()
            }
            _ => Vec::new(),
        }
    }

    /// Asks for the window, if there was an input since it was last asked for, and clears it on both
    /// sides when the engine wrote anything.
    pub(super) fn ask_memory(&mut self, questions: &mut Questions, compared: &mut Compared) {
        let Some(last) = self.unasked.take() else { return };
        compared.messages += std::mem::take(&mut self.memory.messages);
        self.ask(last, self.memory.bytes.clone(), questions, compared);
        if std::mem::take(&mut self.memory.written) {
            self.memory.bytes.fill(0);
            questions.tell([self.clearing()]);
        }
    }

    /// Asks whether the window is `ours` after `operation`.
    fn ask(
        &self,
        operation: Operation,
        ours: Vec<u8>,
        questions: &mut Questions,
        compared: &Compared,
    ) {
        let (base, len) = (self.memory.base, ours.len());
        let expected = Expected::Memory { base, ours };
        let question = Question { operation, compared: *compared, expected };
        questions.ask(QemuFunction::read_line(base, len), question);
    }

    /// The command that clears the window.
    fn clearing(&self) -> String {
        format!("memset {:#x} {:#x} 0x0", self.memory.base, self.memory.bytes.len())
    }

    /// Compares the msix field of a migration stream with the engine's, and loads it (C45).
    pub(super) fn load(&mut self, control: u16, field: &[u8]) -> Option<PeerDifference> {
        let mut ours = vec![0; self.msix.qemu_len()];
        let saved = self.msix.save_qemu(&mut ours);
        let register = self.msix.control();
        let difference = |what: String, engine: String, qemu: String| {
            let input = "save-and-load-qemu".to_owned();
            Some(PeerDifference { input, what, engine, qemu })
        };
        if saved.is_err() || ours.len() != field.len() {
            let (ours, theirs) = (ours.len().to_string(), field.len().to_string());
            return difference("length of the msix field".to_owned(), ours, theirs);
        }
        if register != control {
            let (ours, theirs) = (format!("{register:#x}"), format!("{control:#x}"));
            return difference("saved Message Control".to_owned(), ours, theirs);
        }
        if let Some(at) = ours.iter().zip(field).position(|(ours, theirs)| ours != theirs) {
            let (ours, theirs) = (format!("{:#x}", ours[at]), format!("{:#x}", field[at]));
            return difference(format!("byte {at:#x} of the msix field"), ours, theirs);
        }
        if let Err(error) = self.msix.load_qemu(control, field) {
            return difference("loading".to_owned(), error.to_string(), "loaded".to_owned());
        }
        self.apply(&Operation::Resume);
        self.unasked = Some(Operation::SaveAndLoadQemu);
        None
    }
}
