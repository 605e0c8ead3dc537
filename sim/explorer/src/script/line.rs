//! An input as text. The proofs (`tests/prove`) include this file too.

use msix_core::Message;
use msix_core::operation::Operation;
use std::fmt::Write as _;

/// Returns an input as a line of a script.
pub(super) fn line(operation: &Operation) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = match *operation {
        Operation::WriteConfig { offset, len, value } => {
            write!(text, "write-config {offset:#x} {len} {value:#x}")
        }
        Operation::ReadConfig { offset, len } => write!(text, "read-config {offset:#x} {len}"),
        Operation::WriteTable { offset, len, value } => {
            write!(text, "write-table {offset:#x} {len} {value:#x}")
        }
        Operation::ReadTable { offset, len } => write!(text, "read-table {offset:#x} {len}"),
        Operation::PollPba { offset, len } => write!(text, "poll-pba {offset:#x} {len}"),
        Operation::ReadPba { offset, len } => write!(text, "read-pba {offset:#x} {len}"),
        Operation::WritePba { offset, len } => write!(text, "write-pba {offset:#x} {len}"),
        Operation::Notify(v) => write!(text, "notify {v}"),
        Operation::Withdraw(v) => write!(text, "withdraw {v}"),
        Operation::Claim(v) => write!(text, "claim {v}"),
        Operation::Unclaim(v) => write!(text, "unclaim {v}"),
        Operation::UnclaimAll => write!(text, "unclaim-all"),
        Operation::SetMask(v, masked) => write!(text, "set-mask {v} {}", u8::from(masked)),
        Operation::SetMessage(v, Message { address, data }) => {
            write!(text, "set-message {v} {address:#x} {data:#x}")
        }
        Operation::Attach => write!(text, "attach"),
        Operation::Detach => write!(text, "detach"),
        Operation::ReportFailed(set) => {
            write!(text, "report-failed {} {:#x}", set.word(), set.bits())
        }
        Operation::ReportHeld(set) => write!(text, "report-held {} {:#x}", set.word(), set.bits()),
        Operation::SetBusMaster(on) => write!(text, "bus-master {}", u8::from(on)),
        Operation::Reset => write!(text, "reset"),
        Operation::PrepareSave => write!(text, "prepare-save"),
        Operation::SaveAndLoad => write!(text, "save-and-load"),
        Operation::SaveAndLoadQemu => write!(text, "save-and-load-qemu"),
        Operation::Resume => write!(text, "resume"),
    };
    text
}
