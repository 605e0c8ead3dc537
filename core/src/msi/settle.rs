//! Ends every input of MSI: asks the kernel what follows from the registers, and emits it in order.

use super::capability::low_bits;
use super::{Msi, State, set};
use crate::counters;
use crate::effects::{Effect, EffectSink, Ordered};
use crate::facts::Fact;
use crate::kernel::{self, Registers, Switches, Told};
use crate::msix::Violation;
use crate::switch::Switch;
use crate::vectors::Vectors;

/// The requests of an input, besides what follows from the registers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// Poll all held events.
    pub(super) poll: bool,
    /// Drain all held events.
    pub(super) drain: bool,
    /// The input completes the message (H4).
    pub(super) complete: bool,
}

impl Request {
    /// Requests nothing beyond what follows from the registers and facts.
    pub(super) const FACTS: Self = Self { poll: false, drain: false, complete: false };

    pub(super) const fn switch(switch: Switch) -> Self {
        Self { poll: switch.poll, drain: switch.drain, complete: false }
    }
}

impl Msi {
    /// Ends an input: emits what follows from the registers and what `request` asks for, in the order
    /// of [`Effect`].
    pub(super) fn settle<K: EffectSink>(&mut self, request: Request, fx: &mut K) {
        let mut out = Ordered::new(fx, Self::MAX_EFFECTS);
        if request.poll {
            emit(Effect::Poll, self.held(), &mut out);
        }
        let complete = all(request.complete);
        let step = kernel::step(self.told(), self.lanes(), self.switches(), complete);
        let counters = &mut self.context.counters;
        counters::add(&mut counters.disarms, step.disarm.into());
        counters::add(&mut counters.arms, step.arm.into());
        counters::add(&mut counters.reroutes, step.reroute.into());
        emit(Effect::Disarm, step.disarm, &mut out);
        self.state.live &= !step.disarm;
        if request.drain {
            emit(Effect::Drain, self.held(), &mut out); // an Arm would deliver it (K7)
        }
        let Told { live, fallback, stale } = step.told;
        self.state = State { live, fallback, stale, ..self.state };
        emit(Effect::Arm, step.arm, &mut out);
        emit(Effect::Reroute, step.reroute, &mut out); // H4
        let messages = step.send | step.dropped;
        let events = self.state.events & self.unfolded(messages);
        self.state.events &= !events;
        let counters = &mut self.context.counters;
        // Events that are sent as one message coalesce (A12).
        counters::add(&mut counters.coalesced, events.into());
        counters.coalesced = counters.coalesced.wrapping_sub(messages.count_ones().into());
        counters::add(&mut counters.sent, step.send.into());
        counters::add(&mut counters.dropped_bus_master, step.dropped.into()); // H16
        emit(Effect::Send, step.send, &mut out);
        debug_assert_eq!(self.check(), Ok(()));
    }

    /// Emits `kind` (Poll or Drain) for those of `vectors` that may have held events.
    pub(super) fn ask_host<K: EffectSink>(
        &self,
        kind: fn(Vectors) -> Effect,
        vectors: u32,
        fx: &mut K,
    ) {
        emit(kind, vectors & self.held(), &mut Ordered::new(fx, 1));
    }

    /// Returns the vectors that may have held events (K8, H11).
    fn held(&self) -> u32 {
        kernel::held(self.told(), self.switches().attached) & self.context.capability.bits()
    }

    /// Returns what the host was told.
    fn told(&self) -> Told<u32> {
        let State { live, fallback, stale, .. } = self.state;
        Told { live, fallback, stale }
    }

    /// Returns the registers as the kernel takes them, by the vectors that events are sent as: a
    /// vector that is not allocated counts as masked, and every vector as claimed.
    pub(crate) fn lanes(&self) -> Registers<u32> {
        Registers {
            masked: self.state.masked | !low_bits(self.allocated()),
            exempt: 0,
            pending: self.folded(),
            claimed: u32::MAX,
        }
    }

    pub(crate) fn switches(&self) -> Switches<u32> {
        self.state.facts.switches(all)
    }

    /// Checks I1, I2 and the consistency of the vector sets.
    ///
    /// # Errors
    /// The first [`Violation`], of word 0.
    pub(crate) fn check(&self) -> Result<(), Violation> {
        let next = kernel::step(self.told(), self.lanes(), self.switches(), 0);
        if next.arm | next.disarm != 0 {
            let (wanted, live) = (next.told.live.into(), self.state.live.into());
            return Err(Violation::Liveness { word: 0, wanted, live });
        }
        let stuck = kernel::ready(self.lanes(), self.switches());
        if stuck != 0 {
            return Err(Violation::Stuck { word: 0, bits: stuck.into() });
        }
        let State { masked, events, live, fallback, stale, .. } = self.state;
        let outside = (masked | events | live) & !self.context.capability.bits();
        let allocated = low_bits(self.allocated()) | all(self.state.facts.has(Fact::LOADING));
        let kept = (fallback | stale) & !live | live & !allocated;
        if outside | kept != 0 {
            return Err(Violation::Impossible { word: 0, bits: (outside | kept).into() });
        }
        Ok(())
    }
}

/// Returns all lanes, or none.
const fn all(all: bool) -> u32 {
    if all { u32::MAX } else { 0 }
}

fn emit<K: EffectSink>(kind: fn(Vectors) -> Effect, vectors: u32, out: &mut Ordered<'_, K>) {
    if vectors != 0 {
        out.push(kind(set(vectors)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;
    use crate::testing::{msi, take};

    #[test]
    fn a_broken_state_is_named_with_its_vectors() {
        let liveness = |wanted, live| Violation::Liveness { word: 0, wanted, live };
        let impossible = |bits| Violation::Impossible { word: 0, bits };
        type Break = fn(&mut State);
        // Of 4 vectors 2 are allocated, and of these vector 1 is masked.
        let cases: [(Break, Violation); 11] = [
            (|s| s.live = 0b11, liveness(0b01, 0b11)),
            (|s| s.live = 0b00, liveness(0b01, 0b00)),
            (|s| s.live = 0b10, liveness(0b01, 0b10)),
            (|s| s.live |= 0b100, liveness(0b01, 0b101)),
            (|s| s.events = 0b101, Violation::Stuck { word: 0, bits: 1 }),
            (|s| s.events = 0x20, impossible(0x20)),
            (|s| s.masked |= 0x10, impossible(0x10)),
            (|s| (s.masked, s.events) = (0x32, 0x20), impossible(0x30)),
            (|s| s.fallback = 0b11, impossible(0b10)),
            (|s| s.stale = 0b11, impossible(0b10)),
            (|s| (s.fallback, s.stale, s.masked) = (0x12, 0x06, 0x12), impossible(0x16)),
        ];
        for (number, (breaks, violation)) in cases.into_iter().enumerate() {
            let (mut msi, mut fx) = msi(Policy::SPEC);
            msi.write_config(2, &[0x11], &mut fx);
            take(&mut fx);
            msi.write_config(16, &[0b10], &mut fx);
            assert_eq!(msi.check(), Ok(()));
            breaks(&mut msi.state);
            assert_eq!(msi.check(), Err(violation), "case {number}");
        }
    }

    #[test]
    fn between_load_and_resume_what_was_live_need_not_be_allocated_but_must_exist() {
        let (mut msi, mut fx) = msi(Policy::SPEC);
        msi.state.facts.set(Fact::LOADING, true);
        msi.state.multiple = 1;
        assert_eq!((msi.state.live, msi.check()), (0xf, Ok(())));
        msi.state.live = 0x1f;
        assert_eq!(msi.check(), Err(Violation::Impossible { word: 0, bits: 0x10 }));
        msi.state.live = 0xf;
        msi.disarm_loaded(&mut fx);
        assert_eq!(take(&mut fx), [Effect::Disarm(Vectors::new(0, 0xf))]);
    }
}
