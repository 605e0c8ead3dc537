//! Vectors that came and are not connected.

use super::wire::OutOfDescriptors;
use std::{fmt, io};

/// Why a vector is not connected. The connection to the server goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Its descriptor was lost (E10).
    #[error("vector {vector}: {source}")]
    OutOfDescriptors {
        /// Which.
        vector: u16,
        /// What was missing.
        source: OutOfDescriptors,
    },
    /// As many other peers are connected as the device takes.
    #[error("{0} other peers are connected already, and that is the limit")]
    PeerLimit(usize),
    /// The system refused what a vector of the device itself needs.
    #[error("vector {vector}: {source}")]
    System {
        /// Which.
        vector: u16,
        /// What the system said.
        source: io::Error,
    },
}

/// The last vector that came and is not connected: it cannot be rung, and if it is the device's own,
/// nobody rings the guest by it. A peer that goes and comes again is tried again.
#[derive(Debug)]
pub struct Unconnected {
    /// Whose it is.
    pub peer: u16,
    /// Why it is not connected.
    pub reason: ConnectError,
    /// How many there were since the device was made.
    pub count: u64,
}

impl fmt::Display for Unconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, reason, count } = self;
        write!(f, "peer {peer} is not connected in full: {reason} ({count} vectors so far)")
    }
}
