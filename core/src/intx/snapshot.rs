//! The pin's share of a snapshot of the function.

use super::{DISABLED, HIGH, Intx, IntxEffect, IntxSource, LOADING, PROHIBITED};
use crate::effects::EffectSink;

impl Intx {
    /// Returns the level of an emulated device. A physical line is not saved: it fires again.
    pub(crate) fn level(&self) -> bool {
        self.source == IntxSource::Emulated && self.has(HIGH)
    }

    /// Stores loaded facts. Nothing is emitted before [`resume`](Self::resume).
    pub(crate) fn load(&mut self, high: bool, disabled: bool, prohibited: bool) {
        self.set(HIGH, high);
        self.set(DISABLED, disabled);
        self.set(PROHIBITED, prohibited);
        self.set(LOADING, true);
    }

    /// Does the first half of a resume. The host's view predates the load: deasserts and disarms
    /// the line.
    pub(crate) fn disarm_loaded<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) {
        self.disarm_all(fx);
    }

    /// Ends a load, and emits what is wanted now.
    pub(crate) fn resume<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) {
        self.set(LOADING, false);
        self.settle(fx);
    }
}
