//! Every history, the shortest first, as far as the states that they lead to differ.
//!
//! The function cannot be copied, so a state is the history that leads to it: it is made anew for
//! every input. Two histories lead to one state when what can be observed is equal, see
//! [`World::state`]. A new state is also brought to its end ([`World::close`]).

use crate::defect::Defect;
use crate::input::Input;
use crate::setup::Setup;
use crate::world::{Violation, World};
use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, Instant};

/// What a search found.
#[derive(Debug)]
pub struct Searched {
    /// Inputs of the alphabet.
    pub inputs: usize,
    /// States that differ.
    pub states: usize,
    /// Inputs given to states.
    pub transitions: usize,
    /// Inputs from the first state: every history up to this long was tried.
    pub depth: usize,
    /// No state is left to go on from.
    pub closed: bool,
    /// How long it took.
    pub took: Duration,
    /// The shortest history that breaks a rule.
    pub found: Option<Counterexample>,
}

/// A history, and what was wrong in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterexample {
    /// What happened.
    pub history: Vec<Input>,
    /// The rule it broke.
    pub violation: Violation,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for input in &self.history {
            writeln!(f, "  {input:?}")?;
        }
        self.violation.fmt(f)
    }
}

impl fmt::Display for Searched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inputs, states, transitions, depth, closed, took, .. } = self;
        let end = if *closed { "closed" } else { "not closed" };
        write!(f, "{inputs} inputs, {states} states, {transitions} transitions, depth {depth}, ")?;
        write!(f, "{end}, {:.1} s", took.as_secs_f32())
    }
}

/// How far to search.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Longest history.
    pub depth: usize,
    /// The search ends after this, in the middle of a depth.
    pub time: Duration,
    /// Threads.
    pub threads: usize,
}

/// What became of one input to one state.
enum Step {
    New(u64, Vec<Input>),
    Wrong(Counterexample),
}

/// Searches all histories of `alphabet`.
#[must_use]
pub fn search(
    setup: Setup,
    defect: Option<Defect>,
    alphabet: &[Input],
    bounds: Bounds,
) -> Searched {
    let start = Instant::now();
    let first = World::new(setup, defect).state();
    let mut seen = HashSet::from([first]);
    let mut searched = Searched {
        inputs: alphabet.len(),
        states: 1,
        transitions: 0,
        depth: 0,
        closed: false,
        took: Duration::ZERO,
        found: None,
    };
    let mut frontier = vec![Vec::new()];
    while searched.depth < bounds.depth && !frontier.is_empty() && searched.found.is_none() {
        let size = frontier.len().div_ceil(bounds.threads.max(1));
        let until = start + bounds.time;
        let steps: Vec<(usize, bool, Vec<Step>)> = std::thread::scope(|scope| {
            let threads: Vec<_> = frontier
                .chunks(size)
                .map(|chunk| {
                    let seen = &seen;
                    scope.spawn(move || go_on(setup, defect, alphabet, chunk, seen, until))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        frontier.clear();
        let whole = steps.iter().all(|(_, whole, _)| *whole);
        for (transitions, _, steps) in steps {
            searched.transitions += transitions;
            for step in steps {
                match step {
                    Step::New(state, history) => {
                        if seen.insert(state) {
                            frontier.push(history);
                        }
                    }
                    Step::Wrong(found) => {
                        searched.found.get_or_insert(found);
                    }
                }
            }
        }
        searched.states = seen.len();
        if !whole {
            break;
        }
        searched.depth += 1;
        searched.closed = frontier.is_empty();
    }
    searched.took = start.elapsed();
    searched
}

/// Gives all inputs to some states.
fn go_on(
    setup: Setup,
    defect: Option<Defect>,
    alphabet: &[Input],
    histories: &[Vec<Input>],
    seen: &HashSet<u64>,
    until: Instant,
) -> (usize, bool, Vec<Step>) {
    let (mut transitions, mut own, mut steps) = (0, HashSet::new(), Vec::new());
    for history in histories {
        if Instant::now() > until {
            return (transitions, false, steps);
        }
        for &input in alphabet {
            let mut world = World::new(setup, defect);
            let replayed = history.iter().try_for_each(|&input| world.apply(input));
            debug_assert_eq!(replayed, Ok(()), "it was judged before");
            if !world.takes(input) {
                continue;
            }
            transitions += 1;
            let mut history = history.clone();
            history.push(input);
            let judged = world.apply(input).and_then(|()| {
                let state = world.state();
                if seen.contains(&state) || !own.insert(state) {
                    return Ok(None);
                }
                world.close().map(|()| Some(state))
            });
            match judged {
                Ok(None) => {}
                Ok(Some(state)) => steps.push(Step::New(state, history)),
                Err(violation) => {
                    steps.push(Step::Wrong(Counterexample { history, violation }));
                    return (transitions, false, steps);
                }
            }
        }
    }
    (transitions, true, steps)
}

/// Gives a history to a new function, and ends its life.
///
/// # Errors
/// [`Counterexample`].
pub fn play(setup: Setup, defect: Option<Defect>, inputs: &[Input]) -> Result<(), Counterexample> {
    let mut world = World::new(setup, defect);
    let mut history = Vec::new();
    for &input in inputs {
        if world.takes(input) {
            history.push(input);
            world
                .apply(input)
                .map_err(|violation| Counterexample { history: history.clone(), violation })?;
        }
    }
    world.close().map_err(|violation| Counterexample { history, violation })
}
