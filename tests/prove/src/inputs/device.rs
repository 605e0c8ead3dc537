//! Inputs of the device.

use crate::any::{self, Property, prove};
use crate::case::Ask;
use crate::harness;
use crate::sink::Kinds;
use msix_core::policy::WhileDisabled;
use msix_core::{Delivery, DropReason, Message};

harness!(prove_notify, |m, v, c, fx| {
    let of = any::vector();
    let answer = m.notify(of, fx);
    fx.events = u64::from(answer.is_ok());
    prove(Property::Refused, answer.is_err() == (of.index() >= m.vectors()));
    if of != v {
        let intx = answer == Ok(Delivery::Intx);
        prove(Property::Answer, !intx || !c.whole.enabled);
        Kinds::REEVALUATE.when(intx)
    } else {
        let one = |total: &mut u64| *total = total.wrapping_add(1);
        let (delivery, kinds) = if c.lane.claims == 0 {
            one(&mut c.counters.dropped_unclaimed); // C24
            (Delivery::Dropped(DropReason::Unclaimed), Kinds::NONE)
        } else if c.deliverable() && !c.whole.bus_master {
            one(&mut c.counters.dropped_bus_master); // H16
            (Delivery::Dropped(DropReason::BusMaster), Kinds::NONE)
        } else if c.deliverable() {
            one(&mut c.counters.sent);
            (Delivery::Sent, Kinds::SEND)
        } else if !c.whole.enabled && c.policy.while_disabled == WhileDisabled::Drop {
            one(&mut c.counters.dropped_disabled); // H3
            (Delivery::Dropped(DropReason::Disabled), Kinds::NONE)
        } else if !c.whole.enabled && c.policy.while_disabled == WhileDisabled::Intx {
            one(&mut c.counters.to_intx);
            (Delivery::Intx, Kinds::REEVALUATE)
        } else if c.lane.pending {
            one(&mut c.counters.coalesced); // A12
            (Delivery::Coalesced, Kinds::NONE)
        } else {
            c.lane.pending = true; // A7
            (Delivery::Pending, Kinds::NONE)
        };
        prove(Property::Answer, answer == Ok(delivery));
        prove(Property::EventCounters, *m.counters() == c.counters);
        kinds
    }
});

harness!(prove_withdraw, |m, v, c, fx| {
    let of = any::vector();
    let answer = m.withdraw(of, fx);
    prove(Property::Refused, answer.is_err() == (of.index() >= m.vectors()));
    if of == v {
        prove(Property::Answer, answer == Ok(c.lane.pending));
        let withdrawn = u64::from(c.lane.pending);
        c.counters.withdrawn = c.counters.withdrawn.wrapping_add(withdrawn);
        c.lane.pending = false; // A8
        prove(Property::EventCounters, *m.counters() == c.counters);
        c.drain()
    } else {
        Kinds::NONE
    }
});

harness!(prove_claim, |m, v, c, fx| {
    let of = any::vector();
    let answer = m.claim(of, fx);
    prove(Property::Refused, of.index() < m.vectors() || answer.is_err());
    if of == v {
        let full = c.lane.claims == u16::MAX;
        prove(Property::Answer, answer.is_err() == full);
        let kinds = if full {
            Kinds::NONE
        } else {
            c.lane.claims += 1; // H9
            c.settle(Ask::NOTHING)
        };
        prove(Property::EventCounters, *m.counters() == c.counters);
        kinds
    } else {
        Kinds::NONE
    }
});

harness!(prove_unclaim, |m, v, c, fx| {
    let of = any::vector();
    let answer = m.unclaim(of, fx);
    prove(Property::Refused, answer.is_err() == (of.index() >= m.vectors()));
    let mut kinds = Kinds::NONE;
    if of == v {
        if c.lane.claims == 1 {
            let dropped = u64::from(c.lane.pending);
            c.counters.dropped_unclaimed = c.counters.dropped_unclaimed.wrapping_add(dropped);
            c.lane.pending = false; // C24
            kinds = c.drain();
        }
        c.lane.claims = c.lane.claims.saturating_sub(1);
        prove(Property::EventCounters, *m.counters() == c.counters);
    }
    kinds
});

harness!(prove_unclaim_all, |m, _v, c, fx| {
    prove(Property::Answer, m.unclaim_all(fx).is_ok());
    c.lane.claims = 0;
    c.lane.pending = false;
    prove(Property::Answer, !m.whole().orphans);
    c.drain()
});

harness!(prove_set_mask, |m, v, c, fx| {
    let (of, masked) = (any::vector(), any::bool());
    let answer = m.set_mask(of, masked, fx);
    prove(Property::Refused, answer.is_err() == (of.index() >= m.vectors()));
    if of == v {
        c.lane.masked = masked;
        let kinds = c.settle(Ask::NOTHING);
        prove(Property::EventCounters, *m.counters() == c.counters);
        kinds
    } else {
        Kinds::NONE
    }
});

harness!(prove_set_message, |m, v, c, fx| {
    let (of, low, high, data) = (any::vector(), any::u32(), any::u32(), any::u32());
    let address = u64::from(high) << 32 | u64::from(low);
    let answer = m.set_message(of, Message { address, data }, fx);
    prove(Property::Refused, answer.is_err() == (of.index() >= m.vectors()));
    if of == v {
        c.rewrite([low, high, data]);
        c.lane.masked = false; // H10
        let kinds = c.settle(Ask { complete: true, ..Ask::NOTHING });
        prove(Property::EventCounters, *m.counters() == c.counters);
        kinds
    } else {
        Kinds::NONE
    }
});
