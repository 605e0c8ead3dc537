//! A whole function, as a script's subject.

use super::msix::misused;
use super::words::{answer_text, effect_text};
use super::{Step, Subject};
use msix_core::operation::FunctionOperation;
use msix_core::{
    BarIndex, Boxed, Effect, Effects, Function, FunctionEffect, FunctionEffects, IntxEffect,
    IntxSource, Layout, MAX_FUNCTION_EFFECTS, Mode, MsiCapability, Parts, Policy, Vector,
};
use msix_explorer::script::ScriptInput as _;
use std::collections::BTreeSet;

/// The function that a script is given to.
pub(super) struct Whole {
    function: Function<Boxed>,
    fx: FunctionEffects<MAX_FUNCTION_EFFECTS>,
    scratch: Vec<u8>,
    armed: Armed,
    violation: Option<String>,
}

/// What the host was told to arm.
#[derive(Debug, Default)]
struct Armed {
    msix: BTreeSet<Vector>,
    msi: BTreeSet<Vector>,
    pin: bool,
}

impl Subject for Whole {
    type Input = FunctionOperation;

    fn new(vectors: u16, policy: Policy, pin: IntxSource) -> Result<Self, String> {
        let bar = BarIndex::new(0).map_err(|error| error.to_string())?;
        let msix = Layout::exclusive_bar(vectors.into(), bar).map_err(|error| error.to_string())?;
        let msi = MsiCapability::new(vectors.into()).map_err(|error| error.to_string())?;
        let parts = Parts { msi: Some(msi.with_masks()), msix: Some(msix), pin: Some(pin) };
        let function = Function::boxed(parts, policy);
        let scratch = vec![0; function.saved_len()];
        let (fx, armed) = (Effects::new(), Armed::default());
        Ok(Self { function, fx, scratch, armed, violation: None })
    }

    fn step(&mut self, input: &FunctionOperation) -> Step {
        let Self { function, fx, scratch, armed, violation } = self;
        let answer = input.apply(function, scratch, fx);
        let mut effects = Vec::new();
        while let Some(effect) = fx.take() {
            *violation = violation.take().or_else(|| armed.misused(function, effect));
            effects.push(text(function, effect));
        }
        if !function.check() {
            violation.get_or_insert_with(|| "the function finds fault with itself".to_owned());
        }
        Step { input: input.line(), effects, answer: answer_text(answer) }
    }

    fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }
}

impl Armed {
    /// What is wrong with an effect, if anything: Arm and Disarm alternate (H1), one mode is armed at a
    /// time (D2), and what is sent can be delivered (I3).
    fn misused(&mut self, function: &Function<Boxed>, effect: FunctionEffect) -> Option<String> {
        let wrong = match effect {
            FunctionEffect::MsiX(effect) => {
                function.msix().and_then(|msix| misused(msix, effect, &mut self.msix))
            }
            FunctionEffect::Msi(effect) => self.msi_misused(effect),
            FunctionEffect::Intx(effect) => {
                let before = self.pin;
                self.pin = match effect {
                    IntxEffect::Arm => true,
                    IntxEffect::Disarm => false,
                    _ => before,
                };
                let arms = matches!(effect, IntxEffect::Arm | IntxEffect::Disarm);
                (arms && self.pin == before).then(|| format!("{effect:?} of the pin comes twice"))
            }
        };
        let armed = [!self.msix.is_empty(), !self.msi.is_empty(), self.pin];
        let alone = armed.into_iter().filter(|armed| *armed).count() <= 1;
        wrong.or_else(|| (!alone).then(|| format!("{effect:?} leaves two modes armed")))
    }

    fn msi_misused(&mut self, effect: Effect) -> Option<String> {
        let wrong = |v: &Vector| match effect {
            Effect::Arm(_) => !self.msi.insert(*v),
            Effect::Disarm(_) => !self.msi.remove(v),
            Effect::Reroute(_) => !self.msi.contains(v),
            _ => false,
        };
        let wrong: Vec<Vector> = effect.vectors().iter().filter(wrong).collect();
        (!wrong.is_empty()).then(|| format!("{effect:?} must not speak of {wrong:?}"))
    }
}

fn text(function: &Function<Boxed>, effect: FunctionEffect) -> String {
    let message = |mode| move |v| function.message(mode, v);
    match effect {
        FunctionEffect::MsiX(effect) => {
            format!("MSI-X: {}", effect_text(effect, message(Mode::MsiX)))
        }
        FunctionEffect::Msi(effect) => format!("MSI: {}", effect_text(effect, message(Mode::Msi))),
        FunctionEffect::Intx(effect) => {
            let what = match effect {
                IntxEffect::Deassert => "deassert",
                IntxEffect::Disarm => "disarm",
                IntxEffect::Arm => "arm",
                IntxEffect::Assert => "assert",
                IntxEffect::Unmask => "unmask",
            };
            format!("INTx: {what}")
        }
    }
}
