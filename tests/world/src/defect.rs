//! Faults, put in on purpose, at the edges of the function: the world must find each.

use msix_backends::kvm::PhysicalMsi;
use msix_core::Vector;
use std::io;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// A fault that a backend once had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// A load that changes Enable, and a resume, tell the pin and the physical line nothing.
    DeafLineAtResume,
    /// The first input between a load and its resume is taken for the resume.
    EagerAfterLoad,
    /// The way past the lock stays open between a load and its resume.
    OpenGateAfterLoad,
    /// Interrupt Status reads 0 once Interrupt Disable is set.
    StatusFollowsDisable,
    /// MSI vectors that the kernel did not bind are taken for bound.
    UnboundMsiForgotten,
    /// What eventfds hold while no backend is attached is in no snapshot.
    HeldNotSavedWhileDetached,
    /// What eventfds hold while no backend is attached outlives a reset.
    HeldOutlivesReset,
    /// The same outlives a withdrawal.
    HeldOutlivesWithdraw,
    /// A function that goes leaves its pin high.
    PinLeftHigh,
    /// A message that is rewritten under an irqfd is never told.
    RewriteNeverTold,
    /// A vector with a half-written message stays KVM's.
    HalfWriteNotHeard,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::DeafLineAtResume,
        Self::EagerAfterLoad,
        Self::OpenGateAfterLoad,
        Self::StatusFollowsDisable,
        Self::UnboundMsiForgotten,
        Self::HeldNotSavedWhileDetached,
        Self::HeldOutlivesReset,
        Self::HeldOutlivesWithdraw,
        Self::PinLeftHigh,
        Self::RewriteNeverTold,
        Self::HalfWriteNotHeard,
    ];
}

/// A device that says it bound all that it was asked for.
pub(crate) struct Boasting<T>(pub(crate) T);

impl<T: PhysicalMsi> PhysicalMsi for Boasting<T> {
    fn enable(
        &mut self,
        vectors: u16,
        eventfd: &mut dyn FnMut(Vector) -> io::Result<Arc<EventFd>>,
    ) -> u16 {
        self.0.enable(vectors, eventfd);
        vectors
    }

    fn disable(&mut self) {
        self.0.disable();
    }
}
