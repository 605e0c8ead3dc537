//! Probes what this machine's VFIO can do for MSI-X.

use crate::Unavailable;
use std::fmt;
use vfio_ioctls::{VfioContainer, VfioError};

const NODE: &str = "/dev/vfio/vfio";

/// The facilities that device assignment has on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct VfioFacts {
    /// The number of IOMMU groups with a device node: their functions are bound to a VFIO driver.
    pub groups: usize,
}

impl fmt::Display for VfioFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VFIO API 0, {} IOMMU groups bound", self.groups)
    }
}

/// Opens a VFIO container, which checks the API version, and counts the groups.
///
/// # Errors
/// [`Unavailable`], with a remedy.
pub fn probe() -> Result<VfioFacts, Unavailable> {
    VfioContainer::new(None).map_err(|error| match error {
        VfioError::OpenContainer(source) => Unavailable::open(
            NODE,
            source,
            "load vfio-pci and vfio_iommu_type1, on a machine with an IOMMU",
            "give the user access to /dev/vfio, or run as root",
        ),
        _ => Unavailable::Lacks { node: NODE, what: "VFIO API version 0" },
    })?;
    let numbered = |name: &std::ffi::OsStr| name.to_string_lossy().parse::<u32>().is_ok();
    let groups = std::fs::read_dir("/dev/vfio")
        .map(|nodes| nodes.flatten().filter(|node| numbered(&node.file_name())).count())
        .unwrap_or(0);
    Ok(VfioFacts { groups })
}
