//! What is explored: the engine's start, the vectors, and everything that can happen to them.

use super::alphabet::{Event, events};
use super::defect::MsixDefect;
use super::refusals::Refusals;
use super::snapshots::{Snapshot, snapshots};
use super::tampering::SeededEngine;
use msix_core::{Msix, Policy, Storage, Vector};

/// Everything that does not change during a search.
#[derive(Debug, Clone)]
pub(crate) struct MsixWorld<S> {
    pub(crate) policy: Policy,
    /// The explored vectors, in ascending order.
    pub(crate) at: Vec<Vector>,
    pub(crate) start: SeededEngine<S>,
    pub(crate) events: Vec<Event>,
    pub(crate) snapshots: Vec<Snapshot>,
    pub(crate) refusals: Refusals,
    /// Whether states that differ only in the order of the vectors are one.
    pub(crate) symmetry: bool,
}

impl<S: Storage + Clone> MsixWorld<S> {
    pub(crate) fn new(
        msix: Msix<S>,
        at: Vec<Vector>,
        symmetry: bool,
        defect: Option<MsixDefect>,
    ) -> Self {
        let policy = *msix.policy();
        let snapshots = snapshots(&msix, &at);
        let events = events(&at, snapshots.len());
        Self {
            policy,
            refusals: Refusals::new(msix.vectors(), &at, &policy, &events, &snapshots),
            events,
            start: SeededEngine::new(msix, defect),
            at,
            snapshots,
            symmetry,
        }
    }

    pub(crate) fn vectors(&self) -> u16 {
        self.start.msix().vectors()
    }

    /// Which of the explored vectors are in a set, one bit each.
    pub(crate) fn members(&self, set: msix_core::Vectors) -> u8 {
        let bit =
            |(index, v): (usize, &Vector)| u8::from(set.iter().any(|member| member == *v)) << index;
        self.at.iter().enumerate().map(bit).sum()
    }
}
