//! The states that a search knows, and which steps from them it took.

use crate::history::Step;
use crate::input::Input;
use crate::world::{Saved, World};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A step of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    Input(Input),
    /// A load of one of the snapshots that were found.
    Load(u32),
    /// The same in a new process.
    NewProcess(u32),
}

/// A state, without what it is like: the way to it, and how many steps from it were taken.
#[derive(Debug)]
struct Node {
    parent: u32,
    by: Move,
    /// Loads taken, of both kinds; none are where another state had what a load leaves.
    loads: u32,
    /// Inputs from the first state.
    depth: u16,
    /// Inputs taken.
    inputs: u8,
}

/// A snapshot that was found.
struct Snapshot {
    saved: Arc<Saved>,
    /// The state before the save.
    of: u32,
}

/// What a search knows.
pub(crate) struct Graph {
    alphabet: Vec<Input>,
    /// Kinds of loads that the alphabet has.
    loads: Vec<Input>,
    ids: HashMap<u64, u32, ahash::RandomState>,
    nodes: Vec<Node>,
    /// Ways to states to which their parents' ways do not lead.
    ways: HashMap<u32, Box<[Move]>>,
    views: HashSet<u64>,
    snapshots: Vec<Snapshot>,
    snapshot_ids: HashSet<u64>,
    /// The depth of the states that are gone on from now, and the snapshots that are loaded.
    round: u16,
    loaded: u32,
    pub(crate) transitions: usize,
}

impl Graph {
    pub(crate) fn new(alphabet: &[Input], first: &World) -> Self {
        let is_load = |input: &&Input| matches!(input, Input::Load | Input::NewProcess);
        let mut graph = Self {
            alphabet: alphabet.iter().filter(|input| !is_load(input)).copied().collect(),
            loads: alphabet.iter().filter(is_load).copied().collect(),
            ids: HashMap::with_hasher(ahash::RandomState::with_seed(0)),
            nodes: Vec::new(),
            ways: HashMap::new(),
            views: HashSet::new(),
            snapshots: Vec::new(),
            snapshot_ids: HashSet::new(),
            round: 0,
            loaded: 0,
            transitions: 0,
        };
        graph.add(first.state(), first.view(), 0, Move::Load(0));
        graph.nodes[0].depth = 0;
        graph
    }

    pub(crate) fn states(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn snapshots(&self) -> usize {
        self.snapshots.len()
    }

    pub(crate) fn views(&self) -> usize {
        self.views.len()
    }

    pub(crate) fn ways(&self) -> usize {
        self.ways.len()
    }

    /// The states to go on from now.
    pub(crate) fn start_round(&mut self, round: u16) -> Vec<u32> {
        self.round = round;
        self.loaded = self.snapshots.len() as u32 * self.loads.len() as u32;
        let is_open = |&id: &u32| self.is_open(id);
        (0..self.nodes.len() as u32).filter(is_open).collect()
    }

    /// Whether steps from a state are left to take now.
    pub(crate) fn is_open(&self, id: u32) -> bool {
        let node = &self.nodes[id as usize];
        let inputs = usize::from(node.inputs) < self.alphabet.len();
        node.depth <= self.round && (inputs || node.loads < self.loaded)
    }

    /// The next step from a state, in which `world` is.
    pub(crate) fn next(&mut self, id: u32, world: &World) -> Option<Move> {
        let node = &mut self.nodes[id as usize];
        if node.depth > self.round {
            return None;
        }
        while let Some(&input) = self.alphabet.get(usize::from(node.inputs)) {
            node.inputs += 1;
            if world.takes(input) {
                return Some(Move::Input(input));
            }
        }
        if node.loads >= self.loaded {
            return None;
        }
        let kinds = self.loads.len() as u32;
        let (snapshot, kind) = (node.loads / kinds, node.loads % kinds);
        node.loads += 1;
        Some(match self.loads[kind as usize] {
            Input::Load => Move::Load(snapshot),
            _ => Move::NewProcess(snapshot),
        })
    }

    pub(crate) fn id(&self, state: u64) -> Option<u32> {
        self.ids.get(&state).copied()
    }

    /// Adds a state, unless it is there by now.
    pub(crate) fn add(&mut self, state: u64, view: u64, parent: u32, by: Move) -> (u32, bool) {
        let id = self.nodes.len() as u32;
        let entry = *self.ids.entry(state).or_insert(id);
        if entry != id {
            return (entry, false);
        }
        let depth = self.nodes.get(parent as usize).map_or(0, |_| self.round + 1);
        let loads = if self.views.insert(view) { 0 } else { u32::MAX };
        self.nodes.push(Node { parent, by, loads, depth, inputs: 0 });
        (id, true)
    }

    /// Has `way` lead to a state.
    pub(crate) fn lead(&mut self, id: u32, way: &[Move]) {
        self.ways.insert(id, way.into());
    }

    /// Keeps a snapshot of a state.
    pub(crate) fn keep(&mut self, saved: &Arc<Saved>, of: u32) {
        if self.snapshot_ids.insert(saved.state()) {
            self.snapshots.push(Snapshot { saved: Arc::clone(saved), of });
        }
    }

    pub(crate) fn snapshot(&self, number: u32) -> Arc<Saved> {
        Arc::clone(&self.snapshots[number as usize].saved)
    }

    /// The steps that lead to a state.
    pub(crate) fn way(&self, mut id: u32) -> Vec<Move> {
        let mut steps = Vec::new();
        while id > 0 {
            if let Some(way) = self.ways.get(&id) {
                steps.extend(way.iter().rev());
                break;
            }
            let node = &self.nodes[id as usize];
            steps.push(node.by);
            id = node.parent;
        }
        steps.reverse();
        steps
    }

    /// The same steps, as one can play them.
    pub(crate) fn history(&self, way: &[Move]) -> Vec<Step> {
        let mut history = Vec::new();
        for step in way {
            let (snapshot, input) = match *step {
                Move::Input(input) => (None, input),
                Move::Load(snapshot) => (Some(snapshot), Input::Load),
                Move::NewProcess(snapshot) => (Some(snapshot), Input::NewProcess),
            };
            if let Some(snapshot) = snapshot {
                let mut of = self.history(&self.way(self.snapshots[snapshot as usize].of));
                of.push(Step::Input(Input::Save));
                history.push(Step::Snapshot(of));
            }
            history.push(Step::Input(input));
        }
        history
    }
}
