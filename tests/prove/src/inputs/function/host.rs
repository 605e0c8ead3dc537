//! Inputs of the host backend and of the platform.

use super::device::mode;
use crate::any::{self, Property, prove};
use crate::case::Case;
use crate::function::Wanted;
use crate::function_harness;
use crate::inputs::host::inside;
use crate::msi::MsiCase;
use crate::sink::{Kinds, contains};
use msix_core::{Mode, Vectors};

function_harness!(prove_function_attach, |f, r, fx| {
    prove(Property::Answer, f.attach(fx).is_ok());
    r.each(Case::attach, MsiCase::attach, |pin| {
        pin.state.attached = true;
        pin.settle()
    })
});

function_harness!(prove_function_detach, |f, r, fx| {
    prove(Property::Answer, f.detach(fx).is_ok());
    r.each(Case::detach, MsiCase::detach, |pin| {
        pin.state.attached = false;
        pin.settle()
    })
});

/// Returns a set's vectors of MSI, whether it has them or not.
fn of_msi(set: Vectors) -> u32 {
    if set.word() == 0 { set.bits() as u32 } else { 0 }
}

function_harness!(prove_function_report_failed, |f, r, _fx| {
    let (mode, failed) = (mode(), Vectors::new(any::u16(), any::u64()));
    f.report_failed(mode, failed);
    let v = r.vector;
    match mode {
        Mode::MsiX => r.only_msix(|c| {
            c.lane.fallback |= c.lane.live && contains(failed, v); // H11
            Kinds::NONE
        }),
        Mode::Msi => r.only_msi(|msi| {
            msi.report_failed(of_msi(failed));
            Kinds::NONE
        }),
        Mode::Intx => r.only_pin(|pin| {
            pin.state.fallback = pin.state.live;
            Kinds::NONE
        }),
        Mode::None => Wanted::NOTHING,
    }
});

function_harness!(prove_function_report_held, |f, r, fx| {
    let (mode, held) = (mode(), Vectors::new(any::u16(), any::u64()));
    prove(Property::Answer, f.report_held(mode, held, fx).is_ok());
    let (v, vectors) = (r.vector, r.vectors);
    match mode {
        Mode::MsiX => {
            fx.events = u64::from(inside(held, vectors).count_ones());
            let there = held.word() < vectors.div_ceil(64);
            r.only_msix(|c| if there { c.report_held(contains(held, v)) } else { Kinds::NONE })
        }
        Mode::Msi => {
            let events = r.msi.map_or(0, |msi| of_msi(held) & msi.all());
            fx.events = events.count_ones().into();
            r.only_msi(|msi| msi.report_held(events))
        }
        Mode::Intx | Mode::None => Wanted::NOTHING,
    }
});

function_harness!(prove_function_reset, |f, r, fx| {
    prove(Property::Answer, f.reset(fx).is_ok());
    r.reset()
});
