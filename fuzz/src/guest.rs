//! Inputs of all kinds, engine against reference model.

use crate::behaviour;
use arbitrary::{Arbitrary, Unstructured};
use msix_core::operation::Operation;
use msix_core::{Vector, Vectors};
use msix_tests::lockstep::{COUNTS, StorageKind, registers, with_lockstep};

/// Most inputs of one run: a failure that needs more would be a very strange one.
const MAX_OPERATIONS: usize = 400;

/// Gives the same sequence of inputs to engine and model.
///
/// The bytes: index into the vector counts (1), kind of memory (1), policy (4), how to begin (1),
/// then operations in the encoding of `arbitrary`. How to begin: bit 0 clear, vectors and offsets
/// are folded into the table; the other bits, if any is set, choose registers to load first.
///
/// # Panics
/// When they disagree, or the engine finds something wrong with itself.
pub fn guest_ops(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<HEAD>() else { return };
    let &[count, memory, p0, p1, p2, p3, begin] = head;
    let vectors = COUNTS[usize::from(count) % COUNTS.len()];
    let kinds = [StorageKind::Boxed, StorageKind::Inline, StorageKind::Borrowed];
    let memory = kinds[usize::from(memory) % kinds.len()];
    let operations = decode(rest).map(|one| if begin % 2 == 0 { fold(one, vectors) } else { one });
    with_lockstep(memory, vectors, behaviour(u32::from_le_bytes([p0, p1, p2, p3])), |steps| {
        if begin > 1 {
            let (control, bytes) = registers(vectors, u64::from(begin) << 20);
            if let Err(difference) = steps.load_qemu(control, &bytes) {
                panic!("loaded, N={vectors}: {difference}");
            }
        }
        for (index, operation) in operations.enumerate() {
            if let Err(difference) = steps.step(&operation) {
                panic!("input {index} of N={vectors}, {operation:?}: {difference}");
            }
        }
        if let Err(difference) = steps.compare_reads() {
            panic!("at the end, N={vectors}: {difference}");
        }
    });
}

/// Bytes before the operations.
pub(crate) const HEAD: usize = 7;

/// The operations in `bytes`.
pub(crate) fn decode(bytes: &[u8]) -> impl Iterator<Item = Operation> + '_ {
    let mut bytes = Unstructured::new(bytes);
    let next = move || {
        if bytes.is_empty() { None } else { Operation::arbitrary(&mut bytes).ok() }
    };
    std::iter::from_fn(next).take(MAX_OPERATIONS)
}

/// The same input, with vectors and offsets that are mostly in the table: a random 16-bit number
/// seldom is.
fn fold(operation: Operation, n: u16) -> Operation {
    let vector = |v: Vector| Vector::new(v.index() % (n + 1));
    let set = |set: Vectors| Vectors::new(set.word() % (n.div_ceil(64) + 1), set.bits());
    let table = |offset: u16| offset % (16 * n + 4);
    let pba = |offset: u16| offset % (8 * n.div_ceil(64) + 4);
    let len = |len: u8| len % 10;
    match operation {
        Operation::WriteConfig { offset, len: bytes, value } => {
            Operation::WriteConfig { offset: offset % 14, len: len(bytes), value }
        }
        Operation::ReadConfig { offset, len: bytes } => {
            Operation::ReadConfig { offset: offset % 14, len: len(bytes) }
        }
        Operation::WriteTable { offset, len: bytes, value } => {
            Operation::WriteTable { offset: table(offset), len: len(bytes), value }
        }
        Operation::ReadTable { offset, len: bytes } => {
            Operation::ReadTable { offset: table(offset), len: len(bytes) }
        }
        Operation::PollPba { offset, len: bytes } => {
            Operation::PollPba { offset: pba(offset), len: len(bytes) }
        }
        Operation::ReadPba { offset, len: bytes } => {
            Operation::ReadPba { offset: pba(offset), len: len(bytes) }
        }
        Operation::WritePba { offset, len: bytes } => {
            Operation::WritePba { offset: pba(offset), len: len(bytes) }
        }
        Operation::Notify(v) => Operation::Notify(vector(v)),
        Operation::Withdraw(v) => Operation::Withdraw(vector(v)),
        Operation::Claim(v) => Operation::Claim(vector(v)),
        Operation::Unclaim(v) => Operation::Unclaim(vector(v)),
        Operation::SetMask(v, masked) => Operation::SetMask(vector(v), masked),
        Operation::SetMessage(v, message) => Operation::SetMessage(vector(v), message),
        Operation::ReportFailed(vectors) => Operation::ReportFailed(set(vectors)),
        Operation::ReportHeld(vectors) => Operation::ReportHeld(set(vectors)),
        other => other,
    }
}
