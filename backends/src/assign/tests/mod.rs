//! The map as a whole: by hand-made functions, QEMU's, real and random ones.

mod bar_map;
mod config;
mod devices;
mod functions;
mod oracle;
mod properties;
mod refused;
mod remedies;

use super::*;
use msix_core::Region;

/// A config space that is made by hand.
#[derive(Debug, Clone)]
pub(super) struct Space(Vec<u8>);

impl Space {
    /// Of 256 or 4096 bytes, with a pin and without capabilities.
    pub(super) fn new(size: usize) -> Self {
        let mut space = Self(vec![0; size]);
        space.put(0x00, &[0x34, 0x12, 0xe8, 0x11]);
        space.put(0x3d, &[1]);
        space
    }

    pub(super) fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// A chain of these, each its place, id and bytes from 2 on.
    pub(super) fn chain(&mut self, capabilities: &[(u8, u8, &[u8])]) -> &mut Self {
        self.put(0x06, &[0x10]);
        let mut pointer = 0x34;
        for &(at, id, body) in capabilities {
            self.put(pointer, &[at]);
            pointer = usize::from(at) + 1;
            self.put(usize::from(at), &[id, 0]).put(usize::from(at) + 2, body);
        }
        self
    }

    /// An extended capability header, version 1.
    pub(super) fn extended(&mut self, at: usize, id: u16, next: u32) -> &mut Self {
        self.put(at, &(u32::from(id) | 1 << 16 | next << 20).to_le_bytes())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Bytes 2 to 11 of an MSI-X capability.
pub(super) fn msix(vectors: u16, table: u32, pba: u32) -> [u8; 10] {
    let mut body = [0; 10];
    body[..2].copy_from_slice(&(vectors - 1).to_le_bytes());
    body[2..6].copy_from_slice(&table.to_le_bytes());
    body[6..].copy_from_slice(&pba.to_le_bytes());
    body
}

pub(super) fn index(index: u8) -> BarIndex {
    BarIndex::new(index).unwrap()
}

/// A function with 32-bit memory BARs of these sizes and MSI-X.
pub(super) fn with_msix(
    sizes: [u64; 6],
    (vectors, table, pba): (u16, u32, u32),
    options: &AssignOptions,
) -> Result<Assigned, AssignError> {
    let mut space = Space::new(256);
    space.chain(&[(0x40, 0x11, &msix(vectors, table, pba))]);
    let bars = FunctionBars::from_config(space.bytes(), sizes).unwrap();
    let made = Assigned::new(space.bytes(), bars, options)?;
    assert_eq!(made.check(), Ok(()));
    Ok(made)
}

/// The kernel lets everything be mapped.
pub(super) fn all(page: PageSize) -> AssignOptions {
    let kernel = [const { KernelBar::whole() }; 6];
    AssignOptions { page, kernel, ..AssignOptions::default() }
}
