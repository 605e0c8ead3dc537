//! The one place that emits the effects of MSI: compares what should hold with what the host was
//! told.

use super::capability::low_bits;
use super::{Msi, State, set};
use crate::counters;
use crate::effect::{Effect, EffectSink};
use crate::gate::{ATTACHED, BUS_MASTER, LOADING};
use crate::invariants::Violation;
use crate::settle::Out;
use crate::vectors::Vectors;

/// What an input asks for, besides telling the host what changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// Vectors whose host-held events are wanted.
    pub(super) poll: u32,
    /// Vectors whose host-held events must go.
    pub(super) drain: u32,
    /// The INTx effect of the input (H17).
    pub(super) intx: Option<Effect>,
    /// The message is complete with this input (H4).
    pub(super) complete: bool,
}

impl Request {
    /// Only the difference.
    pub(super) const DIFFERENCE: Self = Self { poll: 0, drain: 0, intx: None, complete: false };
}

impl Msi {
    /// Restores I1 and I2, and emits what that takes and what `request` asks for, in the order of
    /// [`Effect`].
    pub(super) fn settle<K: EffectSink>(&mut self, request: Request, fx: &mut K) {
        let mut out = Out::new(fx, Self::MAX_EFFECTS);
        if let Some(Effect::IntxDeassert) = request.intx {
            out.push(Effect::IntxDeassert);
        }
        emit(Effect::Poll, request.poll & self.held(), &mut out);
        let (wanted, live) = (self.wanted(), self.state.live);
        let counters = &mut self.context.counters;
        counters::add(&mut counters.disarms, u64::from(live & !wanted));
        counters::add(&mut counters.arms, u64::from(wanted & !live));
        self.state.live &= wanted;
        self.state.fallback &= wanted;
        self.state.stale &= wanted;
        emit(Effect::Disarm, live & !wanted, &mut out);
        emit(Effect::Drain, request.drain & self.held(), &mut out); // an Arm would deliver it (K7)
        self.state.live = wanted;
        emit(Effect::Arm, wanted & !live, &mut out);
        // Between load and resume the host keeps what it has; the resume tells it all (H15).
        if request.complete && !self.state.facts.has(LOADING) {
            let stale = core::mem::take(&mut self.state.stale);
            counters::add(&mut self.context.counters.reroutes, u64::from(stale));
            emit(Effect::Reroute, stale, &mut out); // H4
        }
        self.send_ready(&mut out);
        if let Some(Effect::IntxReevaluate) = request.intx {
            out.push(Effect::IntxReevaluate);
        }
        debug_assert_eq!(self.check(), Ok(()));
    }

    /// Sends what has an event and is deliverable (I2).
    fn send_ready<K: EffectSink>(&mut self, out: &mut Out<'_, K>) {
        let ready = self.folded() & self.deliverable_bits();
        if ready == 0 {
            return;
        }
        let events = self.state.events & self.unfolded(ready);
        self.state.events &= !events;
        let counters = &mut self.context.counters;
        let messages = u64::from(ready.count_ones());
        let coalesced = u64::from(events.count_ones()).wrapping_sub(messages); // A12
        counters.coalesced = counters.coalesced.wrapping_add(coalesced);
        if self.state.facts.has(BUS_MASTER) {
            counters.sent = counters.sent.wrapping_add(messages);
            emit(Effect::Send, ready, out);
        } else {
            counters.dropped_bus_master = counters.dropped_bus_master.wrapping_add(messages); // H16
        }
    }

    /// Emits `kind` (Poll or Drain) for those of `vectors` whose events the host holds.
    pub(super) fn ask_host<K: EffectSink>(
        &self,
        kind: fn(Vectors) -> Effect,
        vectors: u32,
        fx: &mut K,
    ) {
        emit(kind, vectors & self.held(), &mut Out::new(fx, 1));
    }

    /// Vectors the host should be using (I1).
    fn wanted(&self) -> u32 {
        let facts = self.state.facts;
        let kept = if facts.has(LOADING) { self.state.live } else { 0 };
        if facts.has(ATTACHED) { self.deliverable_bits() | kept } else { 0 }
    }

    /// Vectors whose events, if any, the host holds: not told to use, or told in vain (K8, H11).
    fn held(&self) -> u32 {
        if self.state.facts.has(ATTACHED) {
            (!self.state.live | self.state.fallback) & self.context.capability.bits()
        } else {
            0
        }
    }

    /// Checks I1, I2 and the consistency of the vector sets. Debug builds do this after every input.
    ///
    /// # Errors
    /// The first [`Violation`], of word 0.
    pub fn check(&self) -> Result<(), Violation> {
        let (wanted, live) = (u64::from(self.wanted()), u64::from(self.state.live));
        if wanted != live {
            return Err(Violation::Liveness { word: 0, wanted, live });
        }
        let stuck = self.folded() & self.deliverable_bits();
        if stuck != 0 {
            return Err(Violation::Stuck { word: 0, bits: stuck.into() });
        }
        let State { masked, events, live, fallback, stale, .. } = self.state;
        let outside = (masked | events | live) & !self.context.capability.bits();
        let kept = if self.is_loading() { u32::MAX } else { low_bits(self.allocated()) };
        let lost = (fallback | stale) & !live | live & !kept;
        if outside | lost != 0 {
            return Err(Violation::Impossible { word: 0, bits: (outside | lost).into() });
        }
        Ok(())
    }
}

fn emit<K: EffectSink>(kind: fn(Vectors) -> Effect, vectors: u32, out: &mut Out<'_, K>) {
    if vectors != 0 {
        out.push(kind(set(vectors)));
    }
}
