//! The breadth-first search.

use super::property::Found;
use super::state_checks;
use super::transition::{Node, Stepped, step};
use super::world::{Event, Setup};
use msix_core::Storage;
use rustc_hash::FxHashSet;
use std::collections::VecDeque;

/// What a search came to.
#[derive(Debug)]
pub(crate) struct Closure {
    /// States found.
    pub(crate) states: usize,
    /// Steps taken.
    pub(crate) transitions: u64,
    /// Steps from the start to the farthest state.
    pub(crate) depth: u32,
    /// Whether every state was left by every step.
    pub(crate) complete: bool,
    /// The first violation, with the shortest way to it.
    pub(crate) violation: Option<(Found, Way)>,
}

/// A way from the start.
#[derive(Debug, Default)]
pub(crate) struct Way {
    /// The events, and which of the Uses and Reroutes of each failed.
    pub(crate) steps: Vec<(Event, u8)>,
    /// What was tried at the end, when that is no event.
    pub(crate) tried: Option<String>,
}

/// How far a search is.
#[derive(Debug, Clone, Copy)]
pub struct Reached {
    /// States found.
    pub states: usize,
    /// Of those, states not looked at yet.
    pub frontier: usize,
    /// Steps from the start to the states looked at now.
    pub depth: u32,
}

/// Where a state was found from: 8 bytes a state.
#[derive(Debug, Clone, Copy)]
struct Parent {
    state: u32,
    event: u16,
    fail: u8,
}

/// A state that is still to be left.
struct Open<S> {
    node: Node<S>,
    index: u32,
    depth: u32,
}

/// As [`search`]; the way to a violation is one that a script can tell, if there is such a way:
/// scripts have no word for a load of another engine's snapshot.
pub(crate) fn search_told<S: Storage + Clone>(
    setup: &Setup<S>,
    most: usize,
    mut progress: impl FnMut(Reached),
) -> Closure {
    let mut closure = search(setup, most, &mut progress);
    let is_load = |(event, _): &(Event, u8)| matches!(event, Event::Load(_));
    if closure.violation.as_ref().is_some_and(|(_, way)| way.steps.iter().any(is_load)) {
        let mut setup = setup.clone();
        setup.events.retain(|event| !is_load(&(*event, 0)));
        let enough = closure.states.saturating_mul(16).max(1 << 16).min(most);
        closure.violation = search(&setup, enough, progress).violation.or(closure.violation);
    }
    closure
}

/// Visits every state reachable from the start, nearest first. States are told apart by their
/// [key](Node::key); whole engines are kept only while they are still to be left.
pub(crate) fn search<S: Storage + Clone>(
    setup: &Setup<S>,
    most: usize,
    mut progress: impl FnMut(Reached),
) -> Closure {
    let start = Node::start(setup);
    let mut seen = FxHashSet::default();
    seen.insert(start.key(setup));
    let mut parents = vec![Parent { state: 0, event: 0, fail: 0 }];
    let mut closure =
        Closure { states: 1, transitions: 0, depth: 0, complete: false, violation: None };
    if let Err(probed) = state_checks::check(setup, &start) {
        let way = Way { steps: probed.steps, tried: probed.tried };
        closure.violation = Some((probed.found, way));
        return closure;
    }
    let mut frontier = VecDeque::from([Open { node: start, index: 0, depth: 0 }]);
    let mut done = 0_u64;
    while let Some(Open { node, index, depth }) = frontier.pop_front() {
        closure.depth = depth;
        if done.is_multiple_of(4096) {
            progress(Reached { states: parents.len(), frontier: frontier.len(), depth });
        }
        done += 1;
        for (number, event) in setup.events.iter().enumerate() {
            // After the step where nothing fails, those where some of what could fail does.
            let (mut fail, mut could_fail) = (0, 0);
            loop {
                let Some(result) = step(setup, &node, *event, fail) else { break };
                closure.transitions += 1;
                let Stepped { node: next, done } = match result {
                    Ok(stepped) => stepped,
                    Err(found) => {
                        let mut way = way(setup, &parents, index);
                        way.steps.push((*event, fail));
                        closure.states = parents.len();
                        closure.violation = Some((found, way));
                        return closure;
                    }
                };
                if fail == 0 {
                    could_fail = done.could_fail;
                }
                if seen.insert(next.key(setup)) {
                    let event = u16::try_from(number).unwrap_or(u16::MAX);
                    parents.push(Parent { state: index, event, fail });
                    let index = u32::try_from(parents.len() - 1).unwrap_or(u32::MAX);
                    if let Err(probed) = state_checks::check(setup, &next) {
                        let mut way = way(setup, &parents, index);
                        way.steps.extend(probed.steps);
                        way.tried = probed.tried;
                        closure.states = parents.len();
                        closure.violation = Some((probed.found, way));
                        return closure;
                    }
                    if parents.len() >= most {
                        closure.states = parents.len();
                        return closure;
                    }
                    frontier.push_back(Open { node: next, index, depth: depth + 1 });
                }
                // The next subset of what could fail.
                fail = fail.wrapping_sub(could_fail) & could_fail;
                if fail == 0 {
                    break;
                }
            }
        }
    }
    closure.states = parents.len();
    closure.complete = true;
    closure
}

fn way<S>(setup: &Setup<S>, parents: &[Parent], mut state: u32) -> Way {
    let mut steps = Vec::new();
    while state != 0 {
        let Some(parent) = parents.get(state as usize) else { break };
        if let Some(event) = setup.events.get(usize::from(parent.event)) {
            steps.push((*event, parent.fail));
        }
        state = parent.state;
    }
    steps.reverse();
    Way { steps, tried: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use msix_core::{BarIndex, Inline, Layout, Msix, Policy, Vector};
    use std::collections::HashMap;

    /// Where a state leads: its successors' keys, event by event.
    fn successors<S: Storage + Clone>(setup: &Setup<S>, node: &Node<S>) -> Vec<u64> {
        let mut keys = Vec::new();
        for event in &setup.events {
            let (mut fail, mut could_fail) = (0, 0);
            while let Some(result) = step(setup, node, *event, fail) {
                let stepped = result.unwrap();
                if fail == 0 {
                    could_fail = stepped.done.could_fail;
                }
                keys.push(stepped.node.key(setup));
                fail = fail.wrapping_sub(could_fail) & could_fail;
                if fail == 0 {
                    break;
                }
            }
        }
        // Which event leads where is not the same when vectors or message values are exchanged.
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn states_with_one_key_lead_to_the_same_keys(policy: Policy, symmetry: bool, walks: u64) {
        let layout = Layout::exclusive_bar(41, BarIndex::new(0).unwrap()).unwrap();
        let msix = Msix::<Inline<41, 1>>::new(layout, policy).unwrap();
        let setup = Setup::new(msix, vec![Vector::new(0), Vector::new(40)], symmetry, None);
        let mut known: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut met_again = 0;
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..walks {
            let mut node = Node::start(&setup);
            for _ in 0..30 {
                let event = setup.events[rng.usize(0..setup.events.len())];
                let fail = rng.u8(0..4);
                if let Some(Ok(stepped)) = step(&setup, &node, event, fail) {
                    node = stepped.node;
                }
                let keys = successors(&setup, &node);
                if let Some(before) = known.insert(node.key(&setup), keys.clone()) {
                    assert_eq!(before, keys, "{node:x?}");
                    met_again += 1;
                }
            }
        }
        assert!(met_again > walks, "{met_again}");
    }

    #[test]
    fn what_the_key_of_a_state_leaves_out_does_not_matter() {
        states_with_one_key_lead_to_the_same_keys(Policy::SPEC, false, 60);
        states_with_one_key_lead_to_the_same_keys(Policy::QEMU, false, 60);
    }

    #[test]
    fn the_order_of_the_vectors_does_not_matter() {
        states_with_one_key_lead_to_the_same_keys(Policy::SPEC, true, 60);
        states_with_one_key_lead_to_the_same_keys(Policy::QEMU, true, 60);
    }
}
