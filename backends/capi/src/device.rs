//! Inputs of the device, and of side channels.

use crate::config::CMessage;
use crate::engine::{self, CEngine, truth};
use crate::error::{answer, done};
use core::ffi::c_int;
use msix_core::{Delivery, DropReason, Message, Msix};

/// What became of an event.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CDelivery {
    /// The message is sent, by callback or list.
    Sent = 0,
    /// It is pending.
    Pending = 1,
    /// The vector was pending already: one message stands for both.
    Coalesced = 2,
    /// MSI-X is disabled, and the event is left to INTx.
    Intx = 3,
    /// It was dropped: the vector has no claim. See msix_engine_claim().
    DroppedUnclaimed = 4,
    /// It was dropped: MSI-X is disabled, and the policy drops then.
    DroppedDisabled = 5,
    /// It was dropped: bus master is off, and the policy drops then.
    DroppedBusMaster = 6,
}

/// The number of an outcome.
pub(crate) fn delivery(delivery: Delivery) -> c_int {
    let delivery = match delivery {
        Delivery::Sent => CDelivery::Sent,
        Delivery::Pending => CDelivery::Pending,
        Delivery::Coalesced => CDelivery::Coalesced,
        Delivery::Intx => CDelivery::Intx,
        Delivery::Dropped(DropReason::Unclaimed) => CDelivery::DroppedUnclaimed,
        Delivery::Dropped(DropReason::Disabled) => CDelivery::DroppedDisabled,
        Delivery::Dropped(DropReason::BusMaster) => CDelivery::DroppedBusMaster,
    };
    #[expect(clippy::as_conversions, reason = "a discriminant")]
    {
        delivery as c_int
    }
}

/// Takes an event of the device for `vector`. Returns one of msix_delivery: an event of a vector that the
/// device did not claim is dropped. Effects: send, when the vector may be sent; intx_reevaluate by policy
/// while disabled.
///
/// Where a host delivers the vector by itself (through an irqfd), signal the host instead.
///
/// Errors: those of an input, MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_notify(engine: *mut CEngine, vector: u32) -> c_int {
    answer(engine::with_vector(engine, vector, Msix::notify).map(delivery))
}

/// Withdraws a pending event of `vector`, because its cause is gone. Returns 1 if the pending bit was set,
/// 0 if not. Effects: drain by policy.
///
/// Errors: those of an input, MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_withdraw(engine: *mut CEngine, vector: u32) -> c_int {
    answer(engine::with_vector(engine, vector, Msix::withdraw).map(truth))
}

/// Adds a claim of `vector`: the device will raise it. Claims are counted, and events of a vector without
/// one are dropped. A reset keeps the claims, unless the policy says otherwise. Effects: send, when the
/// first claim finds the vector pending and not masked.
///
/// Errors: those of an input, MSIX_ERROR_VECTOR, MSIX_ERROR_TOO_MANY_CLAIMS at 65535.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_claim(engine: *mut CEngine, vector: u32) -> c_int {
    done(engine::with_vector(engine, vector, Msix::claim))
}

/// Removes a claim of `vector`; does nothing where there is none. The last one drops the pending bit.
/// Effects: drain by policy.
///
/// Errors: those of an input, MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_unclaim(engine: *mut CEngine, vector: u32) -> c_int {
    done(engine::with_vector(engine, vector, Msix::unclaim))
}

/// Removes all claims of all vectors, and drops every pending bit. Effects: drain by policy.
///
/// Errors: those of an input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_unclaim_all(engine: *mut CEngine) -> c_int {
    done(engine::with(engine, |engine| engine.input(Msix::unclaim_all)))
}

/// Sets the mask bit of `vector` from a side channel of a paravirtual platform, or clears it where
/// `masked` is 0. Effects: those of the table write.
///
/// Errors: those of an input, MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_set_mask(
    engine: *mut CEngine,
    vector: u32,
    masked: c_int,
) -> c_int {
    done(engine::with_vector(engine, vector, |msix, vector, list| {
        msix.set_mask(vector, masked != 0, list)
    }))
}

/// Sets the message of `vector` from a side channel of a paravirtual platform, and clears its mask bit.
/// Effects: those of the table writes.
///
/// Errors: those of an input, MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_set_message(
    engine: *mut CEngine,
    vector: u32,
    message: CMessage,
) -> c_int {
    done(engine::with_vector(engine, vector, |msix, vector, list| {
        msix.set_message(vector, Message::from(message), list)
    }))
}
