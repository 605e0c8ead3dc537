//! The system calls, made by kvm-ioctls.

use super::assigned_line::Resampling;
use super::message::KvmMessage;
use super::route_table::RouteEntry;
use super::vm::Vm;
use crate::eventfd::with;
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_MSI_VALID_DEVID, KvmIrqRouting,
    kvm_irq_routing_entry, kvm_irq_routing_irqchip, kvm_irq_routing_msi,
    kvm_irq_routing_msi__bindgen_ty_1, kvm_msi,
};
use kvm_ioctls::{Error, VmFd};
use std::io;
use std::os::fd::BorrowedFd;

impl Vm for VmFd {
    fn set_routes(&self, routes: &[RouteEntry]) -> io::Result<()> {
        let mut table = KvmIrqRouting::new(routes.len()).map_err(io::Error::other)?;
        for (to, &entry) in table.as_mut_slice().iter_mut().zip(routes) {
            *to = raw(entry);
        }
        Ok(self.set_gsi_routing(&table)?)
    }

    fn assign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        Ok(with(eventfd, |eventfd| self.register_irqfd(eventfd, gsi))?)
    }

    fn deassign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        Ok(with(eventfd, |eventfd| self.unregister_irqfd(eventfd, gsi))?)
    }

    fn signal(&self, msi: KvmMessage) -> io::Result<bool> {
        let answer = self.signal_msi(kvm_msi {
            address_lo: msi.address_lo,
            address_hi: msi.address_hi,
            data: msi.data,
            flags: if msi.device.is_some() { KVM_MSI_VALID_DEVID } else { 0 },
            devid: msi.device.unwrap_or(0),
            ..Default::default()
        });
        taken(answer)
    }

    #[cfg(target_arch = "aarch64")] // no other has SPIs
    fn pulse_spi(&self, spi: u32) -> io::Result<bool> {
        const SPI: u32 = 1; // KVM_ARM_IRQ_TYPE_SPI
        if spi >= super::route_table::MOST_SPIS {
            return Ok(false); // other bits of the number mean something else
        }
        let line = SPI << 24 | 32 + spi;
        // Once it was raised, there is no reason why it could not be lowered.
        Ok(exists(self.set_irq_line(line, true))? && exists(self.set_irq_line(line, false))?)
    }

    #[cfg(not(target_arch = "x86_64"))] // where no device has one
    fn needs_device_ids(&self) -> bool {
        self.check_extension(kvm_ioctls::Cap::MsiDevid)
    }
}

impl Resampling for VmFd {
    fn assign(
        &self,
        trigger: BorrowedFd<'_>,
        resample: BorrowedFd<'_>,
        gsi: u32,
    ) -> io::Result<()> {
        let assigned = with(trigger, |trigger| {
            with(resample, |resample| self.register_irqfd_with_resample(trigger, resample, gsi))
        });
        Ok(assigned?)
    }

    fn deassign(&self, trigger: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        Ok(with(trigger, |trigger| self.unregister_irqfd(trigger, gsi))?)
    }
}

mod ioeventfds {
    use super::{BorrowedFd, VmFd, io, with};
    use crate::kvm::Ioeventfds;
    use kvm_ioctls::IoEventAddress::Mmio;

    impl Ioeventfds for VmFd {
        fn assign(&self, address: u64, value: u32, eventfd: BorrowedFd<'_>) -> io::Result<()> {
            Ok(with(eventfd, |eventfd| self.register_ioevent(eventfd, &Mmio(address), value))?)
        }

        fn deassign(&self, address: u64, value: u32, eventfd: BorrowedFd<'_>) -> io::Result<()> {
            Ok(with(eventfd, |eventfd| self.unregister_ioevent(eventfd, &Mmio(address), value))?)
        }
    }
}

/// Returns whether any processor took a message. Without a doorbell at its address (EINVAL) or an ITS at all
/// (ENODEV) nobody ever will, as when nobody is there on x86; while the guest has its ITS off (EBUSY), or
/// when memory is short, somebody may take it later (K10, K15).
fn taken(answer: Result<i32, Error>) -> io::Result<bool> {
    const ENODEV: i32 = 19;
    const EINVAL: i32 = 22;
    match answer {
        Ok(taken) => Ok(taken > 0),
        Err(error) if matches!(error.errno(), EINVAL | ENODEV) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether there is the SPI of a line that was set. Without one of its number (EINVAL), or without an
/// interrupt controller in the kernel (ENXIO), there is none (K16).
#[cfg(any(test, target_arch = "aarch64"))]
fn exists(answer: Result<(), Error>) -> io::Result<bool> {
    const ENXIO: i32 = 6;
    const EINVAL: i32 = 22;
    match answer {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.errno(), EINVAL | ENXIO) => Ok(false),
        Err(error) => Err(error.into()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k15_a_message_that_nobody_will_take_is_no_error_and_one_for_later_is() {
        let answered = |answer| taken(answer).map_err(|error| error.raw_os_error());
        for (answer, expected) in [
            (Ok(1), Ok(true)),
            (Ok(0), Ok(false)),
            (Err(Error::new(22)), Ok(false)),
            (Err(Error::new(19)), Ok(false)),
            (Err(Error::new(16)), Err(Some(16))),
            (Err(Error::new(12)), Err(Some(12))),
        ] {
            assert_eq!(answered(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn k16_a_line_of_no_spi_is_no_error_and_one_for_later_is() {
        let answered = |answer| exists(answer).map_err(|error| error.raw_os_error());
        for (answer, expected) in [
            (Ok(()), Ok(true)),
            (Err(Error::new(22)), Ok(false)),
            (Err(Error::new(6)), Ok(false)),
            (Err(Error::new(16)), Err(Some(16))),
        ] {
            assert_eq!(answered(answer), expected, "{answer:?}");
        }
    }
}
