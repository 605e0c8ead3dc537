//! Everything that can happen to the explored vectors.

use super::registers::MAX_EXPLORED;
use msix_core::operation::Operation;
use msix_core::{Message, Vector};

/// Something that can happen. Numbers are of explored vectors, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// An input that the world around the engine has no part in.
    Input(Operation),
    /// A load of the snapshot with this index in `MsixWorld::snapshots`.
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

/// Address and data have two values each, which differ in every bit; 0 is also the reset value.
pub(crate) const OTHER: Message = Message { address: u64::MAX, data: u32::MAX };

/// Both values of both halves: whatever a dword holds, it can be changed alone.
const ADDRESSES: [u64; 4] = [0, 0xffff_ffff, 0xffff_ffff_0000_0000, u64::MAX];

/// The alphabet. Every register bit that a guest can change is written as 0 and as 1, by DWORD and
/// by QWORD; other widths are refused or mean the same, and are probed in every state.
pub(crate) fn events(at: &[Vector], snapshots: usize) -> Vec<Event> {
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
    for index in 0..at.len().min(MAX_EXPLORED) {
        let line = [Event::Hold(index), Event::Take(index), Event::Answer(index)];
        events.extend(line.into_iter().chain([Event::Report(index)]));
    }
    if at.len() > 1 {
        events.push(Event::AnswerAll);
    }
    events.extend((0..snapshots).map(Event::Load));
    events
}
