//! What is explored: the engine's start, the vectors, and everything that can happen to them.

use super::MOST;
use super::defect::MsixDefect;
use super::registers::{Entry, Registers};
use super::subject::Subject;
use msix_core::operation::Operation;
use msix_core::{Effects, LoadError, Message, Msix, Policy, Storage, Vector};

/// Something that can happen. Numbers are of explored vectors, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// An input that the world around the engine has no part in.
    Input(Operation),
    /// A load of snapshot `0` of [`Setup::snapshots`].
    Load(usize),
    /// The device signals the host, which holds the event because it does not deliver the vector.
    Hold(usize),
    /// Userspace takes the event held for a vector that is in fallback, and notifies the engine.
    Take(usize),
    /// The host's answer to an earlier Poll arrives, of one vector.
    Answer(usize),
    /// All answers of one 64-vector word arrive as one.
    AnswerAll,
    /// The host says that an earlier Arm or Reroute failed.
    Report(usize),
}

/// A snapshot that another engine saved.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// For people.
    pub(crate) name: &'static str,
    /// Message Control, when the encoding is QEMU's.
    control: Option<u16>,
    bytes: Vec<u8>,
    /// What the registers are after it; use counts only in the native encoding.
    pub(crate) registers: Registers,
}

impl Snapshot {
    pub(crate) fn load<S: Storage>(&self, msix: &mut Msix<S>) -> Result<(), LoadError> {
        match self.control {
            None => msix.load(&self.bytes),
            Some(control) => msix.load_qemu(control, &self.bytes),
        }
    }

    /// Whether it brings use counts.
    pub(crate) const fn is_native(&self) -> bool {
        self.control.is_none()
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Everything that does not change during a search.
#[derive(Debug, Clone)]
pub(crate) struct Setup<S> {
    pub(crate) policy: Policy,
    /// The explored vectors, in ascending order.
    pub(crate) at: Vec<Vector>,
    pub(crate) start: Subject<S>,
    pub(crate) events: Vec<Event>,
    pub(crate) snapshots: Vec<Snapshot>,
    /// Whether states that differ only in the order of the vectors are one.
    pub(crate) symmetry: bool,
}

impl<S: Storage + Clone> Setup<S> {
    pub(crate) fn new(
        msix: Msix<S>,
        at: Vec<Vector>,
        symmetry: bool,
        defect: Option<MsixDefect>,
    ) -> Self {
        let snapshots = snapshots(&msix, &at);
        Self {
            policy: *msix.policy(),
            events: events(&at, snapshots.len()),
            start: Subject::new(msix, defect),
            at,
            snapshots,
            symmetry,
        }
    }

    pub(crate) fn vectors(&self) -> u16 {
        self.start.engine().vectors()
    }

    /// Which of the explored vectors are in a set, one bit each.
    pub(crate) fn members(&self, set: msix_core::Vectors) -> u8 {
        let bit =
            |(index, v): (usize, &Vector)| u8::from(set.iter().any(|member| member == *v)) << index;
        self.at.iter().enumerate().map(bit).sum()
    }
}

/// Address and data have two values each, which differ in every bit; 0 is also the reset value.
pub(crate) const OTHER: Message = Message { address: u64::MAX, data: u32::MAX };

/// Both values of both halves: whatever a dword holds, it can be changed alone.
const ADDRESSES: [u64; 4] = [0, 0xffff_ffff, 0xffff_ffff_0000_0000, u64::MAX];

/// The alphabet. Every register bit that a guest can change is written as 0 and as 1, by DWORD and
/// by QWORD; other widths are refused or mean the same, and are probed in every state.
fn events(at: &[Vector], snapshots: usize) -> Vec<Event> {
    let mut inputs = Vec::new();
    for value in [0, 0x4000, 0x8000, 0xc000] {
        inputs.push(Operation::WriteConfig { offset: 2, len: 2, value });
    }
    for v in at {
        let entry = v.index() * 16;
        let write = |offset, len, value| Operation::WriteTable { offset, len, value };
        for dword in [0, 4, 8, 12] {
            for value in [0, u64::from(u32::MAX)] {
                inputs.push(write(entry + dword, 4, value));
            }
        }
        for address in ADDRESSES {
            inputs.push(write(entry, 8, address));
        }
        for data in [0, u64::from(u32::MAX)] {
            for mask in [0, 1 << 32] {
                inputs.push(write(entry + 8, 8, data | mask));
            }
        }
        let word = v.index() / 64 * 8;
        for poll in [
            Operation::PollPba { offset: word, len: 8 },
            Operation::PollPba { offset: word, len: 4 },
            Operation::PollPba { offset: word + 4, len: 4 },
        ] {
            if !inputs.contains(&poll) {
                inputs.push(poll);
            }
        }
        inputs.extend([
            Operation::Notify(*v),
            Operation::Withdraw(*v),
            Operation::Claim(*v),
            Operation::Unclaim(*v),
            Operation::SetMask(*v, true),
            Operation::SetMask(*v, false),
        ]);
        for data in [0, OTHER.data] {
            inputs.extend(
                ADDRESSES.map(|address| Operation::SetMessage(*v, Message { address, data })),
            );
        }
    }
    inputs.extend([
        Operation::UnclaimAll,
        Operation::Attach,
        Operation::Detach,
        Operation::SetBusMaster(false),
        Operation::SetBusMaster(true),
        Operation::Reset,
        Operation::PrepareSave,
        Operation::SaveAndLoad,
        Operation::SaveAndLoadQemu,
        Operation::Resume,
    ]);
    let mut events: Vec<Event> = inputs.into_iter().map(Event::Input).collect();
    for index in 0..at.len().min(MOST) {
        let line = [Event::Hold(index), Event::Take(index), Event::Answer(index)];
        events.extend(line.into_iter().chain([Event::Report(index)]));
    }
    if at.len() > 1 {
        events.push(Event::AnswerAll);
    }
    events.extend((0..snapshots).map(Event::Load));
    events
}

/// What other engines may have saved: nothing, and everything pending on enabled, unmasked
/// vectors, which is the only way for a vector without a use to be pending.
fn snapshots<S: Storage + Clone>(msix: &Msix<S>, at: &[Vector]) -> Vec<Snapshot> {
    let mut fresh = Registers::default();
    fresh.entries.iter_mut().for_each(|entry| entry.control = 1);
    let busy = Registers {
        enabled: true,
        function_masked: false,
        entries: [Entry {
            address: OTHER.address,
            data: OTHER.data,
            control: 0,
            pending: true,
            uses: 1,
        }; MOST],
    };
    let mut other = msix.clone();
    let mut fx = Effects::<8>::new();
    let bytes = saved(&other);
    let mut list =
        vec![Snapshot { name: "a fresh engine", control: None, bytes, registers: fresh }];
    // While it loads, nothing is deliverable, so everything can be pending.
    let mut script = vec![Operation::SaveAndLoad];
    script.push(Operation::WriteConfig { offset: 2, len: 2, value: 0x8000 });
    for v in at {
        script.extend([
            Operation::SetMessage(*v, OTHER),
            Operation::Claim(*v),
            Operation::Notify(*v),
        ]);
    }
    for operation in script {
        operation.apply(&mut other, &mut [0; 1280], &mut fx);
        while fx.take().is_some() {}
    }
    let name = "all vectors enabled, unmasked, used and pending";
    list.push(Snapshot { name, control: None, bytes: saved(&other), registers: busy });
    let mut bytes = vec![0; other.qemu_len()];
    let _ = other.save_qemu(&mut bytes);
    let control = Some(other.control());
    let name = "all vectors enabled, unmasked and pending, uses not saved";
    list.push(Snapshot { name, control, bytes, registers: busy });
    list
}

fn saved<S: Storage>(msix: &Msix<S>) -> Vec<u8> {
    let mut bytes = vec![0; msix.saved_len()];
    let _ = msix.save(&mut bytes);
    bytes
}
