//! Inputs of the host backend and of the platform around the function.

use super::{ATTACHED, DISABLED, FALLBACK, HIGH, Intx, IntxEffect, LOADING, PROHIBITED, USED};
use crate::effects::EffectSink;

impl Intx {
    /// A backend listens from now on. Emits Arm when the line is open.
    pub(crate) fn attach<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) {
        self.set(ATTACHED, true);
        self.settle(fx);
    }

    /// The backend goes away. Emits Disarm, and Deassert before it for a physical line that was
    /// asserted.
    pub(crate) fn detach<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) {
        self.set(ATTACHED, false);
        self.settle(fx);
    }

    /// The backend could not carry out the Arm. The line stays live, for userspace to drive, until
    /// its Disarm (H11). Emits nothing.
    pub(crate) const fn report_failed(&mut self) {
        let used = self.has(USED);
        self.set(FALLBACK, used);
    }

    /// Conventional or function-level reset (A13): the level low, Interrupt Disable and prohibition
    /// gone. Emits Deassert and Disarm, then Arm: a physical line is armed anew, however it was
    /// masked.
    pub(crate) fn reset<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) {
        self.disarm_all(fx);
        self.set(HIGH | DISABLED | PROHIBITED | LOADING, false);
        self.settle(fx);
    }
}
