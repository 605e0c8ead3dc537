//! The capability list of a function, pieced together from traced configuration reads.

/// The bytes of the first 256 that reads have told. The log has no widths: a read tells as many
/// bytes as its value fills.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigSpace {
    bytes: Vec<Option<u8>>,
}

impl ConfigSpace {
    /// A read at `offset` gave `value`.
    pub(crate) fn read(&mut self, offset: u16, value: u32) {
        if offset >= SIZE {
            return;
        }
        self.bytes.resize(usize::from(SIZE), None);
        let filled = usize::from(4_u8.saturating_sub((value.leading_zeros() / 8) as u8)).max(1);
        for (at, byte) in (usize::from(offset)..).zip(value.to_le_bytes()).take(filled) {
            if let Some(place) = self.bytes.get_mut(at) {
                *place = Some(byte);
            }
        }
    }

    /// A read at `offset` gave these bytes.
    pub(crate) fn told(&mut self, offset: u16, bytes: &[u8]) {
        if offset >= SIZE {
            return;
        }
        self.bytes.resize(usize::from(SIZE), None);
        for (at, byte) in (usize::from(offset)..).zip(bytes) {
            if let Some(place) = self.bytes.get_mut(at) {
                *place = Some(*byte);
            }
        }
    }

    fn byte(&self, at: u16) -> Option<u8> {
        self.bytes.get(usize::from(at)).copied().flatten()
    }

    /// A 16-bit register. A read that fills its low byte only had a high byte of 0.
    pub(crate) fn word(&self, at: u16) -> Option<u16> {
        Some(u16::from_le_bytes([self.byte(at)?, self.byte(at + 1).unwrap_or(0)]))
    }

    /// A 32-bit register, in the same way.
    pub(crate) fn dword(&self, at: u16) -> Option<u32> {
        let rest = |offset| self.byte(at + offset).unwrap_or(0);
        Some(u32::from_le_bytes([self.byte(at)?, rest(1), rest(2), rest(3)]))
    }

    /// Where the capability with this id begins, if the reads tell all of the list up to it.
    pub(crate) fn capability(&self, id: u8) -> Found {
        let mut next = 0x34;
        for _ in 0..SIZE / 4 {
            let Some(at) = self.byte(next) else { return Found::Unknown };
            let at = u16::from(at & !3);
            if at == 0 {
                return Found::Absent;
            }
            match self.byte(at) {
                None => return Found::Unknown,
                Some(found) if found == id => return Found::At(at),
                Some(_) => next = at + 1,
            }
        }
        Found::Absent
    }
}

/// Where a capability is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The reads in the log do not tell.
    Unknown,
    /// The list ends without it.
    Absent,
    /// At this offset.
    At(u16),
}

/// MSI capability.
pub(crate) const MSI: u8 = 5;
/// PCI Express capability.
pub(crate) const PCIE: u8 = 0x10;
/// MSI-X capability (A1).
pub(crate) const MSIX: u8 = 0x11;
/// Conventional configuration space; the list stays inside it.
const SIZE: u16 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_followed_as_far_as_reads_tell() {
        let mut space = ConfigSpace::default();
        assert_eq!(space.capability(MSIX), Found::Unknown);
        space.read(0x34, 0x40);
        assert_eq!(space.capability(MSIX), Found::Unknown);
        space.read(0x40, 0x6011); // a word: MSI-X, next at 60
        assert_eq!(space.capability(MSIX), Found::At(0x40));
        space.read(0x60, 0x10); // a byte: the next pointer is not told
        assert_eq!(space.capability(PCIE), Found::At(0x60));
        assert_eq!(space.capability(5), Found::Unknown);
        space.read(0x61, 0);
        assert_eq!(space.capability(5), Found::Absent);
    }

    #[test]
    fn a_list_that_loops_ends() {
        let mut space = ConfigSpace::default();
        space.read(0x34, 0x40);
        space.read(0x40, 0x4005);
        assert_eq!(space.capability(MSIX), Found::Absent);
    }
}
