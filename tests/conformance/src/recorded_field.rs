//! What QEMU saved of the MSI-X of an ivshmem-doorbell with nine vectors, which C45 loads (F3).

/// Message Control in the saved config space.
pub const RECORDED_CONTROL: u16 = 0x8008;

/// The msix field: the table's 144 bytes, then the two of the PBA.
pub const RECORDED_FIELD: &[u8] = include_bytes!("../data/ivshmem-n9-msix.bin");

/// How many vectors it is of.
pub(crate) const RECORDED_VECTORS: u16 = 9;
