//! The system calls, and nothing else.

use super::message::KvmMessage;
use super::route_table::RouteEntry;
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_MSI_VALID_DEVID, KvmIrqRouting,
    kvm_irq_routing_entry, kvm_irq_routing_irqchip, kvm_irq_routing_msi,
    kvm_irq_routing_msi__bindgen_ty_1, kvm_msi,
};
use kvm_ioctls::VmFd;
use std::io;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// The system calls that the backend makes on a VM. [`VmFd`] implements it; another implementation
/// can count, fail or pretend. They are called under locks of the function and of its routes: they must
/// use neither, nor wait for a thread that does.
#[cfg_attr(test, mockall::automock)]
pub trait Vm: Send + Sync {
    /// Replaces the whole table (KVM_SET_GSI_ROUTING, K1).
    ///
    /// # Errors
    /// The kernel's; the old table is then still in force (K2).
    fn set_routes(&self, routes: &[RouteEntry]) -> io::Result<()>;
    /// Assigns an irqfd (KVM_IRQFD): from now on the VM takes the eventfd's events, including what
    /// it holds (K7).
    ///
    /// # Errors
    /// The kernel's (K4).
    fn assign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()>;
    /// Deassigns an irqfd (KVM_IRQFD with KVM_IRQFD_FLAG_DEASSIGN): from now on the eventfd keeps
    /// its events (K8).
    ///
    /// # Errors
    /// The kernel's (K9).
    fn deassign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()>;
    /// Sends a message (KVM_SIGNAL_MSI). Returns whether any processor took it (K10).
    ///
    /// # Errors
    /// The kernel's.
    fn signal(&self, msi: KvmMessage) -> io::Result<bool>;
}

impl Vm for VmFd {
    fn set_routes(&self, routes: &[RouteEntry]) -> io::Result<()> {
        let entries: Vec<kvm_irq_routing_entry> = routes.iter().map(|&entry| raw(entry)).collect();
        let table = KvmIrqRouting::from_entries(&entries).map_err(io::Error::other)?;
        Ok(self.set_gsi_routing(&table)?)
    }

    fn assign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()> {
        Ok(self.register_irqfd(eventfd, gsi)?)
    }

    fn deassign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()> {
        Ok(self.unregister_irqfd(eventfd, gsi)?)
    }

    fn signal(&self, msi: KvmMessage) -> io::Result<bool> {
        let taken = self.signal_msi(kvm_msi {
            address_lo: msi.address_lo,
            address_hi: msi.address_hi,
            data: msi.data,
            flags: if msi.device.is_some() { KVM_MSI_VALID_DEVID } else { 0 },
            devid: msi.device.unwrap_or(0),
            ..Default::default()
        })?;
        Ok(taken > 0)
    }
}

impl<V: Vm + ?Sized> Vm for Arc<V> {
    fn set_routes(&self, routes: &[RouteEntry]) -> io::Result<()> {
        (**self).set_routes(routes)
    }

    fn assign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()> {
        (**self).assign(eventfd, gsi)
    }

    fn deassign(&self, eventfd: &EventFd, gsi: u32) -> io::Result<()> {
        (**self).deassign(eventfd, gsi)
    }

    fn signal(&self, msi: KvmMessage) -> io::Result<bool> {
        (**self).signal(msi)
    }
}

fn raw(entry: RouteEntry) -> kvm_irq_routing_entry {
    let mut raw = kvm_irq_routing_entry { gsi: entry.gsi(), ..Default::default() };
    match entry {
        RouteEntry::Msi { msi, .. } => {
            raw.type_ = KVM_IRQ_ROUTING_MSI;
            raw.flags = if msi.device.is_some() { KVM_MSI_VALID_DEVID } else { 0 };
            raw.u.msi = kvm_irq_routing_msi {
                address_lo: msi.address_lo,
                address_hi: msi.address_hi,
                data: msi.data,
                __bindgen_anon_1: kvm_irq_routing_msi__bindgen_ty_1 {
                    devid: msi.device.unwrap_or(0),
                },
            };
        }
        RouteEntry::Pin { irqchip, pin, .. } => {
            raw.type_ = KVM_IRQ_ROUTING_IRQCHIP;
            raw.u.irqchip = kvm_irq_routing_irqchip { irqchip, pin };
        }
    }
    raw
}
