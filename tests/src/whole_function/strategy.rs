//! Input sequences for a function, with a bias to switches while something is pending or asserted.

use crate::lockstep::layout;
use msix_core::operation::FunctionOperation;
use msix_core::{IntxSource, Message, Mode, MsiCapability, Parts, Vector, Vectors};
use proptest::prelude::*;
use proptest::sample::select;

/// Parts: mostly all three.
pub fn parts() -> impl Strategy<Value = Parts> {
    let msi = (select(vec![1_u32, 2, 4, 8, 16, 32]), any::<bool>(), any::<bool>()).prop_map(
        |(vectors, wide, masks)| {
            let plain = MsiCapability::new(vectors).expect("a power of two");
            let plain = if wide { plain.with_64_bit_address() } else { plain };
            if masks { plain.with_masks() } else { plain }
        },
    );
    let intx = select(vec![IntxSource::Emulated, IntxSource::Physical]);
    (
        prop::option::weighted(0.9, msi),
        prop::option::weighted(0.8, select(vec![1_u16, 2, 65])),
        prop::option::weighted(0.8, intx),
    )
        .prop_map(|(msi, msix, pin)| Parts { msi, msix: msix.map(layout), pin })
}

/// A sequence that begins with a backend, bus master and claimed vectors in most cases.
pub fn operations(parts: Parts) -> impl Strategy<Value = Vec<FunctionOperation>> {
    let setup = [
        FunctionOperation::Attach,
        FunctionOperation::WriteCommand { offset: 0, len: 1, value: 6 },
        FunctionOperation::Claim(Vector::new(0)),
        FunctionOperation::Claim(Vector::new(1)),
        FunctionOperation::SetMask(Vector::new(0), false),
    ];
    let wide = parts.msi.is_some_and(MsiCapability::is_64_bit);
    (any::<u8>(), prop::collection::vec(operation(wide), 1..60)).prop_map(
        move |(choice, operations)| {
            let setup = setup.into_iter().filter(|_| !choice.is_multiple_of(8));
            setup.chain(operations).collect()
        },
    )
}

fn vector() -> impl Strategy<Value = Vector> {
    prop_oneof![
        4 => 0..2_u16,
        2 => 0..33_u16,
        1 => select(vec![63_u16, 64, 65, u16::MAX]),
    ]
    .prop_map(Vector::new)
}

fn vectors() -> impl Strategy<Value = Vectors> {
    let bits = prop_oneof![Just(1_u64), Just(3), Just(u64::MAX), any::<u64>()];
    (select(vec![0_u16, 0, 0, 1, 1024]), bits).prop_map(|(word, bits)| Vectors::new(word, bits))
}

fn mode() -> impl Strategy<Value = Mode> {
    select(vec![Mode::None, Mode::Intx, Mode::Msi, Mode::MsiX])
}

/// A write of the MSI capability: mostly one register in full.
fn write_msi(wide: bool) -> impl Strategy<Value = FunctionOperation> {
    let data = if wide { 12_u8 } else { 8 };
    let control = (0..8_u64, any::<bool>(), select(vec![(2_u8, 1_u8), (2, 2), (0, 4), (1, 8)]));
    prop_oneof![
        6 => control.prop_map(|(multiple, on, (offset, len))| {
            let value = (multiple << 4 | u64::from(on)) << (8 * (2 - offset));
            FunctionOperation::WriteMsi { offset, len, value }
        }),
        2 => (select(vec![(4, 4), (8, 4), (4, 8), (6, 1)]), 0..3_u64).prop_map(
            |((offset, len), value)| FunctionOperation::WriteMsi { offset, len, value: value << 2 }),
        2 => (select(vec![1, 2]), 0..0x50_u64).prop_map(move |(len, value)| {
            FunctionOperation::WriteMsi { offset: data, len, value }
        }),
        4 => (any::<bool>(), 0..4_u64).prop_map(move |(all, value)| {
            let value = if all && value > 1 { u64::MAX } else { value };
            FunctionOperation::WriteMsi { offset: data + 4, len: 4, value }
        }),
        1 => (0..26_u8, 0..10_u8, any::<u64>()).prop_map(|(offset, len, value)| {
            FunctionOperation::WriteMsi { offset, len, value }
        }),
    ]
}

/// Any input.
pub fn operation(wide: bool) -> impl Strategy<Value = FunctionOperation> {
    prop_oneof![
        12 => write_msi(wide),
        2 => (0..26_u8, 0..10_u8).prop_map(|(offset, len)| FunctionOperation::ReadMsi { offset, len }),
        2 => (0..26_u8, 0..10_u8).prop_map(|(offset, len)| FunctionOperation::PollMsi { offset, len }),
        5 => (select(vec![0x00_u64, 0x80, 0x80, 0xc0]), select(vec![(3_u8, 1_u8), (2, 2), (0, 4)]))
            .prop_map(|(high, (offset, len))| {
                FunctionOperation::WriteMsix { offset, len, value: high << (8 * (3 - offset)) }
            }),
        3 => (select(vec![0x000_u64, 0x004, 0x006, 0x404, 0x400]), 0..3_u8, 0..3_u8)
            .prop_map(|(value, offset, len)| FunctionOperation::WriteCommand {
                offset, len, value: value >> (8 * offset),
            }),
        2 => (0..3_u16, 0..4_u16, 0..4_u64).prop_map(|(v, field, value)| {
            FunctionOperation::WriteTable { offset: 16 * v + 4 * field, len: 4, value }
        }),
        1 => (0..16_u16, 0..10_u8).prop_map(|(offset, len)| FunctionOperation::PollPba { offset, len }),
        8 => vector().prop_map(FunctionOperation::Notify),
        3 => (mode(), vector()).prop_map(|(mode, v)| FunctionOperation::Withdraw(mode, v)),
        4 => any::<bool>().prop_map(FunctionOperation::SetLevel),
        3 => Just(FunctionOperation::ReportFired),
        3 => Just(FunctionOperation::Eoi),
        1 => vector().prop_map(FunctionOperation::Claim),
        1 => vector().prop_map(FunctionOperation::Unclaim),
        1 => Just(FunctionOperation::UnclaimAll),
        2 => (vector(), any::<bool>()).prop_map(|(v, on)| FunctionOperation::SetMask(v, on)),
        1 => vector().prop_map(|v| {
            FunctionOperation::SetMessage(v, Message { address: 0xfee0_1000, data: 0x41 })
        }),
        2 => Just(FunctionOperation::Attach),
        1 => Just(FunctionOperation::Detach),
        2 => (mode(), vectors()).prop_map(|(mode, set)| FunctionOperation::ReportFailed(mode, set)),
        3 => (mode(), vectors()).prop_map(|(mode, set)| FunctionOperation::ReportHeld(mode, set)),
        1 => Just(FunctionOperation::Reset),
        1 => Just(FunctionOperation::PrepareSave),
        2 => Just(FunctionOperation::SaveAndLoad),
        3 => Just(FunctionOperation::Resume),
    ]
}
