//! Every history, the shortest first, as far as the states that they lead to differ.
//!
//! The function cannot be copied: a state is the way that leads to it. Two histories lead to one state
//! when what can be observed is equal, see [`World::state`]. So a world that was given an input is in a
//! state that is known, or in a new one, and the search goes on from there if there is something left to
//! try; else it makes a world anew. A new state is also brought to its end ([`World::close`]), and from
//! the last state of each world the function goes.
//!
//! A snapshot is no part of a state. Every snapshot that any history can take is loaded, here and in a new
//! process, into every state, as far as states differ in what a load leaves ([`World::view`]): these are
//! more loads than the histories of one function have, because a snapshot may come from another.

use crate::closing::{Closing, closing};
use crate::defect::Defect;
use crate::graph::{Graph, Move};
use crate::history::{Counterexample, shrink};
use crate::input::Input;
use crate::setup::Setup;
use crate::world::{Violation, World};
use msix_backends::eventfd::Loop;
use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a search found.
#[derive(Debug)]
pub struct Searched {
    /// Inputs of the alphabet.
    pub inputs: usize,
    /// States that differ.
    pub states: usize,
    /// Snapshots that differ.
    pub snapshots: usize,
    /// States that differ in what a load leaves.
    pub views: usize,
    /// States to which two ways led that differ in something else: the longer way is kept.
    pub unlike: usize,
    /// Inputs given to states.
    pub transitions: usize,
    /// Inputs from the first state: every history up to this long was tried.
    pub depth: usize,
    /// No state is left to go on from.
    pub closed: bool,
    /// Processor time it took, by thread.
    pub took: Duration,
    /// A history that breaks a rule.
    pub found: Option<Counterexample>,
}

impl fmt::Display for Searched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            inputs, states, snapshots, views, unlike, transitions, depth, closed, took, ..
        } = self;
        let end = if *closed { "closed" } else { "not closed" };
        write!(f, "{inputs} inputs, {states} states, {transitions} transitions, ")?;
        write!(f, "{snapshots} snapshots into {views} views, {unlike} unlike, ")?;
        write!(f, "complete to length {depth}, {end}, {:.1} s", took.as_secs_f32())
    }
}

/// How far to search.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Longest history.
    pub depth: usize,
    /// The search ends after this, in the middle of a depth: processor time by thread, so that a search
    /// on a busy machine goes as far as on an idle one.
    pub time: Duration,
    /// Threads.
    pub threads: usize,
    /// Most states: about 200 bytes each, all told.
    pub states: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { depth: usize::MAX, time: Duration::MAX, threads, states: 30_000_000 }
    }
}

/// Searches all histories of `alphabet`.
#[must_use]
pub fn search(
    setup: Setup,
    defect: Option<Defect>,
    alphabet: &[Input],
    bounds: Bounds,
) -> Searched {
    let bounds = Bounds { threads: bounds.threads.max(1), ..bounds };
    let start = processor_time();
    let first = World::new(setup, defect);
    let search = Search {
        setup,
        defect,
        bounds,
        start,
        closing: closing(&setup),
        graph: Mutex::new(Graph::new(alphabet, &first)),
        closed: Mutex::new(HashSet::with_hasher(ahash::RandomState::with_seed(1))),
        found: Mutex::default(),
        is_over: AtomicBool::new(false),
    };
    search.note(search.close(first), &[]);
    let (mut depth, mut closed) = (0, false);
    while depth < bounds.depth && !search.is_over() {
        let open = search.graph().start_round(depth as u16);
        closed = open.is_empty();
        if closed {
            break;
        }
        let cursor = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..bounds.threads {
                scope.spawn(|| {
                    let events = Loop::new().expect("a descriptor");
                    while let Some(&id) = open.get(cursor.fetch_add(1, Ordering::Relaxed)) {
                        search.go_on(id, &events);
                    }
                });
            }
        });
        depth += usize::from(!search.is_over());
    }
    let found = search.found.lock().unwrap_or_else(PoisonError::into_inner).take();
    let graph = search.graph();
    Searched {
        inputs: alphabet.len(),
        states: graph.states(),
        snapshots: graph.snapshots(),
        views: graph.views(),
        unlike: graph.ways(),
        transitions: graph.transitions,
        depth,
        closed,
        took: search.took(),
        found: found.map(|found| shrink(setup, defect, found)),
    }
}

struct Search {
    setup: Setup,
    defect: Option<Defect>,
    bounds: Bounds,
    start: Duration,
    closing: Vec<Closing>,
    graph: Mutex<Graph>,
    /// States that were brought to their ends, with the number of the step.
    closed: Mutex<HashSet<(usize, u64), ahash::RandomState>>,
    found: Mutex<Option<Counterexample>>,
    is_over: AtomicBool,
}

impl Search {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn took(&self) -> Duration {
        (processor_time() - self.start) / self.bounds.threads as u32
    }

    /// Takes all steps from a state that are left.
    fn go_on(&self, id: u32, events: &Arc<Loop>) {
        while !self.is_over() && self.graph().is_open(id) {
            if self.took() > self.bounds.time || self.graph().states() > self.bounds.states {
                self.is_over.store(true, Ordering::Relaxed);
            }
            let mut way = self.graph().way(id);
            let walked = self.walk(id, &mut way, events);
            self.note(walked, &way);
        }
    }

    /// Ends the search when a rule was broken.
    fn note(&self, judged: Result<(), Violation>, way: &[Move]) {
        if let Err(violation) = judged {
            let found = Counterexample { history: self.graph().history(way), violation };
            self.found.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(found);
            self.is_over.store(true, Ordering::Relaxed);
        }
    }

    /// Makes a world in which `way` was gone.
    fn lead(&self, way: &[Move], events: &Arc<Loop>) -> Result<World, Violation> {
        let mut world = World::with_loop(self.setup, self.defect, events);
        way.iter().try_for_each(|&step| self.apply(&mut world, step))?;
        Ok(world)
    }

    fn apply(&self, world: &mut World, step: Move) -> Result<(), Violation> {
        let (snapshot, input) = match step {
            Move::Input(input) => return world.apply(input),
            Move::Load(snapshot) => (snapshot, Input::Load),
            Move::NewProcess(snapshot) => (snapshot, Input::NewProcess),
        };
        world.saved = Some(self.graph().snapshot(snapshot));
        world.apply(input)
    }

    /// Goes from a state to others as long as there is something left to try.
    fn walk(&self, start: u32, way: &mut Vec<Move>, events: &Arc<Loop>) -> Result<(), Violation> {
        let mut world = self.lead(way, events)?;
        let mut at = start;
        loop {
            let next = self.graph().next(at, &world);
            let Some(step) = next else { break };
            way.push(step);
            self.apply(&mut world, step)?;
            let state = world.state();
            let known = {
                let mut graph = self.graph();
                graph.transitions += 1;
                if let (Move::Input(Input::Save), Some(saved)) = (step, &world.saved) {
                    graph.keep(saved, at);
                }
                graph.id(state)
            };
            at = match known {
                Some(known) => known,
                None => self.found(state, &world, at, step, way, events)?,
            };
        }
        world.unplug()
    }

    /// A new state was found. The way to the state before, and the step from it, lead there too, or else
    /// to another: then the whole way is kept.
    fn found(
        &self,
        state: u64,
        world: &World,
        from: u32,
        step: Move,
        way: &[Move],
        events: &Arc<Loop>,
    ) -> Result<u32, Violation> {
        let (id, is_new) = self.graph().add(state, world.view(), from, step);
        if !is_new {
            return Ok(id);
        }
        let short = self.graph().way(id);
        let mut twin = self.lead(&short, events)?;
        let other = twin.state();
        if other != state {
            self.graph().lead(id, way);
            let (_, is_new) = self.graph().add(other, twin.view(), from, step);
            if is_new {
                self.close(twin)?;
            }
            twin = self.lead(way, events)?;
        }
        self.close(twin)?;
        Ok(id)
    }

    /// Ends a life, up to where another one was in the same state.
    fn close(&self, mut world: World) -> Result<(), Violation> {
        for (number, &step) in self.closing.iter().enumerate() {
            // A state that is new is at the start of its end, and the function goes in the last step.
            if number > 0 && number + 1 < self.closing.len() {
                let state = (number, world.state());
                let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
                if !closed.insert(state) {
                    return Ok(());
                }
            }
            world.close_by(step)?;
        }
        Ok(())
    }
}

/// Time that this process had a processor.
fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Behind;

    #[test]
    fn a_search_that_closes_finds_the_same_states_with_any_number_of_threads() {
        for behind in [Behind::Emulated, Behind::Device, Behind::ResampledDevice] {
            let setup = Setup { behind, ..Setup::pin() };
            let with = |threads| {
                let bounds = Bounds { threads, ..Bounds::default() };
                search(setup, None, &setup.alphabet(), bounds)
            };
            let (one, two) = (with(1), with(2));
            assert!(one.closed && two.closed && one.found.is_none(), "{one}");
            assert_eq!((one.states, one.snapshots), (two.states, two.snapshots), "{behind:?}");
        }
    }

    #[test]
    fn a_search_ends_at_each_of_its_bounds() {
        let setup = Setup::msix(1);
        let with = |bounds| search(setup, None, &setup.alphabet(), bounds);
        let short = with(Bounds { depth: 2, ..Bounds::default() });
        assert_eq!((short.depth, short.closed), (2, false));
        let few = with(Bounds { states: 100, ..Bounds::default() });
        assert!(!few.closed && few.states < 500, "{few}");
        let soon = with(Bounds { time: Duration::from_millis(50), ..Bounds::default() });
        assert!(!soon.closed && soon.depth < 6, "{soon}");
    }

    #[test]
    fn every_state_goes_as_it_is() {
        // Nothing but an unplug shows this one, and no input of the alphabet is one.
        let pin = Setup::pin();
        let bounds = Bounds { depth: 1, threads: 1, ..Bounds::default() };
        let found = search(pin, Some(Defect::PinLeftHigh), &[Input::Level(true)], bounds).found;
        assert!(found.is_some_and(|found| found.history.len() <= 1));
    }
}
