//! A virtio device on PCI, as far as a driver of virtio 1.0 needs it: one queue, and MSI-X.
//!
//! | BAR 0 | what |
//! |---|---|
//! | 0x0000 | common configuration ([`registers`](crate::registers)) |
//! | 0x1000 | interrupt status: always 0, because it is for INTx |
//! | 0x2000 | the worker outside, which is no part of virtio ([`outside`](crate::outside)) |
//! | 0x3000 | notification: a write says that the queue has buffers |
//! | 0x4000 | the MSI-X table, and the PBA right behind it |

use crate::Outcome;
use crate::interrupts::Interrupts;
use crate::outside::Outside;
use crate::pci::{ConfigSpace, Identity};
use crate::registers::Registers;
use msix_core::{BarIndex, Layout, Region, Vector};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

/// The device as guest and device's thread see it.
pub(crate) struct VirtioPci {
    pub(crate) memory: GuestMemoryMmap,
    pub(crate) interrupts: Interrupts,
    /// Written when the queue has buffers.
    pub(crate) kick: Arc<EventFd>,
    config: Mutex<ConfigSpace>,
    registers: Mutex<Registers>,
    layout: Layout,
    pub(crate) outside: Outside,
}

/// Returns where table and PBA are: behind the device's own registers, with a vector for changes of the
/// configuration and one for the queue.
pub(crate) fn layout() -> Outcome<Layout> {
    Ok(Layout::after(u32::from(VECTORS), BarIndex::new(0)?, TABLE)?)
}

impl VirtioPci {
    /// Makes a device of virtio's type `kind`.
    pub(crate) fn new(
        kind: u16,
        interrupts: Interrupts,
        layout: Layout,
        memory: GuestMemoryMmap,
    ) -> Outcome<Self> {
        let identity = Identity {
            vendor: 0x1af4,
            device: 0x1040 + kind,
            subsystem: [0x1af4, 0x1100],
            class: [1, 0, 0, 0xff],
        };
        let bar_len = u32::try_from(layout.min_bar_size(BarIndex::new(0)?))?;
        let config =
            ConfigSpace::new(identity).with_msix(interrupts.clone(), bar_len).with_capabilities(&[
                &place(1, COMMON, &[]),
                &place(2, NOTIFICATION, &[0; 4]), // all queues at one address
                &place(3, INTERRUPT_STATUS, &[]),
            ]);
        Ok(Self {
            memory,
            // What a vhost worker in another process would get.
            outside: Outside::start(interrupts.eventfd(Vector::new(1))?)?,
            interrupts,
            kick: Arc::new(EventFd::new(0)?),
            config: Mutex::new(config),
            registers: Mutex::new(Registers::new(VECTORS)?),
            layout,
        })
    }

    /// Returns the device's configuration space.
    pub(crate) fn config(&self) -> MutexGuard<'_, ConfigSpace> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what the driver set up.
    pub(crate) fn registers(&self) -> MutexGuard<'_, Registers> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resets the device with its interrupts.
    pub(crate) fn reset(&self) {
        self.registers().reset();
        self.config().reset();
    }

    /// Reads for a guest, if `address` is in the BAR.
    pub(crate) fn read(&self, address: u64, data: &mut [u8]) -> Option<()> {
        let (bar, offset) = self.offset(address)?;
        match (self.layout.locate(bar, offset), offset) {
            (Some((Region::Table, at)), _) => _ = self.interrupts.read_table(at, data),
            (Some((Region::Pba, at)), _) => _ = self.interrupts.read_pba(at, data),
            (None, at) if COMMON.contains(&at) => self.registers().read(at, data),
            (None, at) if OUTSIDE.contains(&at) => self.outside.read(at - OUTSIDE.start, data),
            _ => data.fill(0),
        }
        Some(())
    }

    /// Writes for a guest, if `address` is in the BAR.
    pub(crate) fn write(&self, address: u64, data: &[u8]) -> Option<()> {
        let (bar, offset) = self.offset(address)?;
        match (self.layout.locate(bar, offset), offset) {
            (Some((Region::Table, at)), _) => _ = self.interrupts.write_table(at, data),
            (Some((Region::Pba, at)), _) => _ = self.interrupts.write_pba(at, data),
            (None, at) if COMMON.contains(&at) => self.registers().write(at, data),
            (None, at) if OUTSIDE.contains(&at) => self.outside.write(at - OUTSIDE.start, data),
            (None, at) if NOTIFICATION.contains(&at) => _ = self.kick.write(1), // or it is full of them
            _ => {}
        }
        Some(())
    }

    fn offset(&self, address: u64) -> Option<(BarIndex, u64)> {
        let place = self.config().bar().filter(|place| place.contains(&address))?;
        Some((BarIndex::new(0).ok()?, address - place.start))
    }
}

/// A capability of virtio that says where in BAR 0 a structure is.
fn place(structure: u8, at: Range<u64>, more: &[u8]) -> Vec<u8> {
    let (offset, len) = (at.start as u32, (at.end - at.start) as u32);
    let mut capability = vec![0x09, 0, 16 + more.len() as u8, structure, 0, 0, 0, 0];
    capability.extend(offset.to_le_bytes());
    capability.extend(len.to_le_bytes());
    capability.extend(more);
    capability
}

const VECTORS: u16 = 2;
const COMMON: Range<u64> = 0..0x1000;
const INTERRUPT_STATUS: Range<u64> = 0x1000..0x2000;
const OUTSIDE: Range<u64> = 0x2000..0x3000;
const NOTIFICATION: Range<u64> = 0x3000..0x4000;
const TABLE: u64 = 0x4000;
