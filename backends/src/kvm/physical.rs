//! What stands behind a passed-through function.

use msix_core::Vector;
use std::io;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// A real device whose interrupts arrive at the eventfds of a function's vectors. Told of changes
/// after KVM was, so that an event finds its way prepared.
pub trait Physical: Send {
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
