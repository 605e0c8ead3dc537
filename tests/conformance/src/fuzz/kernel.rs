//! What the calls to a host and to the kernel must be, whatever the operation.

use super::expected::Side;
use crate::adapter::{BackendCall, HostCall};
use crate::backend::{KernelOrder, is_ordered};
use crate::bench::Live;
use msix_core::operation::Operation;
use std::fmt::Debug;

/// What a host and a kernel were asked for so far.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Messages by armed vector.
    pub(super) armed: Live,
    order: KernelOrder,
}

impl Asked {
    /// Takes the calls of one operation in; what is wrong with them, if anything.
    pub(super) fn follow(&mut self, calls: &[HostCall]) -> Result<(), (&'static str, String)> {
        self.armed.follow(calls).map_err(|call| ("Arm and Disarm alternate (H1)", call))?;
        if is_ordered(calls) {
            return Ok(());
        }
        Err(("Disarm before Arm before Send (I5)", shown(&calls)))
    }

    /// The same for calls to the kernel.
    pub(super) fn follow_kernel(
        &mut self,
        operation: &Operation,
        calls: &[BackendCall],
    ) -> Result<(), (&'static str, String)> {
        self.order.follow(calls).map_err(|why| ("commit before arm before unroute (K6)", why))?;
        let commits = calls.iter().filter(|call| **call == BackendCall::Commit).count();
        let by_guest =
            matches!(operation, Operation::WriteConfig { .. } | Operation::WriteTable { .. });
        if by_guest && commits > 1 {
            return Err((
                "at most one commit for an access (C34, C38)",
                format!("{commits} commits"),
            ));
        }
        if *operation == Operation::Detach && !self.order.is_empty() {
            return Err(("nothing armed or routed while detached (C40)", shown(&self.order)));
        }
        Ok(())
    }

    /// Whether the host delivers what the model wants (I1).
    pub(super) fn is_as_in(&self, side: &Side) -> bool {
        self.armed.0 == side.armed
    }
}

/// The vectors that were polled, sorted.
pub(super) fn polled(calls: &[HostCall]) -> Vec<u16> {
    let vector = |call: &HostCall| match call {
        HostCall::Poll { vector } => Some(*vector),
        _ => None,
    };
    let mut polled: Vec<u16> = calls.iter().filter_map(vector).collect();
    polled.sort_unstable();
    polled
}

pub(super) fn shown(value: &impl Debug) -> String {
    format!("{value:x?}")
}
