//! The state behind a function's lock: the engine, and the carrying out of its effects on KVM and
//! the device, in the order that they need.

use super::always;
use super::effect_list::EffectList;
use crate::happening::{Happening, tell};
use crate::host::{HostAnswer, one_kind};
use crate::kvm::assigned_line::AssignedLine;
use crate::kvm::host::{Call, CallQueue, MessageMode, OfMode, VectorHost};
use crate::kvm::physical::{IndexState, PhysicalMsi};
use crate::kvm::platform::DeviceControl;
use crate::kvm::setup::PassedThrough;
use crate::panics::Panics;
use msix_core::{
    Boxed, Effect, Function, FunctionEffect, IntxEffect, Mode, Msi, Msix, Vector, Vectors,
};
use std::time::{Duration, Instant};

/// The state behind the lock.
pub(super) struct LockedFunction {
    /// Which function it is, for who looks from outside.
    pub(super) number: u64,
    pub(super) engine: Function<Boxed>,
    pub(super) fx: EffectList,
    /// Events that the host held, until the engine has them.
    pub(super) held: Vec<(Mode, Vectors)>,
    pub(super) host: VectorHost,
    pub(super) device: Option<DeviceBehind>,
    /// The level that the pin was last set to, or is about to be.
    pub(super) is_high: bool,
    /// The mode that the device's interrupt indices were last set to.
    pub(super) mode: Mode,
    /// What the host and the device have followed so far; `None` when that is to be done again.
    pub(super) followed: Option<Place>,
    /// Whether the backend is attached, so that KVM or the loop takes events.
    pub(super) attached: bool,
    /// Whether the last handle is gone. Everything was given back then, and nothing may be taken again.
    pub(super) closed: bool,
    /// [`is_settled`](Self::is_settled), as of the last use of the function that may have changed it.
    pub(super) settled: bool,
    /// Panics of the VMM's parts since [`take_panics`](Self::take_panics).
    pub(super) panics: Panics,
}

/// Where the engine is, as far as the host and the device follow that without an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    mode: Mode,
    /// The MSI vectors that the guest allocated.
    allocated: u16,
    /// Whether a load waits for its resume.
    pub(super) loading: bool,
}

impl Place {
    /// Returns the number of MSI vectors that the device should have enabled.
    fn msi_vectors(self) -> u16 {
        if self.mode == Mode::Msi { self.allocated } else { 0 }
    }
}

/// The device behind a passed-through function. Its MSI-X belongs to the host.
pub(super) struct DeviceBehind {
    pub(super) msi: Option<Box<dyn PhysicalMsi>>,
    /// The number of MSI vectors that it was last set to.
    pub(super) msi_vectors: u16,
    /// The number of them, counted from 0, that send to their eventfds.
    pub(super) msi_bound: u16,
    /// Whether one of the others was armed since.
    pub(super) msi_again: bool,
    pub(super) line: Option<AssignedLine>,
    /// Resets of the device that are not done. Meanwhile the line is not armed, because nothing of the
    /// device may be bound.
    pub(super) resets_due: usize,
    /// Whether the line is to be armed after them.
    pub(super) arm_after_reset: bool,
    pub(super) quiet: Duration,
    /// The time of the last interrupt, while BARs are not mapped.
    pub(super) unmapped: Option<Instant>,
}

impl DeviceBehind {
    /// Makes it of the VMM's description, without its MSI-X. Returns the VMM's control of it, too.
    pub(super) fn new(device: PassedThrough) -> (Self, Box<dyn DeviceControl>) {
        let PassedThrough { msi, line, quiet, control, .. } = device;
        let behind = Self {
            msi,
            msi_vectors: 0,
            msi_bound: 0,
            msi_again: false,
            line,
            resets_due: 0,
            arm_after_reset: false,
            quiet,
            unmapped: None,
        };
        (behind, control)
    }

    /// Has its BARs mapped into the guest, or unmapped.
    pub(super) fn map(&mut self, mapped: bool, calls: &mut CallQueue) {
        let was = self.unmapped.is_none();
        self.unmapped = (!mapped).then(Instant::now);
        if was != mapped {
            calls.push(Call::SetMappings(mapped));
        }
    }
}

impl LockedFunction {
    pub(super) fn input<T>(
        &mut self,
        input: impl FnOnce(&mut Function<Boxed>, &mut EffectList) -> T,
    ) -> T {
        self.take_in_all();
        self.step(input)
    }

    /// Gives the engine an input that may change its mode, the allocation of MSI, or whether a load
    /// waits for its resume: the host and the device follow that even without an effect.
    pub(super) fn switch<T>(
        &mut self,
        input: impl FnOnce(&mut Function<Boxed>, &mut EffectList) -> T,
    ) -> T {
        self.take_in_all();
        self.followed = None; // not before, because an event is an input too
        self.step(input)
    }

    /// Gives the engine an input and carries its effects out. A panic of the VMM's parts stops nothing
    /// of that, and goes on when the lock is gone.
    pub(super) fn step<T>(
        &mut self,
        input: impl FnOnce(&mut Function<Boxed>, &mut EffectList) -> T,
    ) -> T {
        let answer = input(&mut self.engine, &mut self.fx);
        self.settle();
        answer
    }

    /// Returns whether an input finds nothing to take in before it, and leaves its effects to do and
    /// nothing else.
    #[inline]
    pub(super) fn is_settled(&self) -> bool {
        self.attached
            && self.followed.is_some_and(|place| !place.loading)
            && !self.host.has_half_written()
    }

    /// Does what an input left to do.
    #[inline]
    pub(super) fn settle(&mut self) {
        match self.followed {
            None => self.follow(),
            Some(_) if self.fx.is_empty() => {}
            Some(place) => {
                self.carry_out_list();
                self.take_answers();
                if self.device.is_some() {
                    self.guarded(|locked| locked.enter(place)); // it may have been armed
                }
                self.note_panics();
            }
        }
        debug_assert!(self.has_followed(), "not by `switch`");
    }

    /// Returns whether the engine is where the host and the device followed it to, unless that is to be
    /// done again.
    pub(super) fn has_followed(&self) -> bool {
        self.followed.is_none_or(|place| place == self.place())
    }

    /// Follows the engine, which may have moved: carries the list out between what is done to leave a
    /// mode and to enter one.
    #[cold]
    fn follow(&mut self) {
        let place = self.place(); // carrying out a list changes nothing of it
        self.guarded(|locked| locked.leave(place));
        self.carry_out(place);
        self.guarded(|locked| locked.enter(place));
        self.followed = Some(place);
        self.note_panics();
    }

    /// Has what panicked tried again with the next input.
    fn note_panics(&mut self) {
        if !self.panics.is_empty() {
            self.followed = None;
        }
    }

    /// Returns what the host and the device follow besides effects.
    fn place(&self) -> Place {
        Place {
            mode: self.engine.mode(),
            allocated: self.engine.msi().map_or(0, Msi::allocated),
            loading: self.engine.is_loading(),
        }
    }

    /// Lets a part of the VMM act. A panic is kept for later.
    pub(super) fn guarded<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let mut panics = Panics::default();
        let result = panics.catch(|| act(self));
        self.panics.add(panics);
        result
    }

    /// Returns whether the VMM's parts have panicked since [`take_panics`](Self::take_panics).
    pub(super) const fn has_panics(&self) -> bool {
        !self.panics.is_empty() || !self.host.panics.is_empty()
    }

    /// Takes the panics of the VMM's parts so far.
    pub(super) fn take_panics(&mut self) -> Panics {
        let mut panics = std::mem::take(&mut self.panics);
        panics.add(self.host.take_panics());
        panics
    }

    /// Compares the messages of MSI, after a write of them, with those that KVM has.
    pub(super) fn compare_msi(&mut self) {
        for vector in (0..).take(self.host.vectors(MessageMode::Msi)) {
            self.compare(MessageMode::Msi, vector);
        }
    }

    /// Compares the message of a vector, after a write of it, with the one that KVM has.
    #[inline]
    pub(super) fn compare(&mut self, mode: MessageMode, vector: u16) {
        if self.host.is_live(mode, vector)
            && let Some(message) = self.engine.message(mode.into(), Vector::new(vector))
        {
            self.host.compare(mode, vector, message);
        }
    }

    /// Resets the function. The device is reset once nothing of it is bound any more, and its line
    /// armed afterwards ([`device_was_reset`](Self::device_was_reset)).
    pub(super) fn reset(&mut self) {
        self.take_in_all();
        self.host.take_unsent(); // A13
        self.followed = None;
        if let Some(device) = &mut self.device {
            device.resets_due += 1;
        }
        self.step(|engine, fx| always(engine.reset(fx)));
        if let Some(device) = &mut self.device {
            self.host.calls.push(Call::ResetDevice);
            device.map(true, &mut self.host.calls);
        }
        if self.device.is_some() {
            self.claim_all();
        }
        self.tell_claims();
    }

    /// Arms the line, if it waited for this reset of the device.
    pub(super) fn device_was_reset(&mut self) {
        let Some(device) = &mut self.device else { return };
        device.resets_due = device.resets_due.saturating_sub(1);
        if device.resets_due == 0 && std::mem::take(&mut device.arm_after_reset) {
            self.arm_line();
        }
    }

    /// Claims all vectors of MSI-X that have no claim.
    pub(super) fn claim_all(&mut self) {
        let vectors = self.engine.msix().map_or(0, Msix::vectors);
        for vector in (0..vectors).map(Vector::new) {
            if self.engine.msix().and_then(|msix| msix.claims(vector)) == Some(0) {
                // Of the table, with no claim so far.
                let _ = self.input(|engine, fx| engine.claim(vector, fx));
            }
        }
    }

    /// Copies all claims to the gates; they may have changed.
    pub(super) fn tell_claims(&self) {
        let vectors = self.engine.msix().map_or(0, Msix::vectors);
        (0..vectors).for_each(|vector| self.tell_claim(Vector::new(vector)));
    }

    /// Copies the claims of `vector` to its gate; they may have changed.
    pub(super) fn tell_claim(&self, vector: Vector) {
        if let Some(gated) = self.host.eventfds.get(usize::from(vector.index()))
            && let Some(claims) = self.engine.msix().and_then(|msix| msix.claims(vector))
        {
            gated.gate.set_claimed(claims > 0);
        }
    }

    /// Leaves the device's MSI-X as it is, to another process.
    pub(super) fn leave_msix(&mut self) -> IndexState {
        self.guarded(|locked| locked.host.leave_physical()).unwrap_or(IndexState::Unknown)
    }

    /// Leaves the device's MSI as it is, to another process. Returns how many vectors are bound.
    pub(super) fn leave_msi(&mut self) -> u16 {
        let Some(device) = &mut self.device else { return 0 };
        let bound = if device.msi_vectors > 0 { device.msi_bound } else { 0 };
        (device.msi, device.msi_vectors) = (None, 0);
        bound
    }

    /// Drives the pin of a physical line to the level that it was last set to. The line is not
    /// saved, but the interrupt controller is, and may have been restored with a level that nobody
    /// would lower. KVM lowers what it brings at the next EOI (K12).
    fn repeat_line(&mut self) {
        let line = self.device.as_ref().and_then(|device| device.line.as_ref());
        if line.is_some_and(|line| !line.is_brought_by_kernel()) {
            self.host.calls.push(Call::SetLevel(self.is_high));
        }
    }

    /// Follows the guest out of a mode: disables the mode's index of the device first, because the
    /// next one cannot be enabled beside it (D2). INTx is left by its Disarm.
    fn leave(&mut self, place: Place) {
        if place.loading {
            return; // nothing changes before the resume
        }
        if self.mode == Mode::MsiX && place.mode != Mode::MsiX {
            self.host.set_enabled(false);
        }
        let vectors = place.msi_vectors();
        if let Some(DeviceBehind { msi: Some(msi), msi_vectors, .. }) = &mut self.device
            && *msi_vectors != vectors
            && *msi_vectors > 0
        {
            msi.disable();
            *msi_vectors = 0;
        }
        self.mode = place.mode;
    }

    /// Follows the guest into a mode, after KVM: the device may interrupt.
    fn enter(&mut self, place: Place) {
        if place.loading {
            return;
        }
        if place.mode == Mode::MsiX {
            self.host.set_enabled(true);
        }
        let vectors = place.msi_vectors();
        if let Some(DeviceBehind { msi: Some(msi), msi_vectors, msi_bound, msi_again, .. }) =
            &mut self.device
            && (std::mem::take(msi_again) || *msi_vectors != vectors)
            && vectors > 0
        {
            let enable = || msi.enable(vectors, &mut |vector| self.host.eventfd(vector));
            *msi_bound = self.panics.catch(enable).unwrap_or(0).min(vectors);
            *msi_vectors = vectors;
            for unbound in (*msi_bound..vectors).map(Vector::new) {
                self.fall_back(Mode::Msi, unbound); // H11
            }
        }
    }

    /// Carries out the list, and what the answers to it emit, while the engine moves.
    fn carry_out(&mut self, place: Place) {
        let loading = place.loading;
        let ends_load = !loading && self.guarded(|locked| locked.host.unpause()) == Some(true);
        if self.engine.msi().is_some() && !loading {
            self.host.set_allocated(place.allocated);
        }
        self.carry_out_list();
        self.guarded(|locked| locked.host.join_targets());
        match place.mode {
            Mode::MsiX if !loading => self.host.set_owner(MessageMode::MsiX),
            Mode::Msi if !loading => self.host.set_owner(MessageMode::Msi),
            _ => {}
        }
        self.take_answers();
        if ends_load {
            self.repeat_line();
        }
    }

    /// Gives the engine the events that the host held, and carries out what that emits.
    #[inline]
    fn take_answers(&mut self) {
        if !self.held.is_empty() {
            self.report_held();
        }
    }

    #[cold]
    fn report_held(&mut self) {
        for (mode, set) in std::mem::take(&mut self.held) {
            always(self.engine.report_held(mode, set, &mut self.fx));
            self.carry_out_list(); // an answer can only cause Send, so this ends
        }
    }

    #[inline]
    fn carry_out_list(&mut self) {
        while let Some((effect, sets)) = self.fx.take() {
            let (mode, kind) = match effect {
                FunctionEffect::Intx(effect) => {
                    self.carry_out_intx(effect);
                    continue;
                }
                FunctionEffect::MsiX(kind) => (MessageMode::MsiX, kind),
                FunctionEffect::Msi(kind) => (MessageMode::Msi, kind),
            };
            if let (MessageMode::Msi, Effect::Arm(_), Some(device)) = (mode, kind, &mut self.device)
            {
                let mut armed = sets.iter().flat_map(|set| set.iter());
                device.msi_again |= armed.any(|vector| vector.index() >= device.msi_bound);
            }
            let host = &mut OfMode(&mut self.host, mode);
            let message = |vector| self.engine.message(mode.into(), vector);
            let answer = one_kind(host, kind, sets, message, &mut self.panics);
            if !matches!(answer, HostAnswer::Done) {
                self.take_answer(mode.into(), answer);
            }
        }
    }

    /// Takes what the host could not do, and the events that it held.
    #[cold]
    fn take_answer(&mut self, mode: Mode, answer: HostAnswer) {
        match answer {
            HostAnswer::Done => {}
            HostAnswer::Failed(vectors) => {
                vectors.into_iter().for_each(|vector| self.fall_back(mode, vector));
            }
            HostAnswer::Held(sets) => self.held.extend(sets.into_iter().map(|set| (mode, set))),
        }
    }

    // Apart: the messages need no room for this.
    #[inline(never)]
    fn carry_out_intx(&mut self, effect: IntxEffect) {
        self.guarded(|locked| locked.intx(effect));
    }

    fn intx(&mut self, effect: IntxEffect) {
        let device = self.device.as_mut().filter(|device| device.line.is_some());
        match (effect, device) {
            (IntxEffect::Arm, Some(device)) => {
                if device.resets_due > 0 {
                    device.arm_after_reset = true;
                } else {
                    self.arm_line();
                }
            }
            (IntxEffect::Disarm, Some(device)) => {
                device.arm_after_reset = false;
                if let Some(line) = &mut device.line {
                    line.disarm(&mut self.panics);
                }
                device.map(true, &mut self.host.calls);
            }
            (IntxEffect::Unmask, Some(DeviceBehind { line: Some(line), .. })) => line.unmask(),
            (IntxEffect::Assert, device) => {
                let is_mapped = device.is_some();
                self.set_level(true);
                if let Some(device) = self.device.as_mut().filter(|_| is_mapped) {
                    device.map(false, &mut self.host.calls);
                }
            }
            (IntxEffect::Deassert, _) => self.set_level(false),
            (IntxEffect::Arm | IntxEffect::Disarm | IntxEffect::Unmask, _) => {}
        }
    }

    fn set_level(&mut self, high: bool) {
        self.is_high = high;
        self.host.calls.push(Call::SetLevel(high));
    }

    fn arm_line(&mut self) {
        let line = self.device.as_mut().and_then(|device| device.line.as_mut());
        if line.is_some_and(|line| !line.arm(&mut self.panics)) {
            self.engine.report_failed(Mode::Intx, Vectors::new(0, 0));
            let function = self.number;
            tell(&Happening::FellBack { function, mode: Mode::Intx, vector: 0 });
        }
    }
}

impl Drop for DeviceBehind {
    fn drop(&mut self) {
        // MSI-X and the line look after themselves.
        if let Some(msi) = self.msi.as_mut().filter(|_| self.msi_vectors > 0) {
            msi.disable();
        }
    }
}
