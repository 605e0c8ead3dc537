//! Guest accesses.

use super::function::{CFunction, with};
use crate::error::{CError, answer, done};
use crate::guest::access;
use crate::raw;
use core::ffi::{c_int, c_void};
use msix_backends::kvm::Function;
use msix_core::Access;

use super::config::CPlatform;

/// A guest's read at a byte of something.
fn read<T>(
    function: *const CFunction,
    bytes: *mut c_void,
    len: usize,
    read: impl FnOnce(&Function<CPlatform>, &mut [u8]) -> T,
) -> Result<T, CError> {
    with(function, |function| Ok(read(function, raw::bytes_mut(bytes, len)?)))
}

/// A guest's write at a byte of something.
fn write<T>(
    function: *const CFunction,
    bytes: *const c_void,
    len: usize,
    write: impl FnOnce(&Function<CPlatform>, &[u8]) -> T,
) -> Result<T, CError> {
    with(function, |function| Ok(write(function, raw::bytes(bytes, len)?)))
}

fn accessed(done: Result<Access, CError>) -> c_int {
    answer(done.map(access))
}

/// Reads for a guest `len` bytes at byte `offset` of the MSI-X capability. Bytes past it read all ones.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_read_msix(
    function: *const CFunction,
    offset: usize,
    bytes: *mut c_void,
    len: usize,
) -> c_int {
    done(read(function, bytes, len, |function, bytes| function.read_msix(offset, bytes)))
}

/// Writes for a guest `len` bytes at byte `offset` of the MSI-X capability.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_write_msix(
    function: *mut CFunction,
    offset: usize,
    bytes: *const c_void,
    len: usize,
) -> c_int {
    done(write(function, bytes, len, |function, bytes| function.write_msix(offset, bytes)))
}

/// Reads for a guest `len` bytes at byte `offset` of the MSI capability. Bytes past it read all ones.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_read_msi(
    function: *const CFunction,
    offset: usize,
    bytes: *mut c_void,
    len: usize,
) -> c_int {
    done(read(function, bytes, len, |function, bytes| function.read_msi(offset, bytes)))
}

/// Writes for a guest `len` bytes at byte `offset` of the MSI capability.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_write_msi(
    function: *mut CFunction,
    offset: usize,
    bytes: *const c_void,
    len: usize,
) -> c_int {
    done(write(function, bytes, len, |function, bytes| function.write_msi(offset, bytes)))
}

/// Writes for a guest `len` bytes at byte `offset` of the Command register, config space byte 4: bus master,
/// and Interrupt Disable.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_write_command(
    function: *mut CFunction,
    offset: usize,
    bytes: *const c_void,
    len: usize,
) -> c_int {
    done(write(function, bytes, len, |function, bytes| function.write_command(offset, bytes)))
}

/// Writes the bits of Command and of Status that are kept here to `*command` and `*status`: bits 0, 1, 2 and
/// 10 of Command, and Interrupt Status, bit 3 of Status.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_command_and_status(
    function: *const CFunction,
    command: *mut u16,
    status: *mut u16,
) -> c_int {
    done(with(function, |function| {
        let (command_bits, status_bits) = function.command_and_status();
        raw::write(command, command_bits)?;
        raw::write(status, status_bits)
    }))
}

/// Reads for a guest `len` bytes at byte `offset` of the table. Returns one of msix_access.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_read_table(
    function: *const CFunction,
    offset: u64,
    bytes: *mut c_void,
    len: usize,
) -> c_int {
    accessed(read(function, bytes, len, |function, bytes| function.read_table(offset, bytes)))
}

/// Writes for a guest `len` bytes at byte `offset` of the table. Returns one of msix_access.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_write_table(
    function: *mut CFunction,
    offset: u64,
    bytes: *const c_void,
    len: usize,
) -> c_int {
    accessed(write(function, bytes, len, |function, bytes| function.write_table(offset, bytes)))
}

/// Reads for a guest `len` bytes at byte `offset` of the PBA, with the events in the eventfds of masked
/// vectors. Returns one of msix_access.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_read_pba(
    function: *mut CFunction,
    offset: u64,
    bytes: *mut c_void,
    len: usize,
) -> c_int {
    accessed(read(function, bytes, len, |function, bytes| function.read_pba(offset, bytes)))
}

/// Ignores a guest's write at byte `offset` of the PBA. Returns one of msix_access, for a diagnostic.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_write_pba(
    function: *const CFunction,
    offset: u64,
    bytes: *const c_void,
    len: usize,
) -> c_int {
    accessed(write(function, bytes, len, |function, bytes| function.write_pba(offset, bytes)))
}

/// Takes the guest's EOI of the pin, from an interrupt controller in the VMM.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_eoi(function: *mut CFunction) -> c_int {
    done(with(function, |function| {
        function.eoi();
        Ok(())
    }))
}
