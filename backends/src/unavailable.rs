//! Why a backend cannot be used on this machine.

use std::io;

/// A host facility that is missing, forbidden or too old: what, why, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The device node does not exist.
    #[error("{node} does not exist: {remedy}")]
    Missing {
        /// The device node.
        node: &'static str,
        /// What helps.
        remedy: &'static str,
    },
    /// It exists, but this user may not open it.
    #[error("{node} may not be opened by this user: {remedy}")]
    Forbidden {
        /// The device node.
        node: &'static str,
        /// What helps.
        remedy: &'static str,
    },
    /// Opening it failed in another way.
    #[error("{node} cannot be opened: {source}")]
    Open {
        /// The device node.
        node: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It lacks something that MSI-X needs.
    #[error("{node} lacks {what}")]
    Lacks {
        /// The device node.
        node: &'static str,
        /// What it lacks.
        what: &'static str,
    },
}

impl Unavailable {
    /// Sorts an open error.
    #[cfg(any(feature = "kvm", feature = "vfio"))]
    pub(crate) fn open(
        node: &'static str,
        source: io::Error,
        missing: &'static str,
        forbidden: &'static str,
    ) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { node, remedy: missing },
            io::ErrorKind::PermissionDenied => Self::Forbidden { node, remedy: forbidden },
            _ => Self::Open { node, source },
        }
    }
}
