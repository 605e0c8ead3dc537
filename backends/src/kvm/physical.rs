//! What stands behind a passed-through function.

use msix_core::Vector;
use std::io;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// A real device whose interrupts arrive at the eventfds of a function's vectors. Told of changes
/// after KVM was, so that an event finds its way prepared.
pub trait PhysicalMsix: Send {
    /// The guest's MSI-X Enable is now `enabled`. When it is not, nothing is bound.
    fn set_enabled(&mut self, enabled: bool);
    /// The guest uses these: their events go to their eventfds from now on, which `eventfd` makes for
    /// any vector of the table. Those, of all in use, whose events do not.
    fn bind(
        &mut self,
        vectors: &[Vector],
        eventfd: &mut dyn FnMut(Vector) -> io::Result<Arc<EventFd>>,
    ) -> Vec<Vector>;
    /// The guest masks these. Their events must not be lost.
    fn unused(&mut self, vectors: &[Vector]);
}

/// A real device's MSI, whose vectors are bound all at once.
pub trait PhysicalMsi: Send {
    /// The guest enabled so many vectors, 1 to 32: their events go to their eventfds from now on.
    /// How many of them, from 0 on, really do. What was enabled before is not any more.
    fn enable(
        &mut self,
        vectors: u16,
        eventfd: &mut dyn FnMut(Vector) -> io::Result<Arc<EventFd>>,
    ) -> u16;
    /// None do.
    fn disable(&mut self);
}

/// A real device's INTx: masked when it fires, until it is unmasked (D12).
pub trait PhysicalIntx: Send {
    /// It writes `trigger` when it fires, from now on.
    ///
    /// # Errors
    /// The device's; it then does not fire.
    fn enable(&mut self, trigger: &EventFd) -> io::Result<()>;
    /// A write of `eventfd` unmasks it from now on, until it is disabled.
    ///
    /// # Errors
    /// The device's: somebody must call [`unmask`](Self::unmask).
    fn unmask_by(&mut self, eventfd: &EventFd) -> io::Result<()>;
    /// Unmasks it; what still asserts it makes it fire again.
    fn unmask(&mut self);
    /// It fires no more.
    fn disable(&mut self);
}
