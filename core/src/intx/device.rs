//! Inputs of the device: its level, and a physical line that fires.

use super::{HIGH, Intx, IntxEffect, IntxSource, USED};
use crate::effects::EffectSink;

impl Intx {
    /// An emulated device drives its level. Emits Assert or Deassert when the line is open and this
    /// is a change. Nothing for a physical line.
    pub(crate) fn set_level<K: EffectSink<IntxEffect>>(&mut self, high: bool, fx: &mut K) {
        if self.source == IntxSource::Emulated {
            self.set(HIGH, high);
            self.settle(fx);
        }
    }

    /// A physical line fired, and is masked now (D12). Emits Assert; nothing when the line is not
    /// live (its Disarm unmasks it), has fired already, or is emulated.
    pub(crate) fn report_fired<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) {
        if self.source == IntxSource::Physical && self.has(USED) {
            self.set(HIGH, true);
            self.settle(fx);
        }
    }
}
