//! The same states and steps as a Stateright model, for its checker and its web page.

use super::counterexample;
use super::node::Node;
use super::property::{Found, Property};
use super::state_checks;
use super::transition::{Move, step, steps};
use super::world::MsixWorld;
use msix_core::Storage;
use stateright::{Checker, Model};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::OnceLock;

/// The engine and the world as a model.
pub(crate) struct MsixModel<S>(pub(crate) MsixWorld<S>);

/// A state, and what does not hold in it.
#[derive(Clone)]
pub(crate) struct State<S> {
    node: Node<S>,
    /// How many vectors are explored.
    vectors: usize,
    /// As the packed search tells states apart.
    key: u64,
    /// What did not hold of the step that led here.
    broken: Option<Found>,
    /// What does not hold here; found out when it is asked for, which is once a state.
    probed: OnceLock<Option<Found>>,
}

impl<S: Storage + Clone> MsixModel<S> {
    fn state(&self, node: Node<S>) -> State<S> {
        let (key, vectors) = (node.key(&self.0), self.0.at.len());
        State { vectors, key, node, broken: None, probed: OnceLock::new() }
    }
}

/// A property of Stateright, which takes no closure that captures.
macro_rules! always {
    ($property:ident) => {
        stateright::Property::always(
            Property::$property.name(),
            |world: &Self, state: &State<S>| state.holds(world, Property::$property),
        )
    };
}

impl<S: Storage + Clone> Model for MsixModel<S> {
    type State = State<S>;
    type Action = Move;

    fn init_states(&self) -> Vec<State<S>> {
        vec![self.state(Node::start(&self.0))]
    }

    fn actions(&self, state: &State<S>, actions: &mut Vec<Move>) {
        if state.found(self).is_some() {
            return; // nothing follows a state in which something does not hold
        }
        let all = steps(&self.0, &state.node, |step, _| {
            actions.push(step);
            ControlFlow::Continue(())
        });
        debug_assert!(all.is_continue());
    }

    fn next_state(&self, last: &State<S>, action: Move) -> Option<State<S>> {
        let event = *self.0.events.get(usize::from(action.event))?;
        Some(match step(&self.0, &last.node, event, action.fail)? {
            Ok(node) => self.state(node),
            Err(found) => State { broken: Some(found), ..last.clone() },
        })
    }

    fn format_action(&self, action: &Move) -> String {
        let event = self.0.events.get(usize::from(action.event));
        event.map_or(String::new(), |event| counterexample::name(&self.0, *event, action.fail))
    }

    fn format_step(&self, last: &State<S>, action: Move) -> Option<String> {
        let next = self.next_state(last, action)?;
        next.found(self);
        Some(format!("{next:#?}"))
    }

    fn properties(&self) -> Vec<stateright::Property<Self>> {
        vec![
            always!(Engine),
            always!(Told),
            always!(Send),
            always!(Pending),
            always!(Order),
            always!(Bound),
            always!(Refused),
            always!(Lossless),
            always!(Delivered),
            always!(Poll),
            always!(Drain),
            always!(Message),
            always!(Registers),
            always!(Intx),
            always!(Idle),
        ]
    }
}

impl<S: Storage + Clone> State<S> {
    fn found(&self, world: &MsixModel<S>) -> Option<&Found> {
        let probe = || state_checks::check(&world.0, &self.node).err().map(|way| way.found);
        self.broken.as_ref().or_else(|| self.probed.get_or_init(probe).as_ref())
    }

    fn holds(&self, world: &MsixModel<S>, property: Property) -> bool {
        self.found(world).is_none_or(|found| found.property != property)
    }
}

impl<S> Hash for State<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
        self.broken.is_some().hash(state);
    }
}

impl<S> PartialEq for State<S> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.broken == other.broken
    }
}

impl<S> fmt::Debug for State<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (registers, host) = (&self.node.registers, &self.node.host);
        let mut state = f.debug_struct("State");
        let probed = self.probed.get().and_then(Option::as_ref);
        if let Some(found) = self.broken.as_ref().or(probed) {
            state.field("violated", &found.property.name()).field("because", &found.detail);
        }
        state
            .field("enabled", &registers.enabled)
            .field("function_masked", &registers.function_masked)
            .field("bus_master", &host.bus_master)
            .field("attached", &host.attached)
            .field("loading", &host.loading)
            .field("entries", &&registers.entries[..self.vectors])
            .field("host", &&host.lines[..self.vectors])
            .finish()
    }
}

/// What a check with Stateright came to: unique states, and the names of violated properties.
pub(crate) fn check<S>(world: MsixWorld<S>) -> (usize, Vec<&'static str>)
where
    S: Storage + Clone + Send + Sync + 'static,
{
    let checker = MsixModel(world).checker().spawn_bfs().join();
    let mut violated: Vec<&'static str> = checker.discoveries().into_keys().collect();
    violated.sort_unstable();
    (checker.unique_state_count(), violated)
}

/// Serves the web page; returns when the server ends.
pub(crate) fn serve<S>(world: MsixWorld<S>, address: std::net::SocketAddr)
where
    S: Storage + Clone + Send + Sync + 'static,
{
    MsixModel(world).checker().serve(address);
}
