//! How events come in: from the VMM, from the eventfds while KVM does not take them, and from the
//! device's line; and what KVM refused.

use super::always;
use super::locked::LockedFunction;
use crate::happening::{Happening, tell};
use crate::kvm::assigned_line::AssignedLine;
use crate::kvm::host::MessageMode;
use msix_core::{Delivery, Mode, Vector, VectorError, Vectors};

impl LockedFunction {
    /// Takes an event for which nothing was written to an eventfd.
    pub(super) fn notify(&mut self, vector: Vector) -> Result<Delivery, VectorError> {
        let told = self.input(|engine, fx| engine.notify(vector, fx));
        self.notified(vector, told)
    }

    /// Notes what became of an event for which nothing was written to an eventfd.
    #[inline]
    pub(super) fn notified(
        &mut self,
        vector: Vector,
        told: Result<Delivery, VectorError>,
    ) -> Result<Delivery, VectorError> {
        let delivery = told?;
        self.count(vector, delivery);
        if delivery == Delivery::Sent {
            self.host.shorten(vector); // the next event need not come here
        }
        Ok(delivery)
    }

    /// Takes an event that was written to an eventfd which KVM did not own any more. It is still
    /// there, unless it was taken meanwhile.
    pub(super) fn collect(&mut self, vector: Vector) -> Delivery {
        if !self.host.take(vector) {
            return Delivery::Sent;
        }
        if self.engine.mode() == Mode::Intx {
            // The device is notified, and drives its pin.
            let told = self.input(|engine, fx| engine.notify(vector, fx));
            let delivery = told.unwrap_or(Delivery::Intx);
            self.count(vector, delivery);
            return delivery;
        }
        self.take_in(vector)
    }

    /// Handles an eventfd that the loop found readable. One that is not watched is taken out of the loop,
    /// so that a writer that goes on wakes nobody.
    pub(super) fn read_eventfd(&mut self, vector: Vector) {
        if !self.host.is_watched(vector) {
            self.host.end_watch(vector.index());
        } else if self.host.take(vector) {
            self.take_in(vector);
        }
    }

    /// Handles a physical line that the loop saw fire.
    pub(super) fn read_line(&mut self) {
        let line = self.device.as_mut().and_then(|device| device.line.as_mut());
        if line.is_some_and(AssignedLine::take) {
            self.input(|engine, fx| always(engine.report_fired(fx)));
        }
    }

    /// Takes in the events in the eventfds while KVM does not take them and no effect asks for
    /// them: while the backend is detached, between a load and its resume, and while a message is
    /// half written.
    pub(super) fn take_in_all(&mut self) {
        let loading = match self.followed {
            Some(place) => place.loading,
            None => self.engine.is_loading(),
        };
        if !self.attached || loading || self.host.has_half_written() {
            self.take_in_unowned();
        }
    }

    /// Takes in what no effect of a save asks for: of vectors that are live, and not KVM's for the time
    /// being, and what KVM refused (H14): it is sent, or pending where it cannot be any more.
    pub(super) fn take_in_due(&mut self) {
        self.take_in_unowned();
        self.take_in_unsent();
    }

    /// Gives the engine back what KVM refused.
    pub(super) fn take_in_unsent(&mut self) {
        if self.engine.is_loading() {
            return;
        }
        for (mode, vector) in self.host.take_unsent() {
            let held = Vectors::one(Vector::new(vector));
            self.step(|engine, fx| always(engine.report_held(mode.into(), held, fx)));
        }
    }

    fn take_in_unowned(&mut self) {
        for vector in (0..).take(self.host.eventfds.len()).map(Vector::new) {
            if self.host.take(vector) {
                self.take_in(vector);
            }
        }
    }

    /// Takes an event that was read from the eventfd of `vector`. Where the current mode has no
    /// such vector, or is the pin, which the writer of an eventfd cannot drive, the event becomes
    /// pending in the mode that has the vector.
    fn take_in(&mut self, vector: Vector) -> Delivery {
        let msix = self.host.vectors(MessageMode::MsiX);
        let here = match self.engine.mode() {
            Mode::Intx => 0,
            Mode::MsiX | Mode::None if msix > 0 => msix,
            Mode::MsiX | Mode::Msi | Mode::None => self.host.vectors(MessageMode::Msi),
        };
        let index = usize::from(vector.index());
        if index < here
            && let Ok(delivery) = self.step(|engine, fx| engine.notify(vector, fx))
        {
            self.count(vector, delivery);
            return delivery;
        }
        let mode = if index < msix { Mode::MsiX } else { Mode::Msi };
        let held = Vectors::one(vector);
        self.step(|engine, fx| always(engine.report_held(mode, held, fx)));
        self.count(vector, Delivery::Pending);
        Delivery::Pending
    }

    /// Commits and arms what waits, and sends what KVM refused.
    pub(super) fn flush(&mut self) {
        self.host.turn.is_told = false; // whatever waits on is told again
        self.take_in_unsent();
        let failed = self.guarded(|locked| locked.host.flush_routes()).unwrap_or_default();
        let mode = self.host.owner().into();
        failed.into_iter().for_each(|vector| self.fall_back(mode, vector));
    }

    /// Reports to the engine that KVM does not deliver a vector, and tells who looks from outside.
    pub(super) fn fall_back(&mut self, mode: Mode, vector: Vector) {
        self.engine.report_failed(mode, Vectors::one(vector));
        if let Some(counters) = self.host.count(vector.index()) {
            counters.fallbacks = counters.fallbacks.saturating_add(1);
        }
        let (function, vector) = (self.number, vector.index());
        tell(&Happening::FellBack { function, mode, vector });
    }

    /// Counts an event that the function took itself.
    pub(super) fn count(&mut self, vector: Vector, delivery: Delivery) {
        let Some(counters) = self.host.count(vector.index()) else { return };
        counters.taken = counters.taken.saturating_add(1);
        if matches!(delivery, Delivery::Pending | Delivery::Coalesced) {
            counters.pending = counters.pending.saturating_add(1);
        } else if matches!(delivery, Delivery::Dropped(_)) {
            counters.dropped = counters.dropped.saturating_add(1);
        }
    }
}
