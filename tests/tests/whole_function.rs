//! A whole function does what its naive model does, input by input, and switches its modes in order.

use msix_core::operation::{Answer, FunctionOperation};
use msix_core::{Effect, Function, FunctionEffect, Intx, IntxEffect, Mode, Msi, Parts, Policy};
use msix_tests::strategy::policies;
use msix_tests::vector_effects::VectorEffect;
use msix_tests::whole_function::strategy::{operations, parts};
use msix_tests::whole_function::{Pair, PartEffect};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeSet;

fn config() -> ProptestConfig {
    // A failure is reported with its shrunk sequence; the sequence becomes a test of its own.
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

fn cases() -> impl Strategy<Value = (Parts, Vec<FunctionOperation>)> {
    parts().prop_flat_map(|parts| (Just(parts), operations(parts)))
}

fn run(
    parts: Parts,
    policy: Policy,
    operations: &[FunctionOperation],
    mut see: impl FnMut(&FunctionOperation, Answer, &[PartEffect]),
) -> Result<(), TestCaseError> {
    let mut pair = Pair::new(parts, policy);
    for (index, operation) in operations.iter().enumerate() {
        let (answer, effects) = pair.step(operation).map_err(|difference| {
            TestCaseError::fail(format!("input {index}, {operation:?}: {difference}"))
        })?;
        see(operation, answer, &effects);
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn under_the_spec_policy_function_and_model_agree((parts, operations) in cases()) {
        run(parts, Policy::SPEC, &operations, |_, _, _| {})?;
    }

    #[test]
    fn under_the_qemu_policy_function_and_model_agree((parts, operations) in cases()) {
        run(parts, Policy::QEMU, &operations, |_, _, _| {})?;
    }

    #[test]
    fn under_mixed_policies_function_and_model_agree(
        (parts, operations) in cases(), policy in policies(),
    ) {
        run(parts, policy, &operations, |_, _, _| {})?;
    }

    // D2, judged without the model
    #[test]
    fn at_no_moment_of_a_list_are_two_modes_armed(
        (parts, operations) in cases(), policy in policies(),
    ) {
        let mut live = BTreeSet::new();
        let mut fail = None;
        run(parts, policy, &operations, |operation, _, effects| {
            for effect in effects {
                let (mode, kind) = match effect {
                    PartEffect::MsiX(VectorEffect::Arm(v, _)) => ((Mode::MsiX as u8, *v), true),
                    PartEffect::MsiX(VectorEffect::Disarm(v)) => ((Mode::MsiX as u8, *v), false),
                    PartEffect::Msi(VectorEffect::Arm(v, _)) => ((Mode::Msi as u8, *v), true),
                    PartEffect::Msi(VectorEffect::Disarm(v)) => ((Mode::Msi as u8, *v), false),
                    PartEffect::Intx(IntxEffect::Arm) => ((Mode::Intx as u8, 0), true),
                    PartEffect::Intx(IntxEffect::Disarm) => ((Mode::Intx as u8, 0), false),
                    _ => continue,
                };
                let balanced = if kind { live.insert(mode) } else { live.remove(&mode) };
                let alone = live.iter().all(|(other, _)| *other == mode.0);
                if !balanced || kind && !alone {
                    fail = Some(format!("{operation:?}: {effect:?} with {live:?}"));
                }
            }
        })?;
        prop_assert_eq!(fail, None);
    }

    // A17, D12: the guest's controller sees a level as the device's facts say, in order
    #[test]
    fn asserts_and_deasserts_alternate_but_for_the_eoi(
        (parts, operations) in cases(), policy in policies(),
    ) {
        let mut high = false;
        let mut fail = None;
        run(parts, policy, &operations, |operation, _, effects| {
            for effect in effects {
                let fine = match effect {
                    PartEffect::Intx(IntxEffect::Assert) => {
                        let again = *operation == FunctionOperation::Eoi;
                        !std::mem::replace(&mut high, true) || again
                    }
                    PartEffect::Intx(IntxEffect::Deassert) => std::mem::replace(&mut high, false),
                    PartEffect::Intx(IntxEffect::Unmask) => *operation == FunctionOperation::Eoi,
                    _ => true,
                };
                if !fine {
                    fail = Some(format!("{operation:?}: {effect:?}"));
                }
            }
        })?;
        prop_assert_eq!(fail, None);
    }

    // I6
    #[test]
    fn an_input_emits_no_more_than_its_parts_may((parts, operations) in cases(), policy in policies()) {
        let mut function = Function::boxed(parts, policy);
        let mut scratch = vec![0; function.saved_len()];
        for operation in &operations {
            let mut fx = msix_core::FunctionEffects::<{ msix_core::MAX_FUNCTION_EFFECTS }>::new();
            operation.apply(&mut function, &mut scratch, &mut fx);
            let count = |of: fn(&FunctionEffect) -> bool| fx.iter().filter(of).count();
            let words = usize::from(parts.msix.map_or(0, |layout| layout.vectors().div_ceil(64)));
            let pin = count(|e| matches!(e, FunctionEffect::Intx(_)));
            let msi = count(|e| matches!(e, FunctionEffect::Msi(_)));
            let msix = count(|e| matches!(e, FunctionEffect::MsiX(_)));
            prop_assert!(pin <= Intx::MAX_EFFECTS && msi <= Msi::MAX_EFFECTS, "{operation:?}");
            prop_assert!(msix <= 2 + 3 * words, "{operation:?}: {msix}");
            let leaked = count(|e| matches!(e,
                FunctionEffect::Msi(Effect::IntxDeassert | Effect::IntxReevaluate)
                | FunctionEffect::MsiX(Effect::IntxDeassert | Effect::IntxReevaluate)));
            prop_assert_eq!(leaked, 0);
        }
    }

    // A snapshot is all there is: what is loaded behaves as what was saved.
    #[test]
    fn a_function_that_is_loaded_elsewhere_goes_on_as_it_would_have(
        (parts, operations) in cases(), policy in policies(),
    ) {
        let (before, after) = operations.split_at(operations.len() / 2);
        let mut pair = Pair::new(parts, policy);
        for operation in before.iter().chain([&FunctionOperation::Resume, &FunctionOperation::Detach]) {
            pair.step(operation).map_err(TestCaseError::fail)?;
        }
        let mut bytes = vec![0; pair.function.saved_len()];
        let mut here = pair.function;
        here.save(&mut bytes).unwrap();
        let mut there = Function::boxed(parts, policy);
        prop_assert_eq!(there.load(&bytes), Ok(()));
        let mut fx = msix_core::FunctionEffects::<{ msix_core::MAX_FUNCTION_EFFECTS }>::new();
        there.resume(&mut fx).unwrap();
        // What could be said already was said before the backend went.
        while fx.take().is_some() {}
        // MSI-X may still know of a message that the host does not have; its next Arm gives it anyway (H4).
        prop_assert!(here == there || parts.msix.is_some());
        for operation in after {
            let mut other = fx.clone();
            let ours = operation.apply(&mut here, &mut bytes, &mut fx);
            let theirs = operation.apply(&mut there, &mut bytes, &mut other);
            prop_assert_eq!(ours, theirs);
            let (ours, theirs): (Vec<_>, Vec<_>) = (fx.iter().collect(), other.iter().collect());
            prop_assert_eq!(ours, theirs, "{:?}", operation);
            while fx.take().is_some() {}
        }
    }
}

#[test]
fn the_generated_sequences_reach_every_kind_of_effect_of_every_part_and_every_switch() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    let mut switches = BTreeSet::new();
    for _ in 0..300 {
        let tree = (cases(), policies()).new_tree(&mut runner).expect("nothing is filtered");
        let ((parts, operations), policy) = tree.current();
        let mut pair = Pair::new(parts, policy);
        for operation in &operations {
            let old = pair.function.mode();
            let (_, effects) = pair.step(operation).expect("no difference");
            switches.insert((old as u8, pair.function.mode() as u8));
            seen.extend(effects.iter().map(|effect| {
                let name = format!("{effect:?}");
                let letters = name.chars().take_while(|c| c.is_alphabetic() || *c == '(');
                letters.collect::<String>()
            }));
        }
    }
    let of = |part: &str, kinds: &[&str]| -> Vec<String> {
        kinds.iter().map(|kind| format!("{part}({kind}")).collect()
    };
    let vectors = ["Poll(", "Disarm(", "Drain(", "Arm(", "Reroute(", "Send("];
    let mut missing = of("MsiX", &vectors);
    missing.extend(of("Msi", &vectors));
    missing.extend(of("Intx", &["Deassert", "Disarm", "Arm", "Assert", "Unmask"]));
    missing.retain(|name| !seen.contains(name));
    assert!(missing.is_empty(), "never seen: {missing:?} of {seen:?}");
    let modes = [Mode::Intx, Mode::Msi, Mode::MsiX];
    for (from, to) in modes.iter().flat_map(|from| modes.map(|to| (*from as u8, to as u8))) {
        assert!(switches.contains(&(from, to)), "never switched from {from} to {to}");
    }
}
