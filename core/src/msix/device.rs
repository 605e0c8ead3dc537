//! Inputs of the device: events, withdrawals, claims, and the side channels of a platform.

use super::entry::Message;
use super::settle::Change;
use super::{Msix, VectorError};
use crate::counters::{self, Counters};
use crate::effects::{Effect, EffectSink, NotCarriedOut, ready};
use crate::facts::Fact;
use crate::kernel::{self, Registers};
use crate::policy::WhileDisabled;
use crate::storage::Storage;
use crate::vector_range::VectorRange;
use crate::vectors::{Vector, Vectors, Word};

/// What became of an event. Send is emitted only for a vector that is deliverable and claimed
/// ([I3](crate::rules#i3)); otherwise the event is pending, or dropped with its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// [`Effect::Send`] was emitted.
    Sent,
    /// It is pending (A7).
    Pending,
    /// The vector was pending already: one message stands for both (A12).
    Coalesced,
    /// MSI-X is disabled, the event is left to INTx (A10), and [`Effect::IntxReevaluate`] was
    /// emitted.
    Intx,
    /// It was dropped and counted.
    Dropped(DropReason),
}

/// Why an event was dropped ([I4](crate::rules#i4)); each reason is counted in [`crate::Counters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The vector has no claim (C24).
    Unclaimed,
    /// MSI-X is disabled, under [`WhileDisabled::Drop`] (H3).
    Disabled,
    /// Bus master is off, under [`crate::policy::BusMasterOff::DropMessage`] (H16).
    BusMaster,
}

impl<S: Storage> Msix<S> {
    /// Takes an event of the device for `vector` (A7). Emits Send when the vector is deliverable
    /// and claimed, IntxReevaluate while disabled under [`WhileDisabled::Intx`], and otherwise
    /// nothing. An event of a vector without a [`claim`](Self::claim) is lost: the answer is
    /// [`Delivery::Dropped`] with [`DropReason::Unclaimed`].
    ///
    /// Where a backend delivers the vector (through an irqfd), the device signals the backend and
    /// does not call this.
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`], [`VectorError::NotCarriedOut`].
    #[inline]
    pub fn notify<K: EffectSink>(
        &mut self,
        vector: Vector,
        fx: &mut K,
    ) -> Result<Delivery, VectorError> {
        ready::<Self, _, K>(fx)?;
        let switches = self.facts.switches(|all| all);
        let memory = self.storage.memory_mut();
        let Some(&claims) = memory.claims.get(vector.slot()) else {
            return Err(self.out_of_range(vector));
        };
        if claims == 0 {
            counters::one(&mut self.counters.dropped_unclaimed);
            return Ok(Delivery::Dropped(DropReason::Unclaimed));
        }
        let Some(word) = memory.words.get_mut(vector.word()) else {
            return Err(self.out_of_range(vector));
        };
        let masked = word.masked.get() & vector.bit() != 0;
        let registers = Registers { masked, exempt: false, pending: true, claimed: true };
        if kernel::deliverable(registers, switches) {
            return Ok(self.send_event(vector, fx));
        }
        if self.facts.has(Fact::DIVERTS) || self.facts.has(Fact::EXEMPTS) {
            return Ok(self.event_by_policy(vector, fx));
        }
        Ok(latch(word, vector, &mut self.counters))
    }

    /// Takes an event that the masks alone do not decide, because the policy has a say.
    #[cold]
    #[inline(never)]
    fn event_by_policy<K: EffectSink>(&mut self, vector: Vector, fx: &mut K) -> Delivery {
        let exempt = self.is_exempt(vector); // H25
        let masked = Registers { masked: true, exempt, pending: true, claimed: true };
        if kernel::deliverable(masked, self.facts.switches(|all| all)) {
            return self.send_event(vector, fx);
        }
        match self.policy.while_disabled {
            WhileDisabled::Drop if self.facts.has(Fact::DISABLED) => {
                counters::one(&mut self.counters.dropped_disabled);
                Delivery::Dropped(DropReason::Disabled)
            }
            WhileDisabled::Intx if self.facts.has(Fact::DISABLED) => {
                counters::one(&mut self.counters.to_intx);
                fx.push(Effect::IntxReevaluate);
                Delivery::Intx
            }
            _ => match self.storage.memory_mut().words.get_mut(vector.word()) {
                Some(word) => latch(word, vector, &mut self.counters),
                None => Delivery::Dropped(DropReason::Unclaimed), // not reached: it has claims
            },
        }
    }

    /// Sends the message of a claimed, deliverable vector (A7). By I2 the vector is not pending.
    #[inline]
    fn send_event<K: EffectSink>(&mut self, vector: Vector, fx: &mut K) -> Delivery {
        debug_assert_ne!(self.claims(vector), Some(0), "I3");
        debug_assert_eq!(self.is_pending(vector), Some(false), "I2");
        if !self.facts.has(Fact::BUS_MASTER) {
            counters::one(&mut self.counters.dropped_bus_master); // H16
            return Delivery::Dropped(DropReason::BusMaster);
        }
        counters::one(&mut self.counters.sent);
        fx.push(Effect::Send(Vectors::one(vector)));
        Delivery::Sent
    }

    /// Withdraws a masked vector's pending event: the cause is gone, so the function must clear the
    /// pending bit (A8). Returns whether the bit was set. Emits Drain by policy, for an event that
    /// the host may hold. Does nothing when the vector is live: its events are already delivered.
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`], [`VectorError::NotCarriedOut`].
    pub fn withdraw<K: EffectSink>(
        &mut self,
        vector: Vector,
        fx: &mut K,
    ) -> Result<bool, VectorError> {
        ready::<Self, _, K>(fx)?;
        let vector = self.checked(vector)?;
        let was_pending = self.clear_pending(vector);
        if was_pending {
            counters::one(&mut self.counters.withdrawn);
        }
        self.drop_held(VectorRange::one(vector), fx);
        Ok(was_pending)
    }

    /// Adds a claim of `vector`: the device will raise it. Events of a vector without a claim are
    /// dropped (C24). Emits Send when the first claim finds the vector pending and deliverable.
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`], [`VectorError::TooManyClaims`] at 65535,
    /// [`VectorError::NotCarriedOut`].
    pub fn claim<K: EffectSink>(&mut self, vector: Vector, fx: &mut K) -> Result<(), VectorError> {
        ready::<Self, _, K>(fx)?;
        let vector = self.checked(vector)?;
        if let Some(count) = self.storage.memory_mut().claims.get_mut(vector.slot()) {
            *count = count.checked_add(1).ok_or(VectorError::TooManyClaims { vector })?;
        }
        self.settle_vector(vector, Change::NONE, fx);
        Ok(())
    }

    /// Removes a claim of `vector`; does nothing at 0. The last one drops and counts the pending
    /// bit (C24), and emits Drain by policy.
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`], [`VectorError::NotCarriedOut`].
    pub fn unclaim<K: EffectSink>(
        &mut self,
        vector: Vector,
        fx: &mut K,
    ) -> Result<(), VectorError> {
        ready::<Self, _, K>(fx)?;
        let vector = self.checked(vector)?;
        let count = self.storage.memory_mut().claims.get_mut(vector.slot());
        let Some(count) = count.filter(|count| **count > 0) else { return Ok(()) };
        *count = count.saturating_sub(1);
        if *count == 0 {
            if self.clear_pending(vector) {
                counters::one(&mut self.counters.dropped_unclaimed);
            }
            self.drop_held(VectorRange::one(vector), fx);
        }
        Ok(())
    }

    /// Removes all claims of all vectors, drops every pending bit and counts it. Emits Drain by
    /// policy.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn unclaim_all<K: EffectSink>(&mut self, fx: &mut K) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        let memory = self.storage.memory_mut();
        memory.claims.fill(0);
        self.orphans = false; // nothing stays pending
        for word in memory.words {
            counters::add(&mut self.counters.dropped_unclaimed, word.pending.get());
            word.pending.remove(u64::MAX);
        }
        self.drop_held(self.all(), fx);
        Ok(())
    }

    /// Sets or clears the mask bit of `vector` from a side channel (a paravirtual platform, G1).
    /// Transition and effects are those of a table write.
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`], [`VectorError::NotCarriedOut`].
    pub fn set_mask<K: EffectSink>(
        &mut self,
        vector: Vector,
        masked: bool,
        fx: &mut K,
    ) -> Result<(), VectorError> {
        ready::<Self, _, K>(fx)?;
        let vector = self.checked(vector)?;
        if let Some(word) = self.storage.memory_mut().words.get_mut(vector.word()) {
            if masked {
                word.masked.insert(vector.bit());
            } else {
                word.masked.remove(vector.bit());
            }
        }
        self.settle_vector(vector, Change::NONE, fx);
        Ok(())
    }

    /// Sets the message of `vector` from a side channel and clears its mask bit (H10). Transition
    /// and effects are those of the table writes, including the Send of a pending event.
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`], [`VectorError::NotCarriedOut`].
    pub fn set_message<K: EffectSink>(
        &mut self,
        vector: Vector,
        message: Message,
        fx: &mut K,
    ) -> Result<(), VectorError> {
        ready::<Self, _, K>(fx)?;
        let vector = self.checked(vector)?;
        let memory = self.storage.memory_mut();
        let entry = memory.entries.get_mut(vector.slot());
        let changed = entry.is_some_and(|entry| entry.set_message(message));
        let mut live = false;
        if let Some(word) = memory.words.get_mut(vector.word()) {
            word.masked.remove(vector.bit());
            live = word.live.get() & vector.bit() != 0;
        }
        if changed && live {
            self.rewritten(vector);
        }
        self.settle_vector(vector, Change { written: false, complete: true }, fx);
        Ok(())
    }

    fn clear_pending(&mut self, vector: Vector) -> bool {
        let words = self.storage.memory_mut().words;
        let Some(word) = words.get_mut(vector.word()) else { return false };
        let was_pending = word.pending.get() & vector.bit() != 0;
        word.pending.remove(vector.bit());
        was_pending
    }

    /// Emits Drain for `span`, where the policy wants the host to drop what the engine dropped.
    fn drop_held<K: EffectSink>(&mut self, span: VectorRange, fx: &mut K) {
        if self.policy.drain {
            self.ask_host(Effect::Drain, span, fx);
        }
    }
}

/// Sets the pending bit of a vector that is not deliverable (A7).
#[inline]
fn latch(word: &mut Word, vector: Vector, counters: &mut Counters) -> Delivery {
    if word.pending.insert_new(vector.bit()) {
        Delivery::Pending
    } else {
        counters::one(&mut counters.coalesced);
        Delivery::Coalesced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;
    use crate::policy::{BusMasterOff, UnclaimedPending};
    use crate::testing::{engine, exempting, take};

    const V0: Vector = Vector::new(0);

    #[test]
    fn an_event_while_disabled_goes_where_the_policy_says() {
        for (while_disabled, delivery) in [
            (WhileDisabled::Latch, Delivery::Pending),
            (WhileDisabled::Drop, Delivery::Dropped(DropReason::Disabled)),
            (WhileDisabled::Intx, Delivery::Intx),
        ] {
            let (mut msix, mut fx) = engine::<1, 1>(Policy { while_disabled, ..Policy::SPEC });
            msix.write_config(3, &[0], &mut fx).unwrap();
            take(&mut fx);
            assert_eq!(msix.notify(V0, &mut fx), Ok(delivery));
            let intx = delivery == Delivery::Intx;
            assert_eq!(fx.take(), intx.then_some(Effect::IntxReevaluate));
            assert_eq!(msix.is_pending(V0), Some(delivery == Delivery::Pending));
            let counters = msix.counters();
            assert_eq!(counters.to_intx, u64::from(intx));
            assert_eq!(counters.dropped(), u64::from(matches!(delivery, Delivery::Dropped(_))));
        }
    }

    #[test]
    fn a_message_exempt_from_masks_is_sent_through_both_of_them() {
        let (mut msix, mut fx) = exempting::<65, 2>(Policy::SPEC, |m| m.data == 0);
        let v64 = Vector::new(64);
        msix.write_config(3, &[0xc0], &mut fx).unwrap();
        take(&mut fx);
        assert_eq!(msix.is_masked(v64), Some(false));
        assert_eq!(msix.is_live(v64), Some(true), "the host was told");
        assert_eq!(msix.notify(v64, &mut fx), Ok(Delivery::Sent));
        assert_eq!(take(&mut fx), [Effect::Send(Vectors::one(v64))]);

        msix.write_table(64 * 16 + 8, &[0x21, 0, 0, 0], &mut fx).unwrap();
        assert_eq!(take(&mut fx), [Effect::Disarm(Vectors::one(v64))], "another message");
        assert_eq!(msix.notify(v64, &mut fx), Ok(Delivery::Pending));
        msix.write_table(64 * 16 + 8, &[0, 0, 0, 0], &mut fx).unwrap();
        let set = Vectors::one(v64);
        assert_eq!(take(&mut fx), [Effect::Arm(set), Effect::Send(set)]);

        msix.write_config(3, &[0], &mut fx).unwrap();
        take(&mut fx);
        assert_eq!(msix.notify(v64, &mut fx), Ok(Delivery::Pending), "A10: not while disabled");
    }

    #[test]
    fn bus_master_off_latches_or_drops() {
        let (mut msix, mut fx) = engine::<1, 1>(Policy::SPEC);
        msix.set_mask(V0, false, &mut fx).unwrap();
        take(&mut fx);
        msix.set_bus_master(false, &mut fx).unwrap();
        assert_eq!(take(&mut fx), [Effect::Disarm(Vectors::one(V0))]);
        assert_eq!(msix.notify(V0, &mut fx), Ok(Delivery::Pending));
        msix.set_bus_master(true, &mut fx).unwrap();
        let set = Vectors::one(V0);
        assert_eq!(take(&mut fx), [Effect::Arm(set), Effect::Send(set)]);

        let policy = Policy { bus_master_off: BusMasterOff::DropMessage, ..Policy::SPEC };
        let (mut msix, mut fx) = engine::<1, 1>(policy);
        msix.notify(V0, &mut fx).unwrap();
        msix.set_bus_master(false, &mut fx).unwrap();
        msix.set_mask(V0, false, &mut fx).unwrap();
        assert_eq!(take(&mut fx), [Effect::Arm(set)], "live, but its message is dropped");
        let dropped = Delivery::Dropped(DropReason::BusMaster);
        assert_eq!(msix.notify(V0, &mut fx), Ok(dropped));
        assert_eq!((msix.counters().dropped_bus_master, msix.is_pending(V0)), (2, Some(false)));
    }

    #[test]
    fn a_pending_bit_without_a_claim_is_kept_or_lost_when_it_could_be_sent() {
        for (unclaimed_pending, kept) in
            [(UnclaimedPending::Keep, true), (UnclaimedPending::Lose, false)]
        {
            let (mut msix, mut fx) = engine::<1, 1>(Policy { unclaimed_pending, ..Policy::SPEC });
            let mut field = [0; 17];
            field[12] = 1;
            field[16] = 1;
            msix.unclaim_all(&mut fx).unwrap();
            take(&mut fx);
            msix.load_qemu(0x8000, &field).unwrap();
            msix.resume(&mut fx).unwrap();
            take(&mut fx);
            assert_eq!(msix.is_pending(V0), Some(true), "as loaded");
            msix.set_mask(V0, false, &mut fx).unwrap();
            assert_eq!(take(&mut fx), [Effect::Arm(Vectors::one(V0))]);
            assert_eq!(msix.is_pending(V0), Some(kept));
            assert_eq!(msix.counters().dropped_unclaimed, u64::from(!kept));
            msix.claim(V0, &mut fx).unwrap();
            assert_eq!(fx.take(), kept.then_some(Effect::Send(Vectors::one(V0))));
        }
    }

    #[test]
    fn claims_are_counted_and_checked() {
        let (mut msix, mut fx) = engine::<1, 1>(Policy::SPEC);
        for _ in 1..u16::MAX {
            msix.claim(V0, &mut fx).unwrap();
        }
        let full = Err(VectorError::TooManyClaims { vector: V0 });
        assert_eq!(msix.claim(V0, &mut fx), full);
        assert_eq!(msix.claims(V0), Some(u16::MAX));
        msix.unclaim_all(&mut fx).unwrap();
        take(&mut fx);
        msix.unclaim(V0, &mut fx).unwrap();
        assert_eq!((msix.claims(V0), fx.take()), (Some(0), None), "no-op at 0");
    }

    #[test]
    fn what_the_engine_drops_the_host_drops_too() {
        let held = Some(Effect::Drain(Vectors::one(V0)));
        let (mut msix, mut fx) = engine::<1, 1>(Policy::SPEC);
        msix.notify(V0, &mut fx).unwrap();
        assert_eq!(msix.withdraw(V0, &mut fx), Ok(true));
        assert_eq!(fx.take(), held);
        assert_eq!(msix.withdraw(V0, &mut fx), Ok(false));
        assert_eq!(fx.take(), held);
        msix.notify(V0, &mut fx).unwrap();
        msix.unclaim(V0, &mut fx).unwrap();
        assert_eq!(fx.take(), held);
        assert_eq!((msix.counters().withdrawn, msix.counters().dropped_unclaimed), (1, 1));

        msix.set_mask(V0, false, &mut fx).unwrap();
        take(&mut fx);
        msix.withdraw(V0, &mut fx).unwrap();
        assert_eq!(fx.take(), None, "a live vector's events are with the guest");
    }
}
