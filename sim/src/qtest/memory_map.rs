//! What is at which guest-physical address.

use std::ops::Range;

/// What answers at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// RAM, at this offset.
    Ram(usize),
    /// A BAR of the device with this index, at this offset.
    Bar { device: usize, bar: u8, offset: u64 },
    /// Configuration space in memory, at this offset.
    Config(u64),
    /// Nobody.
    Nowhere,
}

/// Where everything is. Of BARs that overlap, the one that was placed last answers, as in QEMU.
#[derive(Debug, Default)]
pub(super) struct MemoryMap {
    /// Bytes of RAM.
    ram: u64,
    /// The last that was placed first.
    bars: Vec<Placed>,
    ecam: Option<Range<u64>>,
}

#[derive(Debug)]
struct Placed {
    device: usize,
    bar: u8,
    range: Range<u64>,
}

impl MemoryMap {
    pub(super) fn new(ram: usize) -> Self {
        Self { ram: ram as u64, ..Self::default() }
    }

    /// A BAR is there now. One that has not moved stays as far in front as it was.
    pub(super) fn place_bar(&mut self, device: usize, bar: u8, range: Option<Range<u64>>) {
        let same = |placed: &Placed| (placed.device, placed.bar) == (device, bar);
        let before = self.bars.iter().position(same);
        if before.and_then(|at| self.bars.get(at)).map(|placed| &placed.range) == range.as_ref() {
            return;
        }
        self.bars.retain(|placed| !same(placed));
        if let Some(range) = range {
            self.bars.insert(0, Placed { device, bar, range });
        }
    }

    pub(super) fn place_ecam(&mut self, range: Option<Range<u64>>) {
        self.ecam = range;
    }

    /// What is at `address`, and for how many bytes at least.
    pub(super) fn find(&self, address: u64) -> (Place, u64) {
        let bars = self.bars.iter().map(|placed| &placed.range);
        let fixed = [VIDEO.start, VIDEO.end, ROM.end, self.ram];
        let ends = bars.chain(&self.ecam).flat_map(|range| [range.start, range.end]).chain(fixed);
        // 0, of no end that is left, is the end of the address space.
        let next = ends.filter(|end| *end > address).min().unwrap_or(0);
        (self.at(address), next.wrapping_sub(address))
    }

    fn at(&self, address: u64) -> Place {
        let ram = Place::Ram(usize::try_from(address).unwrap_or(usize::MAX));
        let is_ram = address < self.ram && !ROM.contains(&address);
        if is_ram && !VIDEO.contains(&address) {
            return ram;
        }
        if let Some(ecam) = &self.ecam
            && ecam.contains(&address)
        {
            return Place::Config(address - ecam.start);
        }
        let mut bars = self.bars.iter();
        match bars.find(|placed| placed.range.contains(&address)) {
            Some(&Placed { device, bar, ref range }) => {
                Place::Bar { device, bar, offset: address - range.start }
            }
            None if is_ram => ram,
            None => Place::Nowhere,
        }
    }
}

/// Where a display would be: RAM under it.
const VIDEO: Range<u64> = 0xa_0000..0xc_0000;
/// Where ROMs would be, and firmware would find RAM if it asked for it.
const ROM: Range<u64> = 0xc_0000..0x10_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_that_was_placed_last_answers() {
        let mut map = MemoryMap::new(64 << 20);
        map.place_bar(0, 0, Some(0xe000_0000..0xe010_0000));
        map.place_bar(0, 1, Some(0xe000_0000..0xe000_0100));
        let at = |map: &MemoryMap| map.find(0xe000_0010);
        let of = |bar| Place::Bar { device: 0, bar, offset: 0x10 };
        assert_eq!(at(&map), (of(1), 0xf0));
        map.place_bar(0, 0, Some(0xe000_0000..0xe010_0000));
        assert_eq!(at(&map), (of(1), 0xf0), "it has not moved");
        map.place_bar(0, 0, None);
        map.place_bar(0, 0, Some(0xe000_0000..0xe010_0000));
        assert_eq!(at(&map), (of(0), 0xf0));
        assert_eq!(map.find(0xe010_0000), (Place::Nowhere, 0u64.wrapping_sub(0xe010_0000)));
    }

    #[test]
    fn below_1_mib_ram_has_a_hole() {
        let mut map = MemoryMap::new(64 << 20);
        map.place_bar(1, 0, Some(0xb_ff00..0xc_0100));
        let end = |at: u64, end: u64| (Place::Ram(at as usize), end - at);
        assert_eq!(map.find(0), end(0, 0xa_0000));
        assert_eq!(map.find(0xa_0000), end(0xa_0000, 0xb_ff00));
        assert_eq!(map.find(0xb_ff08), (Place::Bar { device: 1, bar: 0, offset: 8 }, 0xf8));
        assert_eq!(map.find(0xc_0000), (Place::Bar { device: 1, bar: 0, offset: 0x100 }, 0x100));
        assert_eq!(map.find(0xc_0100), (Place::Nowhere, 0x3_ff00));
        assert_eq!(map.find(0x10_0000), end(0x10_0000, 64 << 20));
        map.place_ecam(Some(0xb000_0000..0xc000_0000));
        assert_eq!(map.find(0xb000_0003), (Place::Config(3), 0xfff_fffd));
    }
}
