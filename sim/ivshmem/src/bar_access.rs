//! Guest accesses to the BARs.

use super::access::{self, DOORBELL, MASK, POSITION, STATUS, Width};
use super::device::{IvshmemDevice, Revision, TABLE_BAR};
use super::platform::Board;
use msix_core::Region;
use std::ops::Range;

impl<B: Board> IvshmemDevice<B> {
    /// Returns the BAR that contains a guest-physical address, and the offset in it.
    #[must_use]
    pub fn decode(&self, address: u64) -> Option<(u8, u64)> {
        let bars = (0..3).filter_map(|bar| Some((bar, self.config.bar(bar)?)));
        let mut holding = bars.filter(|(_, range)| range.contains(&address));
        holding.next().map(|(bar, range)| (bar, address - range.start))
    }

    /// Returns the addresses of BAR `index` while the guest can reach it, for a VMM that maps it.
    #[must_use]
    pub fn bar(&self, index: u8) -> Option<Range<u64>> {
        self.config.bar(index)
    }

    /// Handles a guest's read of BAR `bar` at `offset`. Bytes past the end read as all ones in BAR2, and
    /// in BAR1 with [`Width::Strict`]; elsewhere they read as 0.
    pub fn read_bar(&self, bar: u8, offset: u64, bytes: &mut [u8]) {
        bytes.fill(0);
        match (bar, self.options.width) {
            (0, Width::Qemu) => {
                for part in access::parts(offset, bytes.len(), 4) {
                    let at = offset + part.start as u64;
                    self.read_register(at, &mut bytes[part]);
                }
            }
            (0, Width::Strict) => self.read_register(offset, bytes),
            (1, Width::Qemu) => {
                for part in access::parts(offset, bytes.len(), 8) {
                    let at = offset + part.start as u64;
                    self.read_table_bar(at, &mut bytes[part]);
                }
            }
            (1, Width::Strict) => self.read_table_bar(offset, bytes),
            (2, _) => match &self.memory {
                Some(memory) => memory.read(offset, bytes),
                None => bytes.fill(0xff),
            },
            _ => {}
        }
    }

    /// Handles a guest's write to BAR `bar` at `offset`.
    pub fn write_bar(&mut self, bar: u8, offset: u64, bytes: &[u8]) {
        match (bar, self.options.width) {
            (0, Width::Qemu) => {
                for part in access::parts(offset, bytes.len(), 4) {
                    self.write_register(offset + part.start as u64, &bytes[part]);
                }
            }
            (0, Width::Strict) => self.write_register(offset, bytes),
            (1, Width::Qemu) => {
                for part in access::parts(offset, bytes.len(), 8) {
                    self.write_table_bar(offset + part.start as u64, &bytes[part]);
                }
            }
            (1, Width::Strict) => self.write_table_bar(offset, bytes),
            (2, _) => {
                if let Some(memory) = &self.memory {
                    memory.write(offset, bytes);
                }
            }
            _ => {}
        }
    }

    fn read_register(&self, offset: u64, bytes: &mut [u8]) {
        let value = match access::read(self.options.width, offset, bytes.len()) {
            Some(MASK) => self.interrupt.registers().mask,
            Some(STATUS) => self.interrupt.take_status(),
            Some(POSITION) => match (self.id, self.memory.is_some(), self.options.revision) {
                (Some(id), true, _) | (Some(id), _, Revision::One) => u32::from(id),
                _ => u32::MAX,
            },
            _ => 0,
        };
        for (to, from) in bytes.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
    }

    fn write_register(&mut self, offset: u64, bytes: &[u8]) {
        let mut value = [0; 4];
        value.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let value = u32::from_le_bytes(value);
        match access::written(self.options.width, offset, bytes.len()) {
            Some(MASK) => self.interrupt.set(|registers| registers.mask = value),
            Some(STATUS) => self.interrupt.set(|registers| registers.status = value),
            Some(DOORBELL) if self.memory.is_some() && self.peers.ring(value) => self.rings += 1,
            _ => {}
        }
    }

    fn read_table_bar(&self, offset: u64, bytes: &mut [u8]) {
        let Some(function) = self.msix_function() else { return };
        let _ = match self.layout.locate(TABLE_BAR, offset) {
            Some((Region::Table, at)) => function.read_table(at, bytes),
            Some((Region::Pba, at)) => function.read_pba(at, bytes),
            None if self.options.width == Width::Strict => return bytes.fill(0xff), // C07
            None => return,
        };
    }

    fn write_table_bar(&self, offset: u64, bytes: &[u8]) {
        let Some(function) = self.msix_function() else { return };
        let _ = match self.layout.locate(TABLE_BAR, offset) {
            Some((Region::Table, at)) => function.write_table(at, bytes),
            Some((Region::Pba, at)) => function.write_pba(at, bytes),
            None => return,
        };
    }
}
