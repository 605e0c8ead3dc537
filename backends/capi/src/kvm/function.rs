//! A function on KVM: how it is made, used and freed.

use super::config::{CKvmConfig, CPlatform, setup};
use super::mode;
use super::routes::CRoutes;
use crate::counters::CCounters;
use crate::engine;
use crate::error::{CError, answer, done};
use crate::raw::{self, Handle};
use core::ffi::c_int;
use msix_backends::kvm::Function;
use msix_core::{Vector, VectorError};

/// A PCI function on KVM, with MSI-X, MSI and a pin, or some of them: the engine, its effects carried out on
/// a VM, and a lock around both. All its calls may be made by any thread, at the same time. Effects are
/// carried out when a call returns, but for callbacks that another thread is about to make.
#[derive(Debug)]
pub struct CFunction {
    _private: [u8; 0],
}

impl Handle for CFunction {
    type Target = Function<CPlatform>;
    const TAG: usize = 0x6d66_6e63;
}

/// Calls `act` with a function of C.
pub(super) fn with<T>(
    function: *const CFunction,
    act: impl FnOnce(&Function<CPlatform>) -> Result<T, CError>,
) -> Result<T, CError> {
    act(raw::borrow(function)?)
}

/// Calls an input of one vector.
pub(super) fn with_vector<T>(
    function: *const CFunction,
    number: u32,
    input: impl FnOnce(&Function<CPlatform>, Vector) -> Result<T, VectorError>,
) -> Result<T, CError> {
    with(function, |function| Ok(input(function, engine::vector(number)?)?))
}

/// Makes a function in its reset state, with KVM attached. Bus master is off, as Command is 0: it sends
/// nothing before msix_kvm_function_write_command(). `config` is copied. `*function` is freed with
/// msix_kvm_function_free().
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED,
/// MSIX_ERROR_VALUE, and the MSIX_ERROR_LAYOUT ones.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_new(
    routes: *const CRoutes,
    config: *const CKvmConfig,
    function: *mut *mut CFunction,
) -> c_int {
    let new = || {
        raw::write(function, core::ptr::null_mut())?;
        let routes = raw::borrow(routes)?;
        let setup = setup(config)?;
        raw::write(function, raw::give(Function::new(routes, setup)?))
    };
    done(new())
}

/// Frees a function, its eventfds and its routes, and lowers its pin; null does nothing. No other thread may
/// use it, and no callback may call this.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_free(function: *mut CFunction) {
    drop(raw::take_back(function));
}

/// Returns how the function interrupts now, one of msix_mode.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_mode(function: *const CFunction) -> c_int {
    answer(with(function, |function| Ok(mode::number(function.inspect(msix_core::Function::mode)))))
}

/// Writes the totals of MSI-X to `*counters`, which are 0 if the function has none; `size` is sizeof(struct
/// msix_counters). `sent` counts what was sent from userspace: what KVM delivers by itself, it alone
/// knows.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_counters(
    function: *const CFunction,
    counters: *mut CCounters,
    size: usize,
) -> c_int {
    done(with(function, |function| {
        if size != size_of::<CCounters>() {
            return Err(CError::Size);
        }
        let all = function.inspect(|engine| engine.msix().map(|msix| *msix.counters()));
        raw::write(counters, all.unwrap_or_default().into())
    }))
}

/// Detaches KVM, and gives all GSIs back. The eventfds stay. Until the next
/// msix_kvm_function_attach() every input, read and save first takes in the events in them.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_detach(function: *mut CFunction) -> c_int {
    done(with(function, |function| {
        function.detach();
        Ok(())
    }))
}

/// Attaches KVM again.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_attach(function: *mut CFunction) -> c_int {
    done(with(function, |function| {
        function.attach();
        Ok(())
    }))
}

/// Resets the function, with Command; bus master is off afterwards.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_reset(function: *mut CFunction) -> c_int {
    done(with(function, |function| {
        function.reset();
        Ok(())
    }))
}

/// Commits and arms what waits of this function.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_flush(function: *mut CFunction) -> c_int {
    done(with(function, |function| {
        function.flush();
        Ok(())
    }))
}
