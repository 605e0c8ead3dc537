//! Counts of interrupts, for C.

use crate::engine::{self, CEngine};
use crate::error::{CError, done};
use crate::raw;
use core::ffi::c_int;

/// Totals since the engine was made, which wrap at 2^64. Neither a reset nor a load clears them.
///
/// Every event ends in exactly one place: it is pending, or it is counted in `sent`, `coalesced`,
/// `withdrawn`, `to_intx` or one of the `dropped` ones. A device that never claims its vectors sees all its
/// events in `dropped_unclaimed`: look there first when nothing arrives.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CCounters {
    /// Messages sent by callback or list.
    pub sent: u64,
    /// Events that found their pending bit set: one message stands for both.
    pub coalesced: u64,
    /// Pending bits cleared by msix_engine_withdraw().
    pub withdrawn: u64,
    /// Events while disabled that were left to INTx.
    pub to_intx: u64,
    /// Events of a vector without a claim, and pending bits that the last unclaim cleared.
    pub dropped_unclaimed: u64,
    /// Events and pending bits dropped because MSI-X was disabled, by policy.
    pub dropped_disabled: u64,
    /// Messages dropped because bus master was off, by policy.
    pub dropped_bus_master: u64,
    /// Pending bits cleared by a reset.
    pub dropped_reset: u64,
    /// Pending bits that a load replaced.
    pub dropped_load: u64,
    /// Vectors armed.
    pub arms: u64,
    /// Vectors disarmed.
    pub disarms: u64,
    /// Vectors rerouted.
    pub reroutes: u64,
    /// Vectors that the host reported as failed.
    pub failures: u64,
}

/// Writes the totals to `*counters`; `size` is sizeof(struct msix_counters). Callbacks may call it.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_engine_counters(
    engine: *const CEngine,
    counters: *mut CCounters,
    size: usize,
) -> c_int {
    done(engine::with(engine, |engine| {
        if size != size_of::<CCounters>() {
            return Err(CError::Size);
        }
        let all = engine.query(|msix| *msix.counters())?;
        raw::write(counters, all.into())
    }))
}

impl From<msix_core::Counters> for CCounters {
    fn from(all: msix_core::Counters) -> Self {
        Self {
            sent: all.sent,
            coalesced: all.coalesced,
            withdrawn: all.withdrawn,
            to_intx: all.to_intx,
            dropped_unclaimed: all.dropped_unclaimed,
            dropped_disabled: all.dropped_disabled,
            dropped_bus_master: all.dropped_bus_master,
            dropped_reset: all.dropped_reset,
            dropped_load: all.dropped_load,
            arms: all.arms,
            disarms: all.disarms,
            reroutes: all.reroutes,
            failures: all.failures,
        }
    }
}
