//! MSI-X as QEMU saves it.

use super::table::{checked_vectors, pba, snapshot};
use super::{ImportError, MsixTableEntry, Snapshot};
use crate::spec::{CONTROL_ENABLE, CONTROL_FUNCTION_MASK, CONTROL_SIZE};
use alloc::vec::Vec;

/// What QEMU saves of MSI-X ([F3](crate::rules#f3)). [`Msix::load_qemu`](crate::Msix::load_qemu) takes
/// the same without feature `alloc`, and can ignore PBA bits past the last vector.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct QemuMsix {
    /// Message Control: bytes 2 and 3 of the capability, in the saved config space.
    pub control: u16,
    /// The field `msix`: 16 N bytes of table and ceil(N / 8) bytes of PBA.
    pub field: Vec<u8>,
}

impl TryFrom<&QemuMsix> for Snapshot {
    type Error = ImportError;

    fn try_from(saved: &QemuMsix) -> Result<Self, ImportError> {
        let control = saved.control;
        if control & !(CONTROL_ENABLE | CONTROL_FUNCTION_MASK | CONTROL_SIZE) != 0 {
            return Err(ImportError::ReservedControl(control));
        }
        let vectors = checked_vectors(usize::from(control & CONTROL_SIZE).saturating_add(1))?;
        let table_len = vectors.saturating_mul(16);
        let expected = table_len.saturating_add(vectors.div_ceil(8));
        let wrong_length = ImportError::Length { expected, got: saved.field.len() };
        if saved.field.len() != expected {
            return Err(wrong_length);
        }
        let (table, bits) = saved.field.split_at_checked(table_len).ok_or(wrong_length)?;
        let dwords = |entry: &[[u8; 4]; 4]| entry.map(u32::from_le_bytes);
        let table = table.as_chunks().0.as_chunks().0.iter();
        let entries: Vec<MsixTableEntry> = table.map(|entry| dwords(entry).into()).collect();
        let word = |bytes: &[u8]| {
            bytes.iter().rev().fold(0, |word: u64, byte| word.wrapping_shl(8) | u64::from(*byte))
        };
        let words: Vec<u64> = bits.chunks(8).map(word).collect();
        let enabled = control & CONTROL_ENABLE != 0;
        snapshot(enabled, control & CONTROL_FUNCTION_MASK != 0, &entries, &words, 0)
    }
}

impl From<&Snapshot> for QemuMsix {
    fn from(snapshot: &Snapshot) -> Self {
        let vectors = snapshot.table.len();
        let size = u16::try_from(vectors.saturating_sub(1)).unwrap_or(CONTROL_SIZE);
        let flag = |set: bool, bit: u16| if set { bit } else { 0 };
        let table = snapshot.table.iter().flatten().flat_map(|dword| dword.to_le_bytes());
        let bits = pba(snapshot, vectors.div_ceil(64));
        let bits = bits.iter().flat_map(|word| word.to_le_bytes()).take(vectors.div_ceil(8));
        Self {
            control: size & CONTROL_SIZE
                | flag(snapshot.enabled, CONTROL_ENABLE)
                | flag(snapshot.function_masked, CONTROL_FUNCTION_MASK),
            field: table.chain(bits).collect(),
        }
    }
}
