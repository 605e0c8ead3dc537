//! The committed inputs of `modes`: what they are, and that each runs.

use crate::corpus::{QEMU, SPEC, committed, run_all};
use crate::modes::{HEAD, decode};
use msix_core::operation::FunctionOperation;
use msix_core::{Mode, Vector, Vectors};

/// 2 MSI vectors with masks and a 64-bit address, MSI-X, and an emulated pin.
const EMULATED: u8 = 0b1001_1001;
/// The same with a physical pin.
const PHYSICAL: u8 = 0b1101_1001;
/// 4 plain MSI vectors and nothing else.
const MSI_ONLY: u8 = 0b0010_0010;

#[test]
fn every_function_in_the_corpus_agrees_with_the_model() {
    run_all("modes", crate::modes);
}

#[test]
fn the_functions_in_the_corpus_are_these() {
    let (v0, v1) = (Vector::new(0), Vector::new(1));
    let msi = |value| FunctionOperation::WriteMsi { offset: 2, len: 2, value };
    let msix = |high| FunctionOperation::WriteMsix { offset: 3, len: 1, value: high };
    let command = |value| FunctionOperation::WriteCommand { offset: 0, len: 2, value };
    let begin = [FunctionOperation::Attach, command(6), FunctionOperation::Claim(v0)];
    let unmask = FunctionOperation::SetMask(v0, false);
    let switches = [
        &begin[..],
        &[unmask, FunctionOperation::SetLevel(true), msi(0x11), FunctionOperation::Notify(v1)],
        &[
            msix(0x80),
            FunctionOperation::Notify(v0),
            msix(0),
            msi(0x10),
            command(0x406),
            command(6),
        ],
        &[msix(0x80), msi(0x11), FunctionOperation::Reset],
    ]
    .concat();
    let masks = [
        &begin[..],
        &[msi(0x11), FunctionOperation::WriteMsi { offset: 16, len: 4, value: 3 }],
        &[FunctionOperation::Notify(v1), FunctionOperation::PollMsi { offset: 20, len: 4 }],
        &[FunctionOperation::ReportHeld(Mode::Msi, Vectors::new(0, 1))],
        &[FunctionOperation::ReadMsi { offset: 20, len: 4 }],
        &[FunctionOperation::Withdraw(Mode::Msi, v0)],
        &[FunctionOperation::WriteMsi { offset: 16, len: 4, value: 0 }],
        &[FunctionOperation::WriteMsi { offset: 4, len: 8, value: 0xfee0_1000 }],
        &[FunctionOperation::WriteMsi { offset: 12, len: 2, value: 0x40 }],
    ]
    .concat();
    let physical = [
        &begin[..],
        &[
            FunctionOperation::ReportFired,
            FunctionOperation::Eoi,
            FunctionOperation::ReportFired,
            msi(1),
            msi(0),
        ],
        &[
            FunctionOperation::ReportFailed(Mode::Intx, Vectors::new(0, 0)),
            FunctionOperation::Detach,
        ],
    ]
    .concat();
    let saved = [
        &begin[..],
        &[unmask, msix(0x80), FunctionOperation::PrepareSave, FunctionOperation::SaveAndLoad],
        &[
            msi(1),
            FunctionOperation::Notify(v0),
            FunctionOperation::Resume,
            FunctionOperation::Detach,
        ],
    ]
    .concat();
    for (name, parts, policy, operations) in [
        ("switches-spec", EMULATED, SPEC, &switches),
        ("switches-qemu", EMULATED, QEMU, &switches),
        ("masks-spec", EMULATED, SPEC, &masks),
        ("masks-without", MSI_ONLY, SPEC, &masks),
        ("physical-spec", PHYSICAL, SPEC, &physical),
        ("saved-qemu", EMULATED, QEMU, &saved),
    ] {
        let [p0, p1, p2, p3] = policy.to_le_bytes();
        let mut bytes = vec![parts, p0, p1, p2, p3, 1];
        operations.iter().for_each(|operation| encode(operation, &mut bytes));
        assert_eq!(decode(&bytes[HEAD..]).collect::<Vec<_>>(), *operations, "{name}");
        committed("modes", name, &bytes);
    }
}

/// As `arbitrary` reads it: the variant's number scaled to 32 bits, then the fields.
fn encode(operation: &FunctionOperation, bytes: &mut Vec<u8>) {
    const KINDS: u64 = 25;
    let kind = |bytes: &mut Vec<u8>, number: u64, kinds: u64| {
        let scaled = u32::try_from((number << 32).div_ceil(kinds)).expect("below 2^32");
        bytes.extend(scaled.to_le_bytes());
    };
    let mode = |bytes: &mut Vec<u8>, mode: Mode| kind(bytes, mode as u64, 4);
    match *operation {
        FunctionOperation::WriteMsi { offset, len, value } => {
            kind(bytes, 0, KINDS);
            bytes.extend([offset, len]);
            bytes.extend(value.to_le_bytes());
        }
        FunctionOperation::ReadMsi { offset, len } => {
            kind(bytes, 1, KINDS);
            bytes.extend([offset, len]);
        }
        FunctionOperation::PollMsi { offset, len } => {
            kind(bytes, 2, KINDS);
            bytes.extend([offset, len]);
        }
        FunctionOperation::WriteMsix { offset, len, value } => {
            kind(bytes, 3, KINDS);
            bytes.extend([offset, len]);
            bytes.extend(value.to_le_bytes());
        }
        FunctionOperation::WriteCommand { offset, len, value } => {
            kind(bytes, 4, KINDS);
            bytes.extend([offset, len]);
            bytes.extend(value.to_le_bytes());
        }
        FunctionOperation::Notify(v) => {
            kind(bytes, 7, KINDS);
            bytes.extend(v.index().to_le_bytes());
        }
        FunctionOperation::Withdraw(of, v) => {
            kind(bytes, 8, KINDS);
            mode(bytes, of);
            bytes.extend(v.index().to_le_bytes());
        }
        FunctionOperation::SetLevel(high) => {
            kind(bytes, 9, KINDS);
            bytes.push(u8::from(high));
        }
        FunctionOperation::ReportFired => kind(bytes, 10, KINDS),
        FunctionOperation::Eoi => kind(bytes, 11, KINDS),
        FunctionOperation::Claim(v) => {
            kind(bytes, 12, KINDS);
            bytes.extend(v.index().to_le_bytes());
        }
        FunctionOperation::SetMask(v, masked) => {
            kind(bytes, 15, KINDS);
            bytes.extend(v.index().to_le_bytes());
            bytes.push(u8::from(masked));
        }
        FunctionOperation::Attach => kind(bytes, 17, KINDS),
        FunctionOperation::Detach => kind(bytes, 18, KINDS),
        FunctionOperation::ReportFailed(of, set) | FunctionOperation::ReportHeld(of, set) => {
            let polled = matches!(operation, FunctionOperation::ReportHeld(..));
            kind(bytes, 19 + u64::from(polled), KINDS);
            mode(bytes, of);
            bytes.extend(set.word().to_le_bytes());
            bytes.extend(set.bits().to_le_bytes());
        }
        FunctionOperation::Reset => kind(bytes, 21, KINDS),
        FunctionOperation::PrepareSave => kind(bytes, 22, KINDS),
        FunctionOperation::SaveAndLoad => kind(bytes, 23, KINDS),
        FunctionOperation::Resume => kind(bytes, 24, KINDS),
        ref other => unreachable!("not in the corpus: {other:?}"),
    }
}
