//! Operation sequences and policies for proptest, with a bias to the edges: word boundaries, masks
//! and events of one vector close together, and whole stories as guests and hosts play them.

use crate::model::policies::mixed;
use msix_core::operation::Operation;
use msix_core::{Message, Policy, Vector, Vectors};
use proptest::prelude::*;
use proptest::sample::select;

/// Vector counts at which something changes: one vector, the edges of dwords and QWORDs of the PBA,
/// the edge of QEMU's 4 KiB layout, and the largest table.
pub const COUNTS: [u16; 11] = [1, 2, 31, 32, 33, 63, 64, 65, 128, 129, 2048];

/// One of [`COUNTS`].
pub fn counts() -> impl Strategy<Value = u16> {
    select(&COUNTS[..])
}

/// SPEC, QEMU, and mostly a mix of all fields.
pub fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![
        2 => Just(Policy::SPEC),
        2 => Just(Policy::QEMU),
        6 => any::<u32>().prop_map(|choice| mixed(choice).policy),
    ]
}

/// A sequence of operations for a table of `n` vectors, in most cases with some vectors claimed, a
/// backend attached and MSI-X enabled at its beginning.
pub fn operations(n: u16) -> impl Strategy<Value = Vec<Operation>> {
    let stories = prop::collection::vec(story(n), 1..20);
    (prop::option::weighted(0.8, setup(n)), stories)
        .prop_map(|(setup, stories)| setup.into_iter().chain(stories).flatten().collect())
}

/// As [`operations`], without host failures: after those an engine is in a state that no snapshot
/// holds, until the vector is armed again.
pub fn operations_of_a_good_host(n: u16) -> impl Strategy<Value = Vec<Operation>> {
    operations(n).prop_map(|mut operations| {
        operations.retain(|operation| !matches!(operation, Operation::ReportFailed(_)));
        operations
    })
}

/// A sequence for a device behind an adapter: some vectors are programmed and unmasked by the guest first,
/// and what the guest can read is read at the end. In half of the sequences all is done by the guest that a
/// side channel could do ([`by_guest`]).
pub fn sequence(n: u16) -> impl Strategy<Value = Vec<Operation>> {
    let programmed = prop::collection::vec((vector(n), any::<bool>()), 0..4);
    let looks = prop::collection::vec(look(n), 0..6);
    // What is read-only must read as before (C04).
    let overwritten = select(vec![(0_u8, 2_u8), (1, 1), (4, 4), (8, 4), (7, 2)]);
    let overwritten = prop::option::weighted(0.2, (overwritten, any::<u64>()));
    (programmed, operations(n), looks, overwritten, any::<bool>()).prop_map(
        |(programmed, rest, looks, overwritten, guest)| {
            let entries = programmed.into_iter().flat_map(|(v, unmask)| {
                let address = 0xfee0_0000 | u64::from(v.index() % 4) << 12;
                let claim = [Operation::Claim(v), write_entry(v, 0, 4, address)];
                let data = write_entry(v, 8, 4, 0x4020 + u64::from(v.index()));
                claim.into_iter().chain([data]).chain(unmask.then(|| write_entry(v, 12, 4, 0)))
            });
            let read_only = overwritten.into_iter().flat_map(|((offset, len), value)| {
                [
                    Operation::WriteConfig { offset, len, value },
                    Operation::ReadConfig { offset, len },
                ]
            });
            let all = entries.chain(rest).chain(read_only).chain(looks);
            if guest {
                all.flat_map(|operation| by_guest(&operation)).collect()
            } else {
                all.collect()
            }
        },
    )
}

/// A read of a field, of the PBA or of the capability.
fn look(n: u16) -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => (vector(n), 0..4_u16).prop_map(|(v, field)| {
            Operation::ReadTable { offset: v.index().saturating_mul(16).saturating_add(4 * field), len: 4 }
        }),
        3 => (vector(n), any::<bool>()).prop_map(|(v, whole)| {
            let (unit, len) = if whole { (64, 8) } else { (32, 4) };
            Operation::ReadPba { offset: v.index() / unit * u16::from(len), len }
        }),
        1 => select(vec![(0, 4), (2, 2), (4, 4), (8, 4)])
            .prop_map(|(offset, len)| Operation::ReadConfig { offset, len }),
    ]
}

/// What a guest does in place of a side channel: masks and messages as table writes. Any other operation
/// stays as it is.
#[must_use]
pub fn by_guest(operation: &Operation) -> Vec<Operation> {
    match *operation {
        Operation::SetMask(v, masked) => vec![write_entry(v, 12, 4, u64::from(masked))],
        Operation::SetMessage(v, message) => affinity(v, message),
        other => vec![other],
    }
}

/// Returns whether an operation is an access as a guest can make it: 1 to 8 bytes, and, of configuration
/// space, inside the capability. Operations that are no accesses are none.
#[must_use]
pub fn is_access(operation: &Operation) -> bool {
    match *operation {
        Operation::WriteConfig { offset, len, .. } | Operation::ReadConfig { offset, len } => {
            (1..=8).contains(&len) && usize::from(offset) + usize::from(len) <= 12
        }
        Operation::WriteTable { len, .. }
        | Operation::ReadTable { len, .. }
        | Operation::ReadPba { len, .. }
        | Operation::WritePba { len, .. } => (1..=8).contains(&len),
        _ => false,
    }
}

/// Returns the same operation with vectors and offsets that are mostly in a table of `n` vectors: the random
/// 16-bit numbers of libFuzzer and `arbitrary` seldom are.
#[must_use]
pub fn within(operation: &Operation, n: u16) -> Operation {
    let vector = |v: Vector| Vector::new(v.index() % (n + 1));
    let set = |set: Vectors| Vectors::new(set.word() % (n.div_ceil(64) + 1), set.bits());
    let table = |offset: u16| offset % (16 * n + 4);
    let pba = |offset: u16| offset % (8 * n.div_ceil(64) + 4);
    let len = |len: u8| len % 10;
    match *operation {
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

/// Vectors at the edges of the table and of words, half of them the first and the last; a few are
/// outside.
pub fn vector(n: u16) -> impl Strategy<Value = Vector> {
    let edges: Vec<u16> = [31, 32, 33, 63, 64, 65].into_iter().filter(|v| *v < n).collect();
    prop_oneof![
        6 => Just(0),
        6 => Just(n - 1),
        4 => select(if edges.is_empty() { vec![0] } else { edges }),
        2 => 0..n,
        1 => select(vec![n, n.saturating_add(1), 2048, u16::MAX]),
    ]
    .prop_map(Vector::new)
}

/// A single operation, of any kind.
pub fn operation(n: u16) -> impl Strategy<Value = Operation> {
    let table = 16 * n;
    let pba = 8 * n.div_ceil(64);
    prop_oneof![
        3 => control_write(),
        1 => (0..14_u8, 0..10_u8, any::<u64>())
            .prop_map(|(offset, len, value)| Operation::WriteConfig { offset, len, value }),
        1 => (0..14_u8, 0..10_u8).prop_map(|(offset, len)| Operation::ReadConfig { offset, len }),
        6 => entry_write(n),
        1 => (0..=table, 0..10_u8, any::<u64>())
            .prop_map(|(offset, len, value)| Operation::WriteTable { offset, len, value }),
        2 => access(table).prop_map(|(offset, len)| Operation::ReadTable { offset, len }),
        1 => access(pba).prop_map(|(offset, len)| Operation::PollPba { offset, len }),
        1 => access(pba).prop_map(|(offset, len)| Operation::ReadPba { offset, len }),
        1 => access(pba).prop_map(|(offset, len)| Operation::WritePba { offset, len }),
        8 => vector(n).prop_map(Operation::Notify),
        3 => vector(n).prop_map(Operation::Withdraw),
        4 => vector(n).prop_map(Operation::Claim),
        2 => vector(n).prop_map(Operation::Unclaim),
        1 => Just(Operation::UnclaimAll),
        5 => (vector(n), any::<bool>()).prop_map(|(v, masked)| Operation::SetMask(v, masked)),
        2 => (vector(n), message()).prop_map(|(v, message)| Operation::SetMessage(v, message)),
        3 => Just(Operation::Attach),
        1 => Just(Operation::Detach),
        2 => vectors(n).prop_map(Operation::ReportFailed),
        3 => vectors(n).prop_map(Operation::ReportHeld),
        2 => any::<bool>().prop_map(Operation::SetBusMaster),
        1 => Just(Operation::Reset),
        1 => Just(Operation::PrepareSave),
        1 => Just(Operation::SaveAndLoad),
        1 => Just(Operation::SaveAndLoadQemu),
        2 => Just(Operation::Resume),
    ]
}

/// What makes most operations of the rest of a sequence do something.
fn setup(n: u16) -> impl Strategy<Value = Vec<Operation>> {
    (prop::collection::vec(vector(n), 1..6), any::<bool>(), any::<bool>(), control_high()).prop_map(
        |(vectors, attach, unmask, high)| {
            let mut operations: Vec<_> = vectors.iter().copied().map(Operation::Claim).collect();
            operations.extend(attach.then_some(Operation::Attach));
            if unmask {
                operations.extend(vectors.iter().map(|v| Operation::SetMask(*v, false)));
            }
            operations.push(write_control(3, 1, high));
            operations
        },
    )
}

/// A few operations that belong together.
fn story(n: u16) -> impl Strategy<Value = Vec<Operation>> {
    let v = vector(n);
    prop_oneof![
        8 => prop::collection::vec(operation(n), 1..4),
        // An event while masked, then the unmask; maybe withdrawn in between.
        3 => (v, 1..3_usize, any::<bool>()).prop_map(|(v, events, withdrawn)| {
            let mut story = vec![Operation::SetMask(v, true)];
            story.extend(vec![Operation::Notify(v); events]);
            story.extend(withdrawn.then_some(Operation::Withdraw(v)));
            story.push(Operation::SetMask(v, false));
            story
        }),
        // The same under the function mask, or while disabled.
        2 => (vector(n), select(vec![0x00, 0x40, 0xc0])).prop_map(|(v, high)| {
            vec![write_control(3, 1, high), Operation::Notify(v), write_control(2, 2, 0x80)]
        }),
        // Linux changes the affinity of a live vector (T3).
        2 => (vector(n), message()).prop_map(|(v, message)| affinity(v, message)),
        // FreeBSD programs while disabled (B7).
        1 => (vector(n), message()).prop_map(|(v, message)| {
            let mut story = vec![write_control(2, 2, 0)];
            story.extend(affinity(v, message));
            story.push(write_control(2, 2, 0x80));
            story
        }),
        // A message changed without a mask: in dwords, or as one QWORD (H4).
        2 => (vector(n), message(), any::<bool>()).prop_map(|(v, message, whole)| {
            vec![write_entry(v, 0, if whole { 8 } else { 4 }, message.address),
                 write_entry(v, 8, 4, u64::from(message.data))]
        }),
        // New data and the unmask as one QWORD, with an event pending (H5).
        2 => (vector(n), 0..4_u64).prop_map(|(v, data)| {
            vec![Operation::SetMask(v, true), Operation::Notify(v), write_entry(v, 8, 8, data)]
        }),
        // A message half changed, given with a later Arm, and completed without a change (H4).
        2 => (vector(n), message(), select(vec![0x40, 0xc0])).prop_map(|(v, message, high)| {
            let data = write_entry(v, 8, 4, u64::from(message.data));
            vec![Operation::SetMask(v, false), data, write_entry(v, 0, 4, message.address ^ 4),
                 write_control(3, 1, high), write_control(3, 1, 0x80), data]
        }),
        // The last claim ends and comes back, with something pending in between.
        2 => vector(n).prop_map(|v| {
            vec![Operation::SetMask(v, true), Operation::Notify(v), Operation::Unclaim(v),
                 Operation::SetMask(v, false), Operation::Claim(v), Operation::Notify(v)]
        }),
        // An Arm that fails, and another try (H11).
        2 => vector(n).prop_map(|v| {
            vec![Operation::Attach, Operation::SetMask(v, false),
                 Operation::ReportFailed(Vectors::one(v)), Operation::Notify(v), Operation::PrepareSave,
                 Operation::SetMask(v, true), Operation::SetMask(v, false)]
        }),
        // The host held an event, and the guest looks at the PBA (C35).
        2 => vector(n).prop_map(|v| {
            let offset = v.index() / 64 * 8;
            vec![Operation::SetMask(v, true), Operation::PollPba { offset, len: 8 },
                 Operation::ReportHeld(Vectors::one(v)), Operation::ReadPba { offset, len: 8 }]
        }),
        2 => any::<bool>().prop_map(|qemu| {
            let saved = if qemu { Operation::SaveAndLoadQemu } else { Operation::SaveAndLoad };
            vec![Operation::PrepareSave, saved, Operation::Resume]
        }),
        1 => (vector(n), any::<bool>()).prop_map(|(v, fire)| {
            let event = fire.then_some(Operation::Notify(v));
            [Operation::SetBusMaster(false)].into_iter().chain(event)
                .chain([Operation::SetMask(v, false), Operation::SetBusMaster(true)]).collect()
        }),
    ]
}

/// Mask, rewrite, unmask, in dwords as Linux does it.
fn affinity(v: Vector, message: Message) -> Vec<Operation> {
    vec![
        write_entry(v, 12, 4, 1),
        Operation::ReadTable { offset: 0, len: 4 },
        write_entry(v, 0, 4, message.address & 0xffff_ffff),
        write_entry(v, 4, 4, message.address >> 32),
        write_entry(v, 8, 4, u64::from(message.data)),
        write_entry(v, 12, 4, 0),
    ]
}

fn write_entry(v: Vector, field: u16, len: u8, value: u64) -> Operation {
    let offset = v.index().saturating_mul(16).saturating_add(field);
    Operation::WriteTable { offset, len, value }
}

/// A table write that begins in a chosen entry: mostly a field in full, sometimes not.
fn entry_write(n: u16) -> impl Strategy<Value = Operation> {
    let field = prop_oneof![
        6 => select(vec![(0, 4), (4, 4), (8, 4), (12, 4), (12, 4), (0, 8), (8, 8)]),
        1 => select(vec![(4, 8), (12, 8)]), // QWORDs off their alignment
        1 => (0..16_u16, 0..10_u8),
    ];
    (vector(n), field, value()).prop_map(|(v, (at, len), value)| write_entry(v, at, len, value))
}

/// Values for table entries: few, so that rewriting the same is common, and the mask bit varies in
/// the low and in the high half.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0..4_u64, 0..2_u64).prop_map(|(low, high)| high << 32 | low),
        2 => select(vec![0xfee0_1000, 0xfee0_1003, 0x1_fee0_2000, 0x41, 0x1_0000_0042]),
        1 => any::<u64>(),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let address = select(vec![0, 0xfee0_0000, 0xfee0_1002, 0x1_0000_0000_u64]);
    let data = prop_oneof![4 => 0..3_u32, 1 => any::<u32>()];
    (address, data).prop_map(|(address, data)| Message { address, data })
}

/// A set in one of the function's words, or in the word past them.
fn vectors(n: u16) -> impl Strategy<Value = Vectors> {
    let bits = prop_oneof![Just(1), Just(1 << 63), Just(u64::MAX), any::<u64>()];
    let word = prop_oneof![
        8 => 0..=n.div_ceil(64),
        1 => select(vec![1023, 1024, u16::MAX]),
    ];
    prop_oneof![
        2 => vector(n).prop_map(Vectors::one),
        1 => (word, bits).prop_map(|(word, bits)| Vectors::new(word, bits)),
    ]
}

/// Mostly aligned accesses in a structure of `size` bytes, at both ends and past it.
fn access(size: u16) -> impl Strategy<Value = (u16, u8)> {
    prop_oneof![
        4 => (0..=size / 8, any::<bool>(), any::<bool>()).prop_map(|(at, upper, whole)| {
            if whole { (at * 8, 8) } else { (at * 8 + if upper { 4 } else { 0 }, 4) }
        }),
        1 => (0..=size + 8, 0..10_u8),
        1 => (size.saturating_sub(9)..=size, 0..10_u8),
    ]
}

fn control_high() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(0x80), 1 => Just(0xc0), 1 => Just(0x40), 1 => Just(0), 1 => any::<u8>()]
}

/// A write that covers the control byte, in one of the shapes of C03.
fn control_write() -> impl Strategy<Value = Operation> {
    let shape = select(vec![(3, 1), (2, 2), (0, 4), (3, 2), (1, 4), (2, 4), (0, 8)]);
    (shape, control_high()).prop_map(|((offset, len), high)| write_control(offset, len, high))
}

/// A write of `len` bytes at `offset` that puts `high` in byte 3, and ones in all others.
fn write_control(offset: u8, len: u8, high: u8) -> Operation {
    let mut bytes = [0xff; 8];
    bytes[usize::from(3 - offset)] = high;
    Operation::WriteConfig { offset, len, value: u64::from_le_bytes(bytes) }
}
