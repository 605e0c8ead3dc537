//! Why a backend does not work on this machine.

use std::io;

/// A host facility that is missing, forbidden or too old, with the reason and a remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
        /// The system's error.
        source: io::Error,
    },
    /// It lacks a feature that MSI-X needs.
    #[error("{node} lacks {what}")]
    Lacks {
        /// The device node.
        node: &'static str,
        /// The missing feature.
        what: &'static str,
    },
}

impl Unavailable {
    /// Returns the variant for an error of opening `node`.
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
