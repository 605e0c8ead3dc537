//! Histories, what they break, and how they get shorter.

use crate::defect::Defect;
use crate::input::Input;
use crate::setup::Setup;
use crate::world::{Violation, World};
use std::fmt;

/// What happens next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// An input.
    Input(Input),
    /// The snapshot that another function of the same kind took last is at hand: the next load is of it.
    Snapshot(Vec<Step>),
}

/// A history, and what was wrong in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterexample {
    /// What happened.
    pub history: Vec<Step>,
    /// The rule it broke.
    pub violation: Violation,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_steps(&self.history, 1, f)?;
        self.violation.fmt(f)
    }
}

fn fmt_steps(steps: &[Step], depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let indent = "  ".repeat(depth);
    for step in steps {
        match step {
            Step::Input(input) => writeln!(f, "{indent}{input:?}")?,
            Step::Snapshot(steps) => {
                writeln!(f, "{indent}{{")?;
                fmt_steps(steps, depth + 1, f)?;
                writeln!(f, "{indent}}}")?;
            }
        }
    }
    Ok(())
}

/// Gives a history to a new function, and ends its life.
///
/// # Errors
/// [`Counterexample`].
pub fn play(setup: Setup, defect: Option<Defect>, inputs: &[Input]) -> Result<(), Counterexample> {
    let steps: Vec<Step> = inputs.iter().copied().map(Step::Input).collect();
    play_steps(setup, defect, &steps)
}

/// The same with snapshots of other functions.
///
/// # Errors
/// [`Counterexample`].
pub fn play_steps(
    setup: Setup,
    defect: Option<Defect>,
    steps: &[Step],
) -> Result<(), Counterexample> {
    let mut world = World::new(setup, defect);
    let mut history = Vec::new();
    for step in steps {
        if let Step::Input(input) = step
            && !world.takes(*input)
        {
            continue;
        }
        history.push(step.clone());
        world
            .step(step)
            .map_err(|violation| Counterexample { history: history.clone(), violation })?;
    }
    world.close().map_err(|violation| Counterexample { history, violation })
}

impl World {
    /// Gives the function one step of a history.
    ///
    /// # Errors
    /// [`Violation`] when a rule is broken, or when the other function breaks one.
    pub fn step(&mut self, step: &Step) -> Result<(), Violation> {
        match step {
            Step::Input(input) => self.apply(*input),
            Step::Snapshot(steps) => {
                let mut other = Self::with_loop(self.setup, self.defect, &self.events);
                steps.iter().try_for_each(|step| other.step(step))?;
                self.saved = other.saved.take();
                Ok(())
            }
        }
    }

    /// Whether the function can go as it is.
    fn goes(setup: Setup, defect: Option<Defect>, steps: &[Step]) -> Result<(), Violation> {
        let mut world = Self::new(setup, defect);
        steps.iter().try_for_each(|step| world.step(step))?;
        world.unplug()
    }
}

/// Leaves out what a history does not need to break a rule. `found` may be longer than it need be, because
/// a search goes on from where it is.
pub(crate) fn shrink(
    setup: Setup,
    defect: Option<Defect>,
    found: Counterexample,
) -> Counterexample {
    let breaks = |steps: &[Step]| {
        play_steps(setup, defect, steps).err().or_else(|| {
            let violation = World::goes(setup, defect, steps).err()?;
            Some(Counterexample { history: steps.to_vec(), violation })
        })
    };
    // As it is it may break no rule: then it is told as it was found.
    let Some(mut least) = breaks(&found.history) else { return found };
    while let Some(less) = shorter(&least.history).into_iter().find_map(|steps| breaks(&steps)) {
        least = less;
    }
    least
}

/// All histories with one step less.
fn shorter(steps: &[Step]) -> Vec<Vec<Step>> {
    let mut all = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let with = |middle: Option<Step>| {
            let rest = steps[at + 1..].iter().cloned();
            steps[..at].iter().cloned().chain(middle).chain(rest).collect()
        };
        all.push(with(None));
        if let Step::Snapshot(inner) = step {
            all.extend(shorter(inner).into_iter().map(|less| with(Some(Step::Snapshot(less)))));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Producers;
    use Input::*;

    #[test]
    fn what_is_found_is_shrunk_in_its_snapshots_too() {
        let setup = Setup { producers: Producers::Own, ..Setup::msix(1) };
        let enable = MsixControl { enable: true, mask: false };
        let input = |inputs: &[Input]| inputs.iter().copied().map(Step::Input).collect::<Vec<_>>();
        let other = input(&[ReadPba, enable, Loop, Mask(0, false), Save]);
        let rest = input(&[ReadMsix, enable, Mask(0, false), Load, Event(0)]);
        let history = [&[Step::Snapshot(other)], &rest[..]].concat();
        let violation = Violation(String::new());
        let defect = Some(Defect::OpenGateAfterLoad);
        let found = shrink(setup, defect, Counterexample { history, violation });
        assert_eq!(found.to_string().lines().filter(|line| line.trim() == "Save").count(), 1);
        assert!(!found.to_string().contains("Read"), "{found}");
        let played = play_steps(setup, defect, &found.history);
        assert_eq!(played.map_err(|played| played.violation), Err(found.violation));
        assert_eq!(play_steps(setup, None, &found.history), Ok(()));
    }
}
