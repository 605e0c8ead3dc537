//! Backends by name.

use crate::replay::Backend;

/// Something that really delivers.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Named {
    /// A virtual machine of this machine's KVM: events are eventfd writes, and what arrives in the
    /// local APICs is compared.
    Kvm,
}

impl Named {
    #[cfg(all(feature = "kvm", target_arch = "x86_64"))]
    pub(super) fn open(self) -> Result<Box<dyn Backend>, String> {
        let Self::Kvm = self;
        let kvm = crate::replay::Kvm::open().map_err(|error| error.to_string())?;
        Ok(Box::new(kvm))
    }

    #[cfg(not(all(feature = "kvm", target_arch = "x86_64")))]
    pub(super) fn open(self) -> Result<Box<dyn Backend>, String> {
        let Self::Kvm = self;
        Err("this program was built without the feature `kvm`, or not for x86-64".to_owned())
    }
}
