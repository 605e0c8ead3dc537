//! Which parts of a BAR may be mapped to the guest, and whose the bytes are that trap.

use super::bar_map::Bar;
use super::owned_range::{OwnedRange, Tiles, intersection};
use std::ops::Range;

/// Size of the host's pages: what can be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PageSize {
    /// 4 KiB.
    #[default]
    Kib4,
    /// 16 KiB.
    Kib16,
    /// 64 KiB.
    Kib64,
}

impl PageSize {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kib4, Self::Kib16, Self::Kib64];

    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Kib4 => 0x1000,
            Self::Kib16 => 0x4000,
            Self::Kib64 => 0x1_0000,
        }
    }
}

/// BARs smaller than a host page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SmallBars {
    /// They trap: the rest of the page may be another device's.
    #[default]
    Trap,
    /// They are mapped, a page for each, if the kernel lets them: the caller sees to it that each is
    /// alone in its page, and at the page's start, in the guest too.
    Map,
}

/// Whose a byte of a BAR is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BarOwner {
    /// The emulated table's: [`msix_core::Layout::locate`] says which of its bytes.
    Table,
    /// The emulated PBA's.
    Pba,
    /// The device's, at the same offset of the same BAR: forwarded where it traps.
    Device,
    /// Nobody's: reads 0, writes are dropped. The device's own table after a relocation, and what a
    /// relocation added to a BAR.
    Nobody,
}

/// The map of one BAR as the guest sees it. Offsets are bytes from its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarMap {
    bar: Bar,
    tiles: Tiles<BarOwner>,
    mapped: Vec<Range<u64>>,
}

impl BarMap {
    /// For `bar`, whose bytes belong as `tiles` say, of which the kernel lets `areas` be mapped.
    pub(super) fn new(
        bar: Bar,
        tiles: Tiles<BarOwner>,
        areas: &[Range<u64>],
        page: PageSize,
        small: SmallBars,
    ) -> Self {
        let mut mapped = Vec::new();
        let areas = if bar.is_memory() { areas } else { &[] };
        for area in areas {
            for run in tiles.runs().iter().filter(|run| run.owner == BarOwner::Device) {
                let shared = intersection(&run.range, area);
                let pages = if bar.size >= page.bytes() {
                    whole_pages(&shared, page)
                } else if small == SmallBars::Map && shared == (0..bar.size) {
                    shared
                } else {
                    continue;
                };
                if !pages.is_empty() {
                    mapped.push(pages);
                }
            }
        }
        Self { bar, tiles, mapped }
    }

    /// The BAR, with the size that the guest sees.
    #[must_use]
    pub const fn bar(&self) -> Bar {
        self.bar
    }

    /// What may be mapped, at the same offset of the device's BAR, in order and without overlap:
    /// whole pages, but for a BAR smaller than a page ([`SmallBars::Map`]). Two runs may touch:
    /// the kernel listed them as two areas.
    #[must_use]
    pub fn mapped(&self) -> &[Range<u64>] {
        &self.mapped
    }

    /// What must trap: all the rest, in order.
    pub fn trapped(&self) -> impl Iterator<Item = Range<u64>> {
        let ends = self.mapped.iter().map(|range| range.start).chain([self.bar.size]);
        let starts = [0].into_iter().chain(self.mapped.iter().map(|range| range.end));
        starts.zip(ends).map(|(start, end)| start..end).filter(|range| !range.is_empty())
    }

    /// Whose all its bytes are, in order.
    #[must_use]
    pub fn runs(&self) -> &[OwnedRange<BarOwner>] {
        self.tiles.runs()
    }

    /// An access as runs of one owner, in order. What is past the BAR's end is nobody's.
    pub fn split(&self, offset: u64, len: u64) -> impl Iterator<Item = OwnedRange<BarOwner>> {
        let access = offset..offset.saturating_add(len);
        let outside = access.start.max(self.bar.size)..access.end;
        let outside = OwnedRange { range: outside, owner: BarOwner::Nobody };
        let inside = self.runs().iter().map(move |run| OwnedRange {
            range: intersection(&run.range, &access),
            owner: run.owner,
        });
        inside.chain([outside]).filter(|run| !run.range.is_empty())
    }
}

/// The pages that lie wholly in `range`.
fn whole_pages(range: &Range<u64>, page: PageSize) -> Range<u64> {
    let end = range.end - range.end % page.bytes();
    let start = range.start.checked_next_multiple_of(page.bytes()).unwrap_or(end);
    start.min(end)..end
}
