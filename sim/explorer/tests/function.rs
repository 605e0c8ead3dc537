//! The exploration of a whole function: nothing is violated as far as a test has time to look, and it can fail.

use msix_explorer::{FunctionDefect, FunctionOptions, Peer, explore_function};

/// A debug build takes about a millisecond a state: this many are enough to come to the states that are
/// three inputs away, and leave some, under either policy, with either pin.
const NEAR: usize = 1_200;
/// The farthest defect is found in 2,600 states.
const FAR: usize = 4_000;

fn options(policy: Peer, physical: bool) -> FunctionOptions {
    let mut options = FunctionOptions::default();
    options.vectors = 2;
    options.policy = policy;
    options.physical = physical;
    options.max_states = NEAR;
    options
}

fn the_nearest_states_show_no_violation(policy: Peer) {
    for physical in [false, true] {
        let outcome = explore_function(&options(policy, physical), |_| true);
        assert!(outcome.violation.is_none(), "{:#?}", outcome.violation);
        assert_eq!((outcome.extent.states, outcome.extent.complete), (NEAR, false));
        assert!(outcome.extent.depth >= 3, "{policy:?}, {physical}: {}", outcome.extent.depth);
    }
}

#[test]
fn the_nearest_states_show_no_violation_under_spec_with_either_pin() {
    the_nearest_states_show_no_violation(Peer::Spec);
}

#[test]
fn the_nearest_states_show_no_violation_under_qemu_with_either_pin() {
    the_nearest_states_show_no_violation(Peer::Qemu);
}

#[test]
fn every_seeded_defect_is_found_by_its_property_in_few_inputs() {
    for (defect, text, property) in FunctionDefect::ALL {
        // What an EOI does can be seen of a physical line alone.
        let eoi = [FunctionDefect::UnmaskForgotten, FunctionDefect::EoiForgotten].contains(&defect);
        // One vector of each is enough to show them, and is sooner deep.
        let mut options = options(Peer::Spec, eoi);
        options.defect = Some(defect);
        options.vectors = 1;
        options.max_states = FAR;
        let outcome = explore_function(&options, |_| true);
        let found = outcome.violation.unwrap_or_else(|| panic!("{defect:?} is not found"));
        assert_eq!(found.property, property, "{defect:?} ({text}): {found:#?}");
        assert!(found.steps <= 12, "{defect:?}: {}", found.script);
    }
}
