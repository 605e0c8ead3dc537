//! The committed inputs of `modes`: what they are, and that each runs.

use crate::corpus::{QEMU, SPEC, committed, run_all};
use crate::modes::{HEAD, decode};
use msix_core::{Mode, ModeOperation, Vector, Vectors};

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
    let msi = |value| ModeOperation::WriteMsi { offset: 2, len: 2, value };
    let msix = |high| ModeOperation::WriteMsix { offset: 3, len: 1, value: high };
    let command = |value| ModeOperation::WriteCommand { offset: 0, len: 2, value };
    let begin = [ModeOperation::Attach, command(6), ModeOperation::Use(v0)];
    let unmask = ModeOperation::SetMask(v0, false);
    let switches = [
        &begin[..],
        &[unmask, ModeOperation::SetLevel(true), msi(0x11), ModeOperation::Notify(v1)],
        &[msix(0x80), ModeOperation::Notify(v0), msix(0), msi(0x10), command(0x406), command(6)],
        &[msix(0x80), msi(0x11), ModeOperation::Reset],
    ]
    .concat();
    let masks = [
        &begin[..],
        &[msi(0x11), ModeOperation::WriteMsi { offset: 16, len: 4, value: 3 }],
        &[ModeOperation::Notify(v1), ModeOperation::PollMsi { offset: 20, len: 4 }],
        &[ModeOperation::Polled(Mode::Msi, Vectors::new(0, 1))],
        &[ModeOperation::ReadMsi { offset: 20, len: 4 }],
        &[ModeOperation::Withdraw(Mode::Msi, v0)],
        &[ModeOperation::WriteMsi { offset: 16, len: 4, value: 0 }],
        &[ModeOperation::WriteMsi { offset: 4, len: 8, value: 0xfee0_1000 }],
        &[ModeOperation::WriteMsi { offset: 12, len: 2, value: 0x40 }],
    ]
    .concat();
    let physical = [
        &begin[..],
        &[ModeOperation::Fired, ModeOperation::Eoi, ModeOperation::Fired, msi(1), msi(0)],
        &[ModeOperation::Failed(Mode::Intx, Vectors::new(0, 0)), ModeOperation::Detach],
    ]
    .concat();
    let saved = [
        &begin[..],
        &[unmask, msix(0x80), ModeOperation::PrepareSave, ModeOperation::SaveAndLoad],
        &[msi(1), ModeOperation::Notify(v0), ModeOperation::Resume, ModeOperation::Detach],
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
fn encode(operation: &ModeOperation, bytes: &mut Vec<u8>) {
    const KINDS: u64 = 25;
    let kind = |bytes: &mut Vec<u8>, number: u64, kinds: u64| {
        let scaled = u32::try_from((number << 32).div_ceil(kinds)).expect("below 2^32");
        bytes.extend(scaled.to_le_bytes());
    };
    let mode = |bytes: &mut Vec<u8>, mode: Mode| kind(bytes, mode as u64, 4);
    match *operation {
        ModeOperation::WriteMsi { offset, len, value } => {
            kind(bytes, 0, KINDS);
            bytes.extend([offset, len]);
            bytes.extend(value.to_le_bytes());
        }
        ModeOperation::ReadMsi { offset, len } => {
            kind(bytes, 1, KINDS);
            bytes.extend([offset, len]);
        }
        ModeOperation::PollMsi { offset, len } => {
            kind(bytes, 2, KINDS);
            bytes.extend([offset, len]);
        }
        ModeOperation::WriteMsix { offset, len, value } => {
            kind(bytes, 3, KINDS);
            bytes.extend([offset, len]);
            bytes.extend(value.to_le_bytes());
        }
        ModeOperation::WriteCommand { offset, len, value } => {
            kind(bytes, 4, KINDS);
            bytes.extend([offset, len]);
            bytes.extend(value.to_le_bytes());
        }
        ModeOperation::Notify(v) => {
            kind(bytes, 7, KINDS);
            bytes.extend(v.index().to_le_bytes());
        }
        ModeOperation::Withdraw(of, v) => {
            kind(bytes, 8, KINDS);
            mode(bytes, of);
            bytes.extend(v.index().to_le_bytes());
        }
        ModeOperation::SetLevel(high) => {
            kind(bytes, 9, KINDS);
            bytes.push(u8::from(high));
        }
        ModeOperation::Fired => kind(bytes, 10, KINDS),
        ModeOperation::Eoi => kind(bytes, 11, KINDS),
        ModeOperation::Use(v) => {
            kind(bytes, 12, KINDS);
            bytes.extend(v.index().to_le_bytes());
        }
        ModeOperation::SetMask(v, masked) => {
            kind(bytes, 15, KINDS);
            bytes.extend(v.index().to_le_bytes());
            bytes.push(u8::from(masked));
        }
        ModeOperation::Attach => kind(bytes, 17, KINDS),
        ModeOperation::Detach => kind(bytes, 18, KINDS),
        ModeOperation::Failed(of, set) | ModeOperation::Polled(of, set) => {
            let polled = matches!(operation, ModeOperation::Polled(..));
            kind(bytes, 19 + u64::from(polled), KINDS);
            mode(bytes, of);
            bytes.extend(set.word().to_le_bytes());
            bytes.extend(set.bits().to_le_bytes());
        }
        ModeOperation::Reset => kind(bytes, 21, KINDS),
        ModeOperation::PrepareSave => kind(bytes, 22, KINDS),
        ModeOperation::SaveAndLoad => kind(bytes, 23, KINDS),
        ModeOperation::Resume => kind(bytes, 24, KINDS),
        ref other => unreachable!("not in the corpus: {other:?}"),
    }
}
