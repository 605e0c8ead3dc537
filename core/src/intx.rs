//! INTx: the level-triggered line of a function (A17, D12).
//!
//! As for MSI-X, inputs change facts; then one function compares what is wanted with what the host
//! was told, and emits the difference.

mod device;
mod guest;
mod host;
#[cfg(msix_prove)]
pub(crate) mod prove;
mod snapshot;

use crate::effects::EffectSink;

/// One thing the host must do about the line. In every list the kinds come in the order of this
/// enum ([I5](crate::rules#i5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IntxEffect {
    /// Show the guest's interrupt controller this function's line low.
    Deassert,
    /// Stop delivering the line, and disarm it. No answer is needed.
    Disarm,
    /// Deliver the line from now on: route it, then arm (a KVM irqfd with resampling, the INTx
    /// index of a passed-through device). Report a failure to
    /// [`Function::report_failed`](crate::Function::report_failed).
    Arm,
    /// Show the guest's interrupt controller this function's line high. May be repeated after an
    /// EOI while the level is high; idempotent.
    Assert,
    /// Unmask the physical line, which was masked when it fired: the guest's EOI came (D12).
    Unmask,
}

/// Where a function's level comes from ([D12](crate::rules#d12)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum IntxSource {
    /// An emulated device, through [`Function::set_level`](crate::Function::set_level).
    Emulated,
    /// The line of a passed-through device. The backend that sees it fire
    /// ([`Function::report_fired`](crate::Function::report_fired)) masks it, until Unmask after the
    /// guest's EOI.
    Physical,
}

/// The INTx side of one PCI function that has an interrupt pin. Arm and Disarm, Assert and Deassert
/// alternate ([I1](crate::rules#i1)); the line follows [A17](crate::rules#a17).
///
/// The line stays asserted until the device is satisfied ([`IntxSource::Emulated`]) or the guest
/// acknowledges ([`IntxSource::Physical`]). No level is lost: one that is high while INTx is off is
/// asserted once INTx is on. Interrupt Disable, and enabling MSI or MSI-X, close the line: it is
/// deasserted and disarmed.
///
/// A [`Function`](crate::Function) has one, and passes the inputs on to it:
///
/// ```
/// use msix_core::*;
///
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// let parts = Parts { pin: Some(IntxSource::Emulated), ..Parts::default() };
/// let mut function = Function::<Inline<1, 1>>::new(parts, Policy::SPEC)?;
/// let mut fx = FunctionEffects::<14>::new();
/// function.set_level(true, &mut fx)?;
/// assert_eq!(fx.take(), Some(FunctionEffect::Intx(IntxEffect::Assert)));
/// function.write_command(1, &[0x04], &mut fx)?; // the guest sets Interrupt Disable
/// assert_eq!(fx.take(), Some(FunctionEffect::Intx(IntxEffect::Deassert)));
/// assert_eq!(function.status() & 8, 8); // and still sees Interrupt Status
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Intx {
    pub(crate) source: IntxSource,
    facts: u16,
}

/// The device asserts: its emulated level is high, or a physical line fired and was not
/// acknowledged.
const HIGH: u16 = 1;
/// Interrupt Disable (A17).
const DISABLED: u16 = 2;
/// MSI or MSI-X is enabled (A10).
const PROHIBITED: u16 = 4;
/// A backend is attached.
pub(crate) const ATTACHED: u16 = 8;
/// Between a load and its resume (H15).
const LOADING: u16 = 16;
/// The line is live: armed and not disarmed since.
pub(crate) const LIVE: u16 = 32;
/// The guest's controller was shown the line high.
const ASSERTED: u16 = 64;
/// The Arm failed (H11).
pub(crate) const FALLBACK: u16 = 128;

impl Intx {
    /// The most effects that one input emits.
    pub const MAX_EFFECTS: usize = 4;

    /// Makes a line in its reset state: low, enabled, no backend attached.
    #[must_use]
    pub(crate) const fn new(source: IntxSource) -> Self {
        Self { source, facts: 0 }
    }

    /// Returns Interrupt Disable, bit 10 of Command.
    #[must_use]
    pub(crate) const fn is_disabled(&self) -> bool {
        self.has(DISABLED)
    }

    /// Returns whether MSI or MSI-X is enabled.
    #[must_use]
    pub(crate) const fn is_prohibited(&self) -> bool {
        self.has(PROHIBITED)
    }

    /// Returns whether a snapshot was loaded and not yet resumed.
    #[must_use]
    pub(crate) const fn is_loading(&self) -> bool {
        self.has(LOADING)
    }

    /// Returns whether the guest's interrupt controller was last shown the line high.
    #[must_use]
    pub const fn is_asserted(&self) -> bool {
        self.has(ASSERTED)
    }

    /// Returns Interrupt Status of an emulated device: it asserts and INTx is not prohibited,
    /// whatever Interrupt Disable says (A17). Only a real device knows its own.
    pub(crate) const fn interrupt_status(&self) -> bool {
        matches!(self.source, IntxSource::Emulated) && self.has(HIGH) && !self.has(PROHIBITED)
    }

    /// Emits the difference between what is wanted and what the host was told.
    fn settle<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) {
        let loading = self.has(LOADING);
        let open = !self.has(DISABLED) && !self.has(PROHIBITED);
        let wanted = self.has(ATTACHED) && if loading { self.has(LIVE) } else { open };
        if self.source == IntxSource::Physical && !wanted {
            self.set(HIGH, false); // it fires again once it is armed again
        }
        let high = if loading { self.has(ASSERTED) } else { open && self.has(HIGH) };
        let high = high && (wanted || self.source == IntxSource::Emulated);
        if self.has(ASSERTED) && !high {
            self.set(ASSERTED, false);
            fx.push(IntxEffect::Deassert);
        }
        if self.has(LIVE) && !wanted {
            self.set(LIVE | FALLBACK, false);
            fx.push(IntxEffect::Disarm);
        }
        if wanted && !self.has(LIVE) {
            self.set(LIVE, true);
            fx.push(IntxEffect::Arm);
        }
        if high && !self.has(ASSERTED) {
            self.set(ASSERTED, true);
            fx.push(IntxEffect::Assert);
        }
        debug_assert!(self.check(), "{self:?}");
    }

    /// Deasserts and disarms the line.
    fn disarm_all<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) {
        if self.has(ASSERTED) {
            fx.push(IntxEffect::Deassert);
        }
        if self.has(LIVE) {
            fx.push(IntxEffect::Disarm);
        }
        self.set(ASSERTED | LIVE | FALLBACK, false);
        if self.source == IntxSource::Physical {
            self.set(HIGH, false); // it fires again once it is armed again
        }
    }

    /// Returns whether the host was told what is wanted, and no fact contradicts another. Debug
    /// builds assert this after every input.
    pub(crate) const fn check(&self) -> bool {
        let open = !self.has(DISABLED) && !self.has(PROHIBITED);
        let told = self.has(LOADING)
            || self.has(LIVE) == (open && self.has(ATTACHED))
                && self.has(ASSERTED) == (open && self.has(HIGH));
        let physical = matches!(self.source, IntxSource::Physical);
        told && (self.has(ATTACHED) || !self.has(LIVE))
            && (self.has(LIVE) || !self.has(FALLBACK))
            && (self.has(LIVE) || !physical || !self.has(HIGH))
            && (self.has(LIVE) || !physical || !self.has(ASSERTED))
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
    use std::collections::BTreeSet;
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
        let mut asserted = false;
        for (number, (input, status, expected)) in story.iter().enumerate() {
            input(&mut intx, &mut fx);
            let emitted: Vec<_> = core::iter::from_fn(|| fx.take()).collect();
            assert_eq!(emitted, *expected, "input {number}");
            assert_eq!(intx.status(), *status, "Interrupt Status after input {number}");
            if let Some(last) = emitted.iter().rfind(|e| matches!(e, Assert | Deassert)) {
                asserted = *last == Assert;
            }
            assert_eq!(intx.is_asserted(), asserted, "after input {number}");
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
    fn an_arm_that_failed_is_remembered_until_its_disarm() {
        let (mut intx, mut fx) = (Intx::new(IntxSource::Physical), Fx::new());
        intx.report_failed();
        assert!(!intx.is_fallback(), "it is not live");
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

    /// Inputs, with loads of all kinds, as often as they lead to new states.
    fn reachable(source: IntxSource) -> BTreeSet<u16> {
        let inputs = [
            HIGH,
            LOW,
            FIRED,
            EOI,
            DISABLE,
            ENABLE,
            PROHIBIT,
            PERMIT,
            ATTACH,
            DETACH,
            RESET,
            |intx, _| intx.report_failed(),
            |intx, _| intx.load(intx.source == IntxSource::Emulated, true, true),
            |intx, _| intx.load(false, false, false),
            |intx, fx| {
                intx.disarm_loaded(fx);
                intx.resume(fx);
            },
        ];
        let (mut seen, mut fresh) = (BTreeSet::from([0]), std::vec![0]);
        while let Some(facts) = fresh.pop() {
            for input in inputs {
                let mut intx = Intx { source, facts };
                input(&mut intx, &mut Fx::new());
                if seen.insert(intx.facts) {
                    fresh.push(intx.facts);
                }
            }
        }
        seen
    }

    #[test]
    fn the_check_holds_in_the_states_that_inputs_lead_to_and_in_no_other() {
        for source in [IntxSource::Emulated, IntxSource::Physical] {
            let reachable = reachable(source);
            for facts in 0..256 {
                let intx = Intx { source, facts };
                assert_eq!(intx.check(), reachable.contains(&facts), "{intx:?}");
            }
        }
    }
}
