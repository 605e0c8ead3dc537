//! Sinks through which the parts of a function emit into its one list.

use super::FunctionEffect;
use crate::effects::{Effect, EffectSink};
use crate::intx::IntxEffect;

/// The sink of MSI-X. It drops INTx effects: the pin settles by its own facts.
pub(super) struct AsMsix<'a, K>(pub(super) &'a mut K);

/// The sink of MSI.
pub(super) struct AsMsi<'a, K>(pub(super) &'a mut K);

/// The sink of the pin.
pub(super) struct AsIntx<'a, K>(pub(super) &'a mut K);

// Capacity was checked by `Function`; the parts' bounds add up to it.

impl<K: EffectSink<FunctionEffect>> EffectSink for AsMsix<'_, K> {
    const CAPACITY: usize = usize::MAX;

    fn is_ready(&self) -> bool {
        true
    }

    fn push(&mut self, effect: Effect) {
        if !matches!(effect, Effect::IntxDeassert | Effect::IntxReevaluate) {
            self.0.push(FunctionEffect::MsiX(effect));
        }
    }
}

impl<K: EffectSink<FunctionEffect>> EffectSink for AsMsi<'_, K> {
    const CAPACITY: usize = usize::MAX;

    fn is_ready(&self) -> bool {
        true
    }

    fn push(&mut self, effect: Effect) {
        self.0.push(FunctionEffect::Msi(effect));
    }
}

impl<K: EffectSink<FunctionEffect>> EffectSink<IntxEffect> for AsIntx<'_, K> {
    const CAPACITY: usize = usize::MAX;

    fn is_ready(&self) -> bool {
        true
    }

    fn push(&mut self, effect: IntxEffect) {
        self.0.push(FunctionEffect::Intx(effect));
    }
}
