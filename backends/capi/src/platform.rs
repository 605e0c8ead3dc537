//! Inputs of the host and of the platform around the function, and snapshots.

use crate::engine::{self, CEngine};
use crate::error::{CError, answer, done};
use crate::raw;
use core::ffi::{c_int, c_void};
use msix_core::{Msix, Vectors};

/// Attaches the host to all vectors ("set vector notifiers"): from now on it is asked to arm those that may
/// be sent. Does nothing when it is attached. Effects: arm.
///
/// Errors: those of an input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_attach(engine: *mut CEngine) -> c_int {
    done(engine::with(engine, |engine| engine.input(Msix::attach)))
}

/// Detaches the host from all vectors ("unset vector notifiers"): from now on everything is sent. Does
/// nothing when none is attached. Effects: poll by policy, disarm.
///
/// Errors: those of an input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_detach(engine: *mut CEngine) -> c_int {
    done(engine::with(engine, |engine| engine.input(Msix::detach)))
}

/// Reports that the host could not arm or reroute `vector`. Its events must come in through
/// msix_engine_notify() until its disarm. Ignored for a vector that is not armed. No effects. Callbacks
/// may call it.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_report_failed(engine: *mut CEngine, vector: u32) -> c_int {
    done(engine::with(engine, |engine| {
        let vector = engine::vector(vector)?;
        engine.query(|msix| msix.claims(vector))?.ok_or(CError::Vector)?;
        engine.report(|msix| msix.report_failed(Vectors::one(vector)))
    }))
}

/// Reports that the host held events of these vectors, and has given them up: they become pending. `first`
/// is a multiple of 64, and bit k of `vectors` stands for vector `first` + k; those outside the table are
/// ignored. Callbacks may call it; the engine then learns of the events when the list is carried out.
/// Effects: send.
///
/// Errors: those of an input but MSIX_ERROR_BUSY, MSIX_ERROR_VALUE for another `first`,
/// MSIX_ERROR_VECTOR for one past the table.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_report_held(
    engine: *mut CEngine,
    first: u32,
    vectors: u64,
) -> c_int {
    done(engine::with(engine, |engine| {
        if !first.is_multiple_of(64) {
            return Err(CError::Value);
        }
        let first = engine::vector(first)?;
        engine.query(|msix| msix.claims(first))?.ok_or(CError::Vector)?;
        engine.report_held(Vectors::new(first.index() >> 6, vectors))
    }))
}

/// Sets `vector` pending: msix_engine_report_held() for one vector, as a poll of a notifier does it.
///
/// Errors: those of an input but MSIX_ERROR_BUSY, MSIX_ERROR_VECTOR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_set_pending(engine: *mut CEngine, vector: u32) -> c_int {
    done(engine::with(engine, |engine| {
        let vector = engine::vector(vector)?;
        engine.query(|msix| msix.claims(vector))?.ok_or(CError::Vector)?;
        engine.report_held(Vectors::one(vector))
    }))
}

/// Sets Bus Master Enable of the Command register; 0 is off. Effects: by policy disarm, or arm and send.
///
/// Errors: those of an input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_set_bus_master(engine: *mut CEngine, on: c_int) -> c_int {
    done(engine::with(engine, |engine| {
        engine.input(|msix, list| msix.set_bus_master(on != 0, list))
    }))
}

/// Resets the function: MSI-X disabled, all vectors masked, messages 0, pending bits dropped, claims by
/// policy. Bus master and the host's attachment stay. Effects: disarm, drain by policy, and
/// intx_reevaluate by policy.
///
/// Errors: those of an input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_reset(engine: *mut CEngine) -> c_int {
    done(engine::with(engine, |engine| engine.input(Msix::reset)))
}

/// Points the capability at the next one in the chain. Bits 1:0 of `offset` are cleared. No effects.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_set_next_capability(
    engine: *mut CEngine,
    offset: u8,
) -> c_int {
    done(engine::with(engine, |engine| engine.report(|msix| msix.set_next_capability(offset))))
}

/// Begins a save. Effects: poll of every vector that may have held events. Carry it out, answer, then
/// call msix_engine_save() or msix_engine_save_qemu().
///
/// Errors: those of an input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_prepare_save(engine: *mut CEngine) -> c_int {
    done(engine::with(engine, |engine| engine.input(Msix::prepare_save)))
}

/// Returns the length of a snapshot, bytes; 0 for what is no engine. Callbacks may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_saved_len(engine: *const CEngine) -> usize {
    engine::with(engine, |engine| engine.query(Msix::saved_len)).unwrap_or(0)
}

/// Writes a snapshot, msix_engine_saved_len() bytes, to the start of `len` bytes. Callbacks may call it.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_SIZE if it does not fit, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_save(
    engine: *const CEngine,
    bytes: *mut c_void,
    len: usize,
) -> c_int {
    done(engine::with(engine, |engine| {
        let bytes = raw::bytes_mut(bytes, len)?;
        engine.query(|msix| msix.save(bytes))?.map(drop).map_err(Into::into)
    }))
}

/// Loads a snapshot of `len` bytes, which need not be trusted: all is checked before anything changes.
/// Nothing is armed or sent before msix_engine_resume(). No effects.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_BUSY from inside a
/// callback, and the MSIX_ERROR_LOAD ones.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_load(
    engine: *mut CEngine,
    bytes: *const c_void,
    len: usize,
) -> c_int {
    done(engine::with(engine, |engine| {
        let bytes = raw::bytes(bytes, len)?;
        engine.input(|msix, _| msix.load(bytes))
    }))
}

/// Returns the length of QEMU's msix field, bytes: 16 a vector and one for every 8; 0 for what is no
/// engine. Callbacks may call it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_qemu_len(engine: *const CEngine) -> usize {
    engine::with(engine, |engine| engine.query(Msix::qemu_len)).unwrap_or(0)
}

/// Writes QEMU's msix field, msix_engine_qemu_len() bytes, to the start of `len` bytes: the table, then the
/// PBA. Callbacks may call it.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_SIZE if it does not fit, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_save_qemu(
    engine: *const CEngine,
    bytes: *mut c_void,
    len: usize,
) -> c_int {
    done(engine::with(engine, |engine| {
        let bytes = raw::bytes_mut(bytes, len)?;
        engine.query(|msix| msix.save_qemu(bytes))?.map(drop).map_err(Into::into)
    }))
}

/// Loads QEMU's msix field of `len` bytes, which need not be trusted; `control` is Message Control from the
/// saved config space. Claims stay as they are. Otherwise it is as msix_engine_load().
///
/// Errors: those of msix_engine_load().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_load_qemu(
    engine: *mut CEngine,
    control: u16,
    bytes: *const c_void,
    len: usize,
) -> c_int {
    done(engine::with(engine, |engine| {
        let bytes = raw::bytes(bytes, len)?;
        engine.input(|msix, _| msix.load_qemu(control, bytes))
    }))
}

/// Ends a load, once the interrupt controllers are restored. Does nothing when no load came before.
/// Effects: disarm of what was armed before the load, arm of what is wanted now, send of what is pending
/// and not masked, and the INTx ones by policy.
///
/// Errors: those of an input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_resume(engine: *mut CEngine) -> c_int {
    done(engine::with(engine, |engine| engine.input(Msix::resume)))
}

/// Checks the invariants. 0: they hold.
///
/// Errors: MSIX_ERROR_INVARIANT for a defect of this library, MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_check(engine: *const CEngine) -> c_int {
    answer(engine::with(engine, |engine| {
        engine.query(|msix| msix.check().map(|()| 0))?.map_err(|_| CError::Invariant)
    }))
}
