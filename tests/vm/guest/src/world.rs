//! What the tests have.

use crate::boot;
use crate::device::{Device, Ivshmem};
use crate::rig::Kind;
use kvm_ioctls::Kvm;
use std::sync::Arc;
use vfio_ioctls::VfioContainer;

/// Vectors of the nvme device: more than a kernel has for one device on one processor.
pub(crate) const NVME_VECTORS: u32 = 512;

/// The machine, its devices opened through VFIO.
pub(crate) struct World {
    /// The kernel's release, such as `6.12.117+deb12-cloud-amd64`.
    pub(crate) release: String,
    /// The series it was booted as, such as `6.12`.
    pub(crate) series: String,
    /// ivshmem-doorbell with 4 vectors: raises any of them when told to.
    pub(crate) ivshmem: Ivshmem,
    /// nvme with [`NVME_VECTORS`], which never raises one here.
    pub(crate) nvme: Option<Device>,
    /// edu: INTx and one MSI vector, raised and satisfied when told to.
    pub(crate) edu: Device,
    /// e1000e: INTx, one MSI vector and five of MSI-X, raised when told to.
    pub(crate) e1000e: Device,
    /// A USB controller: INTx, 16 vectors of MSI and of MSI-X.
    pub(crate) xhci: Device,
    /// KVM, by the emulated SVM; or why there is none.
    pub(crate) kvm: Result<Kvm, String>,
}

impl World {
    /// Boots.
    pub(crate) fn new() -> Result<Self, String> {
        boot::mount_all()?;
        boot::load_modules()?;
        // Type 1 version 2; the devices keep it.
        let container = VfioContainer::new(None).map_err(|error| format!("container: {error}"))?;
        let container = Arc::new(container);
        let open = |id| Device::find(id, &container);
        let ivshmem = open((0x1af4, 0x1110))?.ok_or("no ivshmem device")?;
        let nvme = open(Kind::Nvme.id())?;
        let edu = open(Kind::Edu.id())?.ok_or("no edu device")?;
        let e1000e = open(Kind::E1000e.id())?.ok_or("no e1000e device")?;
        let xhci = open(Kind::Xhci.id())?.ok_or("no USB controller")?;
        Ok(Self {
            release: rustix::system::uname().release().to_string_lossy().into_owned(),
            series: std::env::var("MSIX_VM_KERNEL").map_err(|error| error.to_string())?,
            ivshmem: Ivshmem::new(ivshmem),
            nvme,
            edu,
            e1000e,
            xhci,
            kvm: Kvm::new().map_err(|error| format!("/dev/kvm: {error}")),
        })
    }

    /// Whether this kernel's MSI-X index cannot grow while enabled: before 6.5 (D6).
    pub(crate) fn is_noresize(&self) -> Result<bool, String> {
        let mut numbers = self.release.split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor) < (6_u32, 5_u32)),
            _ => Err(format!("the kernel's release is {}", self.release)),
        }
    }

    /// All devices.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &Device> {
        let others = [&*self.ivshmem, &self.edu, &self.e1000e, &self.xhci];
        self.nvme.iter().chain(others)
    }

    /// Disables the interrupts of all devices.
    pub(crate) fn quiesce(&self) {
        let devices =
            [Some(&*self.ivshmem), self.nvme.as_ref(), Some(&self.edu), Some(&self.e1000e)];
        for device in devices.into_iter().flatten() {
            device.disable_all();
        }
    }
}
