//! Probes what this machine's KVM can do for MSI-X.

use super::{Format, InterruptAddresses};
use crate::Unavailable;
use kvm_ioctls::{Cap, Kvm};
use std::{fmt, io};

const NODE: &str = "/dev/kvm";

/// The facilities that MSI-X delivery through KVM has on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KvmFacts {
    /// The number of GSIs, and of route entries, that a VM can have (`KVM_CAP_IRQ_ROUTING`, K2).
    pub routes: u32,
    /// Messages must carry a device id (`KVM_CAP_MSI_DEVID`, K10).
    pub device_ids: bool,
    /// 32-bit APIC ids can be enabled (`KVM_CAP_X2APIC_API`), which extended destinations need (K11).
    pub wide_apic_ids: bool,
}

impl KvmFacts {
    /// Returns the format of a function's messages: with its requester id where KVM needs one, and
    /// with extended destinations if the VMM offers them (`KVM_FEATURE_MSI_EXT_DEST_ID`) and KVM
    /// can use them. A VMM on another processor than x86-64 sets [`Format::interrupts`] to its doorbell.
    #[must_use]
    pub fn format(self, requester_id: u32, offers_extended_destinations: bool) -> Format {
        Format {
            extended_destinations: offers_extended_destinations && self.wide_apic_ids,
            device: self.device_ids.then_some(requester_id),
            interrupts: InterruptAddresses::default(),
        }
    }
}

impl fmt::Display for KvmFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devid = if self.device_ids { "needed" } else { "not needed" };
        write!(f, "{} routes, irqfd, KVM_SIGNAL_MSI, device ids {devid}", self.routes)
    }
}

/// Asks `/dev/kvm` for the capabilities that MSI-X needs: routing, irqfd and KVM_SIGNAL_MSI.
///
/// # Errors
/// [`Unavailable`], with a remedy.
pub fn probe() -> Result<KvmFacts, Unavailable> {
    let kvm = Kvm::new().map_err(|error| {
        Unavailable::open(
            NODE,
            io::Error::from_raw_os_error(error.errno()),
            "load kvm_intel or kvm_amd; in a virtual machine, enable nested virtualization",
            "add the user to the group `kvm`, or run as root",
        )
    })?;
    for (cap, what) in [
        (Cap::Irqfd, "KVM_CAP_IRQFD"),
        (Cap::SignalMsi, "KVM_CAP_SIGNAL_MSI"),
        (Cap::IrqRouting, "KVM_CAP_IRQ_ROUTING"),
    ] {
        if !kvm.check_extension(cap) {
            return Err(Unavailable::Lacks { node: NODE, what });
        }
    }
    let routes = u32::try_from(kvm.check_extension_int(Cap::IrqRouting)).unwrap_or(0);
    Ok(KvmFacts {
        routes,
        device_ids: kvm.check_extension(Cap::MsiDevid),
        wide_apic_ids: wide_apic_ids(&kvm),
    })
}

#[cfg(target_arch = "x86_64")]
fn wide_apic_ids(kvm: &Kvm) -> bool {
    kvm.check_extension(Cap::X2ApicApi)
}

/// Other processors have no APIC.
#[cfg(not(target_arch = "x86_64"))]
const fn wide_apic_ids(_: &Kvm) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c10_c11_a_format_has_what_kvm_asks_for_and_no_more() {
        let facts = KvmFacts { routes: 4096, device_ids: false, wide_apic_ids: true };
        let plain = Format::default();
        assert_eq!(facts.format(0x28, false), plain);
        assert_eq!(facts.format(0x28, true), Format { extended_destinations: true, ..plain });
        let arm = KvmFacts { device_ids: true, wide_apic_ids: false, ..facts };
        assert_eq!(arm.format(0x28, true), Format { device: Some(0x28), ..plain });
    }
}
