//! Whom the engine agrees with.

use msix_core::Policy;

/// Whom the engine agrees with where the specification leaves a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Peer {
    /// What QEMU does, which is who makes the logs that are replayed.
    #[default]
    Qemu,
    /// The strict and lossless reading of the specification.
    Spec,
}

impl Peer {
    /// Returns the policy, and its name in scripts and reports.
    #[must_use]
    pub const fn policy(self) -> (&'static str, Policy) {
        match self {
            Self::Qemu => ("qemu", Policy::QEMU),
            Self::Spec => ("spec", Policy::SPEC),
        }
    }
}
