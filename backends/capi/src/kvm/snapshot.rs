//! Save, load and resume.

use super::function::{CFunction, with};
use crate::error::{CError, done};
use crate::raw;
use core::ffi::{c_int, c_void};

/// Returns the length of a snapshot, bytes; 0 for what is no function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_saved_len(function: *const CFunction) -> usize {
    let len = with(function, |function| Ok(function.inspect(msix_core::Function::saved_len)));
    len.unwrap_or(0)
}

/// Writes a snapshot, msix_kvm_function_saved_len() bytes, to the start of `len` bytes, with the events that
/// were still in eventfds. Sends those of them that the guest lets through: save the interrupt controllers
/// after this.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE if it does not fit,
/// MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_save(
    function: *mut CFunction,
    bytes: *mut c_void,
    len: usize,
) -> c_int {
    done(with(function, |function| {
        let bytes = raw::bytes_mut(bytes, len)?;
        if bytes.len() < function.inspect(msix_core::Function::saved_len) {
            return Err(CError::Size);
        }
        let saved = function.save();
        bytes.iter_mut().zip(saved).for_each(|(to, from)| *to = from);
        Ok(())
    }))
}

/// Loads a snapshot of `len` bytes, which need not be trusted: all is checked before anything changes.
/// Nothing is delivered before msix_kvm_function_resume().
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED, and the
/// MSIX_ERROR_LOAD ones.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_load(
    function: *mut CFunction,
    bytes: *const c_void,
    len: usize,
) -> c_int {
    done(with(function, |function| Ok(function.load(raw::bytes(bytes, len)?)?)))
}

/// Ends a load, once the interrupt controllers are restored: commits routes at once, then arms, then sends
/// what is pending.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_resume(function: *mut CFunction) -> c_int {
    done(with(function, |function| {
        function.resume();
        Ok(())
    }))
}
