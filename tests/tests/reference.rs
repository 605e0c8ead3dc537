//! The engine does what the reference model does, input by input.

use msix_core::operation::{Answer, Operation};
use msix_core::{Delivery, DropReason, Policy};
use msix_tests::lockstep::{StorageKind, memory, registers, with_lockstep};
use msix_tests::policies::{Behaviour, mixed};
use msix_tests::strategy::{COUNTS, counts, operations, policies};
use msix_tests::vector_effects::VectorEffect;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeSet;

fn config() -> ProptestConfig {
    // A failure is reported with its shrunk sequence; the sequence becomes a test of its own.
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// A history that begins after reset or, given a seed, with registers of another place.
#[derive(Debug)]
struct Case {
    vectors: u16,
    loaded: Option<u64>,
    operations: Vec<Operation>,
}

fn cases() -> impl Strategy<Value = Case> {
    let loaded = prop::option::weighted(0.3, any::<u64>());
    (counts(), loaded).prop_flat_map(|(vectors, loaded)| {
        operations(vectors).prop_map(move |operations| Case { vectors, loaded, operations })
    })
}

/// Runs a history, and tells `see` about every input.
fn run(
    memory: StorageKind,
    behaviour: impl Into<Behaviour>,
    case: &Case,
    mut see: impl FnMut(Answer, Vec<VectorEffect>),
) -> Result<(), TestCaseError> {
    let fail = |what: String| TestCaseError::fail(what);
    with_lockstep(memory, case.vectors, behaviour, |steps| {
        if let Some(seed) = case.loaded {
            let (control, bytes) = registers(case.vectors, seed);
            steps.load_qemu(control, &bytes).map_err(|difference| fail(difference.to_string()))?;
        }
        for (index, operation) in case.operations.iter().enumerate() {
            let said = steps.step(operation);
            let (answer, effects) = said.map_err(|difference| {
                fail(format!("input {index}, {operation:?}: {difference}"))
            })?;
            see(answer, effects);
        }
        steps.compare_reads().map_err(|difference| fail(difference.to_string()))
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn under_the_qemu_policy_engine_and_model_agree(
        memory in memory(), case in cases(),
    ) {
        run(memory, Policy::QEMU, &case, |_, _| {})?;
    }

    #[test]
    fn under_the_spec_policy_engine_and_model_agree(
        memory in memory(), case in cases(),
    ) {
        run(memory, Policy::SPEC, &case, |_, _| {})?;
    }

    #[test]
    fn under_mixed_policies_engine_and_model_agree(
        memory in memory(), policy in any::<u32>(), case in cases(),
    ) {
        run(memory, mixed(policy), &case, |_, _| {})?;
    }
}

/// The name of a variant and of the variants in it, without numbers.
fn kind(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").chars().filter(|c| c.is_alphabetic() || *c == '(').collect()
}

#[test]
fn the_generated_sequences_reach_every_effect_and_every_answer() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        let tree = (cases(), policies()).new_tree(&mut runner).expect("nothing is filtered");
        let (case, policy) = tree.current();
        run(StorageKind::Boxed, policy, &case, |answer, effects| {
            seen.insert(kind(&answer));
            seen.extend(effects.iter().map(name));
        })
        .expect("no difference");
    }
    let answers = [
        Answer::Event(Delivery::Sent),
        Answer::Event(Delivery::Pending),
        Answer::Event(Delivery::Coalesced),
        Answer::Event(Delivery::Intx),
        Answer::Event(Delivery::Dropped(DropReason::Unclaimed)),
        Answer::Event(Delivery::Dropped(DropReason::Disabled)),
        Answer::Event(Delivery::Dropped(DropReason::BusMaster)),
        Answer::Withdrawn(true),
        Answer::Withdrawn(false),
    ];
    let mut missing: Vec<String> = answers.iter().map(kind).collect();
    let effects =
        ["deassert", "poll", "disarm", "drain", "arm", "reroute", "snoop", "send", "reevaluate"];
    missing.extend(effects.map(String::from));
    missing.retain(|name| !seen.contains(name));
    assert!(missing.is_empty(), "never seen: {missing:?}");
}

fn name(effect: &VectorEffect) -> String {
    String::from(match effect {
        VectorEffect::IntxDeassert => "deassert",
        VectorEffect::Poll(_) => "poll",
        VectorEffect::Disarm(_) => "disarm",
        VectorEffect::Drain(_) => "drain",
        VectorEffect::Arm(..) => "arm",
        VectorEffect::Reroute(..) => "reroute",
        VectorEffect::Snoop(_) => "snoop",
        VectorEffect::Send(..) => "send",
        VectorEffect::IntxReevaluate => "reevaluate",
    })
}

#[test]
fn every_number_of_vectors_works_in_every_kind_of_memory() {
    for n in COUNTS {
        for memory in [StorageKind::Inline, StorageKind::Borrowed, StorageKind::Boxed] {
            with_lockstep(memory, n, Policy::SPEC, |steps| steps.compare_reads().unwrap());
        }
    }
}
