//! The BARs of a function: their kinds and sizes.

use msix_core::BarIndex;
use thiserror::Error;

/// The accesses that a BAR decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BarKind {
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere; takes the next BAR's register for the upper half of its address.
    Memory64,
    /// I/O ports.
    Io,
}

/// One BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bar {
    /// The accesses that it decodes.
    pub kind: BarKind,
    /// Whether its memory is prefetchable (bit 3 of the register).
    pub prefetchable: bool,
    /// The size, bytes, a power of two: 16 to 2 GiB of 32-bit memory, 16 and more of 64-bit memory,
    /// 1 to 64 KiB of ports.
    pub size: u64,
}

impl Bar {
    /// Describes a BAR of `size` bytes that is not prefetchable.
    #[must_use]
    pub const fn new(kind: BarKind, size: u64) -> Self {
        Self { kind, prefetchable: false, size }
    }

    /// Returns whether it decodes memory.
    #[must_use]
    pub const fn is_memory(&self) -> bool {
        !matches!(self.kind, BarKind::Io)
    }

    /// Returns the BAR as the guest sees it: no register of ports has less than 4.
    pub(super) fn seen(self) -> Self {
        if self.is_memory() { self } else { Self { size: self.size.max(4), ..self } }
    }
}

/// The six BARs, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FunctionBars([Option<Bar>; 6]);

impl FunctionBars {
    /// Checks six BARs; the slot of a 64-bit BAR's upper half is `None`.
    ///
    /// # Errors
    /// [`BarError::Size`], [`BarError::NoUpperHalf`], [`BarError::UpperHalfInUse`].
    pub fn new(bars: [Option<Bar>; 6]) -> Result<Self, BarError> {
        for (index, bar) in (0..).zip(bars) {
            let Some(bar) = bar else { continue };
            let limits = match bar.kind {
                BarKind::Memory32 => 16..=1 << 31,
                BarKind::Memory64 => 16..=1 << 63,
                // Less than a register can tell: control blocks of IDE at their fixed ports.
                BarKind::Io => 1..=1 << 16,
            };
            let size = bar.size;
            if !size.is_power_of_two() || !limits.contains(&size) {
                let (least, most) = limits.into_inner();
                return Err(BarError::Size { bar: index, size, least, most });
            }
            if bar.kind == BarKind::Memory64 {
                match bars.get(usize::from(index) + 1) {
                    None => return Err(BarError::NoUpperHalf(index)),
                    Some(Some(_)) => return Err(BarError::UpperHalfInUse(index)),
                    Some(None) => {}
                }
            }
        }
        Ok(Self(bars))
    }

    /// Reads the BARs from the `config` space of a function, with the `sizes`, bytes, of its VFIO
    /// regions 0 to 5 (0: not there). The registers give the kinds; their addresses are ignored.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`BarError::Kind`], [`BarError::NoRegisters`].
    pub fn from_config(config: &[u8], sizes: [u64; 6]) -> Result<Self, BarError> {
        let (registers, _) = config
            .get(BARS..)
            .and_then(|rest| rest.first_chunk::<24>())
            .ok_or(BarError::NoRegisters(config.len()))?
            .as_chunks::<4>();
        let mut bars = [None; 6];
        for (((index, register), size), bar) in (0..).zip(registers).zip(sizes).zip(&mut bars) {
            let [low, ..] = *register;
            let kind = match (low & 1, low >> 1 & 3) {
                _ if size == 0 => continue,
                (1, _) => BarKind::Io,
                (_, 0 | 1) => BarKind::Memory32, // 1: below 1 MiB, once
                (_, 2) => BarKind::Memory64,
                _ => return Err(BarError::Kind { bar: index, register: low }),
            };
            let prefetchable = kind != BarKind::Io && low & 8 != 0;
            *bar = Some(Bar { kind, prefetchable, size });
        }
        Self::new(bars)
    }

    /// Returns BAR `index`, if it is there.
    #[must_use]
    pub fn bar(&self, index: BarIndex) -> Option<Bar> {
        self.0.get(usize::from(index.index())).copied().flatten()
    }

    /// Returns the BARs that are there, in order.
    pub fn iter(&self) -> impl Iterator<Item = (BarIndex, Bar)> {
        indexes().filter_map(|index| Some((index, self.bar(index)?)))
    }

    /// Returns whether slot `index` is the upper half of the 64-bit BAR before it.
    #[must_use]
    pub fn is_upper_half(&self, index: BarIndex) -> bool {
        let before = index.index().checked_sub(1).and_then(|index| BarIndex::new(index).ok());
        before.and_then(|before| self.bar(before)).is_some_and(|b| b.kind == BarKind::Memory64)
    }

    /// Returns the sizes of the memory BARs, bytes, as [`msix_core::Layout`] takes them: 0 for a
    /// BAR that is not there, decodes ports, or is an upper half.
    #[must_use]
    pub fn memory_sizes(&self) -> [u64; 6] {
        self.0.map(|bar| bar.filter(Bar::is_memory).map_or(0, |bar| bar.size))
    }

    /// Replaces BAR `index`.
    pub(super) fn with(&self, index: BarIndex, bar: Bar) -> Result<Self, BarError> {
        let mut bars = self.0;
        if let Some(slot) = bars.get_mut(usize::from(index.index())) {
            *slot = Some(bar);
        }
        Self::new(bars)
    }
}

/// Returns all six indexes.
pub(super) fn indexes() -> impl Iterator<Item = BarIndex> {
    (0..6).filter_map(|index| BarIndex::new(index).ok())
}

/// Offset of the registers in config space.
const BARS: usize = 0x10;

/// Why BARs are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BarError {
    /// The size is not a power of two, or no BAR of this kind can have it.
    #[error("BAR {bar} has {size:#x} bytes, must be a power of two from {least:#x} to {most:#x}")]
    Size {
        /// Its index.
        bar: u8,
        /// Its size, bytes.
        size: u64,
        /// Smallest size of its kind.
        least: u64,
        /// Largest size of its kind.
        most: u64,
    },
    /// A 64-bit BAR in the last slot: none is left for the upper half of its address.
    #[error("BAR {0} has 64 bits, and no slot behind it: the last is 5")]
    NoUpperHalf(u8),
    /// The slot behind a 64-bit BAR is a BAR of its own.
    #[error("BAR {0} has 64 bits, but the slot behind it is in use")]
    UpperHalfInUse(u8),
    /// The register's type is reserved.
    #[error("BAR {bar} reads {register:#04x}: its type, bits 2:1, is reserved")]
    Kind {
        /// Its index.
        bar: u8,
        /// The register's low byte.
        register: u8,
    },
    /// The config space is too short to hold the six registers.
    #[error("config space of {0} bytes: the BARs are in 0x10 to 0x28")]
    NoRegisters(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    const M32: Option<Bar> = Some(Bar::new(BarKind::Memory32, 0x1000));
    const M64: Option<Bar> = Some(Bar::new(BarKind::Memory64, 0x1000));

    fn sized(kind: BarKind, size: u64) -> [Option<Bar>; 6] {
        [Some(Bar::new(kind, size)), None, None, None, None, None]
    }

    #[test]
    fn bars_that_cannot_be_are_refused_by_name() {
        use BarKind::{Io, Memory32, Memory64};
        let cases = [
            (sized(Memory32, 8), "BAR 0 has 0x8 bytes, must be a power of two from 0x10"),
            (sized(Memory32, 0x1800), "BAR 0 has 0x1800 bytes"),
            (sized(Memory32, 1 << 32), "to 0x80000000"),
            (sized(Memory64, 0), "BAR 0 has 0x0 bytes"),
            (sized(Memory64, u64::MAX), "to 0x8000000000000000"),
            (sized(Io, 1), "ok"),
            (sized(Io, 2), "ok"),
            (sized(Io, 3), "from 0x1 to 0x10000"),
            (sized(Io, 0x20000), "BAR 0 has 0x20000 bytes"),
            (sized(Memory64, 1 << 63), "ok"),
            ([None, None, None, None, None, M64], "BAR 5 has 64 bits, and no slot behind it"),
            ([None, M64, M32, None, None, None], "BAR 1 has 64 bits, but the slot behind"),
            ([M64, None, M64, None, M32, M32], "ok"),
        ];
        for (bars, expected) in cases {
            let got = FunctionBars::new(bars)
                .map_or_else(|error| error.to_string(), |_| "ok".to_string());
            assert!(got.contains(expected), "{got} is not {expected}");
        }
    }

    #[test]
    fn the_registers_say_the_kinds() {
        let mut config = [0; 256];
        config[0x10] = 0x0c;
        config[0x18] = 0x01;
        config[0x1c] = 0x02; // below 1 MiB
        config[0x20] = 0x06; // reserved, but not there
        let bars = FunctionBars::from_config(&config, [0x4000, 0, 0x20, 0x1000, 0, 0]).unwrap();
        let first = Bar { prefetchable: true, ..Bar::new(BarKind::Memory64, 0x4000) };
        let got: Vec<_> = bars.iter().map(|(index, bar)| (index.index(), bar)).collect();
        let ports = Bar::new(BarKind::Io, 0x20);
        assert_eq!(got, [(0, first), (2, ports), (3, Bar::new(BarKind::Memory32, 0x1000))]);
        assert_eq!(bars.memory_sizes(), [0x4000, 0, 0, 0x1000, 0, 0]);
        let upper: Vec<_> = indexes().map(|index| bars.is_upper_half(index)).collect();
        assert_eq!(upper, [false, true, false, false, false, false]);
        let reserved = FunctionBars::from_config(&config, [0, 0, 0, 0, 0x1000, 0]);
        assert_eq!(reserved, Err(BarError::Kind { bar: 4, register: 6 }));
        assert_eq!(
            FunctionBars::from_config(&config[..39], [0; 6]),
            Err(BarError::NoRegisters(39))
        );
    }
}
