//! What this machine's KVM can do for MSI-X.

use crate::Unavailable;
use kvm_ioctls::{Cap, Kvm};
use std::{fmt, io};

const NODE: &str = "/dev/kvm";

/// What MSI-X delivery through KVM can count on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// GSIs and route entries a VM can have (`KVM_CAP_IRQ_ROUTING`, C2).
    pub routes: u32,
    /// Messages must carry a device id (`KVM_CAP_MSI_DEVID`, C10).
    pub device_ids: bool,
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devid = if self.device_ids { "needed" } else { "not needed" };
        write!(f, "{} routes, irqfd, KVM_SIGNAL_MSI, device ids {devid}", self.routes)
    }
}

/// Asks `/dev/kvm` for the capabilities that MSI-X needs: routing, irqfd and KVM_SIGNAL_MSI.
///
/// # Errors
/// [`Unavailable`], with what helps.
pub fn probe() -> Result<Facts, Unavailable> {
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
    Ok(Facts { routes, device_ids: kvm.check_extension(Cap::MsiDevid) })
}
