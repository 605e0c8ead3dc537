//! MSI-X alone, as a script's subject.

use super::words::{answer_text, effect_text};
use super::{Step, Subject};
use msix_core::operation::Operation;
use msix_core::{
    BarIndex, Boxed, Effect, Effects, IntxSource, Layout, MAX_EFFECTS, Msix, Policy, Storage,
    Vector,
};
use msix_explorer::script::ScriptInput as _;
use std::collections::BTreeSet;

/// The engine that a script is given to.
pub(super) struct Alone {
    msix: Msix<Boxed>,
    fx: Effects<MAX_EFFECTS>,
    scratch: Vec<u8>,
    armed: BTreeSet<Vector>,
    /// The first thing that must not be.
    violation: Option<String>,
}

impl Subject for Alone {
    type Input = Operation;

    fn new(vectors: u16, policy: Policy, _: IntxSource) -> Result<Self, String> {
        let bar = BarIndex::new(0).map_err(|error| error.to_string())?;
        let layout = Layout::exclusive_bar(vectors.into(), bar);
        let layout = layout.map_err(|error| error.to_string())?;
        let msix = Msix::<Boxed>::new(layout, policy).map_err(|error| error.to_string())?;
        let scratch = vec![0; msix.saved_len()];
        let (fx, armed) = (Effects::new(), BTreeSet::new());
        Ok(Self { msix, fx, scratch, armed, violation: None })
    }

    fn step(&mut self, operation: &Operation) -> Step {
        let Self { msix, fx, scratch, armed, violation } = self;
        let answer = operation.apply(msix, scratch, fx);
        let mut effects = Vec::new();
        while let Some(effect) = fx.take() {
            *violation = violation.take().or_else(|| misused(msix, effect, armed));
            effects.push(effect_text(effect, |v| msix.message(v)));
        }
        if let Err(broken) = msix.check() {
            violation.get_or_insert(format!("{broken:?}"));
        }
        Step { input: operation.line(), effects, answer: answer_text(answer) }
    }

    fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }
}

/// What is wrong with an effect, if anything: Arm and Disarm alternate (H1), and only what can be
/// delivered is sent (I3).
pub(super) fn misused<S: Storage>(
    msix: &Msix<S>,
    effect: Effect,
    used: &mut BTreeSet<Vector>,
) -> Option<String> {
    let wrong = |v: &Vector| match effect {
        Effect::Arm(_) => !used.insert(*v),
        Effect::Disarm(_) => !used.remove(v),
        Effect::Reroute(_) => !used.contains(v),
        Effect::Send(_) => {
            msix.is_deliverable(*v) != Some(true) || msix.claims(*v).unwrap_or(0) == 0
        }
        _ => false,
    };
    let wrong: Vec<Vector> = effect.vectors().iter().filter(wrong).collect();
    (!wrong.is_empty()).then(|| format!("{effect:?} must not speak of {wrong:?}"))
}
