//! The inputs of MSI-X alone as lines.

use super::{Line, ScriptInput, fields, flag, set, vector};
use msix_core::Message;
use msix_core::operation::Operation;
use msix_core::spec::MAX_VECTORS;

impl ScriptInput for Operation {
    const HEADER: &'static str = "msix-script 1";
    const HAS_PIN: bool = false;
    const VECTORS: &'static str = "1 to 2048 vectors";

    fn fits(vectors: u16) -> bool {
        (1..=MAX_VECTORS).contains(&vectors)
    }

    fn line(&self) -> String {
        super::line::line(self)
    }

    fn parsed(line: Line<'_>) -> Option<Self> {
        let numbers = line.numbers()?;
        Some(match (line.name, &*numbers) {
            ("write-config", &[offset, len, value]) => {
                let (offset, len) = fields(offset, len)?;
                Self::WriteConfig { offset, len, value }
            }
            ("read-config", &[offset, len]) => {
                let (offset, len) = fields(offset, len)?;
                Self::ReadConfig { offset, len }
            }
            ("write-table", &[offset, len, value]) => {
                let (offset, len) = fields(offset, len)?;
                Self::WriteTable { offset, len, value }
            }
            ("read-table", &[offset, len]) => {
                let (offset, len) = fields(offset, len)?;
                Self::ReadTable { offset, len }
            }
            ("poll-pba", &[offset, len]) => {
                let (offset, len) = fields(offset, len)?;
                Self::PollPba { offset, len }
            }
            ("read-pba", &[offset, len]) => {
                let (offset, len) = fields(offset, len)?;
                Self::ReadPba { offset, len }
            }
            ("write-pba", &[offset, len]) => {
                let (offset, len) = fields(offset, len)?;
                Self::WritePba { offset, len }
            }
            ("notify", &[v]) => Self::Notify(vector(v)?),
            ("withdraw", &[v]) => Self::Withdraw(vector(v)?),
            ("claim", &[v]) => Self::Claim(vector(v)?),
            ("unclaim", &[v]) => Self::Unclaim(vector(v)?),
            ("unclaim-all", []) => Self::UnclaimAll,
            ("set-mask", &[v, masked]) => Self::SetMask(vector(v)?, flag(masked)?),
            ("set-message", &[v, address, data]) => {
                let message = Message { address, data: u32::try_from(data).ok()? };
                Self::SetMessage(vector(v)?, message)
            }
            ("attach", []) => Self::Attach,
            ("detach", []) => Self::Detach,
            ("report-failed", &[index, bits]) => Self::ReportFailed(set(index, bits)?),
            ("report-held", &[index, bits]) => Self::ReportHeld(set(index, bits)?),
            ("bus-master", &[on]) => Self::SetBusMaster(flag(on)?),
            ("reset", []) => Self::Reset,
            ("prepare-save", []) => Self::PrepareSave,
            ("save-and-load", []) => Self::SaveAndLoad,
            ("save-and-load-qemu", []) => Self::SaveAndLoadQemu,
            ("resume", []) => Self::Resume,
            _ => return None,
        })
    }
}
