//! Inputs of the host backend and of the platform around the function.

use super::Msi;
use super::capability::Registers;
use super::settle::Request;
use crate::counters;
use crate::effects::{Effect, EffectSink};
use crate::facts::Fact;
use crate::switch::{Switch, wants_held};
use crate::vectors::Vectors;

impl Msi {
    /// Attaches a backend. Emits Arm for all deliverable vectors (H12).
    pub(crate) fn attach<K: EffectSink>(&mut self, fx: &mut K) {
        self.state.facts.set_attached(true);
        self.settle(Request::FACTS, fx);
    }

    /// Detaches the backend. Emits Poll by policy (H13), then Disarm for all live vectors.
    pub(crate) fn detach<K: EffectSink>(&mut self, fx: &mut K) {
        if self.context.policy.poll_before_disable {
            self.poll(fx); // while it still listens
        }
        self.state.facts.set_attached(false);
        self.settle(Request::FACTS, fx);
    }

    /// Reports that the backend could not carry out an Arm or Reroute of `vectors`. Those that are
    /// live become fallback: their events are sent until their Disarm, and the next Arm tries again
    /// (H11). Others are ignored.
    pub(crate) fn report_failed(&mut self, vectors: Vectors) {
        let failed = self.inside(vectors) & self.state.live;
        counters::add(&mut self.context.counters.failures, failed.into());
        self.state.fallback |= failed;
    }

    /// Reports the answer to a Poll: the host held events of these vectors, and has given them up.
    /// They become pending, even when MSI is disabled by now. Emits Send for those that are
    /// deliverable. Vectors that the function is not capable of are ignored.
    pub(crate) fn report_held<K: EffectSink>(&mut self, vectors: Vectors, fx: &mut K) {
        let events = self.inside(vectors);
        let coalesced = events & self.state.events;
        counters::add(&mut self.context.counters.coalesced, coalesced.into());
        self.state.events |= events;
        self.settle(Request::FACTS, fx);
    }

    /// Sets Bus Master Enable of the Command register (A11), as [`crate::Msix::set_bus_master`]
    /// does.
    pub(crate) fn set_bus_master<K: EffectSink>(&mut self, on: bool, fx: &mut K) {
        self.state.facts.set_bus_master(on);
        self.settle(Request::FACTS, fx);
    }

    /// Overrides MSI while MSI-X of the same function is enabled: it behaves as if disabled,
    /// whatever its Enable bit says (H18). Emits what a write of Enable would.
    pub(crate) fn set_overridden<K: EffectSink>(&mut self, on: bool, fx: &mut K) {
        let was = self.state.in_force();
        self.state.facts.set(Fact::OVERRIDDEN, on);
        let request = self.switch(was, false);
        self.settle(request, fx);
    }

    /// Resets MSI, by a conventional or a function-level reset (A13): all registers 0, events
    /// dropped and counted. Bus master and the override by MSI-X are kept; they are set apart.
    /// Emits Disarm for all live vectors, and Drain by policy (H8).
    pub(crate) fn reset<K: EffectSink>(&mut self, fx: &mut K) {
        let switch = Switch::reset(&self.context.policy, self.state.in_force());
        self.store(&Registers::RESET);
        self.state.facts.set(Fact::LOADING, false);
        let dropped = core::mem::take(&mut self.state.events);
        counters::add(&mut self.context.counters.dropped_reset, dropped.into());
        self.settle(Request::switch(switch), fx);
    }

    /// Emits Poll for all vectors that may have held events, if these are wanted.
    pub(super) fn poll<K: EffectSink>(&mut self, fx: &mut K) {
        if wants_held(&self.context.policy, self.state.in_force()) {
            self.ask_host(Effect::Poll, u32::MAX, fx);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::WhileDisabled;
    use crate::testing::{msi, take};
    use crate::{Delivery, DropReason, Effect, Policy, Vector, Vectors};

    const V0: Vector = Vector::new(0);

    #[test]
    fn a_backend_that_leaves_is_polled_and_its_vectors_disarmed_once() {
        let (mut msi, mut fx) = msi(Policy::SPEC);
        msi.write_config(16, &[2], &mut fx);
        take(&mut fx);
        msi.detach(&mut fx);
        let live = Vectors::new(0, 0b1101);
        assert_eq!(take(&mut fx), [Effect::Poll(Vectors::new(0, 2)), Effect::Disarm(live)]);
        msi.detach(&mut fx);
        assert_eq!(take(&mut fx), []);
        msi.attach(&mut fx);
        assert_eq!(take(&mut fx), [Effect::Arm(live)]);
    }

    #[test]
    fn what_failed_is_sent_from_here_until_its_next_arm() {
        let (mut msi, mut fx) = msi(Policy::SPEC);
        msi.report_failed(Vectors::new(0, 0b1_0001)); // there is no vector 4
        msi.report_failed(Vectors::new(1, 1));
        assert_eq!((msi.fallback(), msi.counters().failures), (Vectors::one(V0), 1));
        msi.prepare_save(&mut fx);
        assert_eq!(take(&mut fx), [Effect::Poll(Vectors::one(V0))]);
        for mask in [1, 0] {
            msi.write_config(16, &[mask], &mut fx);
            take(&mut fx);
            assert!(msi.fallback().bits() == 0);
        }
    }

    #[test]
    fn events_the_host_held_are_latched_or_sent_and_strangers_ignored() {
        let (mut msi, mut fx) = msi(Policy::SPEC);
        msi.write_config(16, &[2], &mut fx);
        take(&mut fx);
        for _ in 0..2 {
            msi.report_held(Vectors::new(0, 0b1_0010), &mut fx);
            msi.report_held(Vectors::new(1, 1), &mut fx);
            assert_eq!(take(&mut fx), []);
        }
        msi.report_held(Vectors::one(V0), &mut fx);
        assert_eq!(take(&mut fx), [Effect::Send(Vectors::one(V0))]);
        assert_eq!((msi.pending(), msi.counters().coalesced), (Vectors::new(0, 2), 1));
    }

    #[test]
    fn bus_master_gates_or_drops_by_policy() {
        let (mut spec, mut fx) = msi(Policy::SPEC);
        let all = Vectors::new(0, 0xf);
        spec.set_bus_master(false, &mut fx);
        assert_eq!(take(&mut fx), [Effect::Disarm(all)]);
        assert_eq!(spec.notify(V0, &mut fx), Ok(Delivery::Pending));
        spec.set_bus_master(true, &mut fx);
        assert_eq!(take(&mut fx), [Effect::Arm(all), Effect::Send(Vectors::one(V0))]);
        let (mut qemu, _) = msi(Policy::QEMU);
        qemu.set_bus_master(false, &mut fx);
        assert_eq!(take(&mut fx), []);
        assert_eq!(qemu.notify(V0, &mut fx), Ok(Delivery::Dropped(DropReason::BusMaster)));
        qemu.write_config(16, &[1], &mut fx);
        take(&mut fx);
        qemu.notify(V0, &mut fx).unwrap();
        qemu.write_config(16, &[0], &mut fx);
        assert_eq!(take(&mut fx), [Effect::Arm(Vectors::one(V0))]);
        assert_eq!(qemu.counters().dropped_bus_master, 2);
    }

    #[test]
    fn an_overridden_msi_is_as_good_as_disabled() {
        let (mut msi, mut fx) = msi(Policy::SPEC);
        let all = Vectors::new(0, 0xf);
        msi.set_overridden(true, &mut fx);
        assert_eq!(take(&mut fx), [Effect::Disarm(all)]);
        assert_eq!(msi.capability()[2] & 1, 1, "its Enable bit stays");
        assert_eq!(msi.notify(V0, &mut fx), Ok(Delivery::Pending));
        msi.set_overridden(false, &mut fx);
        assert_eq!(take(&mut fx), [Effect::Arm(all), Effect::Send(Vectors::one(V0))]);
    }

    #[test]
    fn an_event_while_disabled_goes_where_the_policy_says() {
        for (while_disabled, delivery) in [
            (WhileDisabled::Latch, Delivery::Pending),
            (WhileDisabled::Drop, Delivery::Dropped(DropReason::Disabled)),
            (WhileDisabled::Intx, Delivery::Intx),
        ] {
            let (mut msi, mut fx) = msi(Policy { while_disabled, ..Policy::SPEC });
            msi.write_config(2, &[0x20], &mut fx);
            take(&mut fx);
            assert_eq!(msi.notify(V0, &mut fx), Ok(delivery));
            assert!(fx.is_empty());
            let latched = delivery == Delivery::Pending;
            assert_eq!(msi.pending().bits() != 0, latched);
            msi.prepare_save(&mut fx);
            assert_eq!(fx.take().is_some(), latched);
            // A mask only delays, whatever the policy says.
            msi.write_config(2, &[0x21], &mut fx);
            msi.write_config(16, &[2], &mut fx);
            take(&mut fx);
            assert_eq!(msi.notify(Vector::new(1), &mut fx), Ok(Delivery::Pending));
        }
    }

    #[test]
    fn a_reset_clears_the_registers_and_tells_the_host() {
        let (mut msi, mut fx) = msi(Policy::SPEC);
        msi.write_config(16, &[2], &mut fx);
        take(&mut fx);
        msi.notify(Vector::new(1), &mut fx).unwrap();
        msi.reset(&mut fx);
        let all = Vectors::new(0, 0xf);
        assert_eq!(take(&mut fx), [Effect::Disarm(Vectors::new(0, 0b1101)), Effect::Drain(all)]);
        let control = [5, 0, 0x84, 1];
        assert_eq!(msi.capability()[..4], control);
        assert!(msi.capability()[4..].iter().all(|byte| *byte == 0));
        assert_eq!(msi.counters().dropped_reset, 1);
    }
}
