//! Inputs of the host backend and of the platform.

use crate::any::{self, Property, prove};
use crate::case::Ask;
use crate::harness;
use crate::sink::{Kinds, contains};
use msix_core::Vectors;
use msix_core::policy::{ClaimsOnReset, IntxRule};

harness!(prove_attach, |m, _v, c, fx| {
    prove(Property::Answer, m.attach(fx).is_ok());
    c.whole.attached = true;
    c.settle(Ask::NOTHING)
});

harness!(prove_detach, |m, _v, c, fx| {
    prove(Property::Answer, m.detach(fx).is_ok());
    let poll = Kinds::POLL.when(c.policy.poll_before_disable && c.pollable()); // H13
    c.whole.attached = false;
    poll | c.settle(Ask::NOTHING)
});

harness!(prove_set_bus_master, |m, _v, c, fx| {
    let on = any::bool();
    prove(Property::Answer, m.set_bus_master(on, fx).is_ok());
    c.whole.bus_master = on;
    c.settle(Ask::NOTHING)
});

harness!(prove_report_failed, |m, v, c, _fx| {
    let failed = Vectors::new(any::u16(), any::u64());
    m.report_failed(failed);
    c.lane.fallback |= c.lane.live && contains(failed, v); // H11
    Kinds::NONE
});

/// Returns those of a set that are vectors of a table.
fn inside(set: Vectors, vectors: u16) -> u64 {
    match vectors.saturating_sub(set.word().saturating_mul(64)) {
        count @ 0..64 => set.bits() & !(u64::MAX << count),
        _ => set.bits(),
    }
}

harness!(prove_report_held, |m, v, c, fx| {
    let held = Vectors::new(any::u16(), any::u64());
    prove(Property::Answer, m.report_held(held, fx).is_ok());
    fx.events = u64::from(inside(held, m.vectors()).count_ones());
    if held.word() >= m.vectors().div_ceil(64) {
        Kinds::NONE
    } else {
        c.lane.pending |= contains(held, v) && c.lane.claims > 0;
        c.settle(Ask::NOTHING)
    }
});

harness!(prove_reset, |m, _v, c, fx| {
    prove(Property::Answer, m.reset(fx).is_ok());
    let reevaluate = c.whole.intx_told && c.policy.intx == IntxRule::OnChange; // H17
    c.whole.enabled = false;
    c.whole.function_masked = false;
    c.whole.loading = false;
    c.whole.intx_told = false;
    c.lane.masked = true;
    c.lane.pending = false;
    c.lane.entry = [0; 4];
    if c.policy.claims_on_reset == ClaimsOnReset::Clear {
        c.lane.claims = 0;
    }
    prove(Property::Answer, !m.whole().orphans);
    prove(Property::StaleCount, m.stale_entries() == 0);
    let kinds = c.settle(Ask { drain: c.policy.drain, ..Ask::NOTHING });
    c.lane.stale = false; // all messages are 0
    kinds | Kinds::REEVALUATE.when(reevaluate)
});
