//! The INTx line of a passed-through device, to the guest's interrupt controller.

use super::physical::PhysicalIntx;
use crate::eventfd::{EventSource, Loop};
use msix_core::Vector;
use std::sync::{Arc, Weak};
use std::{fmt, io};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// What a line asks of a VM: KVM_IRQFD with KVM_IRQFD_FLAG_RESAMPLE (K12).
pub trait Resampling: Send + Sync {
    /// A write of `trigger` asserts `gsi`; the guest's EOI lowers it and writes `resample`.
    ///
    /// # Errors
    /// The kernel's; EINVAL with a split irqchip (K4).
    fn assign(&self, trigger: &EventFd, resample: &EventFd, gsi: u32) -> io::Result<()>;
    /// Not any more; the line is lowered.
    ///
    /// # Errors
    /// The kernel's.
    fn deassign(&self, trigger: &EventFd, gsi: u32) -> io::Result<()>;
}

impl Resampling for kvm_ioctls::VmFd {
    fn assign(&self, trigger: &EventFd, resample: &EventFd, gsi: u32) -> io::Result<()> {
        Ok(self.register_irqfd_with_resample(trigger, resample, gsi)?)
    }

    fn deassign(&self, trigger: &EventFd, gsi: u32) -> io::Result<()> {
        Ok(self.unregister_irqfd(trigger, gsi)?)
    }
}

impl<V: Resampling + ?Sized> Resampling for Arc<V> {
    fn assign(&self, trigger: &EventFd, resample: &EventFd, gsi: u32) -> io::Result<()> {
        (**self).assign(trigger, resample, gsi)
    }

    fn deassign(&self, trigger: &EventFd, gsi: u32) -> io::Result<()> {
        (**self).deassign(trigger, gsi)
    }
}

/// Who brings the line to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bringer {
    Nobody,
    /// KVM, with this GSI: the VMM hears of nothing.
    Kernel(u32),
    /// Userspace reads the trigger.
    Userspace,
}

/// The physical line of a passed-through function, and the eventfds between it and the guest.
pub struct AssignedLine {
    device: Box<dyn PhysicalIntx>,
    /// The VM, and the GSI of the pin, where KVM can bring the line to it.
    resampled: Option<(Box<dyn Resampling>, u32)>,
    /// The loop that reads the trigger for userspace, and the line's number there.
    joined: Option<(Arc<Loop>, usize)>,
    trigger: EventFd,
    resample: EventFd,
    by: Bringer,
}

impl AssignedLine {
    /// The line of `device`, which userspace brings to the guest.
    ///
    /// # Errors
    /// Of `eventfd2`.
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

    /// Lets KVM bring the line to `gsi`, the guest's pin, and back without the VMM. For a full
    /// in-kernel irqchip; it refuses with a split one (K12).
    #[must_use]
    pub fn resampled_by(mut self, vm: Box<dyn Resampling>, gsi: u32) -> Self {
        self.resampled = Some((vm, gsi));
        self
    }

    /// Has the loop tell `source` when the line has fired. Before the first use.
    pub(super) fn join(&mut self, events: &Arc<Loop>, source: Weak<dyn EventSource>) {
        self.joined = Some((Arc::clone(events), events.join(source)));
    }

    /// Arms the line; whether KVM brings it to the guest. Otherwise userspace does, if it can fire at all.
    pub(super) fn arm(&mut self) -> bool {
        if let Some((vm, gsi)) = &self.resampled
            && vm.assign(&self.trigger, &self.resample, *gsi).is_ok()
        {
            if self.device.enable(&self.trigger).is_ok() {
                // The kernel unmasks the line itself, or nobody would.
                if self.device.unmask_by(&self.resample).is_ok() {
                    self.by = Bringer::Kernel(*gsi);
                    return true;
                }
                self.device.disable();
            }
            let _ = vm.deassign(&self.trigger, *gsi);
            self.drain();
        }
        if self.watch() {
            if self.device.enable(&self.trigger).is_ok() {
                self.by = Bringer::Userspace;
            } else {
                self.unwatch();
            }
        }
        false
    }

    /// Disarms the line: nothing of it arrives any more.
    pub(super) fn disarm(&mut self) {
        let by = std::mem::replace(&mut self.by, Bringer::Nobody);
        if by != Bringer::Nobody {
            self.device.disable();
        }
        match (by, &self.resampled) {
            (Bringer::Kernel(gsi), Some((vm, _))) => {
                // It was assigned: only a VM that is gone refuses.
                let _ = vm.deassign(&self.trigger, gsi);
            }
            (Bringer::Userspace, _) => self.unwatch(),
            _ => {}
        }
        self.drain();
    }

    /// Whether userspace brings the line to the guest, and it has fired.
    pub(super) fn take(&mut self) -> bool {
        self.by == Bringer::Userspace && self.trigger.read().is_ok()
    }

    pub(super) fn unmask(&mut self) {
        if self.by == Bringer::Userspace {
            self.device.unmask();
        }
    }

    fn watch(&self) -> bool {
        let watch = |(events, id): &(Arc<Loop>, usize)| {
            events.watch(*id, Vector::new(0), &self.trigger).is_ok()
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
        // Empty is as good.
        let _ = (self.trigger.read(), self.resample.read());
    }
}

impl Drop for AssignedLine {
    fn drop(&mut self) {
        self.disarm();
        if let Some((events, id)) = self.joined.take() {
            events.leave(id);
        }
    }
}

impl fmt::Debug for AssignedLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssignedLine").field("by", &self.by).finish_non_exhaustive()
    }
}
