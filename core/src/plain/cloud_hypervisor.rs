//! MSI-X as Cloud Hypervisor saves it.

use super::table::{entries, pba, snapshot};
use super::{ImportError, MsixTableEntry, Snapshot};
use alloc::vec::Vec;

/// `MsixConfigState` of Cloud Hypervisor: the JSON text under `snapshot_data.state` of the node
/// `msix_config` of a device, in `state.json` of a VM's snapshot.
///
/// Its PBA has `N / 64 + 1` words, which is one too many when N is a multiple of 64; one too many is
/// taken when it is 0.
///
/// A function on which MSI-X was never enabled has `masked` set, although Function Mask reads 0 in its
/// config space. Therefore `masked` counts only with `enabled`: a guest that read a set Function Mask
/// where it wrote none would leave it set. Set [`Snapshot::function_masked`] from the config space when
/// you have that.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CloudHypervisorMsix {
    /// The table.
    pub table_entries: Vec<MsixTableEntry>,
    /// The PBA.
    pub pba_entries: Vec<u64>,
    /// Function Mask, and set while MSI-X was never enabled.
    pub masked: bool,
    /// MSI-X Enable.
    pub enabled: bool,
}

impl TryFrom<&CloudHypervisorMsix> for Snapshot {
    type Error = ImportError;

    fn try_from(saved: &CloudHypervisorMsix) -> Result<Self, ImportError> {
        let masked = saved.enabled && saved.masked;
        snapshot(saved.enabled, masked, &saved.table_entries, &saved.pba_entries, 1)
    }
}

impl From<&Snapshot> for CloudHypervisorMsix {
    fn from(snapshot: &Snapshot) -> Self {
        let words = snapshot.table.len().checked_div(64).unwrap_or(0).saturating_add(1);
        Self {
            table_entries: entries(snapshot),
            pba_entries: pba(snapshot, words),
            masked: snapshot.function_masked || !snapshot.enabled,
            enabled: snapshot.enabled,
        }
    }
}
