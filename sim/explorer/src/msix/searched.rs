//! The search of a world of MSI-X.

use super::alphabet::Event;
use super::node::Node;
use super::state_checks;
use super::transition::{Move, step, steps};
use super::way::Way;
use super::world::MsixWorld;
use crate::search::{Extent, Reached, World, search};
use msix_core::Storage;
use std::ops::ControlFlow;

impl<S: Storage + Clone> World for MsixWorld<S> {
    type State = Node<S>;
    type Key = u64;
    type Step = Move;
    type Found = Way;

    fn start(&self) -> Node<S> {
        Node::start(self)
    }

    fn key(&self, node: &Node<S>) -> u64 {
        node.key(self)
    }

    fn check(&self, node: &Node<S>) -> Result<(), Way> {
        state_checks::check(self, node)
    }

    fn steps(
        &self,
        node: &Node<S>,
        mut taken: impl FnMut(Move, Result<&Node<S>, Way>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        steps(self, node, |step, result| taken(step, result.map_err(Way::from)))
    }

    fn again(&self, node: &Node<S>, Move { event, fail }: Move) -> Node<S> {
        let event = self.events.get(usize::from(event));
        let next = event.and_then(|event| step(self, node, *event, fail)?.ok());
        next.unwrap_or_else(|| unreachable!("{event:?} was taken here before"))
    }
}

/// Searches `world` for what does not hold. The way there is one that a script can tell, if there is
/// such a way: scripts have no word for a load of another engine's snapshot.
pub(crate) fn searched<S: Storage + Clone>(
    world: &MsixWorld<S>,
    most: usize,
    mut go_on: impl FnMut(Reached) -> bool,
) -> (Extent, Option<Way>) {
    let (mut extent, found) = shortest(world, most, &mut go_on);
    let is_load = |event: &Event| matches!(event, Event::Load(_));
    if found.as_ref().is_some_and(|way| way.steps.iter().any(|(event, _)| is_load(event))) {
        let mut world = world.clone();
        world.events.retain(|event| !is_load(event));
        let enough = extent.states.saturating_mul(16).max(1 << 16).min(most);
        let (second, told) = shortest(&world, enough, go_on);
        extent.interrupted |= second.interrupted;
        return (extent, told.or(found));
    }
    (extent, found)
}

fn shortest<S: Storage + Clone>(
    world: &MsixWorld<S>,
    most: usize,
    go_on: impl FnMut(Reached) -> bool,
) -> (Extent, Option<Way>) {
    let closure = search(world, most, go_on);
    let whole = closure.violation.map(|(mut way, moves)| {
        let event = |Move { event, fail }| Some((*world.events.get(usize::from(event))?, fail));
        let before: Vec<(Event, u8)> = moves.into_iter().filter_map(event).collect();
        way.steps.splice(..0, before);
        way
    });
    (closure.extent, whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use msix_core::{BarIndex, Inline, Layout, Msix, Policy, Vector};
    use std::collections::HashMap;

    /// Where a state leads: its successors' keys.
    fn successors<S: Storage + Clone>(world: &MsixWorld<S>, node: &Node<S>) -> Vec<u64> {
        let mut keys = Vec::new();
        let all = steps(world, node, |_, result| {
            keys.push(result.unwrap().key(world));
            ControlFlow::Continue(())
        });
        assert!(all.is_continue());
        // Which event leads where is not the same when vectors or message values are exchanged.
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn states_with_one_key_lead_to_the_same_keys(policy: Policy, symmetry: bool, walks: u64) {
        let layout = Layout::exclusive_bar(41, BarIndex::new(0).unwrap()).unwrap();
        let msix = Msix::<Inline<41, 1>>::new(layout, policy).unwrap();
        let world = MsixWorld::new(msix, vec![Vector::new(0), Vector::new(40)], symmetry, None);
        let mut known: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut met_again = 0;
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..walks {
            let mut node = Node::start(&world);
            for _ in 0..30 {
                let event = world.events[rng.usize(0..world.events.len())];
                let fail = rng.u8(0..4);
                if let Some(Ok(next)) = step(&world, &node, event, fail) {
                    node = next;
                }
                let keys = successors(&world, &node);
                if let Some(before) = known.insert(node.key(&world), keys.clone()) {
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
