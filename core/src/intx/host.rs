//! Inputs of the host backend and of the platform around the function.

use super::{ATTACHED, DISABLED, FALLBACK, HIGH, Intx, IntxEffect, LIVE, LOADING, PROHIBITED};
use crate::effects::EffectSink;

impl Intx {
    /// Attaches a backend. Emits Arm when the line is open.
    pub(crate) fn attach<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) {
        self.set(ATTACHED, true);
        self.settle(fx);
    }

    /// Detaches the backend. Emits Disarm, and Deassert before it for a physical line that is
    /// asserted.
    pub(crate) fn detach<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) {
        self.set(ATTACHED, false);
        self.settle(fx);
    }

    /// Reports that the backend could not carry out the Arm. The line stays live, for userspace to
    /// drive, until its Disarm (H11). Emits nothing.
    pub(crate) const fn report_failed(&mut self) {
        let live = self.has(LIVE);
        self.set(FALLBACK, live);
    }

    /// Resets the line, by a conventional or a function-level reset (A13): the level low, Interrupt
    /// Disable and prohibition gone. Emits Deassert and Disarm, then Arm: a physical line is armed
    /// afresh, so that it is unmasked.
    pub(crate) fn reset<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) {
        self.disarm_all(fx);
        self.set(HIGH | DISABLED | PROHIBITED | LOADING, false);
        self.settle(fx);
    }
}
