//! Inputs of all kinds, engine against reference model.

use crate::behaviour;
use arbitrary::{Arbitrary, Unstructured};
use msix_conformance::strategy::within;
use msix_core::operation::Operation;
use msix_core::{Effects, MAX_EFFECTS};
use msix_tests::lockstep::{COUNTS, StorageKind, engine, registers, with_lockstep};
use msix_tests::policies::Behaviour;

/// Most inputs of one run: a failure that needs more would be a very strange one.
const MAX_OPERATIONS: usize = 400;

/// How many inputs pass between two comparisons of everything, or checks of it. Their answers and effects
/// are compared at each.
const COMPARED_EVERY: usize = 16;

/// Gives the same sequence of inputs to engine and model.
///
/// The bytes: number of vectors (1), kind of memory (1), policy (4), how to begin (1), then operations
/// in the encoding of `arbitrary`. The largest table is one number in 64, because it takes as long as
/// all others. How to begin: bit 0 clear, vectors and offsets are folded into the table; the other bits,
/// if any is set, choose registers to load first.
///
/// # Panics
/// When they disagree, or the engine finds something wrong with itself.
pub fn guest_ops(data: &[u8]) {
    let Some((run, operations)) = Run::parse(data) else { return };
    let vectors = run.vectors;
    with_lockstep(run.memory, vectors, run.behaviour, |steps| {
        if let Some((control, bytes)) = &run.loaded
            && let Err(difference) = steps.load_qemu(*control, bytes)
        {
            panic!("loaded, N={vectors}: {difference}");
        }
        for (index, operation) in operations.enumerate() {
            let compared = (index + 1).is_multiple_of(COMPARED_EVERY);
            let stepped = if compared { steps.step(&operation) } else { steps.act(&operation) };
            if let Err(difference) = stepped {
                panic!("input {index} of N={vectors}, {operation:?}: {difference}");
            }
        }
        if let Err(difference) = steps.compare().and_then(|()| steps.compare_reads()) {
            panic!("at the end, N={vectors}: {difference}");
        }
    });
}

/// Gives a sequence of inputs to an engine alone, which checks its invariants: with the debug assertions of
/// a fuzzer's build those of the vectors that an input touched after each, and those of all after each
/// sixteenth and at the end. Many more inputs are tried in the same time than with a model beside it. The
/// bytes are those of [`guest_ops`].
///
/// # Panics
/// When the engine finds something wrong with itself.
pub fn engine_ops(data: &[u8]) {
    let Some((run, operations)) = Run::parse(data) else { return };
    let mut engine = run.behaviour.give(engine(run.vectors, run.behaviour.policy));
    if let Some((control, bytes)) = &run.loaded {
        engine.load_qemu(*control, bytes).expect("registers of this number of vectors");
    }
    let mut scratch = vec![0; engine.saved_len()];
    let mut fx = Effects::<MAX_EFFECTS>::new();
    for (index, operation) in operations.enumerate() {
        _ = operation.apply(&mut engine, &mut scratch, &mut fx);
        while fx.take().is_some() {}
        if (index + 1).is_multiple_of(COMPARED_EVERY) {
            let checked = engine.check();
            assert!(
                checked.is_ok(),
                "input {index} of N={}, {operation:?}: {checked:?}",
                run.vectors
            );
        }
    }
    let checked = engine.check();
    assert!(checked.is_ok(), "at the end, N={}: {checked:?}", run.vectors);
}

/// What the first bytes say.
struct Run {
    vectors: u16,
    memory: StorageKind,
    behaviour: Behaviour,
    /// Registers to load first: Message Control, and QEMU's encoding.
    loaded: Option<(u16, Vec<u8>)>,
}

impl Run {
    /// Returns the run and its operations; `None` for too few bytes.
    fn parse(data: &[u8]) -> Option<(Self, impl Iterator<Item = Operation> + '_)> {
        let (head, rest) = data.split_first_chunk::<HEAD>()?;
        let &[count, memory, p0, p1, p2, p3, begin] = head;
        let vectors = vectors(count);
        let kinds = [StorageKind::Boxed, StorageKind::Inline, StorageKind::Borrowed];
        let loaded = (begin > 1).then(|| registers(vectors, u64::from(begin) << 20));
        let run = Self {
            vectors,
            memory: kinds[usize::from(memory) % kinds.len()],
            behaviour: behaviour(u32::from_le_bytes([p0, p1, p2, p3])),
            loaded,
        };
        let folds = begin.is_multiple_of(2);
        Some((run, decode(rest).map(move |one| if folds { within(&one, vectors) } else { one })))
    }
}

/// The number of vectors that the first byte stands for.
pub(crate) fn vectors(count: u8) -> u16 {
    let [small @ .., largest] = &COUNTS;
    match count % 64 {
        63 => *largest,
        others => small[usize::from(others) % small.len()],
    }
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
