//! Counts of a device vector's events, for C.

use super::function::{CFunction, with};
use crate::error::{CError, answer};
use crate::raw;
use core::ffi::c_int;
use msix_backends::kvm::VectorCounters;

/// Counts of the events of one device vector since its function was made, for a VMM to export. A snapshot
/// does not have them, and a reset leaves them alone.
///
/// What KVM sends is not counted: while it owns the vector's eventfd it reads the eventfd and sends by
/// itself, and nobody is told. Of these events `given` has those that msix_kvm_function_notify() wrote; KVM
/// may send one message for several. It has none of those that others write.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CVectorCounters {
    /// Events that msix_kvm_function_notify() wrote to the eventfd while KVM owned it.
    pub given: u64,
    /// Events that the function took itself, and those that it read from an eventfd.
    pub taken: u64,
    /// Those of them that became pending, or were one with an event that was.
    pub pending: u64,
    /// Those of them that were dropped, most often because the device had not claimed the vector.
    pub dropped: u64,
    /// Messages that userspace sent as this vector, by KVM_SIGNAL_MSI or as a write of memory.
    pub sent: u64,
    /// Messages that the kernel refused; they are sent later.
    pub refused: u64,
    /// How often the vector went from KVM to userspace, because a call failed.
    pub fallbacks: u64,
}

/// Writes the counts of the first `count` device vectors, lowest first, to an array of as many; `size` is
/// sizeof(struct msix_vector_counters). Returns the number of device vectors: where it is less than `count`,
/// the rest of the array is left as it is. Null is good for a `count` of 0.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_function_vector_counters(
    function: *const CFunction,
    counters: *mut CVectorCounters,
    count: usize,
    size: usize,
) -> c_int {
    answer(with(function, |function| {
        if size != size_of::<CVectorCounters>() {
            return Err(CError::Size);
        }
        let places = raw::items_mut(counters, count)?;
        let all = function.vector_counters();
        for (place, of_vector) in places.iter_mut().zip(&all) {
            *place = of_vector.into();
        }
        c_int::try_from(all.len()).map_err(|_| CError::Other)
    }))
}

impl From<&VectorCounters> for CVectorCounters {
    fn from(all: &VectorCounters) -> Self {
        Self {
            given: all.given,
            taken: all.taken,
            pending: all.pending,
            dropped: all.dropped,
            sent: all.sent,
            refused: all.refused,
            fallbacks: all.fallbacks,
        }
    }
}
