//! Inputs of the host backend and of the platform around the function.

use super::Msix;
use super::entry::Entry;
use super::message_control::MessageControl;
use super::settle::{Request, claimed_among};
use crate::counters;
use crate::effects::{Effect, EffectSink, NotCarriedOut, ready};
use crate::facts::Fact;
use crate::policy::ClaimsOnReset;
use crate::storage::Storage;
use crate::switch::{Switch, wants_held};
use crate::vector_range::VectorRange;
use crate::vectors::{Vectors, Word};

impl<S: Storage> Msix<S> {
    /// Attaches a backend. Emits Arm for all deliverable vectors (H12); does nothing when one is
    /// attached already.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn attach<K: EffectSink>(&mut self, fx: &mut K) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        self.facts.set_attached(true);
        self.settle(Request::FACTS, fx);
        Ok(())
    }

    /// Detaches the backend. Emits Poll by policy (H13), then Disarm for all live vectors (C40);
    /// does nothing when none is attached. Report the answer to the Poll before the backend is
    /// gone.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn detach<K: EffectSink>(&mut self, fx: &mut K) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        if self.policy.poll_before_disable {
            self.poll(self.all(), fx); // while it still listens
        }
        self.facts.set_attached(false);
        self.settle(Request::FACTS, fx);
        Ok(())
    }

    /// Reports that the backend could not carry out an Arm or Reroute of `vectors`. Those that are
    /// live become fallback: their events are sent until their Disarm, and the next Arm tries again
    /// (H11, C39). Others are ignored. Emits nothing.
    ///
    /// Report a failure before the Disarm that follows the failed Arm: after another Arm the engine
    /// cannot tell the two apart.
    pub fn report_failed(&mut self, vectors: Vectors) {
        let words = self.storage.memory_mut().words;
        if let Some(word) = words.get_mut(usize::from(vectors.word())) {
            let failed = vectors.bits() & word.live.get();
            counters::add(&mut self.counters.failures, failed);
            word.fallback.insert(failed);
        }
    }

    /// Reports the answer to a Poll: the host held events of these vectors, and has given them up.
    /// They become pending, even when MSI-X is disabled by now, because they came before. Emits
    /// Send for those that are deliverable and claimed. Vectors outside the table are ignored.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn report_held<K: EffectSink>(
        &mut self,
        vectors: Vectors,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        let inside = vectors.bits() & self.all().bits(vectors.word());
        let memory = self.storage.memory_mut();
        let Some(word) = memory.words.get_mut(usize::from(vectors.word())) else { return Ok(()) };
        let used = claimed_among(memory.claims, vectors.word(), inside);
        counters::add(&mut self.counters.dropped_unclaimed, inside & !used);
        counters::add(&mut self.counters.coalesced, used & word.pending.get());
        word.pending.insert(used);
        self.settle(Request::FACTS, fx);
        Ok(())
    }

    /// Sets Bus Master Enable of the Command register (A11). Under
    /// [`crate::policy::BusMasterOff::Latch`] it gates like a mask, and this emits Disarm, or Arm
    /// and Send (H16).
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn set_bus_master<K: EffectSink>(
        &mut self,
        on: bool,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        self.facts.set_bus_master(on);
        self.settle(Request::FACTS, fx);
        Ok(())
    }

    /// Resets the function, by a conventional or a function-level reset (A13): control clear, all
    /// vectors masked, messages 0, pending bits dropped and counted, claims by policy (C01). Bus
    /// master belongs to the Command register and is left to
    /// [`set_bus_master`](Self::set_bus_master). Emits Disarm for all live vectors, Drain by policy
    /// (H8), and IntxReevaluate by policy when MSI-X was enabled.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn reset<K: EffectSink>(&mut self, fx: &mut K) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        let told = self.facts.has(Fact::INTX_TOLD);
        let request = Request::switch(Switch::reset(&self.policy, told));
        self.facts.set(Fact::INTX_TOLD, false);
        self.set_control(MessageControl::default());
        self.facts.set(Fact::LOADING, false);
        self.facts.set_stale_entries(0);
        self.orphans = false; // nothing stays pending
        let memory = self.storage.memory_mut();
        memory.entries.fill(Entry::RESET);
        if self.policy.claims_on_reset == ClaimsOnReset::Clear {
            memory.claims.fill(0);
        }
        for word in memory.words {
            counters::add(&mut self.counters.dropped_reset, word.pending.get());
            // What the host was told is kept, so that settle emits the difference.
            *word = Word { masked: Word::RESET.masked, pending: Word::RESET.pending, ..*word };
        }
        self.settle(request, fx);
        Ok(())
    }

    /// Emits Poll for those of `span` that may have held events, if these are wanted.
    pub(crate) fn poll<K: EffectSink>(&mut self, span: VectorRange, fx: &mut K) {
        if wants_held(&self.policy, !self.facts.has(Fact::DISABLED)) {
            self.ask_host(Effect::Poll, span, fx);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::ClaimsOnReset;
    use crate::testing::{engine, take};
    use crate::{Effect, Policy, Vector, Vectors};

    const V0: Vector = Vector::new(0);

    #[test]
    fn a_backend_that_leaves_is_polled_and_its_vectors_disarmed_once() {
        let (mut msix, mut fx) = engine::<2, 1>(Policy::SPEC);
        msix.set_mask(V0, false, &mut fx).unwrap();
        take(&mut fx);
        msix.detach(&mut fx).unwrap();
        let set = Vectors::one(V0);
        assert_eq!(take(&mut fx), [Effect::Poll(Vectors::new(0, 2)), Effect::Disarm(set)]);
        msix.detach(&mut fx).unwrap();
        assert_eq!(take(&mut fx), [], "no backend is there");
        msix.attach(&mut fx).unwrap();
        assert_eq!(take(&mut fx), [Effect::Arm(set)]);
        msix.attach(&mut fx).unwrap();
        assert_eq!(take(&mut fx), [], "it knows already");
    }

    #[test]
    fn what_failed_is_sent_from_here_until_its_next_arm() {
        let (mut msix, mut fx) = engine::<65, 2>(Policy::SPEC);
        msix.set_mask(V0, false, &mut fx).unwrap();
        take(&mut fx);
        msix.report_failed(Vectors::new(0, 0b11)); // vector 1 is not live
        msix.report_failed(Vectors::new(9, 1)); // no such word
        assert_eq!((msix.is_fallback(V0), msix.counters().failures), (Some(true), 1));
        msix.notify(V0, &mut fx).unwrap();
        assert_eq!(take(&mut fx), [Effect::Send(Vectors::one(V0))]);
        msix.set_mask(V0, true, &mut fx).unwrap();
        assert_eq!(take(&mut fx), [Effect::Disarm(Vectors::one(V0))]);
        assert_eq!(msix.is_fallback(V0), Some(false));
    }

    #[test]
    fn events_the_host_held_are_latched_or_sent_and_strangers_ignored() {
        let (mut msix, mut fx) = engine::<65, 2>(Policy::SPEC);
        msix.set_mask(V0, false, &mut fx).unwrap();
        msix.unclaim(Vector::new(2), &mut fx).unwrap_err(); // the list is full
        take(&mut fx);
        msix.unclaim(Vector::new(2), &mut fx).unwrap();
        take(&mut fx);
        msix.report_held(Vectors::new(0, 0b111), &mut fx).unwrap();
        assert_eq!(take(&mut fx), [Effect::Send(Vectors::one(V0))]);
        msix.report_held(Vectors::new(0, 0b010), &mut fx).unwrap();
        msix.report_held(Vectors::new(1, u64::MAX), &mut fx).unwrap();
        msix.report_held(Vectors::new(u16::MAX, u64::MAX), &mut fx).unwrap();
        assert_eq!(take(&mut fx), []);
        assert!(msix.pending().eq([Vectors::new(0, 2), Vectors::new(1, 1)]));
        let counters = msix.counters();
        assert_eq!((counters.sent, counters.coalesced, counters.dropped_unclaimed), (1, 1, 1));
    }

    #[test]
    fn a_reset_restores_the_defaults_and_tells_the_host() {
        for claims_on_reset in [ClaimsOnReset::Keep, ClaimsOnReset::Clear] {
            let policy = Policy { claims_on_reset, ..Policy::SPEC };
            let (mut msix, mut fx) = engine::<2, 1>(policy);
            msix.set_mask(V0, false, &mut fx).unwrap();
            take(&mut fx);
            msix.notify(Vector::new(1), &mut fx).unwrap();
            msix.reset(&mut fx).unwrap();
            assert_eq!(
                take(&mut fx),
                [
                    Effect::Disarm(Vectors::one(V0)),
                    Effect::Drain(Vectors::new(0, 3)),
                    Effect::IntxReevaluate
                ]
            );
            let uses = u16::from(claims_on_reset == ClaimsOnReset::Keep);
            assert_eq!(msix.claims(V0), Some(uses));
            assert_eq!((msix.is_masked(V0), msix.counters().dropped_reset), (Some(true), 1));
            assert!(!msix.is_enabled() && msix.pending().next().is_none());
            msix.reset(&mut fx).unwrap();
            assert_eq!(take(&mut fx), [Effect::Drain(Vectors::new(0, 3))]);
        }
    }
}
