//! The rules for one vector: its state, the hypothesis, and what an input does to it.

pub mod inputs;
pub mod write;

use crate::engine::EXEMPT;
use crate::rule::{Registers, Step, Switches, Told, case};
use crate::sink::Kinds;
use msix_core::policy::{
    BusMasterOff, LiveRewrite, MessageAddress, Policy, UnclaimedPending, WhileDisabled,
};
use msix_core::prove::{Lane, Whole};
use msix_core::{Counters, Message};

/// One vector, and what of the function matters to it.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub policy: Policy,
    pub whole: Whole,
    pub lane: Lane,
    /// The counters, if the input is about this vector alone.
    pub counters: Counters,
}

/// What an input asks for besides what follows from the registers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask {
    pub poll: bool,
    pub drain: bool,
    /// It completes the vector's message (H4).
    pub complete: bool,
    /// A guest wrote the vector's entry (G2).
    pub written: bool,
}

impl Ask {
    pub const NOTHING: Self = Self { poll: false, drain: false, complete: false, written: false };
}

impl Case {
    /// Returns whether its message is exempt from masks (H25).
    fn exempt(&self) -> bool {
        let [low, high, data, _] = self.lane.entry;
        let low = match self.policy.message_address {
            MessageAddress::Verbatim => low,
            MessageAddress::Aligned => low & !3, // H7
        };
        let address = u64::from(high) << 32 | u64::from(low);
        EXEMPT.is_some_and(|exempt| exempt(Message { address, data }))
    }

    fn told(&self) -> Told<bool> {
        let Lane { live, fallback, stale, .. } = self.lane;
        Told { live, fallback, stale }
    }

    fn registers(&self) -> Registers<bool> {
        let Lane { masked, pending, claims, .. } = self.lane;
        Registers { masked, exempt: self.exempt(), pending, claimed: claims > 0 }
    }

    fn switches(&self) -> Switches<bool> {
        let Whole { enabled, function_masked, loading, attached, bus_master, .. } = self.whole;
        // H16
        let gated = self.policy.bus_master_off == BusMasterOff::Latch && !bus_master;
        Switches {
            open: enabled && !gated,
            function_masked,
            loading,
            attached,
            bus_master,
            lossy: self.policy.unclaimed_pending == UnclaimedPending::Lose,
        }
    }

    fn step(&self, complete: bool) -> Step<bool> {
        case(self.told(), self.registers(), self.switches(), complete)
    }

    /// Returns whether an event of the vector would be sent at once, if it is claimed.
    #[must_use]
    pub fn deliverable(&self) -> bool {
        let pending = Registers { pending: true, claimed: true, ..self.registers() };
        let step = case(self.told(), pending, self.switches(), false);
        step.send || step.dropped
    }

    /// Returns whether the vector satisfies the induction hypothesis: I1, I2, and what else holds of
    /// every vector after every input.
    #[must_use]
    pub fn sound(&self) -> bool {
        let Lane { pending, live, fallback, stale, claims, .. } = self.lane;
        let step = self.step(false);
        let told = !step.arm && !step.disarm; // I1
        let sent = !step.send && !step.dropped && !step.lost; // I2, and H9
        let kept = live || !fallback && !stale;
        let orphan = pending && claims == 0;
        // Between load and resume INTx is told nothing (H15).
        let intx = self.whole.loading || self.whole.intx_told == self.whole.enabled;
        told && sent && kept && (self.whole.orphans || !orphan) && intx
    }

    /// Returns whether the host may hold events of the vector (H12).
    #[must_use]
    pub fn held(&self) -> bool {
        self.whole.attached && (!self.lane.live || self.lane.fallback)
    }

    /// Returns whether a poll asks for the vector (H3, H13).
    #[must_use]
    pub fn pollable(&self) -> bool {
        let latched = self.policy.while_disabled == WhileDisabled::Latch;
        self.held() && (self.whole.enabled || latched)
    }

    /// Ends an input: the host is told what follows from the registers. Returns the effects.
    pub fn settle(&mut self, ask: Ask) -> Kinds {
        let poll = Kinds::POLL.when(ask.poll && self.held());
        let step = self.step(ask.complete);
        self.lane.live &= !step.disarm;
        self.lane.fallback = step.told.fallback;
        let drain = Kinds::DRAIN.when(ask.drain && self.held());
        self.lane.live = step.told.live;
        self.lane.stale = step.told.stale;
        self.lane.pending = step.pending;
        let one = |total: &mut u64, counts: bool| *total = total.wrapping_add(u64::from(counts));
        one(&mut self.counters.disarms, step.disarm);
        one(&mut self.counters.arms, step.arm);
        one(&mut self.counters.reroutes, step.reroute);
        one(&mut self.counters.sent, step.send);
        one(&mut self.counters.dropped_bus_master, step.dropped);
        one(&mut self.counters.dropped_unclaimed, step.lost);
        poll | Kinds::DISARM.when(step.disarm)
            | drain
            | Kinds::ARM.when(step.arm)
            | Kinds::REROUTE.when(step.reroute)
            | Kinds::SNOOP.when(ask.written && self.policy.snoop)
            | Kinds::SEND.when(step.send)
    }

    /// Drops what the host holds of the vector, where the policy wants that (H13).
    #[must_use]
    pub fn drain(&self) -> Kinds {
        Kinds::DRAIN.when(self.policy.drain && self.held())
    }

    /// Stores a message (H4).
    pub fn rewrite(&mut self, [low, high, data]: [u32; 3]) {
        let [old_low, old_high, old_data, control] = self.lane.entry;
        let changed = (low, high, data) != (old_low, old_high, old_data);
        if changed && self.lane.live && self.policy.live_rewrite == LiveRewrite::Reroute {
            self.lane.stale = true;
        }
        self.lane.entry = [low, high, data, control];
    }
}
