//! Inputs of the device.

use crate::any::{self, Property, prove};
use crate::case::Case;
use crate::function::{Rules, Wanted};
use crate::function_harness;
use crate::pin::PinCase;
use crate::sink::Kinds;
use msix_core::policy::WhileDisabled;
use msix_core::{Delivery, Message, Mode, Vector};

/// Chooses any mode.
pub(super) fn mode() -> Mode {
    match any::up_to(3) {
        0 => Mode::None,
        1 => Mode::Intx,
        2 => Mode::Msi,
        _ => Mode::MsiX,
    }
}

/// Returns the number of vectors of MSI; 0 without.
fn msi_vectors(r: &Rules) -> u16 {
    r.msi.map_or(0, |msi| msi.shape.vectors())
}

function_harness!(prove_function_notify, |f, r, fx| {
    let of = any::vector();
    let answer = f.notify(of, fx);
    fx.events = u64::from(answer.is_ok());
    let mode = r.mode();
    if mode == Mode::Intx {
        prove(Property::Answer, answer == Ok(Delivery::Intx));
        r.counters.to_intx = r.counters.to_intx.wrapping_add(1);
        Wanted::NOTHING
    } else if mode == Mode::MsiX || mode == Mode::None && r.msix.is_some() {
        prove(Property::Refused, answer.is_err() == (of.index() >= r.vectors));
        if of != r.vector {
            return_intx(r, answer == Ok(Delivery::Intx))
        } else {
            let mut delivery = None;
            let wanted = r.only_msix(|c| {
                let (how, kinds) = c.notify();
                delivery = Some(how);
                kinds
            });
            prove(Property::Answer, answer.ok() == delivery);
            wanted
        }
    } else {
        prove(Property::Refused, answer.is_err() == (of.index() >= msi_vectors(r)));
        match &mut r.msi {
            // What becomes of it depends on the vector that it is sent as.
            Some(msi) if of.index() == msi.event && msi.sent_as(msi.event) == msi.v => {
                let (delivery, kinds) = msi.notify();
                prove(Property::Answer, answer == Ok(delivery));
                let counted = f.msi().is_some_and(|is| *is.counters() == msi.counters);
                prove(Property::EventCounters, counted);
                Wanted { msi: kinds, ..Wanted::NOTHING }
            }
            Some(msi) if of.index() < msi.shape.vectors() && msi.sent_as(of.index()) == msi.v => {
                // Another event that is sent as the same vector.
                let sent = answer == Ok(Delivery::Sent);
                Wanted { msi: Kinds::SEND.when(sent), ..Wanted::NOTHING }
            }
            _ => Wanted::NOTHING,
        }
    }
});

/// An event of another vector may be left to INTx, where there is no pin.
fn return_intx(r: &Rules, intx: bool) -> Wanted {
    prove(Property::Answer, !intx || r.policy.while_disabled == WhileDisabled::Intx);
    Wanted::NOTHING
}

function_harness!(prove_function_withdraw, |f, r, fx| {
    let (of, mode) = (any::vector(), mode());
    let answer = f.withdraw(mode, of, fx);
    match mode {
        Mode::Intx | Mode::None => {
            prove(Property::Answer, answer == Ok(false));
            Wanted::NOTHING
        }
        Mode::MsiX => {
            prove(Property::Refused, answer.is_err() == (of.index() >= r.vectors));
            let looked_at = of == r.vector;
            r.only_msix(|c| {
                if !looked_at {
                    return Kinds::NONE;
                }
                let (was, kinds) = c.withdraw();
                prove(Property::Answer, answer == Ok(was));
                kinds
            })
        }
        Mode::Msi => {
            prove(Property::Refused, answer.is_err() == (of.index() >= msi_vectors(r)));
            r.only_msi(|msi| {
                if of.index() == msi.event {
                    prove(Property::Answer, answer == Ok(msi.withdraw()));
                }
                // The host is asked by the event's own number.
                Kinds::DRAIN.when(msi.policy.drain && of.index() == msi.v && msi.held())
            })
        }
    }
});

/// Gives `vector` of MSI-X an input that may refuse it. It must, if there is no such vector.
fn one(r: &mut Rules, of: Vector, refused: bool, input: impl FnOnce(&mut Case) -> Kinds) -> Wanted {
    prove(Property::Refused, refused || of.index() < r.vectors);
    if of == r.vector { r.only_msix(input) } else { Wanted::NOTHING }
}

function_harness!(prove_function_claim, |f, r, fx| {
    let of = any::vector();
    let answer = f.claim(of, fx);
    one(r, of, answer.is_err(), |c| {
        let (room, kinds) = c.claim();
        prove(Property::Answer, answer.is_ok() == room);
        kinds
    })
});

function_harness!(prove_function_unclaim, |f, r, fx| {
    let of = any::vector();
    let answer = f.unclaim(of, fx);
    prove(Property::Answer, answer.is_ok() == (of.index() < r.vectors));
    one(r, of, answer.is_err(), Case::unclaim)
});

function_harness!(prove_function_unclaim_all, |f, r, fx| {
    prove(Property::Answer, f.unclaim_all(fx).is_ok());
    r.only_msix(Case::unclaim_all)
});

function_harness!(prove_function_set_mask, |f, r, fx| {
    let (of, masked) = (any::vector(), any::bool());
    let answer = f.set_mask(of, masked, fx);
    prove(Property::Answer, answer.is_ok() == (of.index() < r.vectors));
    one(r, of, answer.is_err(), |c| c.set_mask(masked))
});

function_harness!(prove_function_set_message, |f, r, fx| {
    let (of, low, high, data) = (any::vector(), any::u32(), any::u32(), any::u32());
    let address = u64::from(high) << 32 | u64::from(low);
    let answer = f.set_message(of, Message { address, data }, fx);
    prove(Property::Answer, answer.is_ok() == (of.index() < r.vectors));
    one(r, of, answer.is_err(), |c| c.set_message([low, high, data]))
});

function_harness!(prove_function_set_level, |f, r, fx| {
    let high = any::bool();
    prove(Property::Answer, f.set_level(high, fx).is_ok());
    r.only_pin(|pin| pin.set_level(high))
});

function_harness!(prove_function_report_fired, |f, r, fx| {
    prove(Property::Answer, f.report_fired(fx).is_ok());
    r.only_pin(PinCase::fire)
});

function_harness!(prove_function_eoi, |f, r, fx| {
    prove(Property::Answer, f.eoi(fx).is_ok());
    r.only_pin(PinCase::eoi)
});
