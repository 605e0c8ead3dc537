//! Hooks of the proofs: a function in any state.

use super::{Function, FunctionCounters};
use crate::intx::Intx;
use crate::msi::Msi;
use crate::msix::Msix;
use crate::policy::Policy;

impl<S> Function<S> {
    /// Makes a function of parts in any state, whether they fit each other or not.
    pub const fn in_state(
        msi: Option<Msi>,
        msix: Option<Msix<S>>,
        intx: Option<Intx>,
        command: u16,
        policy: Policy,
        counters: FunctionCounters,
    ) -> Self {
        Self { msi, msix, intx, command, policy, counters }
    }
}
