//! Inputs of the host backend and of the platform.

use crate::any::{self, Property, prove};
use crate::harness;
use crate::sink::{Kinds, contains};
use msix_core::Vectors;

harness!(prove_attach, |m, _v, c, fx| {
    crate::input!(Operation::Attach);
    prove(Property::Answer, m.attach(fx).is_ok());
    c.attach()
});

harness!(prove_detach, |m, _v, c, fx| {
    crate::input!(Operation::Detach);
    prove(Property::Answer, m.detach(fx).is_ok());
    c.detach()
});

harness!(prove_set_bus_master, |m, _v, c, fx| {
    let on = any::bool();
    crate::input!(Operation::SetBusMaster(on));
    prove(Property::Answer, m.set_bus_master(on, fx).is_ok());
    c.set_bus_master(on)
});

harness!(prove_report_failed, |m, v, c, _fx| {
    let failed = Vectors::new(any::u16(), any::u64());
    crate::input!(Operation::ReportFailed(failed));
    m.report_failed(failed);
    c.lane.fallback |= c.lane.live && contains(failed, v); // H11
    Kinds::NONE
});

/// Returns those of a set that are vectors of a table.
pub(super) fn inside(set: Vectors, vectors: u16) -> u64 {
    match vectors.saturating_sub(set.word().saturating_mul(64)) {
        count @ 0..64 => set.bits() & !(u64::MAX << count),
        _ => set.bits(),
    }
}

harness!(prove_report_held, |m, v, c, fx| {
    let held = Vectors::new(any::u16(), any::u64());
    crate::input!(Operation::ReportHeld(held));
    prove(Property::Answer, m.report_held(held, fx).is_ok());
    fx.events = u64::from(inside(held, m.vectors()).count_ones());
    if held.word() >= m.vectors().div_ceil(64) {
        Kinds::NONE
    } else {
        c.report_held(contains(held, v))
    }
});

harness!(prove_reset, |m, _v, c, fx| {
    crate::input!(Operation::Reset);
    prove(Property::Answer, m.reset(fx).is_ok());
    prove(Property::Answer, !m.whole().orphans);
    prove(Property::StaleCount, m.stale_entries() == 0);
    c.reset()
});
