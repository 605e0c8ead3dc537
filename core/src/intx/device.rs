//! Inputs of the device: its level, and a physical line that fires.

use super::{HIGH, Intx, IntxEffect, IntxSource, LIVE};
use crate::effects::EffectSink;

impl Intx {
    /// Sets the level of an emulated device. Emits Assert or Deassert when the line is open and the
    /// level changes. Ignored by a physical line.
    pub(crate) fn set_level<K: EffectSink<IntxEffect>>(&mut self, high: bool, fx: &mut K) {
        if self.source == IntxSource::Emulated {
            self.set(HIGH, high);
            self.settle(fx);
        }
    }

    /// Reports that a physical line fired, and is masked now (D12). Emits Assert. Ignored when the
    /// line is not live (its Disarm unmasks it), has fired already, or is emulated.
    pub(crate) fn report_fired<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) {
        if self.source == IntxSource::Physical && self.has(LIVE) {
            self.set(HIGH, true);
            self.settle(fx);
        }
    }
}
