//! The registers of MSI-X as plain data, for embedders that serialise their own way.

use super::Msix;
use super::message_control::MessageControl;
use crate::facts::Fact;
use crate::snapshot::LoadError;
use crate::storage::Storage;
use crate::vectors::per_word;
use alloc::vec::Vec;

/// The content of [`Msix::save`] as plain data ([H14](crate::rules#h14), [H15](crate::rules#h15);
/// feature `alloc`; feature `serde` serialises it). Nothing in it is trusted: it becomes a state
/// only through [`Msix::load_snapshot`]. [`plain`](crate::plain) has what other programs save, as
/// conversions from and to this.
///
/// ```
/// use msix_core::*;
///
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// let layout = Layout::exclusive_bar(1, BarIndex::new(0)?)?;
/// let mut msix = Msix::boxed(layout, Policy::SPEC);
/// let mut state = msix.snapshot();
/// state.enabled = true;
/// state.table = vec![[0xfee0_0000, 0, 0x41, 0]]; // address, upper address, data, control
/// msix.load_snapshot(&state)?;
/// assert!(msix.is_enabled());
/// state.pending.clear();
/// assert_eq!(msix.load_snapshot(&state), Err(LoadError::Parts));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Snapshot {
    /// MSI-X Enable (A1).
    pub enabled: bool,
    /// Function Mask (A1).
    pub function_masked: bool,
    /// The table as the guest reads it: N entries of address low, address high, data, Vector
    /// Control (A3).
    pub table: Vec<[u32; 4]>,
    /// The PBA: ceil(N / 64) words (A5).
    pub pending: Vec<u64>,
    /// The claim counts of the N vectors. None at all when they were not saved: a load then leaves
    /// the claims as they are.
    #[cfg_attr(feature = "serde", serde(default))]
    pub claims: Vec<u16>,
}

impl<S: Storage> Msix<S> {
    /// Returns the registers as plain data. Call [`prepare_save`](Self::prepare_save) first.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let memory = self.storage.memory();
        let table = per_word(memory.entries).zip(memory.words).flat_map(|(entries, word)| {
            let masked = word.masked.get();
            entries.iter().enumerate().map(move |(bit, entry)| {
                let masked = masked.checked_shr(u32::try_from(bit).unwrap_or(0)).unwrap_or(0);
                core::array::from_fn(|field| entry.dword(field, masked & 1 != 0))
            })
        });
        Snapshot {
            enabled: self.is_enabled(),
            function_masked: self.facts.has(Fact::FUNCTION_MASKED),
            table: table.collect(),
            pending: memory.words.iter().map(|word| word.pending.get()).collect(),
            claims: memory.claims.to_vec(),
        }
    }

    /// Loads plain data, as [`load`](Self::load) does; [`resume`](Self::resume) must follow.
    ///
    /// # Errors
    /// [`LoadError`]; the state is as it was.
    pub fn load_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), LoadError> {
        let vectors = usize::from(self.vectors());
        if snapshot.table.len() != vectors {
            let snapshot = u32::try_from(snapshot.table.len()).unwrap_or(u32::MAX);
            return Err(LoadError::Vectors { snapshot, engine: self.vectors() });
        }
        let has_claims = snapshot.claims.len() == vectors;
        if snapshot.pending.len() != vectors.div_ceil(64)
            || !has_claims && !snapshot.claims.is_empty()
        {
            return Err(LoadError::Parts);
        }
        self.check_pba_tail(snapshot.pending.iter().copied(), true)?;
        let table = snapshot.table.iter().map(|entry| {
            let mut bytes = [0; 16];
            for (to, from) in bytes.iter_mut().zip(entry.iter().flat_map(|d| d.to_le_bytes())) {
                *to = from;
            }
            bytes
        });
        let control = MessageControl::new(snapshot.enabled, snapshot.function_masked);
        let claims = has_claims.then(|| snapshot.claims.iter().copied());
        self.replace(control, table, snapshot.pending.iter().copied(), claims);
        Ok(())
    }
}
