//! Calls of a host's callbacks, and what a null one stands for.
//!
//! A callback is called with the caller's own `opaque`, as the header says, while no borrow of an engine's
//! state lives. That it is a function with the signature of its field, and that it returns, is what the
//! caller promised.

use crate::config::{CHostOps, CMessage};
use core::ffi::{c_int, c_void};

impl CHostOps {
    pub(crate) fn call_send(&self, opaque: *mut c_void, vector: u32, message: CMessage) {
        if let Some(send) = self.send {
            // SAFETY: see the module.
            unsafe { send(opaque, vector, message) }
        }
    }

    pub(crate) fn call_arm(&self, opaque: *mut c_void, vector: u32, message: CMessage) -> c_int {
        // SAFETY: see the module.
        self.arm.map_or(CANNOT, |arm| unsafe { arm(opaque, vector, message) })
    }

    pub(crate) fn call_reroute(
        &self,
        opaque: *mut c_void,
        vector: u32,
        message: CMessage,
    ) -> c_int {
        if let Some(reroute) = self.reroute {
            // SAFETY: see the module.
            return unsafe { reroute(opaque, vector, message) };
        }
        self.call_disarm(opaque, vector);
        self.call_arm(opaque, vector, message)
    }

    pub(crate) fn call_disarm(&self, opaque: *mut c_void, vector: u32) {
        if let Some(disarm) = self.disarm {
            // SAFETY: see the module.
            unsafe { disarm(opaque, vector) }
        }
    }

    pub(crate) fn call_commit(&self, opaque: *mut c_void) {
        if let Some(commit) = self.commit {
            // SAFETY: see the module.
            unsafe { commit(opaque) }
        }
    }

    pub(crate) fn call_poll(&self, opaque: *mut c_void, first: u32, vectors: u64) -> u64 {
        // SAFETY: see the module.
        self.poll.map_or(0, |poll| unsafe { poll(opaque, first, vectors) })
    }

    pub(crate) fn call_drain(&self, opaque: *mut c_void, vector: u32) {
        if let Some(drain) = self.drain {
            // SAFETY: see the module.
            unsafe { drain(opaque, vector) }
        }
    }

    pub(crate) fn call_snoop(&self, opaque: *mut c_void, vector: u32, message: CMessage) {
        if let Some(snoop) = self.snoop {
            // SAFETY: see the module.
            unsafe { snoop(opaque, vector, message) }
        }
    }

    pub(crate) fn call_intx_deassert(&self, opaque: *mut c_void) {
        if let Some(deassert) = self.intx_deassert {
            // SAFETY: see the module.
            unsafe { deassert(opaque) }
        }
    }

    pub(crate) fn call_intx_reevaluate(&self, opaque: *mut c_void) {
        if let Some(reevaluate) = self.intx_reevaluate {
            // SAFETY: see the module.
            unsafe { reevaluate(opaque) }
        }
    }
}

/// The answer of a host that cannot deliver a vector.
const CANNOT: c_int = 1;
