//! MSI-X as crosvm saves it.

use super::table::{checked_count, entries, pba, snapshot};
use super::{ImportError, MsixTableEntry, Snapshot};
use alloc::string::String;
use alloc::vec::Vec;

/// `MsixConfigSnapshot` of crosvm.
///
/// One that is made of a [`Snapshot`] has no device and no GSIs: fill in `pci_id` and `device_name`, and
/// in `irq_gsi_vec` the GSI of each vector that should have one at once. crosvm gives a vector without
/// one a GSI when the guest enables or unmasks it next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CrosvmMsix {
    /// The table.
    pub table_entries: Vec<MsixTableEntry>,
    /// The PBA: ceil(N / 64) words.
    pub pba_entries: Vec<u64>,
    /// The GSI of each vector that was enabled, which mean nothing elsewhere.
    pub irq_gsi_vec: Vec<Option<u32>>,
    /// Function Mask.
    pub masked: bool,
    /// MSI-X Enable.
    pub enabled: bool,
    /// The number of vectors.
    pub msix_num: u16,
    /// The device's id.
    pub pci_id: u32,
    /// The device's name.
    pub device_name: String,
}

impl TryFrom<&CrosvmMsix> for Snapshot {
    type Error = ImportError;

    fn try_from(saved: &CrosvmMsix) -> Result<Self, ImportError> {
        let vectors = saved.table_entries.len();
        checked_count(saved.msix_num.into(), vectors)?;
        checked_count(saved.irq_gsi_vec.len(), vectors)?;
        snapshot(saved.enabled, saved.masked, &saved.table_entries, &saved.pba_entries, 0)
    }
}

impl From<&Snapshot> for CrosvmMsix {
    fn from(snapshot: &Snapshot) -> Self {
        let vectors = snapshot.table.len();
        Self {
            table_entries: entries(snapshot),
            pba_entries: pba(snapshot, vectors.div_ceil(64)),
            irq_gsi_vec: alloc::vec![None; vectors],
            masked: snapshot.function_masked,
            enabled: snapshot.enabled,
            msix_num: u16::try_from(vectors).unwrap_or(u16::MAX),
            pci_id: 0,
            device_name: String::new(),
        }
    }
}
