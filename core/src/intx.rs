//! INTx: the level-triggered line of a function (A17, D12).
//!
//! Same idea as MSI-X: inputs change facts, and one function compares what should hold with what was
//! told, and emits the difference.

mod device;
mod guest;
mod host;
mod snapshot;

use crate::effects::EffectSink;

/// One thing the host must do about the line. In every list the kinds come in the order of this
/// enum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IntxEffect {
    /// The guest's interrupt controller shall see this function's line low.
    Deassert,
    /// Stop delivering the line by itself: disarm. An answer to this is not needed.
    Disarm,
    /// Deliver the line from now on: route, then arm (a KVM irqfd with resampling, the INTx index of
    /// a passed-through device). What fails comes back through [`Function::report_failed`](crate::Function::report_failed).
    Arm,
    /// The guest's interrupt controller shall see this function's line high. It may be said again
    /// after an EOI, for a level that is still high; to a controller that still sees it high it says
    /// nothing new.
    Assert,
    /// The guest's EOI came: unmask the physical line, which was masked when it fired (D12).
    Unmask,
}

/// Where a function's level comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum IntxSource {
    /// A device that is emulated here: [`Function::set_level`](crate::Function::set_level).
    Emulated,
    /// A line of a passed-through device. It is masked by the one who saw it fire
    /// ([`Function::report_fired`](crate::Function::report_fired)), until it is unmasked after the guest's EOI.
    Physical,
}

/// The INTx side of one PCI function that has an interrupt pin.
///
/// Level semantics: the line is asserted from the device's assertion until it is satisfied
/// ([`IntxSource::Emulated`]) or acknowledged ([`IntxSource::Physical`]); none is lost, as what is
/// high while INTx is off is asserted once it is on, and none is doubled. Interrupt Disable and MSI
/// or MSI-X being enabled both close the line: it is deasserted and released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Intx {
    pub(crate) source: IntxSource,
    facts: u16,
}

/// The device asserts: the emulated level, or a physical line that fired and was not acknowledged.
const HIGH: u16 = 1;
/// Interrupt Disable (A17).
const DISABLED: u16 = 2;
/// MSI or MSI-X is enabled (A10).
const PROHIBITED: u16 = 4;
/// A backend listens.
pub(crate) const ATTACHED: u16 = 8;
/// Between a load and its resume (H15).
const LOADING: u16 = 16;
/// Told: the host uses the line.
pub(crate) const USED: u16 = 32;
/// Told: the guest's controller sees it high.
const ASSERTED: u16 = 64;
/// The Arm failed (H11).
pub(crate) const FALLBACK: u16 = 128;

impl Intx {
    /// Most effects one input emits.
    pub const MAX_EFFECTS: usize = 4;

    /// A line in its reset state: low, enabled, nobody attached.
    #[must_use]
    pub(crate) const fn new(source: IntxSource) -> Self {
        Self { source, facts: 0 }
    }

    /// Interrupt Disable, bit 10 of Command.
    #[must_use]
    pub(crate) const fn is_disabled(&self) -> bool {
        self.has(DISABLED)
    }

    /// Whether MSI or MSI-X is enabled.
    #[must_use]
    pub(crate) const fn is_prohibited(&self) -> bool {
        self.has(PROHIBITED)
    }

    /// Whether a snapshot was loaded and is not resumed yet.
    #[must_use]
    pub(crate) const fn is_loading(&self) -> bool {
        self.has(LOADING)
    }

    /// Whether the guest's controller was told that the line is high.
    #[must_use]
    pub const fn is_asserted(&self) -> bool {
        self.has(ASSERTED)
    }

    /// Interrupt Status of an emulated device: it asserts, whatever Interrupt Disable says; never while
    /// INTx is prohibited (A17). Only a real device knows its own.
    pub(crate) const fn interrupt_status(&self) -> bool {
        matches!(self.source, IntxSource::Emulated) && self.has(HIGH) && !self.has(PROHIBITED)
    }

    /// Emits the difference between what should hold and what was told.
    fn settle<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) {
        let loading = self.has(LOADING);
        let open = !self.has(DISABLED) && !self.has(PROHIBITED);
        let wanted = self.has(ATTACHED) && if loading { self.has(USED) } else { open };
        if self.source == IntxSource::Physical && !wanted {
            self.set(HIGH, false); // it fires again once it is armed again
        }
        let high = if loading { self.has(ASSERTED) } else { open && self.has(HIGH) };
        let high = high && (wanted || self.source == IntxSource::Emulated);
        if self.has(ASSERTED) && !high {
            self.set(ASSERTED, false);
            fx.push(IntxEffect::Deassert);
        }
        if self.has(USED) && !wanted {
            self.set(USED | FALLBACK, false);
            fx.push(IntxEffect::Disarm);
        }
        if wanted && !self.has(USED) {
            self.set(USED, true);
            fx.push(IntxEffect::Arm);
        }
        if high && !self.has(ASSERTED) {
            self.set(ASSERTED, true);
            fx.push(IntxEffect::Assert);
        }
        debug_assert!(self.check(), "{self:?}");
    }

    /// Tells the host that the line is low and not used.
    fn disarm_all<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) {
        if self.has(ASSERTED) {
            fx.push(IntxEffect::Deassert);
        }
        if self.has(USED) {
            fx.push(IntxEffect::Disarm);
        }
        self.set(ASSERTED | USED | FALLBACK, false);
        if self.source == IntxSource::Physical {
            self.set(HIGH, false); // it fires again once it is armed again
        }
    }

    /// Whether what was told is what should hold, and the facts are possible together. Debug builds
    /// ask this after every input.
    pub(crate) const fn check(&self) -> bool {
        let open = !self.has(DISABLED) && !self.has(PROHIBITED);
        let told = self.has(LOADING)
            || self.has(USED) == (open && self.has(ATTACHED))
                && self.has(ASSERTED) == (open && self.has(HIGH));
        let physical = matches!(self.source, IntxSource::Physical);
        told && (self.has(USED) || !self.has(FALLBACK))
            && (self.has(USED) || !physical || !self.has(HIGH))
            && (self.has(USED) || !physical || !self.has(ASSERTED))
    }

    pub(crate) const fn has(&self, fact: u16) -> bool {
        self.facts & fact != 0
    }

    const fn set(&mut self, facts: u16, on: bool) {
        if on {
            self.facts |= facts;
        } else {
            self.facts &= !facts;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Effects;
    use IntxEffect::{Arm, Assert, Deassert, Disarm, Unmask};
    use std::vec::Vec;

    type Fx = Effects<4, IntxEffect>;
    type Input = fn(&mut Intx, &mut Fx);

    const HIGH: Input = |intx, fx| intx.set_level(true, fx);
    const LOW: Input = |intx, fx| intx.set_level(false, fx);
    const FIRED: Input = |intx, fx| intx.report_fired(fx);
    const EOI: Input = |intx, fx| intx.eoi(fx);
    const DISABLE: Input = |intx, fx| intx.set_disabled(true, fx);
    const ENABLE: Input = |intx, fx| intx.set_disabled(false, fx);
    const PROHIBIT: Input = |intx, fx| intx.set_prohibited(true, fx);
    const PERMIT: Input = |intx, fx| intx.set_prohibited(false, fx);
    const ATTACH: Input = |intx, fx| intx.attach(fx);
    const DETACH: Input = |intx, fx| intx.detach(fx);
    const RESET: Input = |intx, fx| intx.reset(fx);

    fn play(source: IntxSource, story: &[(Input, bool, &[IntxEffect])]) {
        let (mut intx, mut fx) = (Intx::new(source), Fx::new());
        for (number, (input, status, expected)) in story.iter().enumerate() {
            input(&mut intx, &mut fx);
            let emitted: Vec<_> = core::iter::from_fn(|| fx.take()).collect();
            assert_eq!(emitted, *expected, "input {number}");
            assert_eq!(intx.status(), *status, "Interrupt Status after input {number}");
        }
    }

    #[test]
    fn an_emulated_level_is_seen_while_the_line_is_open_and_never_lost() {
        play(
            IntxSource::Emulated,
            &[
                (HIGH, true, &[Assert]),
                (ATTACH, true, &[Arm]),
                (HIGH, true, &[]),
                (DISABLE, true, &[Deassert, Disarm]),
                (LOW, false, &[]),
                (HIGH, true, &[]),
                (PROHIBIT, false, &[]),
                (ENABLE, false, &[]),
                (PERMIT, true, &[Arm, Assert]),
                (EOI, true, &[Assert]),
                (LOW, false, &[Deassert]),
                (EOI, false, &[]),
                (FIRED, false, &[]),
                (HIGH, true, &[Assert]),
                (DETACH, true, &[Disarm]),
                (ATTACH, true, &[Arm]),
                (RESET, false, &[Deassert, Disarm, Arm]),
            ],
        );
    }

    #[test]
    fn a_physical_line_is_asserted_from_its_firing_to_the_eoi_and_unmasked_then() {
        play(
            IntxSource::Physical,
            &[
                (FIRED, false, &[]), // not armed
                (ATTACH, false, &[Arm]),
                (HIGH, false, &[]),
                (EOI, false, &[]), // another function's
                (FIRED, false, &[Assert]),
                (FIRED, false, &[]),
                (EOI, false, &[Deassert, Unmask]),
                (EOI, false, &[]),
                (FIRED, false, &[Assert]),
                (PROHIBIT, false, &[Deassert, Disarm]),
                (FIRED, false, &[]), // a late one
                (PERMIT, false, &[Arm]),
                (FIRED, false, &[Assert]),
                (RESET, false, &[Deassert, Disarm, Arm]),
                (FIRED, false, &[Assert]),
                (DETACH, false, &[Deassert, Disarm]),
            ],
        );
    }

    #[test]
    fn a_use_that_failed_is_remembered_until_its_release() {
        let (mut intx, mut fx) = (Intx::new(IntxSource::Physical), Fx::new());
        intx.report_failed();
        assert!(!intx.is_fallback(), "nobody used it");
        intx.attach(&mut fx);
        assert_eq!(fx.take(), Some(Arm));
        intx.report_failed();
        assert!(intx.is_fallback() && intx.is_live());
        intx.set_disabled(true, &mut fx);
        assert_eq!(fx.take(), Some(Disarm));
        assert!(!intx.is_fallback());
    }

    #[test]
    fn a_loaded_line_is_silent_until_it_resumes() {
        let (mut intx, mut fx) = (Intx::new(IntxSource::Emulated), Fx::new());
        intx.attach(&mut fx);
        assert_eq!(fx.take(), Some(Arm));
        intx.load(true, false, false);
        for input in [EOI, HIGH, PERMIT, ENABLE, ATTACH] {
            input(&mut intx, &mut fx);
            assert!(fx.is_empty());
        }
        intx.disarm_loaded(&mut fx);
        intx.resume(&mut fx);
        let emitted: Vec<_> = core::iter::from_fn(|| fx.take()).collect();
        assert_eq!(emitted, [Disarm, Arm, Assert]);
    }
}
