//! The system calls, and nothing else.

use super::message::KvmMessage;
use super::route_table::RouteEntry;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// The system calls that the backend makes on a VM. With feature `kvm`, `VmFd` of kvm-ioctls
/// implements it. Implement it for another version of kvm-ioctls or for another hypervisor: what routes
/// a message to a number (GSI), and turns writes of an eventfd into that message. An implementation can
/// also count, fail or pretend: `FakeVm` of feature `testing` does. The methods are called under locks
/// of the function and of its routes: they must use neither, nor wait for a thread that does.
///
/// An eventfd stays open for as long as it is assigned, and has the same number at both calls.
/// [`eventfd::with`](crate::eventfd::with) turns one into the `EventFd` that the calls of other crates take.
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
    fn assign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()>;
    /// Deassigns an irqfd (KVM_IRQFD with KVM_IRQFD_FLAG_DEASSIGN): from now on the eventfd keeps
    /// its events (K8).
    ///
    /// # Errors
    /// The kernel's (K9).
    fn deassign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()>;
    /// Sends a message (KVM_SIGNAL_MSI). Returns whether any processor took it: false also where none ever
    /// will, because of its address (K10, K15).
    ///
    /// # Errors
    /// The kernel's, when it may take the message later: it is sent again until then.
    fn signal(&self, msi: KvmMessage) -> io::Result<bool>;
    /// Raises an SPI of Arm's interrupt controller and lowers it (KVM_IRQ_LINE, twice), which is one interrupt
    /// (K16). `spi` counts from 0: SPI 3 is interrupt 35. Returns whether there is such an SPI. Only functions
    /// with messages to a [`Gicv2mFrame`](super::Gicv2mFrame) make this call.
    ///
    /// # Errors
    /// The kernel's, when it may take the interrupt later: it is raised again until then. `Unsupported`, if
    /// this is not implemented.
    fn pulse_spi(&self, spi: u32) -> io::Result<bool> {
        let _ = spi;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Returns whether messages must carry a device id (KVM_CAP_MSI_DEVID of the VM, not of /dev/kvm): with
    /// an Arm ITS, once that exists (K15). A function asks when it is made.
    fn needs_device_ids(&self) -> bool {
        false
    }
}

impl<V: Vm + ?Sized> Vm for Arc<V> {
    fn set_routes(&self, routes: &[RouteEntry]) -> io::Result<()> {
        (**self).set_routes(routes)
    }

    fn assign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        (**self).assign(eventfd, gsi)
    }

    fn deassign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        (**self).deassign(eventfd, gsi)
    }

    fn signal(&self, msi: KvmMessage) -> io::Result<bool> {
        (**self).signal(msi)
    }

    fn pulse_spi(&self, spi: u32) -> io::Result<bool> {
        (**self).pulse_spi(spi)
    }

    fn needs_device_ids(&self) -> bool {
        (**self).needs_device_ids()
    }
}
