//! Inputs of the host backend and of the platform around the function.

use super::settle::Request;
use super::{Msi, ready};
use crate::counters;
use crate::effect::{Effect, EffectSink, NotCarriedOut};
use crate::gate::{ATTACHED, BUS_MASTER, LOADING, OVERRIDDEN};
use crate::policy::IntxRule;
use crate::vectors::Vectors;

impl Msi {
    /// A backend listens from now on. Emits Arm for all deliverable vectors (H12).
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn attach<K: EffectSink>(&mut self, fx: &mut K) -> Result<(), NotCarriedOut> {
        ready(fx)?;
        self.state.facts.set(ATTACHED, true);
        self.settle(Request::DIFFERENCE, fx);
        Ok(())
    }

    /// The backend goes away. Emits Poll by policy (H13), then Disarm for all live vectors. Feed
    /// the answer of the Poll before the backend is gone.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn detach<K: EffectSink>(&mut self, fx: &mut K) -> Result<(), NotCarriedOut> {
        ready(fx)?;
        if self.context.policy.poll_before_disable {
            self.ask_host(Effect::Poll, self.pollable(), fx); // while it still listens
        }
        self.state.facts.set(ATTACHED, false);
        self.settle(Request::DIFFERENCE, fx);
        Ok(())
    }

    /// The backend could not carry out an Arm or Reroute for these: those of them that are live are
    /// delivered by Send from now on, and tried again at their next Arm (H11). Others are ignored.
    /// Emits nothing.
    pub fn report_failed(&mut self, vectors: Vectors) {
        let failed = self.inside(vectors) & self.state.live;
        counters::add(&mut self.context.counters.failures, failed.into());
        self.state.fallback |= failed;
    }

    /// The backend's answer to Poll: the host held, and gave up, events of these vectors. They
    /// become pending, whatever Enable says by now. Emits Send for those that are deliverable.
    /// Vectors the function is not capable of are ignored.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn report_held<K: EffectSink>(
        &mut self,
        vectors: Vectors,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready(fx)?;
        let events = self.inside(vectors);
        let coalesced = events & self.state.events;
        counters::add(&mut self.context.counters.coalesced, coalesced.into());
        self.state.events |= events;
        self.settle(Request::DIFFERENCE, fx);
        Ok(())
    }

    /// Bus Master Enable of the Command register (A11), as [`crate::Msix::set_bus_master`].
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn set_bus_master<K: EffectSink>(
        &mut self,
        on: bool,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready(fx)?;
        self.state.facts.set(BUS_MASTER, on);
        self.settle(Request::DIFFERENCE, fx);
        Ok(())
    }

    /// MSI-X of the same function is enabled: MSI behaves as if it were not, whatever its Enable
    /// bit says, until this is taken back (H18). Emits what a write of Enable would, but for INTx,
    /// which is prohibited either way. [`crate::Function`] does this by itself.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn set_overridden<K: EffectSink>(
        &mut self,
        on: bool,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready(fx)?;
        let was_in_force = self.in_force();
        self.state.facts.set(OVERRIDDEN, on);
        let request = self.switched(was_in_force, false);
        self.settle(Request { intx: None, ..request }, fx);
        Ok(())
    }

    /// Conventional or function-level reset (A13): all registers zero, events dropped and counted.
    /// Bus master is the Command register's, and is told apart, as is MSI-X. Emits Disarm for all
    /// live vectors, Drain by policy (H8), and IntxReevaluate by policy when MSI was enabled.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn reset<K: EffectSink>(&mut self, fx: &mut K) -> Result<(), NotCarriedOut> {
        ready(fx)?;
        let mut request = Request::DIFFERENCE;
        let policy = self.context.policy;
        if self.in_force() && policy.intx == IntxRule::OnChange {
            request.intx = Some(Effect::IntxReevaluate);
        }
        if policy.drain {
            request.drain = u32::MAX;
        }
        self.store(&super::capability::Registers::RESET);
        self.state.facts.set(LOADING, false);
        self.state.stale = 0;
        let dropped = core::mem::take(&mut self.state.events);
        counters::add(&mut self.context.counters.dropped_reset, dropped.into());
        self.settle(request, fx);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{msi, take};
    use crate::{Delivery, DropReason, Effect, Policy, Vector, Vectors, WhileDisabled};

    const V0: Vector = Vector::new(0);

    #[test]
    fn a_backend_that_leaves_is_polled_and_released_once() {
        let (mut msi, mut fx) = msi(Policy::SPEC);
        msi.write_config(16, &[2], &mut fx).unwrap();
        take(&mut fx);
        msi.detach(&mut fx).unwrap();
        let live = Vectors::new(0, 0b1101);
        assert_eq!(take(&mut fx), [Effect::Poll(Vectors::new(0, 2)), Effect::Disarm(live)]);
        msi.detach(&mut fx).unwrap();
        assert_eq!(take(&mut fx), []);
        msi.attach(&mut fx).unwrap();
        assert_eq!(take(&mut fx), [Effect::Arm(live)]);
    }

    #[test]
    fn what_failed_is_delivered_from_here_until_its_next_use() {
        let (mut msi, mut fx) = msi(Policy::SPEC);
        msi.report_failed(Vectors::new(0, 0b1_0001)); // there is no vector 4
        msi.report_failed(Vectors::new(1, 1));
        assert_eq!((msi.fallback(), msi.counters().failures), (Vectors::one(V0), 1));
        msi.prepare_save(&mut fx).unwrap();
        assert_eq!(take(&mut fx), [Effect::Poll(Vectors::one(V0))]);
        for mask in [1, 0] {
            msi.write_config(16, &[mask], &mut fx).unwrap();
            take(&mut fx);
            assert!(msi.fallback().is_empty());
        }
    }

    #[test]
    fn events_the_host_held_are_latched_or_sent_and_strangers_ignored() {
        let (mut msi, mut fx) = msi(Policy::SPEC);
        msi.write_config(16, &[2], &mut fx).unwrap();
        take(&mut fx);
        for _ in 0..2 {
            msi.report_held(Vectors::new(0, 0b1_0010), &mut fx).unwrap();
            msi.report_held(Vectors::new(1, 1), &mut fx).unwrap();
            assert_eq!(take(&mut fx), []);
        }
        msi.report_held(Vectors::one(V0), &mut fx).unwrap();
        assert_eq!(take(&mut fx), [Effect::Send(Vectors::one(V0))]);
        assert_eq!((msi.pending(), msi.counters().coalesced), (Vectors::new(0, 2), 1));
    }

    #[test]
    fn bus_master_gates_or_drops_by_policy() {
        let (mut spec, mut fx) = msi(Policy::SPEC);
        let all = Vectors::new(0, 0xf);
        spec.set_bus_master(false, &mut fx).unwrap();
        assert_eq!(take(&mut fx), [Effect::Disarm(all)]);
        assert_eq!(spec.notify(V0, &mut fx), Ok(Delivery::Pending));
        spec.set_bus_master(true, &mut fx).unwrap();
        assert_eq!(take(&mut fx), [Effect::Arm(all), Effect::Send(Vectors::one(V0))]);
        let (mut qemu, _) = msi(Policy::QEMU);
        qemu.set_bus_master(false, &mut fx).unwrap();
        assert_eq!(take(&mut fx), []);
        assert_eq!(qemu.notify(V0, &mut fx), Ok(Delivery::Dropped(DropReason::BusMaster)));
        qemu.write_config(16, &[1], &mut fx).unwrap();
        take(&mut fx);
        qemu.notify(V0, &mut fx).unwrap();
        qemu.write_config(16, &[0], &mut fx).unwrap();
        assert_eq!(take(&mut fx), [Effect::Arm(Vectors::one(V0))]);
        assert_eq!(qemu.counters().dropped_bus_master, 2);
    }

    #[test]
    fn an_overridden_msi_is_as_good_as_disabled() {
        let (mut msi, mut fx) = msi(Policy::SPEC);
        let all = Vectors::new(0, 0xf);
        msi.set_overridden(true, &mut fx).unwrap();
        assert_eq!(take(&mut fx), [Effect::Disarm(all)]);
        assert!(msi.is_enabled() && msi.is_overridden());
        assert_eq!(msi.notify(V0, &mut fx), Ok(Delivery::Pending));
        msi.set_overridden(false, &mut fx).unwrap();
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
            msi.write_config(2, &[0x20], &mut fx).unwrap();
            take(&mut fx);
            assert_eq!(msi.notify(V0, &mut fx), Ok(delivery));
            let intx = delivery == Delivery::Intx;
            assert_eq!(fx.take(), intx.then_some(Effect::IntxReevaluate));
            let latched = delivery == Delivery::Pending;
            assert_eq!(msi.pending().is_empty(), !latched);
            msi.prepare_save(&mut fx).unwrap();
            assert_eq!(fx.take().is_some(), latched);
        }
    }

    #[test]
    fn a_reset_clears_the_registers_and_tells_the_host() {
        let (mut msi, mut fx) = msi(Policy::SPEC);
        msi.write_config(16, &[2], &mut fx).unwrap();
        take(&mut fx);
        msi.notify(Vector::new(1), &mut fx).unwrap();
        msi.reset(&mut fx).unwrap();
        let all = Vectors::new(0, 0xf);
        assert_eq!(
            take(&mut fx),
            [Effect::Disarm(Vectors::new(0, 0b1101)), Effect::Drain(all), Effect::IntxReevaluate]
        );
        let control = [5, 0, 0x84, 1];
        assert_eq!(msi.capability()[..4], control);
        assert!(msi.capability()[4..].iter().all(|byte| *byte == 0));
        assert_eq!(msi.counters().dropped_reset, 1);
    }
}
