//! The end of a function, which the thread that drops its last handle carries out, whoever else is
//! just using it: the loop, a thread that makes its calls to the VMM, or a device that notifies.

use super::{Function, SharedFunction};
use crate::kvm::platform::Platform;
use crate::panics::Panics;
use std::sync::atomic::Ordering;

impl<P: Platform> Clone for Function<P> {
    fn clone(&self) -> Self {
        self.shared.handles.fetch_add(1, Ordering::Relaxed);
        Self { shared: std::sync::Arc::clone(&self.shared) }
    }
}

impl<P: Platform> Drop for Function<P> {
    /// Closes the function when this was its last handle: disables the device, takes all eventfds from
    /// KVM, gives the GSIs back, and lowers the pin. All this happens in this thread, except that a
    /// thread that is making a call to the VMM's parts drops those itself, when it has returned.
    fn drop(&mut self) {
        if self.shared.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.close();
        }
    }
}

impl<P: Platform> SharedFunction<P> {
    fn close(&self) {
        let mut panics = Panics::default();
        self.routes.leave(self.waiter);
        let mut locked = self.lock();
        locked.closed = true;
        if let Some(made) = self.queue.get() {
            made.queue.close();
            // It was watched: this cannot fail.
            let _ = self.routes.events().unwatch(&*made.queue);
            self.routes.events().leave(made.id);
        }
        panics.catch(|| locked.host.close());
        let device = locked.device.take();
        panics.catch(|| drop(device));
        drop(locked);
        self.drop_outside(&mut panics);
        panics.resume_in_drop();
    }

    /// Drops the VMM's parts of a closed function, unless another thread is using them: that one looks
    /// whether the function is closed once it has let go.
    pub(super) fn drop_outside(&self, panics: &mut Panics) {
        let Some(outside) = self.outside.try_lock().map(|mut outside| outside.take()) else {
            return;
        };
        panics.catch(|| drop(outside));
    }
}
