//! Brings the INTx line of a passed-through device to the guest's interrupt controller.

use super::physical::PhysicalIntx;
use crate::eventfd::{self, EventSource, Loop, borrow};
use crate::happening::failed;
use crate::panics::Panics;
use msix_core::Vector;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Weak};
use std::{fmt, io};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// The system calls that a line makes on a VM: KVM_IRQFD with KVM_IRQFD_FLAG_RESAMPLE (K12). Called
/// under the function's lock: they must not use the function or its routes.
pub trait Resampling: Send + Sync {
    /// Makes a write of `trigger` assert `gsi`; the guest's EOI then lowers it and writes
    /// `resample`.
    ///
    /// # Errors
    /// The kernel's; EINVAL with a split irqchip (K4).
    fn assign(&self, trigger: BorrowedFd<'_>, resample: BorrowedFd<'_>, gsi: u32)
    -> io::Result<()>;
    /// Undoes [`assign`](Self::assign), and lowers the line.
    ///
    /// # Errors
    /// The kernel's.
    fn deassign(&self, trigger: BorrowedFd<'_>, gsi: u32) -> io::Result<()>;
}

impl<V: Resampling + ?Sized> Resampling for Arc<V> {
    fn assign(
        &self,
        trigger: BorrowedFd<'_>,
        resample: BorrowedFd<'_>,
        gsi: u32,
    ) -> io::Result<()> {
        (**self).assign(trigger, resample, gsi)
    }

    fn deassign(&self, trigger: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        (**self).deassign(trigger, gsi)
    }
}

/// The party that brings the line to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bringer {
    Nobody,
    /// KVM, with this GSI: the VMM is not involved.
    Kernel(u32),
    /// Userspace, which reads the trigger.
    Userspace,
}

/// The physical line of a passed-through function, and the eventfds between it and the guest.
pub struct AssignedLine {
    device: Box<dyn PhysicalIntx>,
    /// The VM and the GSI of the pin, if KVM can bring the line to it.
    resampled: Option<(Box<dyn Resampling>, u32)>,
    /// The loop that reads the trigger for userspace, and the line's number there.
    joined: Option<(Arc<Loop>, usize)>,
    trigger: EventFd,
    resample: EventFd,
    by: Bringer,
}

impl AssignedLine {
    /// Takes the line of `device`, which userspace brings to the guest.
    ///
    /// # Errors
    /// Those of `eventfd2`.
    pub fn new(device: Box<dyn PhysicalIntx>) -> io::Result<Self> {
        Ok(Self {
            device,
            resampled: None,
            joined: None,
            trigger: EventFd::new(EFD_NONBLOCK)?,
            resample: EventFd::new(EFD_NONBLOCK)?,
            by: Bringer::Nobody,
        })
    }

    /// Lets KVM bring the line to `gsi`, the guest's pin, and the EOI back, without the VMM. Needs
    /// a full in-kernel irqchip; KVM refuses this with a split one (K12).
    #[must_use]
    pub fn resampled_by(mut self, vm: Box<dyn Resampling>, gsi: u32) -> Self {
        self.resampled = Some((vm, gsi));
        self
    }

    /// Makes the loop call `source` when the line has fired. Call it before the line is first
    /// armed.
    pub(super) fn join(&mut self, events: &Arc<Loop>, source: Weak<dyn EventSource>) {
        self.joined = Some((Arc::clone(events), events.join(source)));
    }

    /// Arms the line. Returns whether KVM brings it to the guest; otherwise userspace does, if the
    /// line can fire at all. A panic of the VM or the device is a failure, and is added to `panics`.
    pub(super) fn arm(&mut self, panics: &mut Panics) -> bool {
        let (trigger, resample) = (borrow(&self.trigger), borrow(&self.resample));
        if let Some((vm, gsi)) = &self.resampled
            && panics
                .attempt(|| vm.assign(trigger, resample, *gsi))
                .inspect_err(failed("KVM_IRQFD, resample"))
                .is_ok()
        {
            if panics.attempt(|| self.device.enable(trigger)).is_ok() {
                // The kernel must unmask the line itself, because nothing else would.
                if panics.attempt(|| self.device.unmask_by(resample)).is_ok() {
                    self.by = Bringer::Kernel(*gsi);
                    return true;
                }
                panics.catch(|| self.device.disable());
            }
            let _ = panics.attempt(|| vm.deassign(trigger, *gsi));
            self.drain();
        }
        if self.watch() {
            if panics.attempt(|| self.device.enable(trigger)).is_ok() {
                self.by = Bringer::Userspace;
            } else {
                self.unwatch();
            }
        }
        false
    }

    /// Disarms the line: it reaches the guest no more.
    pub(super) fn disarm(&mut self, panics: &mut Panics) {
        let by = std::mem::replace(&mut self.by, Bringer::Nobody);
        if by != Bringer::Nobody {
            panics.catch(|| self.device.disable());
        }
        match (by, &self.resampled) {
            (Bringer::Kernel(gsi), Some((vm, _))) => {
                // It was assigned: only a VM that is gone refuses.
                let _ = panics.attempt(|| vm.deassign(borrow(&self.trigger), gsi));
            }
            (Bringer::Userspace, _) => self.unwatch(),
            _ => {}
        }
        self.drain();
    }

    /// Returns whether KVM brings the line to the guest.
    pub(super) fn is_brought_by_kernel(&self) -> bool {
        matches!(self.by, Bringer::Kernel(_))
    }

    /// Returns whether userspace brings the line to the guest and the line has fired; takes the
    /// event.
    pub(super) fn take(&mut self) -> bool {
        self.by == Bringer::Userspace && eventfd::take(&self.trigger)
    }

    pub(super) fn unmask(&mut self) {
        if self.by == Bringer::Userspace {
            self.device.unmask();
        }
    }

    fn watch(&self) -> bool {
        let watch = |(events, id): &(Arc<Loop>, usize)| {
            let watched = events.watch(*id, Vector::new(0), &self.trigger);
            watched.inspect_err(failed("epoll_ctl")).is_ok()
        };
        self.joined.as_ref().is_some_and(watch)
    }

    fn unwatch(&self) {
        if let Some((events, _)) = &self.joined {
            // It was watched: this cannot fail.
            let _ = events.unwatch(&self.trigger);
        }
    }

    fn drain(&self) {
        eventfd::take(&self.trigger);
        eventfd::take(&self.resample);
    }
}

impl Drop for AssignedLine {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        self.disarm(&mut panics);
        if let Some((events, id)) = self.joined.take() {
            events.leave(id);
        }
        panics.resume_in_drop();
    }
}

impl fmt::Debug for AssignedLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssignedLine").field("by", &self.by).finish_non_exhaustive()
    }
}
