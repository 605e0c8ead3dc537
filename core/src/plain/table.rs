//! Tables and PBAs as several programs save them.

use super::{ImportError, Snapshot};
use alloc::vec::Vec;

/// The most vectors of a table (A1).
const MOST: usize = 2048;

/// One entry of the table, as Cloud Hypervisor, Firecracker and crosvm save it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MsixTableEntry {
    /// Low 32 bits of the address.
    pub msg_addr_lo: u32,
    /// High 32 bits of the address.
    pub msg_addr_hi: u32,
    /// The data.
    pub msg_data: u32,
    /// Vector Control: bit 0 is the mask.
    pub vector_ctl: u32,
}

impl From<[u32; 4]> for MsixTableEntry {
    fn from([msg_addr_lo, msg_addr_hi, msg_data, vector_ctl]: [u32; 4]) -> Self {
        Self { msg_addr_lo, msg_addr_hi, msg_data, vector_ctl }
    }
}

impl From<MsixTableEntry> for [u32; 4] {
    fn from(entry: MsixTableEntry) -> Self {
        [entry.msg_addr_lo, entry.msg_addr_hi, entry.msg_data, entry.vector_ctl]
    }
}

/// Returns the entries of a snapshot.
pub(super) fn entries(snapshot: &Snapshot) -> Vec<MsixTableEntry> {
    snapshot.table.iter().map(|entry| MsixTableEntry::from(*entry)).collect()
}

/// Makes a snapshot of entries and a PBA with at most `spare` words more than needed.
pub(super) fn snapshot(
    enabled: bool,
    function_masked: bool,
    entries: &[MsixTableEntry],
    pba: &[u64],
    spare: usize,
) -> Result<Snapshot, ImportError> {
    let pending = checked_pba(checked_vectors(entries.len())?, pba, spare)?;
    let table = entries.iter().map(|entry| (*entry).into()).collect();
    Ok(Snapshot { enabled, function_masked, table, pending, claims: Vec::new() })
}

/// Checks the number of entries.
pub(super) const fn checked_vectors(entries: usize) -> Result<usize, ImportError> {
    if entries == 0 || entries > MOST { Err(ImportError::Vectors(entries)) } else { Ok(entries) }
}

/// Checks that a count says the number of entries.
pub(super) const fn checked_count(said: usize, entries: usize) -> Result<(), ImportError> {
    if said == entries { Ok(()) } else { Err(ImportError::Count { said, entries }) }
}

/// Checks a PBA with at most `spare` words more than `vectors` need. Returns the words they need.
fn checked_pba(vectors: usize, words: &[u64], spare: usize) -> Result<Vec<u64>, ImportError> {
    let (expected, got) = (vectors.div_ceil(64), words.len());
    if got < expected || got > expected.saturating_add(spare) {
        return Err(ImportError::PbaWords { expected, got });
    }
    let mut left = u32::try_from(vectors).unwrap_or(u32::MAX);
    for word in words {
        let outside = word & u64::MAX.checked_shl(left).unwrap_or(0);
        if outside != 0 {
            return Err(ImportError::PbaTail(outside));
        }
        left = left.saturating_sub(64);
    }
    Ok(words.iter().copied().take(expected).collect())
}

/// Returns the `words` words of a snapshot's PBA, which may have fewer or more.
pub(super) fn pba(snapshot: &Snapshot, words: usize) -> Vec<u64> {
    let saved = snapshot.pending.iter().copied();
    saved.chain(core::iter::repeat(0)).take(words).collect()
}
