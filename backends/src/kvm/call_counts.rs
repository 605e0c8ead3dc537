//! Counts the calls that are made to the kernel.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of the calls to the kernel so far, including failed ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RouteStats {
    /// Calls of KVM_SET_GSI_ROUTING.
    pub commits: u64,
    /// Calls of KVM_IRQFD that assign.
    pub assigns: u64,
    /// Calls of KVM_IRQFD that deassign.
    pub deassigns: u64,
    /// Interrupts sent from userspace: calls of KVM_SIGNAL_MSI, and pulses of an SPI by KVM_IRQ_LINE.
    pub signals: u64,
    /// Calls of any kind that failed.
    pub failures: u64,
    /// GSIs given out now; not a total.
    pub gsis: u64,
}

#[derive(Default)]
pub(super) struct CallCounts {
    pub(super) commits: AtomicU64,
    pub(super) assigns: AtomicU64,
    pub(super) deassigns: AtomicU64,
    pub(super) signals: AtomicU64,
    pub(super) failures: AtomicU64,
}

impl CallCounts {
    /// Returns the counts so far, without the GSIs.
    pub(super) fn stats(&self) -> RouteStats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        RouteStats {
            commits: read(&self.commits),
            assigns: read(&self.assigns),
            deassigns: read(&self.deassigns),
            signals: read(&self.signals),
            failures: read(&self.failures),
            gsis: 0,
        }
    }
}
