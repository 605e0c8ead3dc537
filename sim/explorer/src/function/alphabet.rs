//! Everything that can happen to a function.

use msix_core::operation::FunctionOperation;
use msix_core::{IntxSource, Mode, Vector, Vectors};

/// Returns them for `vectors` vectors of MSI and of MSI-X.
pub(super) fn events(vectors: u16, source: IntxSource) -> Vec<FunctionOperation> {
    let mut events = Vec::new();
    for value in [0x00, 0x01, 0x10, 0x11] {
        events.push(FunctionOperation::WriteMsi { offset: 2, len: 2, value });
    }
    for value in [0, 0x40] {
        events.push(FunctionOperation::WriteMsi { offset: 4, len: 2, value }); // half an address
    }
    events.push(FunctionOperation::WriteMsi { offset: 8, len: 2, value: 0 }); // and the data
    for value in 0..1 << vectors {
        events.push(FunctionOperation::WriteMsi { offset: 12, len: 4, value });
    }
    for value in [0, 0x4000, 0x8000, 0xc000] {
        events.push(FunctionOperation::WriteMsix { offset: 2, len: 2, value });
    }
    for value in [0, 0x0004, 0x0400, 0x0404] {
        events.push(FunctionOperation::WriteCommand { offset: 0, len: 2, value });
    }
    for v in (0..vectors).map(Vector::new) {
        events.extend([
            FunctionOperation::WriteTable { offset: v.index() * 16 + 12, len: 4, value: 0 },
            FunctionOperation::WriteTable { offset: v.index() * 16 + 12, len: 4, value: 1 },
            FunctionOperation::Notify(v),
        ]);
        for mode in [Mode::Msi, Mode::MsiX] {
            events.extend([
                FunctionOperation::Withdraw(mode, v),
                FunctionOperation::ReportFailed(mode, Vectors::one(v)),
                FunctionOperation::ReportHeld(mode, Vectors::one(v)),
            ]);
        }
    }
    match source {
        IntxSource::Emulated => {
            events.extend([true, false].map(FunctionOperation::SetLevel));
        }
        IntxSource::Physical => events.push(FunctionOperation::ReportFired),
    }
    events.extend([
        FunctionOperation::Eoi,
        FunctionOperation::ReportFailed(Mode::Intx, Vectors::new(0, 0)),
        FunctionOperation::PollMsi { offset: 16, len: 4 },
        FunctionOperation::PollPba { offset: 0, len: 8 },
        FunctionOperation::Attach,
        FunctionOperation::Detach,
        FunctionOperation::Reset,
        FunctionOperation::PrepareSave,
        FunctionOperation::SaveAndLoad,
        FunctionOperation::Resume,
    ]);
    events
}
