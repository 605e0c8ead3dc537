//! The real device behind a passed-through function. Its traits are called under the function's lock.

use msix_core::Vector;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// A real device that writes the eventfds of a function's vectors. It is called after KVM, so that
/// an event finds its way prepared; under the function's lock, so it must not use the function or its
/// routes, nor wait for a thread that does.
pub trait PhysicalMsix: Send {
    /// Follows the guest's MSI-X Enable. Nothing is bound while it is clear.
    fn set_enabled(&mut self, enabled: bool);
    /// Binds these vectors, which the guest unmasked: their events go to their eventfds from now
    /// on. `eventfd` makes the eventfd of any vector of the table. Returns the live vectors that
    /// could not be bound.
    fn bind(
        &mut self,
        vectors: &[Vector],
        eventfd: &mut dyn FnMut(Vector) -> io::Result<Arc<EventFd>>,
    ) -> Vec<Vector>;
    /// Notes that the guest masked these. Their events must not be lost.
    fn unused(&mut self, vectors: &[Vector]);
}

/// A real device's MSI. Its vectors are bound all at once. Called under the function's lock: it must
/// not use the function or its routes, nor wait for a thread that does.
pub trait PhysicalMsi: Send {
    /// Enables `vectors` vectors, 1 to 32: their events go to their eventfds from now on. Replaces
    /// any previous enable. Returns how many vectors, counted from 0, were enabled.
    fn enable(
        &mut self,
        vectors: u16,
        eventfd: &mut dyn FnMut(Vector) -> io::Result<Arc<EventFd>>,
    ) -> u16;
    /// Disables all vectors.
    fn disable(&mut self);
}

/// A real device's INTx: masked when it fires, until it is unmasked (D12). Called under the function's
/// lock: it must not use the function or its routes, nor wait for a thread that does.
pub trait PhysicalIntx: Send {
    /// Enables the line: it writes the eventfd `trigger` when it fires, from now on. Who keeps it
    /// duplicates it.
    ///
    /// # Errors
    /// The device's; the line then does not fire.
    fn enable(&mut self, trigger: BorrowedFd<'_>) -> io::Result<()>;
    /// Makes a write of `eventfd` unmask the line, until it is disabled.
    ///
    /// # Errors
    /// The device's; the caller must then use [`unmask`](Self::unmask).
    fn unmask_by(&mut self, eventfd: BorrowedFd<'_>) -> io::Result<()>;
    /// Unmasks the line; if it is still asserted, it fires again.
    fn unmask(&mut self);
    /// Disables the line: it fires no more.
    fn disable(&mut self);
}
