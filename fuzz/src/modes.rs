//! Inputs of a whole function, against its naive model.

use crate::behaviour;
use arbitrary::{Arbitrary, Unstructured};
use msix_core::operation::FunctionOperation;
use msix_core::{IntxSource, MsiCapability, Parts, Vector};
use msix_tests::lockstep::layout;
use msix_tests::whole_function::Pair;

/// Most inputs of one run.
const MAX_OPERATIONS: usize = 400;

/// Gives the same sequence of inputs to function and model.
///
/// The bytes: parts (1), policy (4), how to begin (1), then operations in the encoding of
/// `arbitrary`. Parts: bits 2:0 log2 of the MSI vectors, none for 6 and 7; bit 3 a 64-bit address, 4
/// mask registers; bit 5 clear, MSI-X with 2 vectors; bits 7:6 the pin: none, none, emulated,
/// physical. How to begin: bit 0 clear, vectors and offsets are folded into what there is.
///
/// # Panics
/// When they disagree, or the function finds something wrong with itself.
pub fn modes(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<HEAD>() else { return };
    let &[choice, p0, p1, p2, p3, begin] = head;
    let mut pair = Pair::new(parts(choice), behaviour(u32::from_le_bytes([p0, p1, p2, p3])));
    for (index, operation) in decode(rest).enumerate() {
        let operation = if begin % 2 == 0 { fold(operation) } else { operation };
        if let Err(difference) = pair.step(&operation) {
            panic!("input {index}, {operation:?}: {difference}");
        }
    }
}

/// Bytes before the operations.
pub(crate) const HEAD: usize = 6;

/// The operations in `bytes`.
pub(crate) fn decode(bytes: &[u8]) -> impl Iterator<Item = FunctionOperation> + '_ {
    let mut bytes = Unstructured::new(bytes);
    let next = move || {
        if bytes.is_empty() { None } else { FunctionOperation::arbitrary(&mut bytes).ok() }
    };
    std::iter::from_fn(next).take(MAX_OPERATIONS)
}

fn parts(choice: u8) -> Parts {
    let msi = MsiCapability::new(1 << (choice & 7)).ok().map(|plain| {
        let plain = if choice & 8 != 0 { plain.with_64_bit_address() } else { plain };
        if choice & 16 != 0 { plain.with_masks() } else { plain }
    });
    let pin = match choice >> 6 {
        2 => Some(IntxSource::Emulated),
        3 => Some(IntxSource::Physical),
        _ => None,
    };
    Parts { msi, msix: (choice & 32 == 0).then(|| layout(2)), pin }
}

/// The same input, with vectors and offsets that mostly exist.
fn fold(operation: FunctionOperation) -> FunctionOperation {
    let vector = |v: Vector| Vector::new(v.index() % 5);
    let len = |len: u8| len % 10;
    match operation {
        FunctionOperation::WriteMsi { offset, len: bytes, value } => {
            FunctionOperation::WriteMsi { offset: offset % 26, len: len(bytes), value }
        }
        FunctionOperation::ReadMsi { offset, len: bytes } => {
            FunctionOperation::ReadMsi { offset: offset % 26, len: len(bytes) }
        }
        FunctionOperation::PollMsi { offset, len: bytes } => {
            FunctionOperation::PollMsi { offset: offset % 26, len: len(bytes) }
        }
        FunctionOperation::WriteMsix { offset, len: bytes, value } => {
            FunctionOperation::WriteMsix { offset: offset % 5, len: len(bytes), value }
        }
        FunctionOperation::WriteCommand { offset, len: bytes, value } => {
            FunctionOperation::WriteCommand { offset: offset % 3, len: len(bytes), value }
        }
        FunctionOperation::WriteTable { offset, len: bytes, value } => {
            FunctionOperation::WriteTable { offset: offset % 36, len: len(bytes), value }
        }
        FunctionOperation::PollPba { offset, len: bytes } => {
            FunctionOperation::PollPba { offset: offset % 10, len: len(bytes) }
        }
        FunctionOperation::Notify(v) => FunctionOperation::Notify(vector(v)),
        FunctionOperation::Withdraw(mode, v) => FunctionOperation::Withdraw(mode, vector(v)),
        FunctionOperation::Claim(v) => FunctionOperation::Claim(vector(v)),
        FunctionOperation::Unclaim(v) => FunctionOperation::Unclaim(vector(v)),
        FunctionOperation::SetMask(v, masked) => FunctionOperation::SetMask(vector(v), masked),
        FunctionOperation::SetMessage(v, message) => {
            FunctionOperation::SetMessage(vector(v), message)
        }
        other => other,
    }
}
