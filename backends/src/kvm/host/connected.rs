//! The eventfd of each vector: made here when first needed, or made elsewhere and connected.

use super::VectorHost;
use crate::eventfd::{refuse_semaphore, ring, take};
use msix_core::Vector;
use std::io;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

impl VectorHost {
    /// Connects `vector` to an eventfd that was made elsewhere. Returns the vectors that failed.
    pub(in crate::kvm) fn connect(
        &mut self,
        vector: Vector,
        eventfd: EventFd,
    ) -> io::Result<Vec<Vector>> {
        let index = self.index(vector)?;
        if self.made(index).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        refuse_semaphore(&eventfd)?;
        Ok(self.put_in(index, eventfd))
    }

    /// Connects `vector` to another eventfd than before, if it had one. Returns the vectors that failed.
    pub(in crate::kvm) fn reconnect(
        &mut self,
        vector: Vector,
        eventfd: EventFd,
    ) -> io::Result<Vec<Vector>> {
        let index = self.index(vector)?;
        refuse_semaphore(&eventfd)?;
        self.unwatch(index);
        self.end_watch(index);
        self.take_back(index);
        if self.uses[usize::from(index)].assigned.is_some() {
            // The next flush tries again what it can, and everything is as it was.
            let what = "KVM did not let go of the eventfd before";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, what));
        }
        if self.made(index).is_some_and(|before| take(before)) {
            ring(&eventfd);
        }
        Ok(self.put_in(index, eventfd))
    }

    fn put_in(&mut self, index: u16, eventfd: EventFd) -> Vec<Vector> {
        self.eventfds[usize::from(index)].gate.share(std::thread::yield_now);
        self.connected[usize::from(index)] = Some(Arc::new(eventfd));
        self.uses[usize::from(index)].external = true;
        if let Some(target) = self.target(index) {
            self.wait_for_route(self.owner, target);
        }
        let mut failed = Vec::new();
        self.arm_current(&mut failed);
        self.watch(index);
        self.register_early(index);
        failed
    }

    /// Returns the eventfd of `vector`, which may be held and written elsewhere from now on. The
    /// function itself writes it no more: a holder can make it full and blocking (K14).
    pub(in crate::kvm) fn eventfd(&mut self, vector: Vector) -> io::Result<Arc<EventFd>> {
        let index = self.index(vector)?;
        let eventfd = match &self.connected[usize::from(index)] {
            Some(connected) => Arc::clone(connected),
            None => Arc::clone(self.eventfds[usize::from(index)].share()?),
        };
        self.uses[usize::from(index)].external = true;
        self.join_target(index);
        self.register_early(index);
        Ok(eventfd)
    }

    /// Puts an eventfd that others write into the loop, before the guest waits for it. What fails is
    /// tried again when it should be watched.
    fn register_early(&mut self, index: u16) {
        if self.keeps_registered {
            self.register(index);
        }
    }

    /// Makes the eventfds that are made here and do not exist yet.
    pub(in crate::kvm) fn make_eventfds(&mut self) -> io::Result<()> {
        for index in (0..).take(self.uses.len()) {
            self.get_or_make(index)?;
        }
        Ok(())
    }

    /// Returns the eventfd of a vector, if there is one.
    pub(super) fn made(&self, index: u16) -> Option<&Arc<EventFd>> {
        let connected = self.connected.get(usize::from(index))?.as_ref();
        connected.or_else(|| self.eventfds[usize::from(index)].get())
    }

    /// Returns the eventfd of a vector, made when first needed.
    pub(super) fn get_or_make(&self, index: u16) -> io::Result<&Arc<EventFd>> {
        match &self.connected[usize::from(index)] {
            Some(connected) => Ok(connected),
            None => self.eventfds[usize::from(index)].get_or_make(),
        }
    }

    fn index(&self, vector: Vector) -> io::Result<u16> {
        let index = vector.index();
        (usize::from(index) < self.uses.len())
            .then_some(index)
            .ok_or(io::ErrorKind::InvalidInput.into())
    }
}
