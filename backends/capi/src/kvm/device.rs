//! Inputs of the device, its eventfds, and side channels.

use super::function::{CFunction, with, with_vector};
use super::mode;
use crate::config::CMessage;
use crate::device::delivery;
use crate::engine::{self, truth};
use crate::error::{answer, done};
use crate::raw;
use core::ffi::c_int;
use msix_backends::eventfd::import;
use msix_backends::kvm::Function;
use msix_core::Message;
use std::os::fd::AsRawFd as _;

/// Takes an event of the device for `vector`, whatever the mode is. Returns one of msix_delivery; an event of
/// a vector that the device did not claim is dropped. Takes no lock while KVM delivers the vector and
/// nobody else holds its eventfd.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_notify(function: *mut CFunction, vector: u32) -> c_int {
    answer(with_vector(function, vector, Function::notify).map(delivery))
}

/// Withdraws a pending event of `vector` of `mode`, one of msix_mode, because its cause is gone. Returns 1
/// if there was one, 0 if not.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VALUE for the
/// mode, MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_withdraw(
    function: *mut CFunction,
    mode_number: u32,
    vector: u32,
) -> c_int {
    answer(with(function, |function| {
        let mode = mode::mode(mode_number)?;
        Ok(truth(function.withdraw(mode, engine::vector(vector)?)?))
    }))
}

/// Sets the level of the device's pin; 0 is low. The guest sees it while MSI and MSI-X are disabled.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_set_level(
    function: *mut CFunction,
    high: c_int,
) -> c_int {
    done(with(function, |function| {
        function.set_level(high != 0);
        Ok(())
    }))
}

/// Adds a claim of `vector`: the device will raise it. Claims are counted, and events of a vector without
/// one are dropped.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR,
/// MSIX_ERROR_TOO_MANY_CLAIMS at 65535.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_claim(function: *mut CFunction, vector: u32) -> c_int {
    done(with_vector(function, vector, Function::claim))
}

/// Removes a claim of `vector`; does nothing where there is none. The last one drops the pending bit.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_unclaim(function: *mut CFunction, vector: u32) -> c_int {
    done(with_vector(function, vector, Function::unclaim))
}

/// Removes all claims of all vectors, and drops every pending bit.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_unclaim_all(function: *mut CFunction) -> c_int {
    done(with(function, |function| {
        function.unclaim_all();
        Ok(())
    }))
}

/// Sets the mask bit of a vector of MSI-X from a side channel, or clears it where `masked` is 0.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_set_mask(
    function: *mut CFunction,
    vector: u32,
    masked: c_int,
) -> c_int {
    done(with_vector(function, vector, |function, vector| function.set_mask(vector, masked != 0)))
}

/// Sets the message of a vector of MSI-X from a side channel, and clears its mask bit.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_set_message(
    function: *mut CFunction,
    vector: u32,
    message: CMessage,
) -> c_int {
    done(with_vector(function, vector, |function, vector| {
        function.set_message(vector, Message::from(message))
    }))
}

/// Returns the eventfd of `vector`, for a device that does not call msix_kvm_function_notify(), such as a
/// vhost worker. Each event written to it reaches the guest. It is the function's and is closed with it:
/// dup() it to keep it. From now on msix_kvm_function_notify() of this vector takes the lock.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR above 65535,
/// MSIX_ERROR_VALUE past the vectors of every mode, MSIX_ERROR_SYSTEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_eventfd(function: *mut CFunction, vector: u32) -> c_int {
    answer(with(function, |function| Ok(function.eventfd(engine::vector(vector)?)?.as_raw_fd())))
}

/// Connects `vector` to an eventfd that was made and is written elsewhere. It is duplicated, and made
/// non-blocking for all who have it; the caller's stays open. What it holds already is an event.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR above 65535,
/// MSIX_ERROR_VALUE past the vectors of every mode or for what is no eventfd or one with EFD_SEMAPHORE,
/// MSIX_ERROR_EXISTS if the vector has an eventfd, MSIX_ERROR_SYSTEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_connect(
    function: *mut CFunction,
    vector: u32,
    eventfd: c_int,
) -> c_int {
    done(with(function, |function| {
        let vector = engine::vector(vector)?;
        Ok(function.connect(vector, import(raw::duplicate(eventfd)?)?)?)
    }))
}
