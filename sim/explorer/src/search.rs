//! The breadth-first search that both explorations share.
//!
//! A search keeps of each state its key, the state it was found from, and the step that led from there. The
//! state itself is made again by those steps when it is to be left. They go out from the start in the order
//! in which they were found, so two in a row have most of their steps in common: making them again costs a
//! few steps for each, where leaving one takes tens.

use rustc_hash::FxHashSet;
use std::hash::Hash;
use std::iter::successors;
use std::ops::ControlFlow;
use std::time::Instant;

/// What can be searched: a first state, and the steps that lead from a state to others.
pub(crate) trait World {
    /// A whole state. Only those on the way to the one that is being left are kept.
    type State;
    /// States with equal keys are one.
    type Key: Eq + Hash;
    /// A step in few bytes: one is kept for every state.
    type Step: Copy;
    /// What is found where a property does not hold.
    type Found;

    /// Returns the first state.
    fn start(&self) -> Self::State;

    /// Returns what tells `state` from other states.
    fn key(&self, state: &Self::State) -> Self::Key;

    /// Checks what must hold in `state`, whatever led there.
    fn check(&self, state: &Self::State) -> Result<(), Self::Found>;

    /// Takes every step that is possible in `state`, until `taken` breaks off, and lends it the state
    /// that follows.
    fn steps(
        &self,
        state: &Self::State,
        taken: impl FnMut(Self::Step, Result<&Self::State, Self::Found>) -> ControlFlow<()>,
    ) -> ControlFlow<()>;

    /// Takes `step` once more in `state`, where [`steps`](Self::steps) took it and found nothing, and
    /// returns the state that follows.
    fn again(&self, state: &Self::State, step: Self::Step) -> Self::State;
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

/// How much a search saw.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Extent {
    /// States found.
    pub states: usize,
    /// Steps taken.
    pub transitions: u64,
    /// Steps from the start to the farthest state.
    pub depth: u32,
    /// Whether every state was left by every step.
    pub complete: bool,
    /// Whether it was asked to end before that.
    pub interrupted: bool,
    /// Seconds it took.
    pub seconds: f64,
}

/// What a search came to.
pub(crate) struct Closure<W: World> {
    pub(crate) extent: Extent,
    /// The first violation, with the shortest way to it.
    pub(crate) violation: Option<(W::Found, Vec<W::Step>)>,
}

/// How a state was found: from which other, by which step.
struct Origin<T> {
    from: u32,
    step: T,
}

/// How the states were found. They have numbers, in the order in which they were found: the start is 0.
struct Origins<T>(Vec<Origin<T>>);

impl<T: Copy> Origins<T> {
    /// How state `number` was found; the start was not.
    fn of(&self, number: u32) -> Option<&Origin<T>> {
        self.0.get(number.checked_sub(1)? as usize)
    }

    /// The numbers of the states on the way from the start to state `number`, with it, without the start.
    fn way(&self, number: u32) -> Vec<u32> {
        let from = |number: &u32| self.of(*number).map(|origin| origin.from);
        let back = successors(Some(number), from).take_while(|number| *number != 0);
        let mut way: Vec<u32> = back.collect();
        way.reverse();
        way
    }

    /// The steps that lead from the start to state `number`, and then `last`.
    fn steps(&self, number: u32, last: T) -> Vec<T> {
        let way = self.way(number);
        way.into_iter().filter_map(|n| Some(self.of(n)?.step)).chain([last]).collect()
    }
}

/// The states on the way from the start to one of them, each with its number.
struct Trail<S> {
    start: S,
    /// Without the start.
    states: Vec<(u32, S)>,
}

impl<S> Trail<S> {
    /// Goes over to state `number`, by the steps that it was found by. Returns it, and how many they are.
    fn lead_to<W: World<State = S>>(
        &mut self,
        world: &W,
        origins: &Origins<W::Step>,
        number: u32,
    ) -> (&S, u32) {
        let way = origins.way(number);
        let common = self.states.iter().zip(&way).take_while(|((old, _), new)| old == *new).count();
        self.states.truncate(common);
        for number in &way[common..] {
            if let Some(origin) = origins.of(*number) {
                let next = world.again(self.last(), origin.step);
                self.states.push((*number, next));
            }
        }
        (self.last(), way.len() as u32)
    }

    fn last(&self) -> &S {
        self.states.last().map_or(&self.start, |(_, state)| state)
    }
}

/// Visits every state reachable from the start, nearest first, until one violates something or
/// `most` are found. `go_on` is called now and then, and says whether to go on.
pub(crate) fn search<W: World>(
    world: &W,
    most: usize,
    mut go_on: impl FnMut(Reached) -> bool,
) -> Closure<W> {
    let begun = Instant::now();
    let start = world.start();
    let mut seen = FxHashSet::default();
    seen.insert(world.key(&start));
    let mut violation = world.check(&start).err().map(|found| (found, Vec::new()));
    let mut origins = Origins(Vec::new());
    let mut trail = Trail { start, states: Vec::new() };
    let (mut left, mut transitions, mut farthest) = (0_u32, 0_u64, 0);
    let (mut complete, mut interrupted) = (violation.is_none(), false);
    while complete && (left as usize) < seen.len() {
        let number = left;
        let (state, depth) = trail.lead_to(world, &origins, number);
        let here = world.key(state);
        debug_assert!(seen.contains(&here), "a step led to another state before");
        farthest = depth;
        let frontier = seen.len() - number as usize - 1;
        let reached = Reached { states: seen.len(), frontier, depth };
        if left.is_multiple_of(512) && !go_on(reached) {
            (complete, interrupted) = (false, true);
            break;
        }
        left += 1;
        let all = world.steps(state, |step, next| {
            transitions += 1;
            let checked = next.and_then(|next| {
                let key = world.key(next);
                // Many steps lead back to where they began.
                if key != here && seen.insert(key) {
                    origins.0.push(Origin { from: number, step });
                    world.check(next)?;
                }
                Ok(())
            });
            if let Err(found) = checked {
                violation = Some((found, origins.steps(number, step)));
                return ControlFlow::Break(());
            }
            if seen.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        complete = all.is_continue();
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (states, depth) = (seen.len(), farthest);
    let extent = Extent { states, transitions, depth, complete, interrupted, seconds };
    Closure { extent, violation }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers below 100, from 1 on, by doubling and by adding 3. One of them may be unlucky, and
    /// one cannot be reached unharmed.
    struct Numbers {
        unlucky: u32,
        harmful: u32,
    }

    impl World for Numbers {
        type State = u32;
        type Key = u32;
        type Step = char;
        type Found = String;

        fn start(&self) -> u32 {
            1
        }

        fn key(&self, state: &u32) -> u32 {
            *state
        }

        fn check(&self, state: &u32) -> Result<(), String> {
            if *state == self.unlucky { Err(format!("at {state}")) } else { Ok(()) }
        }

        fn steps(
            &self,
            state: &u32,
            mut taken: impl FnMut(char, Result<&u32, String>) -> ControlFlow<()>,
        ) -> ControlFlow<()> {
            for (step, next) in [('d', state * 2), ('a', state + 3)] {
                if next < 100 {
                    let harm = || Err(format!("to {next}"));
                    taken(step, if next == self.harmful { harm() } else { Ok(&next) })?;
                }
            }
            ControlFlow::Continue(())
        }

        fn again(&self, state: &u32, step: char) -> u32 {
            if step == 'd' { state * 2 } else { state + 3 }
        }
    }

    fn searched(unlucky: u32, harmful: u32, most: usize) -> (Extent, Option<(String, String)>) {
        let closure = search(&Numbers { unlucky, harmful }, most, |_| true);
        let violation = closure.violation.map(|(found, way)| (found, way.into_iter().collect()));
        (closure.extent, violation)
    }

    #[test]
    fn all_that_can_be_reached_is_seen_once() {
        let (extent, violation) = searched(0, 0, usize::MAX);
        // From 1: everything below 100 that 3 does not divide.
        assert_eq!((extent.states, extent.complete, violation), (66, true, None));
        // Of those, each can be raised by 3 but 97 and 98, and 33 of them can be doubled.
        assert_eq!(extent.transitions, 64 + 33);
    }

    #[test]
    fn the_way_to_a_violation_is_a_shortest_one() {
        assert_eq!(searched(1, 0, 99).1, Some(("at 1".to_owned(), String::new())));
        assert_eq!(searched(16, 0, 99).1, Some(("at 16".to_owned(), "add".to_owned())));
        assert_eq!(searched(0, 17, 99).1, Some(("to 17".to_owned(), "aada".to_owned())));
    }

    #[test]
    fn a_search_that_is_asked_to_end_says_so() {
        let extent = search(&Numbers { unlucky: 0, harmful: 0 }, usize::MAX, |_| false).extent;
        assert_eq!((extent.states, extent.complete, extent.interrupted), (1, false, true));
        assert!(!searched(0, 0, usize::MAX).0.interrupted);
    }

    #[test]
    fn a_search_ends_at_its_most_states() {
        let (extent, violation) = searched(0, 0, 10);
        assert_eq!((extent.states, extent.complete, violation), (10, false, None));
    }
}
