//! Sources outside a function's inputs: readable eventfds, the physical line, and the time to
//! commit.

use super::SharedFunction;
use super::locked::LockedFunction;
use crate::eventfd::{EventSource, Loop};
use crate::kvm::platform::Platform;
use crate::kvm::waiters::Waiter;
use msix_core::Vector;
use std::sync::{Arc, Weak};

/// The vectors' eventfds.
impl<P: Platform> EventSource for SharedFunction<P> {
    fn readable(&self, vector: Vector) {
        self.while_open(|locked| locked.read_eventfd(vector));
    }
}

impl<P: Platform> Waiter for SharedFunction<P> {
    fn flush(&self) {
        self.while_open(LockedFunction::flush);
    }
}

/// The trigger of a physical line. It is a separate source, because a source is called with vectors
/// only.
struct LineTrigger<P: Platform>(Weak<SharedFunction<P>>);

impl<P: Platform> EventSource for LineTrigger<P> {
    fn readable(&self, _: Vector) {
        if let Some(shared) = self.0.upgrade() {
            shared.while_open(LockedFunction::read_line);
        }
    }
}

impl LockedFunction {
    /// Makes the loop call `shared` when the physical line has fired, as long as the returned
    /// source is alive.
    pub(super) fn join_line<P: Platform>(
        &mut self,
        events: &Arc<Loop>,
        shared: &Weak<SharedFunction<P>>,
    ) -> Option<Arc<dyn EventSource>> {
        let line = self.device.as_mut()?.line.as_mut()?;
        let trigger: Arc<dyn EventSource> = Arc::new(LineTrigger(Weak::clone(shared)));
        line.join(events, Arc::downgrade(&trigger));
        Some(trigger)
    }
}
