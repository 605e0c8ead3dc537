//! The engine under exploration: the real one, or the real one with a seeded defect at its
//! boundary.

use super::defect::MsixDefect;
use super::world::Snapshot;
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

/// The engine, and what is wrong with it.
#[derive(Debug, Clone)]
pub(crate) struct Subject<S> {
    pub(super) msix: Msix<S>,
    defect: Option<MsixDefect>,
    /// What the defect remembers.
    pub(super) memory: u16,
}

impl<S: Storage> PartialEq for Subject<S> {
    fn eq(&self, other: &Self) -> bool {
        self.memory == other.memory && self.msix == other.msix
    }
}

impl<S: Storage> Subject<S> {
    pub(crate) const fn new(msix: Msix<S>, defect: Option<MsixDefect>) -> Self {
        Self { msix, defect, memory: 0 }
    }

    /// Gives it an input.
    pub(crate) fn input(&mut self, input: Input<'_>, fx: &mut List) -> Answer {
        match self.defect {
            None => self.pass(input, fx),
            Some(defect) => defect.input(self, input, fx),
        }
    }

    /// Gives the engine itself an input.
    pub(super) fn pass(&mut self, input: Input<'_>, fx: &mut List) -> Answer {
        match input {
            Input::Operation(operation @ (Operation::SaveAndLoad | Operation::SaveAndLoadQemu)) => {
                operation.apply(&mut self.msix, &mut [0; SCRATCH], fx)
            }
            Input::Operation(operation) => operation.apply(&mut self.msix, &mut [], fx),
            Input::Load(snapshot) => {
                // Whether it was taken is judged from the registers.
                let _ = snapshot.load(&mut self.msix);
                Answer::Nothing
            }
        }
    }

    /// Loads bytes that no engine saved; whether they were taken.
    pub(crate) fn load_native(&mut self, bytes: &[u8]) -> bool {
        let loaded = self.msix.load(bytes).is_ok();
        if let Some(defect) = self.defect.filter(|_| !loaded) {
            defect.refused(self);
        }
        loaded
    }

    /// As [`Self::load_native`], in QEMU's encoding.
    pub(crate) fn load_qemu(&mut self, control: u16, bytes: &[u8]) -> bool {
        let loaded = self.msix.load_qemu(control, bytes).is_ok();
        if let Some(defect) = self.defect.filter(|_| !loaded) {
            defect.refused(self);
        }
        loaded
    }

    /// The engine, for what no guest can read: uses, counters, what it thinks the host knows.
    pub(crate) const fn engine(&self) -> &Msix<S> {
        &self.msix
    }

    /// Message Control as the guest reads it.
    pub(crate) fn control(&self) -> u16 {
        let mut bytes = [0; 2];
        self.msix.read_config(2, &mut bytes);
        let control = u16::from_le_bytes(bytes);
        self.defect.map_or(control, |defect| defect.control(control, self.memory))
    }

    /// The entry of `vector` as the guest reads it: address, then data and Vector Control.
    pub(crate) fn entry(&self, vector: Vector) -> [u64; 2] {
        let offset = u64::from(vector.index()) * 16;
        [offset, offset + 8].map(|offset| {
            let mut bytes = [0; 8];
            let _ = self.msix.read_table(offset, &mut bytes);
            u64::from_le_bytes(bytes)
        })
    }

    /// The PBA's QWORD `word` as the guest reads it.
    pub(crate) fn pba(&self, word: u16) -> u64 {
        let mut bytes = [0; 8];
        let _ = self.msix.read_pba(u64::from(word) * 8, &mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// Room for a snapshot of the largest table explored.
const SCRATCH: usize = 1280;
