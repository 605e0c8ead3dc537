//! Where table and PBA lie in the function's BARs.

use crate::spec::{self, CAPABILITY_LEN, ISOLATION, MAX_VECTORS};
use core::fmt;

/// The index of a BAR, 0 to 5; 6 and 7 are reserved ([A1](crate::rules#a1)). For a 64-bit BAR it is
/// the index of its lower half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BarIndex(u8);

impl BarIndex {
    /// Checks that `index` is that of a BAR.
    ///
    /// # Errors
    /// [`LayoutError::ReservedBar`] above 5.
    pub const fn new(index: u8) -> Result<Self, LayoutError> {
        if index < 6 { Ok(Self(index)) } else { Err(LayoutError::ReservedBar(index)) }
    }

    /// Returns the index, 0 to 5.
    #[must_use]
    pub const fn index(self) -> u8 {
        self.0
    }
}

/// A place in a BAR ([A2](crate::rules#a2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The BAR.
    pub bar: BarIndex,
    /// Bytes from its start; a multiple of 8 that fits 32 bits (A2).
    pub offset: u64,
}

impl Location {
    /// Names byte `offset` of BAR `bar`; [`Layout::new`] checks it.
    #[must_use]
    pub const fn new(bar: BarIndex, offset: u64) -> Self {
        Self { bar, offset }
    }

    /// Returns the offset as the capability holds it, if it fits (A1, A2).
    fn checked(self, region: Region) -> Result<u32, LayoutError> {
        let offset = self.offset;
        if !offset.is_multiple_of(8) {
            return Err(LayoutError::Misaligned { region, offset });
        }
        u32::try_from(offset).map_err(|_| LayoutError::OffsetTooLarge { region, offset })
    }

    /// Reads a capability register: offset in bits 31:3, BIR in bits 2:0 (A1).
    fn from_register(value: u32) -> Result<Self, LayoutError> {
        let [low, ..] = value.to_le_bytes();
        Ok(Self { bar: BarIndex::new(low & 0b111)?, offset: u64::from(value & !0b111) })
    }
}

/// One of the two structures in memory space ([A2](crate::rules#a2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Region {
    /// The table: 16 bytes for each vector.
    Table,
    /// The pending-bit array, 8 bytes for every 64 vectors.
    Pba,
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::Pba => "PBA",
        })
    }
}

/// A checked layout: 1 to 2048 vectors, aligned, inside the BARs, without overlap
/// ([A1](crate::rules#a1), [A2](crate::rules#a2), [H21](crate::rules#h21)).
///
/// A constructor refuses a wrong layout with a typed error; no bytes or numbers make one panic
/// ([I7](crate::rules#i7)).
///
/// ```
/// use msix_core::{BarIndex, Layout, LayoutError, Location, Region};
///
/// # fn main() -> Result<(), LayoutError> {
/// let bar = BarIndex::new(2)?;
/// let own = Layout::exclusive_bar(33, bar)?; // a BAR of nothing else
/// let behind = Layout::after(33, bar, 0x1200)?; // behind registers of 0x1200 bytes
/// assert_eq!(behind.location(Region::Table), Location::new(bar, 0x2000));
/// // A trapped access of the BAR: whose is it, and at which byte there?
/// assert_eq!(behind.locate(bar, 0x2010), Some((Region::Table, 0x10)));
/// assert_eq!(behind.locate(bar, 0x1000), None);
/// // What the function's capability says, as read from a device:
/// assert_eq!(Layout::exclusive_bar(2049, bar), Err(LayoutError::Vectors(2049)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    vectors: u16,
    table_bar: BarIndex,
    pba_bar: BarIndex,
    table_offset: u32,
    pba_offset: u32,
}

impl Layout {
    /// Checks table and PBA at places of the caller's choice, in BARs of `bar_sizes` bytes. The
    /// size of a missing BAR, and of the upper half of a 64-bit BAR, is 0.
    ///
    /// # Errors
    /// [`LayoutError`], which names what is wrong (A1, A2, H21).
    pub fn new(
        vectors: u32,
        table: Location,
        pba: Location,
        bar_sizes: &[u64; 6],
    ) -> Result<Self, LayoutError> {
        let layout = Self {
            vectors: checked_vectors(vectors)?,
            table_bar: table.bar,
            pba_bar: pba.bar,
            table_offset: table.checked(Region::Table)?,
            pba_offset: pba.checked(Region::Pba)?,
        };
        for region in [Region::Table, Region::Pba] {
            let (bar, end) = (layout.location(region).bar, layout.end(region));
            let size = bar_sizes.get(usize::from(bar.0)).copied().unwrap_or(0);
            if end > size {
                return Err(LayoutError::OutsideBar { region, bar, end, size });
            }
        }
        if table.bar == pba.bar
            && table.offset < layout.end(Region::Pba)
            && pba.offset < layout.end(Region::Table)
        {
            return Err(LayoutError::Overlap { table: table.offset, pba: pba.offset });
        }
        Ok(layout)
    }

    /// Lays out a BAR that holds only table and PBA, as QEMU does (G10): for up to 128 vectors 4
    /// KiB with the PBA at 0x800; for more, the PBA follows the table. The BAR needs
    /// [`Layout::min_bar_size`] bytes.
    ///
    /// # Errors
    /// [`LayoutError::Vectors`] outside 1 to 2048.
    pub fn exclusive_bar(vectors: u32, bar: BarIndex) -> Result<Self, LayoutError> {
        let pba = spec::table_len(checked_vectors(vectors)?).max(ISOLATION / 2);
        Self::new(vectors, Location::new(bar, 0), Location::new(bar, pba), &[u64::MAX; 6])
    }

    /// Lays out table and PBA behind the first `used` bytes of a BAR, which hold the device's own
    /// registers: the table at the next 4 KiB boundary, because nothing else may share its 4 KiB
    /// (A2), the PBA right behind it. The BAR needs [`Layout::min_bar_size`] bytes.
    ///
    /// # Errors
    /// [`LayoutError::Vectors`] outside 1 to 2048, [`LayoutError::OffsetTooLarge`] when `used`
    /// leaves no room below 4 GiB.
    pub fn after(vectors: u32, bar: BarIndex, used: u64) -> Result<Self, LayoutError> {
        let too_large = LayoutError::OffsetTooLarge { region: Region::Table, offset: used };
        let table = used.checked_next_multiple_of(ISOLATION).ok_or(too_large)?;
        let pba = table.saturating_add(spec::table_len(checked_vectors(vectors)?));
        let sizes = [u64::MAX; 6];
        Self::new(vectors, Location::new(bar, table), Location::new(bar, pba), &sizes)
    }

    /// Reads the layout from the capability of a real function with BARs of `bar_sizes` bytes. The
    /// bytes are not trusted; the control bits are ignored.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn from_capability(
        capability: &[u8; CAPABILITY_LEN],
        bar_sizes: &[u64; 6],
    ) -> Result<Self, LayoutError> {
        let &[id, _, c0, c1, t0, t1, t2, t3, p0, p1, p2, p3] = capability;
        if id != spec::CAPABILITY_ID {
            return Err(LayoutError::NotMsix(id));
        }
        let size = u16::from_le_bytes([c0, c1]) & spec::CONTROL_SIZE;
        let table = Location::from_register(u32::from_le_bytes([t0, t1, t2, t3]))?;
        let pba = Location::from_register(u32::from_le_bytes([p0, p1, p2, p3]))?;
        Self::new(u32::from(size).wrapping_add(1), table, pba, bar_sizes)
    }

    /// Returns the number of vectors, 1 to 2048.
    #[must_use]
    pub const fn vectors(&self) -> u16 {
        self.vectors
    }

    /// Returns where the table or the PBA begins.
    #[must_use]
    pub const fn location(&self, region: Region) -> Location {
        match region {
            Region::Table => Location::new(self.table_bar, widen(self.table_offset)),
            Region::Pba => Location::new(self.pba_bar, widen(self.pba_offset)),
        }
    }

    /// Returns the length of the table or the PBA, bytes (A2).
    #[must_use]
    pub const fn len(&self, region: Region) -> u64 {
        match region {
            Region::Table => spec::table_len(self.vectors),
            Region::Pba => spec::pba_len(self.vectors),
        }
    }

    /// Returns the size, bytes, of the smallest BAR that holds what lies in `bar`: a power of two
    /// and at least 4 KiB; 0 when nothing lies there.
    #[must_use]
    pub fn min_bar_size(&self, bar: BarIndex) -> u64 {
        let end = |region| {
            if self.location(region).bar == bar { self.end(region) } else { 0 }
        };
        match end(Region::Table).max(end(Region::Pba)) {
            0 => 0,
            end => end.max(ISOLATION).checked_next_power_of_two().unwrap_or(u64::MAX),
        }
    }

    /// Returns the structure that byte `offset` of BAR `bar` belongs to, and the offset in it. An
    /// embedder routes BAR accesses by this.
    #[must_use]
    pub fn locate(&self, bar: BarIndex, offset: u64) -> Option<(Region, u64)> {
        [Region::Table, Region::Pba].into_iter().find_map(|region| {
            let place = self.location(region);
            let inside = offset.checked_sub(place.offset)?;
            (place.bar == bar && inside < self.len(region)).then_some((region, inside))
        })
    }

    /// Returns bytes 4 to 11 of the capability, as two registers (A1).
    pub(crate) fn registers(&self) -> [u32; 2] {
        let register = |offset, bar: BarIndex| offset | u32::from(bar.0);
        [register(self.table_offset, self.table_bar), register(self.pba_offset, self.pba_bar)]
    }

    fn end(&self, region: Region) -> u64 {
        self.location(region).offset.saturating_add(self.len(region))
    }
}

#[expect(clippy::as_conversions, reason = "a widening `From` is not const yet")]
const fn widen(offset: u32) -> u64 {
    offset as u64
}

fn checked_vectors(vectors: u32) -> Result<u16, LayoutError> {
    match u16::try_from(vectors) {
        Ok(n) if (1..=MAX_VECTORS).contains(&n) => Ok(n),
        _ => Err(LayoutError::Vectors(vectors)), // G8: never truncated
    }
}

/// Why a layout is refused ([H21](crate::rules#h21)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutError {
    /// The vector count is not 1 to 2048.
    Vectors(u32),
    /// BAR index (BIR) 6 and 7 are reserved, larger ones do not exist.
    ReservedBar(u8),
    /// The offset is not a multiple of 8 bytes.
    Misaligned {
        /// Table or PBA.
        region: Region,
        /// Its offset, bytes.
        offset: u64,
    },
    /// The offset does not fit the 32-bit register.
    OffsetTooLarge {
        /// Table or PBA.
        region: Region,
        /// Its offset, bytes.
        offset: u64,
    },
    /// The structure ends past its BAR.
    OutsideBar {
        /// Table or PBA.
        region: Region,
        /// Its BAR.
        bar: BarIndex,
        /// Offset of the first byte behind the structure.
        end: u64,
        /// Size of the BAR, bytes.
        size: u64,
    },
    /// Table and PBA overlap.
    Overlap {
        /// Offset of the table, bytes.
        table: u64,
        /// Offset of the PBA, bytes.
        pba: u64,
    },
    /// The capability is not MSI-X: another id than 0x11.
    NotMsix(u8),
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Vectors(n) => write!(f, "{n} vectors: must be 1 to {MAX_VECTORS}"),
            Self::ReservedBar(index) => write!(f, "BAR index {index}: must be 0 to 5"),
            Self::Misaligned { region, offset } => {
                write!(f, "{region} offset {offset:#x}: must be a multiple of 8")
            }
            Self::OffsetTooLarge { region, offset } => {
                write!(f, "{region} offset {offset:#x}: must fit 32 bits")
            }
            Self::OutsideBar { region, bar, end, size } => {
                write!(f, "{region} ends at {end:#x} of BAR {}, which has {size:#x} bytes", bar.0)
            }
            Self::Overlap { table, pba } => {
                write!(f, "table at {table:#x} and PBA at {pba:#x} of the same BAR overlap")
            }
            Self::NotMsix(id) => write!(f, "capability id {id:#x}: MSI-X is 0x11"),
        }
    }
}

impl core::error::Error for LayoutError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn at(bar: u8, offset: u64) -> Location {
        Location::new(BarIndex::new(bar).unwrap(), offset)
    }

    #[test]
    fn c47_an_exclusive_bar_is_laid_out_as_qemu_does() {
        for (vectors, pba, size) in [
            (1, 0x800, 0x1000),
            (128, 0x800, 0x1000),
            (129, 0x810, 0x1000),
            (256, 0x1000, 0x2000),
            (2048, 0x8000, 0x10000),
        ] {
            let bar = BarIndex::new(1).unwrap();
            let layout = Layout::exclusive_bar(vectors, bar).unwrap();
            assert_eq!(layout.location(Region::Table), Location::new(bar, 0));
            assert_eq!(layout.location(Region::Pba), Location::new(bar, pba), "{vectors}");
            assert_eq!(layout.min_bar_size(bar), size, "{vectors}");
            assert_eq!(layout.min_bar_size(BarIndex::new(0).unwrap()), 0);
        }
    }

    #[test]
    fn c11_c48_what_is_wrong_with_a_layout_is_named() {
        let sizes = [0x1000, 0, 0x10_0000, 0, u64::MAX, 0];
        let cases: &[(u32, Location, Location, &str)] = &[
            (0, at(0, 0), at(0, 0x800), "0 vectors"),
            (2049, at(0, 0), at(0, 0x800), "2049 vectors"),
            (19_923_041, at(0, 0), at(0, 0x800), "19923041 vectors"),
            (1, at(0, 4), at(0, 0x800), "table offset 0x4: must be a multiple of 8"),
            (1, at(0, 0), at(0, 0x801), "PBA offset 0x801: must be a multiple of 8"),
            (64, at(0, 0), at(0, 0x3f8), "table at 0x0 and PBA at 0x3f8 of the same BAR overlap"),
            (64, at(0, 8), at(0, 0), "ok"),
            (128, at(0, 8), at(0, 0), "overlap"),
            (128, at(0, 0x808), at(0, 0), "table ends at 0x1008 of BAR 0, which has 0x1000 bytes"),
            (1, at(0, 0), at(0, 0x1000), "PBA ends at 0x1008"),
            (1, at(1, 0), at(0, 0), "table ends at 0x10 of BAR 1, which has 0x0 bytes"),
            (1, at(4, 0x1_0000_0000), at(4, 0), "must fit 32 bits"),
            (1, at(4, u64::MAX - 7), at(4, 0), "must fit 32 bits"),
            (2048, at(4, 0xffff_fff8), at(4, 0), "ok"),
            (2048, at(2, 0), at(0, 0), "ok"),
        ];
        for &(vectors, table, pba, expected) in cases {
            let got = match Layout::new(vectors, table, pba, &sizes) {
                Ok(_) => "ok".to_string(),
                Err(error) => error.to_string(),
            };
            assert!(got.contains(expected), "{vectors} {table:?} {pba:?}: {got}");
        }
        for reserved in [6, 7, 255] {
            assert_eq!(BarIndex::new(reserved), Err(LayoutError::ReservedBar(reserved)));
        }
        assert_eq!(LayoutError::ReservedBar(6).to_string(), "BAR index 6: must be 0 to 5");
    }

    #[test]
    fn the_planner_starts_a_new_4_kib_block() {
        let bar = BarIndex::new(0).unwrap();
        for (used, table) in [(0, 0), (1, 0x1000), (0x1000, 0x1000), (0x1001, 0x2000)] {
            let layout = Layout::after(65, bar, used).unwrap();
            assert_eq!(layout.location(Region::Table).offset, table);
            assert_eq!(layout.location(Region::Pba).offset, table + 65 * 16);
        }
        for used in [0xffff_f001, u64::MAX] {
            let error = Layout::after(1, bar, used).unwrap_err();
            assert!(matches!(error, LayoutError::OffsetTooLarge { .. }), "{error}");
        }
        assert_eq!(Layout::after(0, bar, 0), Err(LayoutError::Vectors(0)));
    }

    #[test]
    fn a_capability_is_read_back_or_refused() {
        let sizes = [0x4000, 0, 0, 0, 0, 0];
        let good = [0x11, 0x50, 0x40, 0xc0, 0x00, 0x20, 0, 0, 0x00, 0x30, 0, 0];
        let layout = Layout::from_capability(&good, &sizes).unwrap();
        assert_eq!((layout.vectors(), layout.registers()), (65, [0x2000, 0x3000]));
        for (byte, value, error) in [
            (0, 0x05, LayoutError::NotMsix(5)),
            (4, 0x06, LayoutError::ReservedBar(6)),
            (8, 0x07, LayoutError::ReservedBar(7)),
            (9, 0x20, LayoutError::Overlap { table: 0x2000, pba: 0x2000 }),
        ] {
            let mut bad = good;
            bad[byte] = value;
            assert_eq!(Layout::from_capability(&bad, &sizes), Err(error));
        }
    }

    #[test]
    fn an_access_is_sent_to_the_structure_it_hits() {
        let layout = Layout::exclusive_bar(4, BarIndex::new(1).unwrap()).unwrap();
        let bar = BarIndex::new(1).unwrap();
        assert_eq!(layout.locate(bar, 0x3f), Some((Region::Table, 0x3f)));
        assert_eq!(layout.locate(bar, 0x40), None);
        assert_eq!(layout.locate(bar, 0x807), Some((Region::Pba, 7)));
        assert_eq!(layout.locate(bar, 0x808), None);
        assert_eq!(layout.locate(BarIndex::new(0).unwrap(), 0), None);
    }
}
