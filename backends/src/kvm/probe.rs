//! Probes what this machine's KVM can do for MSI-X.

use super::Format;
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
    /// 32-bit APIC ids can be enabled (`KVM_CAP_X2APIC_API`), which extended destinations need (K11).
    pub wide_apic_ids: bool,
}

impl KvmFacts {
    /// Returns the format of messages on x86-64: with extended destinations if the VMM offers them
    /// (`KVM_FEATURE_MSI_EXT_DEST_ID`) and KVM can use them. On Arm there is [`Format::its`].
    #[must_use]
    pub fn format(self, offers_extended_destinations: bool) -> Format {
        let extended_destinations = offers_extended_destinations && self.wide_apic_ids;
        Format { extended_destinations, ..Format::default() }
    }
}

impl fmt::Display for KvmFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} routes, irqfd, KVM_SIGNAL_MSI", self.routes)
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
    Ok(KvmFacts { routes, wide_apic_ids: wide_apic_ids(&kvm) })
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
    fn c11_destinations_are_extended_if_vmm_and_kvm_both_can() {
        let facts = KvmFacts { routes: 4096, wide_apic_ids: true };
        let plain = Format::default();
        assert_eq!(facts.format(false), plain);
        assert_eq!(facts.format(true), Format { extended_destinations: true, ..plain });
        assert_eq!(KvmFacts { wide_apic_ids: false, ..facts }.format(true), plain);
    }
}
