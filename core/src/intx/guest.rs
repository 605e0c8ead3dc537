//! Inputs of the guest: what opens and closes the line, and its acknowledgement.

use super::{ASSERTED, DISABLED, HIGH, Intx, IntxEffect, IntxSource, LOADING, PROHIBITED};
use crate::effects::EffectSink;

impl Intx {
    /// Takes the guest's EOI for the line. For a physical line that fired: emits Deassert and
    /// Unmask; a device that still asserts makes it fire again. For an emulated level that is still
    /// high: emits Assert, because a controller with resampling lowered its view of the line.
    /// Otherwise nothing: the EOI was for another function on the line.
    pub(crate) fn eoi<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) {
        if !self.has(ASSERTED) || self.has(LOADING) {
            return;
        }
        match self.source {
            IntxSource::Emulated => {
                self.set(ASSERTED, false); // as the controller has it now
                self.settle(fx);
            }
            IntxSource::Physical => {
                self.set(HIGH, false);
                self.settle(fx);
                fx.push(IntxEffect::Unmask);
            }
        }
    }

    /// Sets Interrupt Disable of the Command register (A17). Emits Deassert and Disarm, or Arm and
    /// Assert.
    pub(crate) fn set_disabled<K: EffectSink<IntxEffect>>(&mut self, on: bool, fx: &mut K) {
        self.set(DISABLED, on);
        self.settle(fx);
    }

    /// Sets whether MSI or MSI-X of the function is enabled (A10). Emits Deassert and Disarm, or
    /// Arm and Assert.
    pub(crate) fn set_prohibited<K: EffectSink<IntxEffect>>(&mut self, on: bool, fx: &mut K) {
        self.set(PROHIBITED, on);
        self.settle(fx);
    }

    /// Forgets the device's level: it counts as low until it is set again (H27).
    pub(crate) fn forget_level(&mut self) {
        if self.source == IntxSource::Emulated {
            self.set(HIGH, false);
        }
    }
}
