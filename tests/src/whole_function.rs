//! A whole function and a naive model of it, side by side: INTx, MSI, MSI-X and the switching between
//! them.
//!
//! The MSI-X part of the model is [`crate::reference::Reference`]; [`msi::NaiveMsi`] and
//! [`pin::NaivePin`] are the other parts, as simple as they can be said, and [`model::NaiveFunction`]
//! puts the three together.

pub mod model;
pub mod msi;
pub mod pin;
pub mod strategy;

use crate::policies::{Behaviour, vector_zero};
use crate::vector_effects::VectorEffect;
use model::NaiveFunction;
use msix_core::operation::{Answer, FunctionOperation};
use msix_core::{
    Boxed, Effect, Effects, Function, FunctionEffect, IntxEffect, MAX_FUNCTION_EFFECTS, Mode,
    Parts, Vector, Vectors,
};

/// One effect of one part, for one vector or the pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartEffect {
    /// For MSI-X.
    MsiX(VectorEffect),
    /// For MSI.
    Msi(VectorEffect),
    /// For the pin.
    Intx(IntxEffect),
}

/// A function and its model.
#[derive(Debug)]
pub struct Pair {
    /// The function.
    pub function: Function<Boxed>,
    /// The model.
    pub model: NaiveFunction,
    scratch: Vec<u8>,
}

impl Pair {
    /// Both after reset.
    #[must_use]
    pub fn new(parts: Parts, behaviour: impl Into<Behaviour>) -> Self {
        let behaviour = behaviour.into();
        let mut function = Function::boxed(parts, behaviour.policy);
        if behaviour.exempts {
            function = function.with_exempt_messages(vector_zero);
        }
        let scratch = vec![0; function.saved_len()];
        Self { function, model: NaiveFunction::new(parts, behaviour), scratch }
    }

    /// Gives both the same input and compares their answers, their effects, and all they hold
    /// afterwards.
    ///
    /// # Errors
    /// What differs first.
    pub fn step(
        &mut self,
        operation: &FunctionOperation,
    ) -> Result<(Answer, Vec<PartEffect>), String> {
        let mut fx = Effects::<MAX_FUNCTION_EFFECTS, FunctionEffect>::new();
        let answer = operation.apply(&mut self.function, &mut self.scratch, &mut fx);
        let effects: Vec<FunctionEffect> = fx.iter().collect();
        let effects: Vec<PartEffect> =
            effects.into_iter().flat_map(|effect| vector_effects(&self.function, effect)).collect();
        let (model_answer, model_effects) = self.model.apply(operation);
        same("the answer", &answer, &model_answer)?;
        same("the effects", &effects, &model_effects)?;
        self.compare()?;
        Ok((answer, effects))
    }

    /// Compares everything that an input can change, and asks the function to check itself.
    ///
    /// # Errors
    /// What differs first.
    pub fn compare(&self) -> Result<(), String> {
        let (function, model) = (&self.function, &self.model);
        same("the invariants", &function.check(), &true)?;
        same("the mode", &function.mode(), &model.mode())?;
        same("Command", &function.command(), &model.command)?;
        same("Status", &function.status(), &model.status())?;
        same("counters of the function", function.counters(), &model.counters)?;
        same("loading", &function.is_loading(), &model.is_loading())?;
        let mut saved = vec![0; function.saved_len()];
        function.save(&mut saved).map_err(|error| error.to_string())?;
        same("the snapshot", &saved, &model.saved())?;
        if let (Some(msi), Some(model)) = (function.msi(), &model.msi) {
            let len = msi.description().len();
            same("the MSI capability", &msi.capability()[..len].to_vec(), &model.config)?;
            same("MSI live", &numbers(msi.live()), &model.those(&model.live))?;
            same("MSI fallback", &numbers(msi.fallback()), &model.those(&model.fallback))?;
            same("MSI pending", &numbers(msi.pending()), &model.pending())?;
            same("MSI counters", msi.counters(), &model.counters)?;
            same("MSI attached", &msi.is_attached(), &model.attached)?;
            let deliverable: Vec<u16> = model.numbers(|v| model.deliverable(v));
            same("MSI deliverable", &numbers(msi.deliverable()), &deliverable)?;
            for v in 0..40 {
                let message =
                    (v < msi.description().vectors()).then(|| model.message(usize::from(v)));
                same("an MSI message", &msi.message(Vector::new(v)), &message)?;
            }
        }
        if let (Some(msix), Some(model)) = (function.msix(), &model.msix) {
            same("MSI-X counters", msix.counters(), &model.counters())?;
            for (v, vector) in (0..msix.vectors()).map(Vector::new).enumerate() {
                same("MSI-X live", &msix.is_live(vector), &Some(model.is_live(v)))?;
                same("MSI-X fallback", &msix.is_fallback(vector), &Some(model.is_fallback(v)))?;
            }
        }
        if let (Some(intx), Some(model)) = (function.intx(), &model.intx) {
            let facts = (intx.is_live(), intx.is_asserted(), intx.is_fallback());
            same("what the host knows of the pin", &facts, &model.facts())?;
        }
        Ok(())
    }
}

/// An effect one vector at a time, with the messages of `function`.
#[must_use]
pub fn vector_effects(function: &Function<Boxed>, effect: FunctionEffect) -> Vec<PartEffect> {
    match effect {
        FunctionEffect::MsiX(effect) => {
            each(function, Mode::MsiX, effect).into_iter().map(PartEffect::MsiX).collect()
        }
        FunctionEffect::Msi(effect) => {
            each(function, Mode::Msi, effect).into_iter().map(PartEffect::Msi).collect()
        }
        FunctionEffect::Intx(effect) => vec![PartEffect::Intx(effect)],
    }
}

fn each(function: &Function<Boxed>, mode: Mode, effect: Effect) -> Vec<VectorEffect> {
    let message = |v: Vector| function.message(mode, v).expect("effects name vectors there are");
    let one = |v: Vector| match effect {
        Effect::Poll(_) => VectorEffect::Poll(v.index()),
        Effect::Disarm(_) => VectorEffect::Disarm(v.index()),
        Effect::Drain(_) => VectorEffect::Drain(v.index()),
        Effect::Arm(_) => VectorEffect::Arm(v.index(), message(v)),
        Effect::Reroute(_) => VectorEffect::Reroute(v.index(), message(v)),
        Effect::Snoop(_) => VectorEffect::Snoop(v.index()),
        Effect::Send(_) => VectorEffect::Send(v.index(), message(v)),
        Effect::IntxDeassert => VectorEffect::IntxDeassert,
        Effect::IntxReevaluate => VectorEffect::IntxReevaluate,
    };
    match effect {
        Effect::IntxDeassert | Effect::IntxReevaluate => vec![one(Vector::new(0))],
        effect => effect.vectors().iter().map(one).collect(),
    }
}

fn numbers(set: Vectors) -> Vec<u16> {
    set.iter().map(Vector::index).collect()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, engine: &T, model: &T) -> Result<(), String> {
    if engine == model {
        return Ok(());
    }
    Err(format!("{what}: the function has {engine:x?}, the model {model:x?}"))
}
