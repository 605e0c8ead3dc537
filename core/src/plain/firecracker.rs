//! MSI-X as Firecracker saves it.

use super::table::{checked_count, entries, pba, snapshot};
use super::{ImportError, MsixTableEntry, Snapshot};
use alloc::vec::Vec;

/// `MsixConfigState` of Firecracker, the field `msix_state` of a virtio device on PCI.
///
/// As in [`CloudHypervisorMsix`](super::CloudHypervisorMsix), `masked` is set before MSI-X is first
/// enabled, and counts only with `enabled`.
///
/// One that is made of a [`Snapshot`] has no `vectors`: fill them in with a GSI for each entry, which
/// Firecracker takes again at a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FirecrackerMsix {
    /// The table.
    pub table_entries: Vec<MsixTableEntry>,
    /// The PBA: ceil(N / 64) words.
    pub pba_entries: Vec<u64>,
    /// Function Mask, and set while MSI-X was never enabled.
    pub masked: bool,
    /// MSI-X Enable.
    pub enabled: bool,
    /// The GSI of each vector, which mean nothing elsewhere; none at all are taken too.
    #[cfg_attr(feature = "serde", serde(default))]
    pub vectors: Vec<u32>,
}

impl TryFrom<&FirecrackerMsix> for Snapshot {
    type Error = ImportError;

    fn try_from(saved: &FirecrackerMsix) -> Result<Self, ImportError> {
        if !saved.vectors.is_empty() {
            checked_count(saved.vectors.len(), saved.table_entries.len())?;
        }
        let masked = saved.enabled && saved.masked;
        snapshot(saved.enabled, masked, &saved.table_entries, &saved.pba_entries, 0)
    }
}

impl From<&Snapshot> for FirecrackerMsix {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            table_entries: entries(snapshot),
            pba_entries: pba(snapshot, snapshot.table.len().div_ceil(64)),
            masked: snapshot.function_masked || !snapshot.enabled,
            enabled: snapshot.enabled,
            vectors: Vec::new(),
        }
    }
}
