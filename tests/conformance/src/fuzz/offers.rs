//! Which operations an adapter offers, and how those are done that it does not.

use super::Exceptions;
use crate::adapter::Device;
use crate::strategy::{by_guest, is_access};
use msix_core::Vectors;
use msix_core::operation::Operation;

/// The groups that a device offers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offers {
    pub(super) claims: bool,
    pub(super) withdrawal: bool,
    pub(super) side_channel: bool,
    pub(super) function_reset: bool,
    pub(super) bus_master: bool,
    pub(super) host_script: bool,
    pub(super) attachment: bool,
    pub(super) snapshots: bool,
    pub(super) qemu_field: bool,
}

impl Offers {
    pub(super) fn of(device: &mut dyn Device) -> Self {
        Self {
            claims: device.claims().is_some(),
            withdrawal: device.withdrawal().is_some(),
            side_channel: device.side_channel().is_some(),
            function_reset: device.function_reset().is_some(),
            bus_master: device.bus_master().is_some(),
            host_script: device.host_script().is_some(),
            attachment: device.attachment().is_some(),
            snapshots: device.snapshots().is_some(),
            qemu_field: device.qemu_field().is_some(),
        }
    }

    /// The operations that can be given to the device. What only a platform does, the guest does instead.
    /// Events of one sequence take the way that the first one takes: the host sees all of them, or the device
    /// has all of them.
    pub(super) fn only(
        &self,
        operations: &[Operation],
        vectors: u16,
        except: &Exceptions,
    ) -> Vec<Operation> {
        let is_event = |operation: &&Operation| {
            matches!(operation, Operation::Notify(_) | Operation::ReportHeld(_))
        };
        let first = operations.iter().find(is_event);
        let by_host = self.host_script && matches!(first, Some(Operation::ReportHeld(_)));
        let instead = |operation: &Operation| match *operation {
            Operation::SetMask(..) | Operation::SetMessage(..) if !self.side_channel => {
                by_guest(operation)
            }
            Operation::ReportHeld(set) if !by_host => set.iter().map(Operation::Notify).collect(),
            Operation::Notify(v) if by_host => vec![Operation::ReportHeld(Vectors::one(v))],
            _ => vec![*operation],
        };
        let given =
            |operation: &Operation| self.takes(operation) && !except.avoid(operation, vectors);
        operations.iter().flat_map(instead).filter(given).collect()
    }

    fn takes(&self, operation: &Operation) -> bool {
        match operation {
            Operation::WriteConfig { .. }
            | Operation::ReadConfig { .. }
            | Operation::WriteTable { .. }
            | Operation::ReadTable { .. }
            | Operation::ReadPba { .. }
            | Operation::WritePba { .. } => is_access(operation),
            Operation::Notify(_) => true,
            Operation::Withdraw(_) => self.withdrawal,
            Operation::Claim(_) | Operation::Unclaim(_) => self.claims,
            Operation::SetMask(..) | Operation::SetMessage(..) => self.side_channel,
            Operation::Attach | Operation::Detach => self.attachment,
            Operation::ReportFailed(_) | Operation::ReportHeld(_) => self.host_script,
            Operation::SetBusMaster(_) => self.bus_master,
            Operation::Reset => self.function_reset,
            Operation::SaveAndLoad | Operation::Resume => self.snapshots,
            Operation::SaveAndLoadQemu => self.qemu_field,
            // A save and a read of the PBA do this themselves; no group has the other.
            Operation::PrepareSave | Operation::PollPba { .. } | Operation::UnclaimAll => false,
        }
    }
}
