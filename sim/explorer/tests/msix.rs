//! The exploration of MSI-X: it closes, it agrees with another checker, and it can fail.

#[cfg(feature = "stateright")]
use msix_explorer::check_with_stateright;
use msix_explorer::script::Script;
use msix_explorer::{MsixDefect, MsixOptions, Peer, Unexplorable, explore_msix};

fn options(policy: Peer) -> MsixOptions {
    let mut options = MsixOptions::default();
    options.policy = policy;
    options
}

#[test]
fn one_vector_is_closed_without_a_violation_under_both_policies() {
    for policy in [Peer::Spec, Peer::Qemu] {
        let outcome = explore_msix(&options(policy), |_| true).unwrap();
        assert_eq!(outcome.violation.map(|v| v.script), None);
        assert!(
            outcome.extent.complete
                && outcome.extent.states > 2000
                && outcome.extent.transitions > 100_000
        );
    }
}

#[cfg(feature = "stateright")]
#[test]
fn stateright_finds_as_many_states_and_no_violation() {
    for policy in [Peer::Spec, Peer::Qemu] {
        let ours = explore_msix(&options(policy), |_| true).unwrap();
        assert_eq!(
            check_with_stateright(&options(policy)),
            Ok((ours.extent.states, Vec::new())),
            "{policy:?}"
        );
    }
}

#[test]
fn it_does_not_matter_where_in_the_table_the_vector_is() {
    let states = |at| {
        let mut options = MsixOptions::default();
        options.at = vec![at];
        let outcome = explore_msix(&options, |_| true).unwrap();
        assert_eq!(outcome.violation.map(|v| v.script), None, "{at}");
        outcome.extent.states
    };
    assert_eq!([3, 64].map(states), [states(40); 2]);
}

/// Of the seeded defects, those in what [`Policy::QEMU`](msix_core::Policy::QEMU) never does: it
/// reroutes nothing, drains nothing and says nothing of INTx at a disable.
const NOT_IN_QEMU: [MsixDefect; 3] =
    [MsixDefect::NoReroute, MsixDefect::HeldSurvivesReset, MsixDefect::IntxForgotten];

fn with(defect: MsixDefect, policy: Peer) -> MsixOptions {
    // A neighbour takes two.
    let mut options = options(policy);
    options.at = if defect == MsixDefect::WithdrawClearsWord { vec![0, 40] } else { vec![40] };
    options.defect = Some(defect);
    options
}

#[test]
fn every_seeded_defect_is_found_by_its_property_with_a_short_script() {
    for (defect, text, property) in MsixDefect::ALL {
        let outcome = explore_msix(&with(defect, Peer::Spec), |_| true).unwrap();
        let found = outcome.violation.unwrap_or_else(|| panic!("{defect:?} is not found"));
        assert_eq!(found.property, property.name(), "{defect:?} ({text}): {}", found.detail);
        assert!(found.steps <= 5, "{defect:?}: {}", found.script);

        let script = Script::parse(&found.script).unwrap();
        assert!(script.operations.len() <= found.steps, "{defect:?}: {}", found.script);
        assert!(!found.script.contains("# load a snapshot of"), "{defect:?}: {}", found.script);
    }
}

#[test]
fn every_seeded_defect_that_qemus_policy_can_have_is_found_there_too() {
    let possible = MsixDefect::ALL.into_iter().filter(|(defect, ..)| !NOT_IN_QEMU.contains(defect));
    for (defect, ..) in possible {
        let outcome = explore_msix(&with(defect, Peer::Qemu), |_| true).unwrap();
        assert!(outcome.violation.is_some(), "{defect:?}");
    }
}

#[cfg(feature = "stateright")]
#[test]
fn stateright_finds_a_seeded_defect_too() {
    let options = with(MsixDefect::RestoreWithoutArm, Peer::Spec);
    let (_, violated) = check_with_stateright(&options).unwrap();
    assert!(violated.contains(&"told"), "{violated:?}");
}

#[test]
fn a_search_that_is_cut_short_says_so() {
    let mut options = MsixOptions::default();
    options.max_states = 100;
    let outcome = explore_msix(&options, |_| true).unwrap();
    assert_eq!(
        (outcome.extent.states, outcome.extent.complete, outcome.violation.is_none()),
        (100, false, true)
    );
}

#[test]
fn vectors_that_cannot_be_explored_are_refused() {
    for at in [vec![], vec![66], vec![3, 3], vec![0, 1, 2, 3]] {
        let mut options = MsixOptions::default();
        options.at = at;
        assert_eq!(explore_msix(&options, |_| true).err(), Some(Unexplorable));
    }
}
