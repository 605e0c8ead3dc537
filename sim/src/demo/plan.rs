//! What to do, and what came of it.

use msix_ivshmem::{DeviceError, ServerError};
use serde::Serialize;
use std::io;
use std::time::Duration;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoPlan {
    /// Rings of each guest that wait for the answer of the other.
    pub turns: u32,
    /// Rings of each guest after that, as fast as it can.
    pub flood: u32,
}

impl DemoPlan {
    /// Half of `rings` in turns, at most two million, which is what the guest's memory holds.
    #[must_use]
    pub fn of(rings: u32) -> Self {
        let turns = (rings / 2).min(2_000_000);
        Self { turns, flood: rings - turns }
    }

    /// Rings of each guest.
    #[must_use]
    pub const fn rings(&self) -> u32 {
        self.turns + self.flood
    }
}

/// One guest's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Side {
    /// Rings of its doorbell.
    pub sent: u32,
    /// Interrupts in its handler.
    pub taken: u32,
    /// Rings of the other that its handler had noted at the end.
    pub accounted: u32,
    /// Returns of KVM_RUN between the first ring and the last interrupt.
    pub exits: u64,
    /// Messages sent from userspace, by KVM_SIGNAL_MSI or without KVM.
    pub from_userspace: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DemoOutcome {
    /// `kvm` or `userspace`.
    pub backend: &'static str,
    /// Why there is no KVM.
    pub without_kvm: Option<String>,
    /// The guests.
    pub guests: [Side; 2],
    /// How long they rang.
    pub seconds: f64,
    /// Round trips in nanoseconds, ascending: the 50th, 90th, 99th and 99.9th percentile and the
    /// longest.
    pub round_trip_ns: [u64; 5],
}

impl DemoOutcome {
    /// Whether every ring of each is accounted for at the other.
    #[must_use]
    pub fn nothing_lost(&self) -> bool {
        let [a, b] = &self.guests;
        a.sent == b.accounted && b.sent == a.accounted
    }

    /// Exits to userspace a ring.
    #[must_use]
    pub fn exits_per_ring(&self) -> f64 {
        let [a, b] = &self.guests;
        (a.exits + b.exits) as f64 / f64::from((a.sent + b.sent).max(1))
    }
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// No server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// No device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The system failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// A guest did what it should not.
    #[error("guest {guest}: {what}")]
    Guest {
        /// Which.
        guest: usize,
        /// What it did.
        what: String,
    },
    /// A guest made no progress.
    #[error("no progress for {} s: {guests:?}", PATIENCE.as_secs())]
    Stuck {
        /// What the guests had counted.
        guests: [Side; 2],
    },
    /// It was asked to end.
    #[error("interrupted")]
    Interrupted,
}

impl DemoError {
    pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// Percentiles of round trips, in nanoseconds.
pub(super) fn percentiles(mut trips: Vec<u64>) -> [u64; 5] {
    trips.sort_unstable();
    let at =
        |per_mille: usize| trips.get((trips.len() * per_mille / 1000).min(trips.len().max(1) - 1));
    [500, 900, 990, 999, 1000].map(|per_mille| at(per_mille).copied().unwrap_or(0))
}

/// How long a guest may go without progress.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
