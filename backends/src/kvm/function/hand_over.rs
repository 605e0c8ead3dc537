//! A function that goes on in another process, with the same device: live update of a VMM.

use super::{Function, always};
use crate::kvm::physical::IndexState;
use crate::kvm::platform::Platform;
use msix_core::Vector;
use std::io;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// What a function leaves to the one that goes on in another process. The VMM sends the eventfds as
/// descriptors, beside that of the device, and the rest as bytes of its own making.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HandedOver {
    /// The snapshot, for [`Function::load`].
    pub snapshot: Vec<u8>,
    /// How the device's MSI-X stands, for `vfio::DeviceMsix::taken_over`.
    pub msix: IndexState,
    /// How many vectors of its MSI are bound, for `vfio::DeviceMsi::taken_over`.
    pub msi: u16,
    /// The eventfds of the vectors, for both, and for [`Function::connect`].
    pub eventfds: Vec<(Vector, Arc<EventFd>)>,
}

impl<P: Platform> Function<P> {
    /// Hands the function over to another process, for a live update of the VMM. The processors must be
    /// stopped. The device goes on, its MSI or MSI-X bound to the eventfds: what it raises from now on
    /// stays in them, and is taken by the one that takes them over. So no interrupt is lost, and none comes
    /// twice. Save the interrupt controllers after this.
    ///
    /// The pin needs nothing: a level is still there when the other process arms the line. Where userspace
    /// brings it to the guest, run the loop after the resume and before the processors: a level that is
    /// taken in after the guest satisfied the device interrupts it once more.
    ///
    /// In the other process, which has got the device's descriptor, and still has, or is given, its
    /// container and group: make the function with `DeviceMsix::taken_over` and `DeviceMsi::taken_over`;
    /// then [`load`](Self::load), [`connect`](Self::connect) each eventfd, and [`resume`](Self::resume), in
    /// this order. The kernel refuses the line that the new function arms while MSI or MSI-X is active;
    /// that is harmless.
    ///
    /// Afterwards this function has no device and sends nothing: drop it.
    ///
    /// # Errors
    /// `ResourceBusy` when KVM does not let go of an eventfd, and would take what the other process should
    /// get. The function then goes on.
    pub fn hand_over(&self) -> io::Result<HandedOver> {
        self.shared.with(|locked| {
            locked.input(|engine, fx| always(engine.detach(fx)));
            locked.attached = false;
            if locked.host.is_stuck() {
                locked.host.flush_routes(); // tries again
            }
            if locked.host.is_stuck() {
                locked.input(|engine, fx| always(engine.attach(fx)));
                locked.attached = true;
                let what = "KVM did not let go of an eventfd";
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, what));
            }
            locked.host.give_back();
            let eventfds = locked.host.all_eventfds();
            let msix = locked.leave_msix();
            let msi = locked.leave_msi();
            // What is in the eventfds by now is pending; what comes later stays there.
            locked.take_in_due();
            locked.input(|engine, fx| always(engine.prepare_save(fx)));
            let mut snapshot = vec![0; locked.engine.saved_len()];
            let saved = locked.engine.save(&mut snapshot);
            debug_assert_eq!(saved, Ok(snapshot.len()));
            Ok(HandedOver { snapshot, msix, msi, eventfds })
        })
    }
}
