//! MSI-X as Propolis saves it.

use super::table::{checked_count, checked_vectors};
use super::{ImportError, Snapshot};
use crate::spec::VECTOR_MASK;
use alloc::vec::Vec;

/// One vector of Propolis: `MsixEntryV1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PropolisEntry {
    /// The address.
    pub addr: u64,
    /// The data.
    pub data: u32,
    /// The mask bit of Vector Control; its other bits are not kept.
    pub is_vec_masked: bool,
    /// The vector's bit of the PBA.
    pub is_pending: bool,
}

/// `MsixStateV1` of Propolis, the field `msix` of a device's payload `pci-device`, version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PropolisMsix {
    /// The number of vectors.
    pub count: u16,
    /// MSI-X Enable.
    pub is_enabled: bool,
    /// Function Mask.
    pub is_func_masked: bool,
    /// The vectors.
    pub entries: Vec<PropolisEntry>,
}

impl TryFrom<&PropolisMsix> for Snapshot {
    type Error = ImportError;

    fn try_from(saved: &PropolisMsix) -> Result<Self, ImportError> {
        checked_vectors(saved.entries.len())?;
        checked_count(saved.count.into(), saved.entries.len())?;
        let dwords = |entry: &PropolisEntry| {
            let [a0, a1, a2, a3, high @ ..] = entry.addr.to_le_bytes();
            let low = u32::from_le_bytes([a0, a1, a2, a3]);
            let control = if entry.is_vec_masked { VECTOR_MASK } else { 0 };
            [low, u32::from_le_bytes(high), entry.data, control]
        };
        let word = |entries: &[PropolisEntry]| {
            let bit = |entry: &PropolisEntry| u64::from(entry.is_pending);
            entries.iter().rev().fold(0, |word: u64, entry| word.wrapping_shl(1) | bit(entry))
        };
        Ok(Self {
            enabled: saved.is_enabled,
            function_masked: saved.is_func_masked,
            table: saved.entries.iter().map(dwords).collect(),
            pending: saved.entries.chunks(64).map(word).collect(),
            claims: Vec::new(),
        })
    }
}

impl From<&Snapshot> for PropolisMsix {
    fn from(snapshot: &Snapshot) -> Self {
        let words = snapshot.pending.iter().copied().chain(core::iter::repeat(0));
        let bits = words.flat_map(|word| (0..64).map(move |bit| word.wrapping_shr(bit) & 1 != 0));
        let entry = |([low, high, data, control], is_pending): (&[u32; 4], bool)| PropolisEntry {
            addr: u64::from(*high) << 32 | u64::from(*low),
            data: *data,
            is_vec_masked: control & VECTOR_MASK != 0,
            is_pending,
        };
        Self {
            count: u16::try_from(snapshot.table.len()).unwrap_or(u16::MAX),
            is_enabled: snapshot.enabled,
            is_func_masked: snapshot.function_masked,
            entries: snapshot.table.iter().zip(bits).map(entry).collect(),
        }
    }
}
