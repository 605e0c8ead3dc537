//! The INTx line of a passed-through device, to the guest's interrupt controller.

use super::physical::PhysicalLine;
use super::routes::Routes;
use crate::eventfd::Source;
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
enum State {
    Unused,
    /// KVM, with this GSI: the VMM hears of nothing.
    Kernel(u32),
    /// Userspace reads the trigger.
    Userspace,
}

/// A physical line, and the eventfds between it and the guest.
pub(super) struct Wire {
    device: Box<dyn PhysicalLine>,
    /// The VM, and the GSI of the pin, where KVM can bring the line to it.
    resampled: Option<(Box<dyn Resampling>, u32)>,
    routes: Arc<Routes>,
    id: usize,
    trigger: EventFd,
    resample: EventFd,
    state: State,
}

impl Wire {
    pub(super) fn new(
        routes: &Arc<Routes>,
        device: Box<dyn PhysicalLine>,
        resampled: Option<(Box<dyn Resampling>, u32)>,
    ) -> io::Result<Self> {
        Ok(Self {
            device,
            resampled,
            routes: Arc::clone(routes),
            id: 0,
            trigger: EventFd::new(EFD_NONBLOCK)?,
            resample: EventFd::new(EFD_NONBLOCK)?,
            state: State::Unused,
        })
    }

    /// Has the loop tell `source` when the line has fired. Before the first use.
    pub(super) fn join(&mut self, source: Weak<dyn Source>) {
        self.id = self.routes.events().join(source);
    }

    /// Arms the line; whether KVM brings it to the guest. Otherwise userspace does, if it can fire at all.
    pub(super) fn arm(&mut self) -> bool {
        if let Some((vm, gsi)) = &self.resampled
            && vm.assign(&self.trigger, &self.resample, *gsi).is_ok()
        {
            if self.device.enable(&self.trigger).is_ok() {
                // The kernel unmasks the line itself, or nobody would.
                if self.device.unmask_by(&self.resample).is_ok() {
                    self.state = State::Kernel(*gsi);
                    return true;
                }
                self.device.disable();
            }
            let _ = vm.deassign(&self.trigger, *gsi);
            self.drain();
        }
        let watched = self.routes.events().watch(self.id, Vector::new(0), &self.trigger);
        if watched.is_ok() && self.device.enable(&self.trigger).is_ok() {
            self.state = State::Userspace;
        } else if watched.is_ok() {
            let _ = self.routes.events().unwatch(&self.trigger);
        }
        false
    }

    /// Disarms the line: nothing of it arrives any more.
    pub(super) fn disarm(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Unused);
        if state != State::Unused {
            self.device.disable();
        }
        match (state, &self.resampled) {
            (State::Kernel(gsi), Some((vm, _))) => {
                // It was assigned: only a VM that is gone refuses.
                let _ = vm.deassign(&self.trigger, gsi);
            }
            (State::Userspace, _) => {
                let _ = self.routes.events().unwatch(&self.trigger);
            }
            _ => {}
        }
        self.drain();
    }

    /// Whether userspace brings the line to the guest, and it has fired.
    pub(super) fn take(&mut self) -> bool {
        self.state == State::Userspace && self.trigger.read().is_ok()
    }

    pub(super) fn unmask(&mut self) {
        if self.state == State::Userspace {
            self.device.unmask();
        }
    }

    fn drain(&self) {
        // Empty is as good.
        let _ = (self.trigger.read(), self.resample.read());
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.disarm();
        self.routes.events().leave(self.id);
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("state", &self.state).finish_non_exhaustive()
    }
}
