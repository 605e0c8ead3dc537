//! The device's configuration space (E1).
//!
//! | offset | what |
//! |---|---|
//! | 0x00 | 1af4:1110, revision 0 or 1, class memory/RAM |
//! | 0x04 | Command: I/O, memory, bus master, SERR#, INTx disable |
//! | 0x10 | BAR0, 32-bit: registers, 256 bytes |
//! | 0x14 | BAR1, 32-bit: MSI-X table and PBA |
//! | 0x18 | BAR2, 64-bit, prefetchable: shared memory |
//! | 0x40 | MSI-X capability |

use msix_core::spec::CAPABILITY_LEN;
use std::ops::Range;

/// Bytes of conventional configuration space.
pub(super) const LEN: usize = 256;
/// Where the MSI-X capability is.
pub(super) const CAPABILITY: u8 = 0x40;
/// Bytes of BAR0.
pub(super) const REGISTERS_LEN: u64 = 256;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BARS: [usize; 3] = [0x10, 0x14, 0x18];
const LINE: usize = 0x3c;
const PIN: usize = 0x3d;
/// Command: memory space.
const MEMORY: u16 = 1 << 1;
/// Bits of Command that a guest can change.
const COMMAND_BITS: u16 = 0x507;
/// Status: capability list.
const HAS_CAPABILITIES: u8 = 1 << 4;
/// Status: interrupt status.
const INTERRUPT: u8 = 1 << 3;
/// The kind of BAR2: 64-bit, prefetchable.
const PREFETCHABLE_64: u8 = 0xc;

/// What the device's configuration space is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) revision: u8,
    /// Bytes of BAR1; 0 without MSI-X.
    pub(super) table_bar: u64,
    /// Bytes of BAR2; a power of two.
    pub(super) memory: u64,
    pub(super) has_pin: bool,
    /// The bytes behind the capability can be written and outlive a reset, as QEMU's.
    pub(super) scratch: bool,
}

impl Shape {
    /// Where nothing is from.
    fn free(&self) -> usize {
        usize::from(CAPABILITY) + if self.table_bar > 0 { CAPABILITY_LEN } else { 0 }
    }
}

/// 256 bytes, and which of their bits a guest can change.
#[derive(Debug, Clone)]
pub(super) struct Config {
    bytes: [u8; LEN],
    writable: [u8; LEN],
    shape: Shape,
}

impl Config {
    pub(super) fn new(shape: Shape) -> Self {
        let mut config = Self { bytes: [0; LEN], writable: [0; LEN], shape };
        config.put(0x00, &[0xf4, 0x1a, 0x10, 0x11]);
        config.put(0x08, &[shape.revision, 0x00, 0x00, 0x05]);
        config.put(0x2c, &[0xf4, 0x1a, 0x00, 0x11]);
        config.allow(COMMAND, &COMMAND_BITS.to_le_bytes());
        config.allow(0x0c, &[0xff]); // cache line size
        config.allow(LINE, &[0xff]);
        for (at, len) in BARS.into_iter().zip([REGISTERS_LEN, shape.table_bar]) {
            config.allow(at, &(size_bits(len) as u32).to_le_bytes());
        }
        config.put(BARS[2], &[PREFETCHABLE_64]);
        config.allow(BARS[2], &(size_bits(shape.memory) & !0xf).to_le_bytes());
        if shape.has_pin {
            config.put(PIN, &[1]);
        }
        if shape.table_bar > 0 {
            config.put(STATUS, &[HAS_CAPABILITIES]);
            config.put(0x34, &[CAPABILITY]);
        }
        if shape.scratch {
            config.allow(shape.free(), &[0xff; LEN][shape.free()..]);
        }
        config
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn allow(&mut self, at: usize, bits: &[u8]) {
        self.writable[at..at + bits.len()].copy_from_slice(bits);
    }

    /// As after power-on, but for what QEMU's device keeps.
    pub(super) fn reset(&mut self) {
        let before = std::mem::replace(self, Self::new(self.shape));
        if self.shape.scratch {
            let free = self.shape.free();
            self.bytes[free..].copy_from_slice(&before.bytes[free..]);
        }
    }

    /// A guest reads; `interrupt` is the INTx status. The capability's own bytes are not here.
    pub(super) fn read(&self, offset: usize, bytes: &mut [u8], interrupt: bool) {
        for (at, byte) in (offset..).zip(bytes) {
            *byte = self.bytes.get(at).copied().unwrap_or(0xff);
            if at == STATUS && interrupt {
                *byte |= INTERRUPT;
            }
        }
    }

    /// A guest writes.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let space = self.bytes.iter_mut().zip(self.writable).skip(offset);
        for ((byte, writable), written) in space.zip(bytes) {
            *byte = *byte & !writable | written & writable;
        }
    }

    pub(super) fn command(&self) -> u16 {
        u16::from_le_bytes([self.bytes[COMMAND], self.bytes[COMMAND + 1]])
    }

    /// Where BAR `index` lies, if the device answers there: memory space is enabled, and the address
    /// is neither 0 nor the one that is written to size it.
    pub(super) fn bar(&self, index: u8) -> Option<Range<u64>> {
        let at = *BARS.get(usize::from(index))?;
        let len = [REGISTERS_LEN, self.shape.table_bar, self.shape.memory][usize::from(index)];
        let wide = index == 2;
        let bytes = self.bytes[at..at + 8].first_chunk()?;
        let address = u64::from_le_bytes(*bytes) & if wide { !0xf } else { 0xffff_fff0 };
        let end = address.checked_add(len)?;
        let reach = if wide { u64::MAX } else { u64::from(u32::MAX) };
        let placed = self.command() & MEMORY != 0 && len > 0 && address != 0 && end <= reach;
        placed.then_some(address..end)
    }

    /// For a snapshot.
    pub(super) const fn bytes(&self) -> &[u8; LEN] {
        &self.bytes
    }

    /// These bytes of a snapshot, if they are of a device of this shape; otherwise the first offset
    /// where they are not.
    pub(super) fn restored(&self, bytes: &[u8; LEN]) -> Result<Self, usize> {
        let fixed = |bytes: &[u8; LEN], at: usize| bytes[at] & !self.writable[at];
        match (0..LEN).find(|&at| fixed(bytes, at) != fixed(&self.bytes, at)) {
            Some(at) => Err(at),
            None => Ok(Self { bytes: *bytes, ..self.clone() }),
        }
    }
}

/// The address bits of a BAR of `len` bytes, which is a power of two or 0.
const fn size_bits(len: u64) -> u64 {
    if len == 0 { 0 } else { !(len - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape =
        Shape { revision: 1, table_bar: 0x1000, memory: 4 << 20, has_pin: false, scratch: false };

    #[test]
    fn a_bar_is_sized_and_placed_as_a_guest_does() {
        let mut config = Config::new(SHAPE);
        let mut sizes = Vec::new();
        for at in [0x10, 0x14, 0x18, 0x1c, 0x20] {
            config.write(at, &[0xff; 4]);
            let mut bytes = [0; 4];
            config.read(at, &mut bytes, false);
            sizes.push(u32::from_le_bytes(bytes));
        }
        assert_eq!(sizes, [0xffff_ff00, 0xffff_f000, 0xffc0_000c, 0xffff_ffff, 0]);
        config.write(4, &[2, 0]);
        assert_eq!([0, 1, 2].map(|bar| config.bar(bar)), [None, None, None], "being sized");
        config.write(0x10, &0xe000_0000_u32.to_le_bytes());
        config.write(0x18, &0x12_3480_0000_u64.to_le_bytes());
        assert_eq!(config.bar(0), Some(0xe000_0000..0xe000_0100));
        assert_eq!(config.bar(2), Some(0x12_3480_0000..0x12_34c0_0000));
        config.write(4, &[0]);
        assert_eq!(config.bar(0), None, "memory space is off");
        config.reset();
        assert_eq!(config.bytes(), Config::new(SHAPE).bytes());
        assert_eq!([3, 255].map(|bar| config.bar(bar)), [None, None]);
    }

    #[test]
    fn only_the_writable_bits_change_whatever_is_written_where() {
        let before = Config::new(SHAPE);
        for fill in [0, 0xff] {
            for offset in 0..LEN + 4 {
                let mut config = before.clone();
                config.write(offset, &[fill; 9]);
                assert!(config.restored(before.bytes()).is_ok());
                assert!(before.restored(config.bytes()).is_ok(), "{offset:#x}");
            }
        }
        let mut other = *before.bytes();
        other[8] = 0;
        assert_eq!(before.restored(&other).unwrap_err(), 8);
        let mut past = [0; 2];
        before.read(255, &mut past, false);
        assert_eq!(past, [0, 0xff]);
        before.read(STATUS, &mut past, true);
        assert_eq!(past[0], HAS_CAPABILITIES | INTERRUPT);
    }
}
