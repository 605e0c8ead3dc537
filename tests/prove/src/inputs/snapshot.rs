//! Saves and loads.

use crate::any::{Property, prove};
use crate::case::Ask;
use crate::harness;
use crate::sink::Kinds;
use msix_core::policy::IntxRule;

harness!(prove_prepare_save, |m, _v, c, fx| {
    prove(Property::Answer, m.prepare_save(fx).is_ok());
    Kinds::POLL.when(c.pollable())
});

harness!(prove_resume, |m, _v, c, fx| {
    prove(Property::Answer, m.resume(fx).is_ok());
    if c.whole.loading {
        // H15: what the host had is disarmed, then everything is told.
        let disarm = Kinds::DISARM.when(c.lane.live);
        c.lane.live = false;
        c.lane.fallback = false;
        c.lane.stale = false;
        let (told, is) = (c.whole.intx_told, c.whole.enabled);
        c.whole.loading = false;
        c.whole.intx_told = is;
        let on_change = c.policy.intx == IntxRule::OnChange;
        Kinds::DEASSERT.when(!told && is)
            | disarm
            | c.settle(Ask::NOTHING)
            | Kinds::REEVALUATE.when(told && !is && on_change)
    } else {
        Kinds::NONE
    }
});
