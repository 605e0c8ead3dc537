//! Guest accesses.

use crate::engine::{self, CEngine};
use crate::error::{answer, done};
use crate::raw;
use core::ffi::{c_int, c_void};
use msix_core::Access;

/// What became of a guest's access. Nothing that a guest does is an error.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CAccess {
    /// It was carried out, at least in part.
    Done = 0,
    /// Undefined width or alignment: ignored, and the bytes inside the structure read 0.
    Unsupported = 1,
    /// Past the end of the structure: ignored, and reads all ones.
    OutOfRange = 2,
    /// A write to the PBA: ignored.
    ReadOnly = 3,
}

/// The number of an outcome.
pub(crate) fn access(access: Access) -> c_int {
    let access = match access {
        Access::Done => CAccess::Done,
        Access::Unsupported => CAccess::Unsupported,
        Access::OutOfRange => CAccess::OutOfRange,
        Access::ReadOnly => CAccess::ReadOnly,
    };
    #[expect(clippy::as_conversions, reason = "a discriminant")]
    {
        access as c_int
    }
}

/// Reads for a guest `len` bytes at byte `offset` of the 12-byte capability, with any width. Bytes past it
/// read all ones. Callbacks may call it.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_read_config(
    engine: *const CEngine,
    offset: usize,
    bytes: *mut c_void,
    len: usize,
) -> c_int {
    done(engine::with(engine, |engine| {
        let bytes = raw::bytes_mut(bytes, len)?;
        engine.query(|msix| msix.read_config(offset, bytes))
    }))
}

/// Writes for a guest `len` bytes at byte `offset` of the 12-byte capability, with any width and
/// alignment. Only a write that covers byte 3 has an effect: it sets MSI-X Enable and Function Mask.
/// Effects: disarm, or arm and send, of vectors; the INTx ones, poll and drain by policy.
///
/// Errors: those of an input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_write_config(
    engine: *mut CEngine,
    offset: usize,
    bytes: *const c_void,
    len: usize,
) -> c_int {
    done(engine::with(engine, |engine| {
        let bytes = raw::bytes(bytes, len)?;
        engine.input(|msix, list| msix.write_config(offset, bytes, list))
    }))
}

/// Reads for a guest `len` bytes at byte `offset` of the table. Returns one of msix_access. Callbacks may
/// call it.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_read_table(
    engine: *const CEngine,
    offset: u64,
    bytes: *mut c_void,
    len: usize,
) -> c_int {
    answer(engine::with(engine, |engine| {
        let bytes = raw::bytes_mut(bytes, len)?;
        engine.query(|msix| access(msix.read_table(offset, bytes)))
    }))
}

/// Writes for a guest `len` bytes at byte `offset` of the table. 8 bytes are applied as one. Returns one
/// of msix_access. Effects: disarm, or arm and send, of the vector; reroute and snoop by policy.
///
/// Errors: those of an input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_write_table(
    engine: *mut CEngine,
    offset: u64,
    bytes: *const c_void,
    len: usize,
) -> c_int {
    answer(engine::with(engine, |engine| {
        let bytes = raw::bytes(bytes, len)?;
        engine.input(|msix, list| msix.write_table(offset, bytes, list)).map(access)
    }))
}

/// Begins a guest's read of `len` bytes at byte `offset` of the PBA. Effects: poll of the vectors it covers
/// that may have held events. Carry it out, answer, then call msix_engine_read_pba().
///
/// Errors: those of an input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_poll_pba(
    engine: *mut CEngine,
    offset: u64,
    len: usize,
) -> c_int {
    done(engine::with(engine, |engine| engine.input(|msix, list| msix.poll_pba(offset, len, list))))
}

/// Reads for a guest `len` bytes at byte `offset` of the PBA, as it is: call msix_engine_poll_pba() first,
/// if there is a host that holds events. Returns one of msix_access. Callbacks may call it.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_read_pba(
    engine: *const CEngine,
    offset: u64,
    bytes: *mut c_void,
    len: usize,
) -> c_int {
    answer(engine::with(engine, |engine| {
        let bytes = raw::bytes_mut(bytes, len)?;
        engine.query(|msix| access(msix.read_pba(offset, bytes)))
    }))
}

/// Ignores a guest's write at byte `offset` of the PBA, which changes nothing. Returns one of msix_access,
/// for a diagnostic. Callbacks may call it.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_write_pba(
    engine: *const CEngine,
    offset: u64,
    bytes: *const c_void,
    len: usize,
) -> c_int {
    answer(engine::with(engine, |engine| {
        let bytes = raw::bytes(bytes, len)?;
        engine.query(|msix| access(msix.write_pba(offset, bytes)))
    }))
}
