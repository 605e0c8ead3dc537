//! The engine as the world around it sees it: inputs, and what a guest reads.

use super::registers::EntryRegisters;
use super::snapshots::Snapshot;
use msix_core::operation::{Answer, Operation};
use msix_core::{Effects, Msix, Storage, Vector};

/// A list of effects: enough for two words of vectors (I6).
pub(crate) type List = Effects<8>;

/// What the engine is given in one step.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    /// An input of a script.
    Operation(Operation),
    /// A load of a snapshot that another engine saved.
    Load(&'a Snapshot),
}

/// The engine.
#[derive(Debug, Clone)]
pub(crate) struct Engine<S>(pub(super) Msix<S>);

impl<S: Storage> Engine<S> {
    /// Gives it an input.
    pub(super) fn input(&mut self, input: Input<'_>, fx: &mut List) -> Answer {
        match input {
            Input::Operation(operation @ (Operation::SaveAndLoad | Operation::SaveAndLoadQemu)) => {
                operation.apply(&mut self.0, &mut [0; SCRATCH], fx)
            }
            Input::Operation(operation) => operation.apply(&mut self.0, &mut [], fx),
            Input::Load(snapshot) => {
                // Whether it was taken is judged from the registers.
                let _ = snapshot.load(&mut self.0);
                Answer::Nothing
            }
        }
    }

    /// Message Control as the guest reads it.
    pub(super) fn control(&self) -> u16 {
        let mut bytes = [0; 2];
        self.0.read_config(2, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    /// The entry of `vector` as the guest reads it, by DWORDs: address low and high, data, Vector Control.
    pub(crate) fn entry(&self, vector: Vector) -> [u32; 4] {
        let offset = u64::from(vector.index()) * 16;
        let dword = |field| {
            let mut bytes = [0; 4];
            let _ = self.0.read_table(offset + field, &mut bytes);
            u32::from_le_bytes(bytes)
        };
        [dword(0), dword(4), dword(8), dword(12)]
    }

    /// The PBA's QWORD `word` as the guest reads it.
    pub(crate) fn pba(&self, word: u16) -> u64 {
        let mut bytes = [0; 8];
        let _ = self.0.read_pba(u64::from(word) * 8, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// The entry of `vector` with its pending bit, and its claims.
    pub(super) fn registers(&self, vector: Vector) -> EntryRegisters {
        let [low, high, data, control] = self.entry(vector);
        EntryRegisters {
            address: u64::from(low) | u64::from(high) << 32,
            data,
            control,
            pending: self.pba(vector.index() / 64) >> (vector.index() % 64) & 1 != 0,
            claims: self.0.claims(vector).unwrap_or(0),
        }
    }
}

/// Room for a snapshot of the largest table explored.
const SCRATCH: usize = 1280;
