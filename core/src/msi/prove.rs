//! Hooks of the proofs: MSI in any state, and what its state says.

use super::{Context, Msi, MsiCapability, State};
use crate::Counters;
use crate::facts::{Fact, Facts};
use crate::policy::Policy;

/// The state of MSI, by its registers and sets of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsiState {
    /// MSI Enable.
    pub enabled: bool,
    /// MSI-X takes its place (H18).
    pub overridden: bool,
    /// Between a load and its resume.
    pub loading: bool,
    /// A backend is attached.
    pub attached: bool,
    /// Bus Master Enable.
    pub bus_master: bool,
    /// Multiple Message Enable.
    pub multiple: u8,
    /// The next capability.
    pub next: u8,
    /// The message address.
    pub address: u64,
    /// The message data.
    pub data: u16,
    /// The mask bits.
    pub masked: u32,
    /// Vectors with an event, by their own numbers.
    pub events: u32,
    /// Vectors that are armed and not disarmed since.
    pub live: u32,
    /// Those that were reported as failed.
    pub fallback: u32,
    /// Those with a message that the host was not told.
    pub stale: u32,
}

impl Msi {
    /// Makes an engine in a given state, whatever it is.
    pub fn in_state(
        capability: MsiCapability,
        policy: Policy,
        is: MsiState,
        counters: Counters,
    ) -> Self {
        let MsiState {
            multiple, next, address, data, masked, events, live, fallback, stale, ..
        } = is;
        let facts = facts(&policy, &is);
        let next_capability = next;
        let state = State {
            facts,
            multiple,
            next_capability,
            data,
            address,
            masked,
            events,
            live,
            fallback,
            stale,
        };
        Self { state, context: Context { capability, policy, counters } }
    }

    /// Returns the state.
    pub const fn in_full(&self) -> MsiState {
        let facts = self.state.facts;
        MsiState {
            enabled: !facts.has(Fact::DISABLED),
            overridden: facts.has(Fact::OVERRIDDEN),
            loading: facts.has(Fact::LOADING),
            attached: facts.attached(),
            bus_master: facts.has(Fact::BUS_MASTER),
            multiple: self.state.multiple,
            next: self.state.next_capability,
            address: self.state.address,
            data: self.state.data,
            masked: self.state.masked,
            events: self.state.events,
            live: self.state.live,
            fallback: self.state.fallback,
            stale: self.state.stale,
        }
    }

    /// Returns whether the facts that follow from others and from the policy do so.
    pub fn facts_agree(&self) -> bool {
        facts(&self.context.policy, &self.in_full()) == self.state.facts
    }
}

const fn facts(policy: &Policy, state: &MsiState) -> Facts {
    let mut facts = Facts::new(policy);
    facts.set(Fact::DISABLED, !state.enabled);
    facts.set(Fact::OVERRIDDEN, state.overridden);
    facts.set(Fact::LOADING, state.loading);
    facts.set_attached(state.attached);
    facts.set_bus_master(state.bus_master);
    facts
}
