//! Queries, which callbacks may call too.

use crate::config::CMessage;
use crate::engine::{self, CEngine, truth};
use crate::error::{CError, answer, done};
use crate::raw;
use core::ffi::c_int;
use msix_core::Borrowed;
use msix_core::{Msix, Vector};

/// Asks about one vector.
fn about<T>(
    engine: *const CEngine,
    number: u32,
    ask: impl FnOnce(&Msix<Borrowed<'static>>, Vector) -> Option<T>,
) -> Result<T, CError> {
    engine::with(engine, |engine| {
        let vector = engine::vector(number)?;
        engine.query(|msix| ask(msix, vector))?.ok_or(CError::Vector)
    })
}

fn of_function(
    engine: *const CEngine,
    ask: impl FnOnce(&Msix<Borrowed<'static>>) -> c_int,
) -> c_int {
    answer(engine::with(engine, |engine| engine.query(ask)))
}

/// Returns the number of vectors, 1 to 2048. Errors: MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_vectors(engine: *const CEngine) -> c_int {
    of_function(engine, |msix| c_int::from(msix.vectors()))
}

/// Returns Message Control as the guest reads it: bit 15 is MSI-X Enable, bit 14 Function Mask, and bits
/// 10:0 are the vector count less 1. Errors: MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_control(engine: *const CEngine) -> c_int {
    of_function(engine, |msix| c_int::from(msix.control()))
}

/// Returns whether MSI-X is enabled, 1 or 0. Errors: MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_is_enabled(engine: *const CEngine) -> c_int {
    of_function(engine, |msix| truth(msix.is_enabled()))
}

/// Returns whether a host is attached, 1 or 0. Errors: MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_is_attached(engine: *const CEngine) -> c_int {
    of_function(engine, |msix| truth(msix.is_attached()))
}

/// Returns whether a snapshot was loaded and msix_engine_resume() is still to come, 1 or 0. Errors:
/// MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_is_loading(engine: *const CEngine) -> c_int {
    of_function(engine, |msix| truth(msix.is_loading()))
}

/// Returns Bus Master Enable as it was last set, 1 or 0. Errors: MSIX_ERROR_NULL,
/// MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_bus_master(engine: *const CEngine) -> c_int {
    of_function(engine, |msix| truth(msix.bus_master()))
}

/// Returns whether `vector` is masked, by its own bit or by Function Mask, whatever Enable says, 1 or 0.
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_is_masked(engine: *const CEngine, vector: u32) -> c_int {
    answer(about(engine, vector, |msix, vector| msix.is_masked(vector).map(truth)))
}

/// Returns whether `vector` is pending in the PBA, 1 or 0. Errors: MSIX_ERROR_NULL,
/// MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_is_pending(engine: *const CEngine, vector: u32) -> c_int {
    answer(about(engine, vector, |msix, vector| msix.is_pending(vector).map(truth)))
}

/// Returns whether a message of `vector` would be sent at once, 1 or 0: MSI-X is enabled, no mask is set,
/// bus master is on if the policy asks for it, and no load waits. Errors: MSIX_ERROR_NULL,
/// MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_is_deliverable(engine: *const CEngine, vector: u32) -> c_int {
    answer(about(engine, vector, |msix, vector| msix.is_deliverable(vector).map(truth)))
}

/// Returns whether the host was asked to arm `vector` and not to disarm it since, 1 or 0. Errors:
/// MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_is_armed(engine: *const CEngine, vector: u32) -> c_int {
    answer(about(engine, vector, |msix, vector| msix.is_live(vector).map(truth)))
}

/// Returns whether the host was asked to arm `vector` and could not, so that its events must come in
/// through msix_engine_notify(), 1 or 0. Errors: MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED,
/// MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_is_fallback(engine: *const CEngine, vector: u32) -> c_int {
    answer(about(engine, vector, |msix, vector| msix.is_fallback(vector).map(truth)))
}

/// Returns how many claims `vector` has, 0 to 65535. Errors: MSIX_ERROR_NULL,
/// MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_claims(engine: *const CEngine, vector: u32) -> c_int {
    answer(about(engine, vector, |msix, vector| msix.claims(vector).map(c_int::from)))
}

/// Writes the message that `vector` sends to `*message`. Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED,
/// MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_message(
    engine: *const CEngine,
    vector: u32,
    message: *mut CMessage,
) -> c_int {
    let found = about(engine, vector, Msix::message);
    done(found.and_then(|found| raw::write(message, found.into())))
}
