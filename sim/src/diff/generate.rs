//! Random operations, weighted towards what breaks MSI-X implementations.

use fastrand::Rng;
use msix_core::Vector;
use msix_core::operation::Operation;

/// Makes operations for one function. The message addresses it programs stay inside the function's
/// window of memory, or point where nothing is.
#[derive(Debug)]
pub(super) struct Generator {
    rng: Rng,
    vectors: u16,
    window: u32,
    window_len: u32,
    /// The vector that was touched last: what follows often concerns it again.
    last: u16,
}

/// High half of an address where the machine has nothing.
const NOWHERE: u32 = 0x7fff_0000;

impl Generator {
    pub(super) fn new(seed: u64, vectors: u16, window: u32, window_len: u32) -> Self {
        Self { rng: Rng::with_seed(seed), vectors, window, window_len, last: 0 }
    }

    pub(super) fn next(&mut self) -> Operation {
        match self.rng.u32(0..1000) {
            0..320 => self.write_table(),
            320..640 => Operation::Notify(self.vector()),
            640..740 => self.write_control(),
            740..790 => self.read(16, |offset, len| Operation::ReadTable { offset, len }),
            790..900 => self.read(8, |offset, len| Operation::ReadPba { offset, len }),
            900..920 => self.read(8, |offset, len| Operation::WritePba { offset, len }),
            920..950 => {
                let (offset, len) = self.config_access();
                Operation::ReadConfig { offset, len }
            }
            950..970 => {
                let (offset, len) = self.config_access();
                Operation::WriteConfig { offset, len, value: self.rng.u64(..) }
            }
            970..998 => Operation::SetBusMaster(self.rng.u32(0..5) != 0),
            998 if self.rng.u32(0..3) == 0 => Operation::Reset,
            999 if self.rng.u32(0..12) == 0 => Operation::SaveAndLoadQemu,
            _ => self.write_control(),
        }
    }

    /// A vector: the last one, an edge, or any.
    fn vector(&mut self) -> Vector {
        let edges = [0, 1, 31, 32, 33, 62, 63, 64, 65, 127, 128, self.vectors - 1];
        let index = match self.rng.u32(0..10) {
            0..6 => self.last,
            6..9 => edges[self.rng.usize(0..edges.len())],
            _ => self.rng.u16(0..self.vectors),
        };
        self.last = index.min(self.vectors - 1);
        Vector::new(self.last)
    }

    fn write_table(&mut self) -> Operation {
        let (inside, len) = match self.rng.u32(0..20) {
            0..9 => (12, 4), // mask or unmask
            9..14 => (self.rng.u16(0..3) * 4, 4),
            14..16 => (0, 8), // the address pair
            16..18 => (8, 8), // data and control
            _ => (self.rng.u16(0..16), self.rng.u16(1..9)),
        };
        let offset = self.vector().index() * 16 + inside;
        let len = len.min(self.vectors * 16 - offset);
        // Every dword gets a value that suits its field, wherever the access begins.
        let dwords = [0, 1, 2].map(|index| self.dword((offset / 4 + index) % 4));
        let bytes = dwords.map(u32::to_le_bytes).concat();
        let mut value = [0; 8];
        for (to, from) in value.iter_mut().zip(bytes.iter().skip(usize::from(offset % 4))) {
            *to = *from;
        }
        let len = u8::try_from(len).unwrap_or(8);
        Operation::WriteTable { offset, len, value: u64::from_le_bytes(value) }
    }

    /// A value for field `field` of an entry.
    fn dword(&mut self, field: u16) -> u32 {
        match field {
            0 => {
                // Mostly aligned, and far enough from the end for one message.
                let offset = self.rng.u32(0..self.window_len - 4);
                self.window + if self.rng.u32(0..16) == 0 { offset } else { offset & !3 }
            }
            1 if self.rng.u32(0..16) == 0 => NOWHERE,
            1 => 0,
            2 => self.rng.u32(..),
            _ => match self.rng.u32(0..16) {
                0 => self.rng.u32(..),
                bit => bit & 1,
            },
        }
    }

    /// Enable and Function Mask in every way a port can write them.
    fn write_control(&mut self) -> Operation {
        let high = [0x80, 0x80, 0x80, 0x80, 0x80, 0xc0, 0xc0, 0x40, 0x00][self.rng.usize(0..9)];
        let value = |shift: u32| u64::from(high as u8) << shift;
        match self.rng.u32(0..4) {
            0 => Operation::WriteConfig { offset: 3, len: 1, value: value(0) },
            1 => Operation::WriteConfig { offset: 0, len: 4, value: value(24) | 0xff_ffff },
            _ => Operation::WriteConfig { offset: 2, len: 2, value: value(8) },
        }
    }

    /// An access that a configuration port can make: inside one dword.
    fn config_access(&mut self) -> (u8, u8) {
        let len = [1, 2, 4][self.rng.usize(0..3)];
        let inside = if len == 4 { 0 } else { self.rng.u8(0..=4 - len) };
        (self.rng.u8(0..3) * 4 + inside, len)
    }

    /// An access of any width and alignment inside a structure with an entry of `per_entry` bytes
    /// a vector (table) or for 64 vectors (PBA).
    fn read(&mut self, per_entry: u16, make: fn(u16, u8) -> Operation) -> Operation {
        let vector = self.vector().index();
        let (index, end) = match per_entry {
            16 => (vector, self.vectors * 16),
            _ => (vector / 64, self.vectors.div_ceil(64) * 8),
        };
        let (inside, len) = match self.rng.u32(0..8) {
            0 => (self.rng.u16(0..per_entry), self.rng.u16(1..9)),
            1..5 => (self.rng.u16(0..per_entry / 4) * 4, 4),
            _ => (self.rng.u16(0..per_entry / 8) * 8, 8),
        };
        let offset = index * per_entry + inside;
        make(offset, u8::try_from(len.min(end - offset)).unwrap_or(8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_stay_inside_their_structures_and_addresses_in_their_window() {
        for vectors in [1, 2, 65, 2048] {
            let mut generator = Generator::new(1, vectors, 0x20_0000, 0x1000);
            for _ in 0..20_000 {
                match generator.next() {
                    Operation::WriteTable { offset, len, value } => {
                        assert!(len >= 1 && offset + u16::from(len) <= vectors * 16);
                        if offset % 16 == 0 && len >= 4 {
                            let low = value & 0xffff_ffff;
                            assert!((0x20_0000..0x20_0ffd).contains(&low), "{low:#x}");
                        }
                    }
                    Operation::ReadTable { offset, len } => {
                        assert!(len >= 1 && offset + u16::from(len) <= vectors * 16);
                    }
                    Operation::ReadPba { offset, len } | Operation::WritePba { offset, len } => {
                        assert!(len >= 1 && offset + u16::from(len) <= vectors.div_ceil(64) * 8);
                    }
                    Operation::ReadConfig { offset, len }
                    | Operation::WriteConfig { offset, len, .. } => {
                        assert!(offset % 4 + len <= 4 && offset + len <= 12);
                    }
                    Operation::Notify(vector) => assert!(vector.index() < vectors),
                    _ => {}
                }
            }
        }
    }
}
