//! INTx: the level-triggered line of a function (A17, D12).
//!
//! Same idea as MSI-X: inputs change facts, and one function compares what should hold with what was
//! told, and emits the difference.

use crate::effect::{EffectSink, NotCarriedOut};

/// One thing the host must do about the line. In every list the kinds come in the order of this
/// enum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IntxEffect {
    /// The guest's interrupt controller shall see this function's line low.
    Deassert,
    /// Stop delivering the line by itself: disarm. An answer to this is not needed.
    Disarm,
    /// Deliver the line from now on: route, then arm (a KVM irqfd with resampling, the INTx index of
    /// a passed-through device). What fails comes back through [`Intx::report_failed`].
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
    /// A device that is emulated here: [`Intx::set_level`].
    Emulated,
    /// A line of a passed-through device. It is masked by the one who saw it fire
    /// ([`Intx::report_fired`]), until it is unmasked after the guest's EOI.
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
    source: IntxSource,
    facts: u16,
}

/// The device asserts: the emulated level, or a physical line that fired and was not acknowledged.
const HIGH: u16 = 1;
/// Interrupt Disable (A17).
const DISABLED: u16 = 2;
/// MSI or MSI-X is enabled (A10).
const PROHIBITED: u16 = 4;
/// A backend listens.
const ATTACHED: u16 = 8;
/// Between a load and its resume (H15).
const LOADING: u16 = 16;
/// Told: the host uses the line.
const USED: u16 = 32;
/// Told: the guest's controller sees it high.
const ASSERTED: u16 = 64;
/// The Arm failed (H11).
const FALLBACK: u16 = 128;

impl Intx {
    /// Most effects one input emits.
    pub const MAX_EFFECTS: usize = 4;

    /// A line in its reset state: low, enabled, nobody attached.
    #[must_use]
    pub const fn new(source: IntxSource) -> Self {
        Self { source, facts: 0 }
    }

    /// Where its level comes from.
    #[must_use]
    pub const fn source(&self) -> IntxSource {
        self.source
    }

    /// Interrupt Status, bit 3 of the Status register: the device asserts, whatever Interrupt
    /// Disable says; never while INTx is prohibited (A17).
    #[must_use]
    pub const fn status(&self) -> bool {
        self.has(HIGH) && !self.has(PROHIBITED)
    }

    /// Interrupt Disable, bit 10 of Command, as told by [`set_disabled`](Self::set_disabled).
    #[must_use]
    pub const fn is_disabled(&self) -> bool {
        self.has(DISABLED)
    }

    /// Whether MSI or MSI-X is enabled, as told by [`set_prohibited`](Self::set_prohibited).
    #[must_use]
    pub const fn is_prohibited(&self) -> bool {
        self.has(PROHIBITED)
    }

    /// Whether a backend listens.
    #[must_use]
    pub const fn is_attached(&self) -> bool {
        self.has(ATTACHED)
    }

    /// Whether a snapshot was loaded and is not resumed yet.
    #[must_use]
    pub const fn is_loading(&self) -> bool {
        self.has(LOADING)
    }

    /// Whether the host has been told to use the line.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.has(USED)
    }

    /// Whether the line is live but its use failed, so that userspace drives it: a physical line by
    /// [`report_fired`](Self::report_fired) and [`eoi`](Self::eoi), an emulated one by carrying out Assert and
    /// Deassert (H11).
    #[must_use]
    pub const fn is_fallback(&self) -> bool {
        self.has(FALLBACK)
    }

    /// Whether the guest's controller was told that the line is high.
    #[must_use]
    pub const fn is_asserted(&self) -> bool {
        self.has(ASSERTED)
    }

    /// An emulated device drives its level. Emits Assert or Deassert when the line is open and this
    /// is a change. Nothing for a physical line.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn set_level<K: EffectSink<IntxEffect>>(
        &mut self,
        high: bool,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready(fx)?;
        if self.source == IntxSource::Emulated {
            self.set(HIGH, high);
            self.settle(fx);
        }
        Ok(())
    }

    /// A physical line fired, and is masked now (D12). Emits Assert; nothing when the line is not
    /// live (whoever releases it unmasks it), has fired already, or is emulated.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn report_fired<K: EffectSink<IntxEffect>>(
        &mut self,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready(fx)?;
        if self.source == IntxSource::Physical && self.has(USED) {
            self.set(HIGH, true);
            self.settle(fx);
        }
        Ok(())
    }

    /// The guest's EOI for the line. Of a physical line that fired: Deassert and Unmask; a device that
    /// still asserts makes it fire again. Of an emulated level that is still high: Assert, because a
    /// controller with resampling lowered its view of it. Else nothing: another function on the line
    /// was meant.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn eoi<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) -> Result<(), NotCarriedOut> {
        ready(fx)?;
        if !self.has(ASSERTED) || self.has(LOADING) {
            return Ok(());
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
        Ok(())
    }

    /// Interrupt Disable of the Command register (A17). Emits Deassert and Disarm, or Arm and
    /// Assert.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn set_disabled<K: EffectSink<IntxEffect>>(
        &mut self,
        on: bool,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        self.change(DISABLED, on, fx)
    }

    /// MSI or MSI-X of the function is enabled (A10). Emits Deassert and Disarm, or Arm and Assert.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn set_prohibited<K: EffectSink<IntxEffect>>(
        &mut self,
        on: bool,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        self.change(PROHIBITED, on, fx)
    }

    /// A backend listens from now on. Emits Arm when the line is open.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn attach<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) -> Result<(), NotCarriedOut> {
        self.change(ATTACHED, true, fx)
    }

    /// The backend goes away. Emits Disarm, and Deassert before it for a physical line that was
    /// asserted.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn detach<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) -> Result<(), NotCarriedOut> {
        self.change(ATTACHED, false, fx)
    }

    /// The backend could not carry out the Arm. The line stays live, for userspace to drive, until
    /// its Disarm (H11). Emits nothing.
    pub const fn report_failed(&mut self) {
        let used = self.has(USED);
        self.set(FALLBACK, used);
    }

    /// Conventional or function-level reset (A13): the level low, Interrupt Disable and prohibition
    /// gone. Emits Deassert and Disarm, then Arm: a physical line is armed anew, however it was
    /// masked.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn reset<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) -> Result<(), NotCarriedOut> {
        ready(fx)?;
        self.release_all(fx);
        self.set(HIGH | DISABLED | PROHIBITED | LOADING, false);
        self.settle(fx);
        Ok(())
    }

    /// Whether it can be made a part of a function: as it was made, but for its level.
    pub(crate) const fn is_fresh(&self) -> bool {
        self.facts & !(HIGH | ASSERTED) == 0
    }

    /// The device's level is as good as low until it is set again (H27).
    pub(crate) fn forget_level(&mut self) {
        if self.source == IntxSource::Emulated {
            self.set(HIGH, false);
        }
    }

    /// The level of an emulated device. A physical line is not saved: it fires again.
    pub(crate) fn level(&self) -> bool {
        self.source == IntxSource::Emulated && self.has(HIGH)
    }

    /// Takes over loaded facts, of which nothing is told before [`resume`](Self::resume).
    pub(crate) fn load(&mut self, high: bool, disabled: bool, prohibited: bool) {
        self.set(HIGH, high);
        self.set(DISABLED, disabled);
        self.set(PROHIBITED, prohibited);
        self.set(LOADING, true);
    }

    /// First half of a resume: what was told is of before the load.
    pub(crate) fn release_loaded<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) {
        self.release_all(fx);
    }

    /// Ends a load.
    pub(crate) fn resume<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) {
        self.set(LOADING, false);
        self.settle(fx);
    }

    fn change<K: EffectSink<IntxEffect>>(
        &mut self,
        fact: u16,
        on: bool,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready(fx)?;
        self.set(fact, on);
        self.settle(fx);
        Ok(())
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
    fn release_all<K: EffectSink<IntxEffect>>(&mut self, fx: &mut K) {
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
    #[must_use]
    pub const fn check(&self) -> bool {
        let open = !self.has(DISABLED) && !self.has(PROHIBITED);
        let told = self.has(LOADING)
            || self.has(USED) == (open && self.has(ATTACHED))
                && self.has(ASSERTED) == (open && self.has(HIGH));
        let physical = matches!(self.source, IntxSource::Physical);
        told && (self.has(USED) || !self.has(FALLBACK))
            && (self.has(USED) || !physical || !self.has(HIGH))
            && (self.has(USED) || !physical || !self.has(ASSERTED))
    }

    const fn has(&self, fact: u16) -> bool {
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

/// Refuses a list that cannot hold an input's effects (compile time) or still holds some.
fn ready<K: EffectSink<IntxEffect>>(fx: &K) -> Result<(), NotCarriedOut> {
    const { assert!(K::CAPACITY >= Intx::MAX_EFFECTS, "the list is smaller than 4") }
    if fx.is_ready() { Ok(()) } else { Err(NotCarriedOut) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Effects;
    use IntxEffect::{Arm, Assert, Deassert, Disarm, Unmask};
    use std::vec::Vec;

    type Fx = Effects<4, IntxEffect>;
    type Input = fn(&mut Intx, &mut Fx) -> Result<(), NotCarriedOut>;

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
            input(&mut intx, &mut fx).unwrap();
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
                (FIRED, true, &[Assert]),
                (FIRED, true, &[]),
                (EOI, false, &[Deassert, Unmask]),
                (EOI, false, &[]),
                (FIRED, true, &[Assert]),
                (PROHIBIT, false, &[Deassert, Disarm]),
                (FIRED, false, &[]), // a late one
                (PERMIT, false, &[Arm]),
                (FIRED, true, &[Assert]),
                (RESET, false, &[Deassert, Disarm, Arm]),
                (FIRED, true, &[Assert]),
                (DETACH, false, &[Deassert, Disarm]),
            ],
        );
    }

    #[test]
    fn a_use_that_failed_is_remembered_until_its_release() {
        let (mut intx, mut fx) = (Intx::new(IntxSource::Physical), Fx::new());
        intx.report_failed();
        assert!(!intx.is_fallback(), "nobody used it");
        intx.attach(&mut fx).unwrap();
        assert_eq!(fx.take(), Some(Arm));
        intx.report_failed();
        assert!(intx.is_fallback() && intx.is_live());
        intx.set_disabled(true, &mut fx).unwrap();
        assert_eq!(fx.take(), Some(Disarm));
        assert!(!intx.is_fallback());
    }

    #[test]
    fn a_loaded_line_is_silent_until_it_resumes() {
        let (mut intx, mut fx) = (Intx::new(IntxSource::Emulated), Fx::new());
        intx.attach(&mut fx).unwrap();
        assert_eq!(fx.take(), Some(Arm));
        intx.load(true, false, false);
        for input in [EOI, HIGH, PERMIT, ENABLE, ATTACH] {
            input(&mut intx, &mut fx).unwrap();
            assert!(fx.is_empty());
        }
        intx.release_loaded(&mut fx);
        intx.resume(&mut fx);
        let emitted: Vec<_> = core::iter::from_fn(|| fx.take()).collect();
        assert_eq!(emitted, [Disarm, Arm, Assert]);
    }

    #[test]
    fn an_input_is_refused_while_the_last_list_is_not_carried_out() {
        let inputs = [HIGH, FIRED, EOI, DISABLE, PROHIBIT, ATTACH, DETACH, RESET];
        for input in inputs {
            let (mut intx, mut fx) = (Intx::new(IntxSource::Emulated), Fx::new());
            fx.push(Arm);
            assert_eq!(input(&mut intx, &mut fx), Err(NotCarriedOut));
            assert_eq!(intx, Intx::new(IntxSource::Emulated));
        }
    }
}
