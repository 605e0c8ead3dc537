//! Inputs of the device: events and withdrawals.

use super::{Msi, set};
use crate::counters;
use crate::effects::{Effect, EffectSink};
use crate::facts::Fact;
use crate::kernel;
use crate::msix::{Delivery, DropReason, VectorError};
use crate::policy::WhileDisabled;
use crate::vectors::{Vector, Vectors};

impl Msi {
    /// Takes an event of the device for `vector`, which is sent as
    /// [`vector_for(vector)`](Self::vector_for). Emits Send when that one is deliverable.
    pub(crate) fn notify<K: EffectSink>(
        &mut self,
        vector: Vector,
        fx: &mut K,
    ) -> Result<Delivery, VectorError> {
        let bit = self.checked(vector)?;
        let target = Vectors::one(self.vector_for(vector));
        let deliverable = kernel::deliverable(self.lanes(), self.switches());
        if target.bits() & u64::from(deliverable) != 0 {
            return Ok(self.send_event(target, fx));
        }
        let counters = &mut self.context.counters;
        match self.context.policy.while_disabled {
            WhileDisabled::Drop if !self.state.in_force() => {
                counters::one(&mut counters.dropped_disabled);
                return Ok(Delivery::Dropped(DropReason::Disabled));
            }
            WhileDisabled::Intx if !self.state.in_force() => {
                counters::one(&mut counters.to_intx);
                return Ok(Delivery::Intx);
            }
            _ => {}
        }
        if self.state.events & bit != 0 {
            counters::one(&mut counters.coalesced);
            return Ok(Delivery::Coalesced);
        }
        self.state.events |= bit;
        Ok(Delivery::Pending)
    }

    /// Withdraws the pending event of `vector`: its cause is gone, so the function must forget it
    /// (A8). Returns whether there was one. An event of another vector that is sent as the same one
    /// stays. Emits Drain by policy, for an event that the host may hold. Does nothing when the
    /// vector is live: its events are already delivered.
    pub(crate) fn withdraw<K: EffectSink>(
        &mut self,
        vector: Vector,
        fx: &mut K,
    ) -> Result<bool, VectorError> {
        let bit = self.checked(vector)?;
        let was_pending = self.state.events & bit != 0;
        if was_pending {
            self.state.events &= !bit;
            counters::one(&mut self.context.counters.withdrawn);
        }
        if self.context.policy.drain {
            self.ask_host(Effect::Drain, bit, fx);
        }
        Ok(was_pending)
    }

    /// Sends one message of a deliverable vector (A7). By I2 it is not pending.
    fn send_event<K: EffectSink>(&mut self, vector: Vectors, fx: &mut K) -> Delivery {
        debug_assert_eq!(set(self.folded()).bits() & vector.bits(), 0, "I2");
        let counters = &mut self.context.counters;
        if !self.state.facts.has(Fact::BUS_MASTER) {
            counters::one(&mut counters.dropped_bus_master); // H16
            return Delivery::Dropped(DropReason::BusMaster);
        }
        counters::one(&mut counters.sent);
        fx.push(Effect::Send(vector));
        Delivery::Sent
    }
}
