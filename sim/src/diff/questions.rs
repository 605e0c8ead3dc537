//! What QEMU is told and asked, many commands at a time.

use super::pair::{Compared, PeerDifference};
use msix_core::operation::Operation;
use msix_explorer::script::ScriptInput as _;
use msix_peers::{Qemu, QemuError, QemuFunction};

/// What QEMU must answer to the last command of a question.
#[derive(Debug)]
pub(super) enum Expected {
    /// A number that is `ours` under `mask`.
    Number {
        /// The engine's.
        ours: u64,
        /// What is compared.
        mask: u64,
    },
    /// So many bytes of memory: the low ones of `ours`.
    Bytes {
        /// The engine's.
        ours: u64,
        /// How many, at most 8.
        len: usize,
    },
    /// Memory from `base` on.
    Memory {
        /// Its address.
        base: u64,
        /// As it should be.
        ours: Vec<u8>,
    },
}

/// A question that an input leads to.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) operation: Operation,
    /// What was compared once this is.
    pub(super) compared: Compared,
    pub(super) expected: Expected,
}

/// Whose commands come next.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Turn {
    /// Index of the device.
    pub(super) device: usize,
    /// The number of inputs that it was given since the last reset.
    pub(super) given: usize,
}

/// Events and commands that QEMU was not given yet, and what it must answer.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// Devices and vectors, before all commands: QEMU looks for events first.
    events: Vec<(usize, u16)>,
    lines: Vec<String>,
    /// The devices with commands, a bit each.
    commanded: u32,
    /// Each with the index of the command whose answer it is about.
    asked: Vec<(usize, Turn, Question)>,
    pub(super) turn: Turn,
}

/// An answer that differs.
#[derive(Debug)]
pub(super) struct Differs {
    pub(super) difference: PeerDifference,
    /// What was compared until then.
    pub(super) compared: Compared,
    /// The device, and what it had been given then.
    pub(super) turn: Turn,
}

/// Commands that are worth a wait.
const ENOUGH: usize = 256;

impl Questions {
    /// Adds commands that answer with nothing.
    pub(super) fn tell(&mut self, lines: impl IntoIterator<Item = String>) {
        let before = self.lines.len();
        self.lines.extend(lines);
        if self.lines.len() > before {
            self.commanded |= 1 << self.turn.device;
        }
    }

    /// Adds commands; the last of them, if there is one, is answered as `question` says.
    pub(super) fn ask(&mut self, lines: impl IntoIterator<Item = String>, question: Question) {
        let before = self.lines.len();
        self.tell(lines);
        if self.lines.len() > before {
            self.asked.push((self.lines.len() - 1, self.turn, question));
        }
    }

    /// Adds an event of the device whose turn it is, if no command to it waits: it would overtake that.
    pub(super) fn raise(&mut self, vector: u16) {
        debug_assert!(!self.has_commands(), "an event overtakes commands");
        self.events.push((self.turn.device, vector));
    }

    /// Returns whether commands to the device whose turn it is wait.
    pub(super) const fn has_commands(&self) -> bool {
        self.commanded >> self.turn.device & 1 != 0
    }

    pub(super) const fn is_enough(&self) -> bool {
        self.lines.len() >= ENOUGH
    }

    /// Gives QEMU all of them, and compares its answers. Returns the first that differs.
    pub(super) fn settle(&mut self, qemu: &mut Qemu) -> Result<Option<Differs>, QemuError> {
        qemu.raise_all(&std::mem::take(&mut self.events))?;
        self.commanded = 0;
        let lines = std::mem::take(&mut self.lines);
        let answers = qemu.qtest().commands(&lines)?;
        for (at, turn, question) in self.asked.drain(..) {
            let (Some(line), Some(answer)) = (lines.get(at), answers.get(at)) else { continue };
            if let Some(difference) = question.differs(line, answer)? {
                return Ok(Some(Differs { difference, compared: question.compared, turn }));
            }
        }
        Ok(None)
    }
}

impl Question {
    fn differs(&self, line: &str, answer: &str) -> Result<Option<PeerDifference>, QemuError> {
        let differing = match self.expected {
            Expected::Number { ours, mask } => {
                values(ours, QemuFunction::number(line, answer)? & mask)
            }
            Expected::Bytes { ours, len } => {
                let mut bytes = [0; 8];
                QemuFunction::bytes(line, answer, &mut bytes[..len])?;
                values(ours, u64::from_le_bytes(bytes))
            }
            Expected::Memory { base, ref ours } => {
                let mut theirs = vec![0; ours.len()];
                QemuFunction::bytes(line, answer, &mut theirs)?;
                let mut pairs = ours.chunks(4).zip(theirs.chunks(4)).enumerate();
                pairs.find(|(_, (ours, theirs))| ours != theirs).map(|(index, (ours, theirs))| {
                    let at = format!("memory at {:#x}", base + 4 * index as u64);
                    [at, format!("{ours:02x?}"), format!("{theirs:02x?}")]
                })
            }
        };
        Ok(differing.map(|[what, engine, qemu]| PeerDifference {
            input: self.operation.line(),
            what,
            engine,
            qemu,
        }))
    }
}

/// What to say of values read, if they differ.
fn values(ours: u64, theirs: u64) -> Option<[String; 3]> {
    (ours != theirs)
        .then(|| ["value read".to_owned(), format!("{ours:#x}"), format!("{theirs:#x}")])
}
