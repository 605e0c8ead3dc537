//! Inputs of the device.

use crate::any::{self, Property, prove};
use crate::harness;
use crate::sink::Kinds;
use msix_core::{Delivery, Message};

harness!(prove_notify, |m, v, c, fx| {
    let of = any::vector();
    crate::input!(Operation::Notify(of));
    let answer = m.notify(of, fx);
    fx.events = u64::from(answer.is_ok());
    prove(Property::Refused, answer.is_err() == (of.index() >= m.vectors()));
    if of != v {
        let intx = answer == Ok(Delivery::Intx);
        prove(Property::Answer, !intx || !c.whole.enabled);
        Kinds::REEVALUATE.when(intx)
    } else {
        let (delivery, kinds) = c.notify();
        prove(Property::Answer, answer == Ok(delivery));
        prove(Property::EventCounters, *m.counters() == c.counters);
        kinds
    }
});

harness!(prove_withdraw, |m, v, c, fx| {
    let of = any::vector();
    crate::input!(Operation::Withdraw(of));
    let answer = m.withdraw(of, fx);
    prove(Property::Refused, answer.is_err() == (of.index() >= m.vectors()));
    if of == v {
        let (was, kinds) = c.withdraw();
        prove(Property::Answer, answer == Ok(was));
        prove(Property::EventCounters, *m.counters() == c.counters);
        kinds
    } else {
        Kinds::NONE
    }
});

harness!(prove_claim, |m, v, c, fx| {
    let of = any::vector();
    crate::input!(Operation::Claim(of));
    let answer = m.claim(of, fx);
    prove(Property::Refused, of.index() < m.vectors() || answer.is_err());
    if of == v {
        let (room, kinds) = c.claim();
        prove(Property::Answer, answer.is_ok() == room);
        prove(Property::EventCounters, *m.counters() == c.counters);
        kinds
    } else {
        Kinds::NONE
    }
});

harness!(prove_unclaim, |m, v, c, fx| {
    let of = any::vector();
    crate::input!(Operation::Unclaim(of));
    let answer = m.unclaim(of, fx);
    prove(Property::Refused, answer.is_err() == (of.index() >= m.vectors()));
    let mut kinds = Kinds::NONE;
    if of == v {
        kinds = c.unclaim();
        prove(Property::EventCounters, *m.counters() == c.counters);
    }
    kinds
});

harness!(prove_unclaim_all, |m, _v, c, fx| {
    crate::input!(Operation::UnclaimAll);
    prove(Property::Answer, m.unclaim_all(fx).is_ok());
    prove(Property::Answer, !m.whole().orphans);
    c.unclaim_all()
});

harness!(prove_set_mask, |m, v, c, fx| {
    let (of, masked) = (any::vector(), any::bool());
    crate::input!(Operation::SetMask(of, masked));
    let answer = m.set_mask(of, masked, fx);
    prove(Property::Refused, answer.is_err() == (of.index() >= m.vectors()));
    if of == v {
        let kinds = c.set_mask(masked);
        prove(Property::EventCounters, *m.counters() == c.counters);
        kinds
    } else {
        Kinds::NONE
    }
});

harness!(prove_set_message, |m, v, c, fx| {
    let (of, low, high, data) = (any::vector(), any::u32(), any::u32(), any::u32());
    let address = u64::from(high) << 32 | u64::from(low);
    crate::input!(Operation::SetMessage(of, Message { address, data }));
    let answer = m.set_message(of, Message { address, data }, fx);
    prove(Property::Refused, answer.is_err() == (of.index() >= m.vectors()));
    if of == v {
        let kinds = c.set_message([low, high, data]);
        prove(Property::EventCounters, *m.counters() == c.counters);
        kinds
    } else {
        Kinds::NONE
    }
});
