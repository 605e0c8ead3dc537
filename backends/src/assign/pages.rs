//! Maps the bytes of a BAR: which parts the guest may reach directly, and who owns the bytes that
//! trap.

use super::bar_map::Bar;
use super::owned_range::{OwnedRange, Tiles, intersection};
use std::ops::Range;

/// The size of the host's pages, the unit of mapping.
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
    /// All sizes.
    pub const ALL: [Self; 3] = [Self::Kib4, Self::Kib16, Self::Kib64];

    /// Returns the size, bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Kib4 => 0x1000,
            Self::Kib16 => 0x4000,
            Self::Kib64 => 0x1_0000,
        }
    }
}

/// What becomes of BARs smaller than a host page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SmallBars {
    /// They trap, because the rest of the page may belong to another device.
    #[default]
    Trap,
    /// They are mapped, with one page for each, if the kernel allows it. The caller must see to it
    /// that each is alone in its page and at the page's start, in the guest too.
    Map,
}

/// The owner of a byte of a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BarOwner {
    /// The emulated table: [`msix_core::Layout::locate`] gives the byte of it.
    Table,
    /// The emulated PBA.
    Pba,
    /// The device, at the same offset of the same BAR: an access that traps is forwarded to it.
    Device,
    /// No owner: reads 0, and writes are dropped. Such are the device's own table after a
    /// relocation, and what a relocation added to a BAR.
    Nobody,
    /// The device, as for [`Device`](Self::Device), but never mapped: the VMM sees every access and
    /// forwards it.
    Watched,
    /// A mirror of config space that begins at this offset of the BAR:
    /// [`Assigned::split`](super::Assigned::split) gives the owners of its bytes.
    Config(u64),
    /// A window to the table that begins at this offset of the BAR:
    /// [`TableWindow`](super::TableWindow) answers.
    TableWindow(u64),
}

/// The map of one BAR as the guest sees it. Offsets are bytes from its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarMap {
    bar: Bar,
    tiles: Tiles<BarOwner>,
    mapped: Vec<Range<u64>>,
}

impl BarMap {
    /// Makes the map of `bar`, with the owners in `tiles`; the kernel lets `areas` be mapped.
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

    /// Returns the BAR, with the size that the guest sees.
    #[must_use]
    pub const fn bar(&self) -> Bar {
        self.bar
    }

    /// Returns what may be mapped, at the same offset of the device's BAR, in order and without
    /// overlap: whole pages, except for a BAR smaller than a page ([`SmallBars::Map`]). Two runs
    /// may touch, where the kernel lists them as two areas.
    #[must_use]
    pub fn mapped(&self) -> &[Range<u64>] {
        &self.mapped
    }

    /// Returns what must trap: all the rest, in order.
    pub fn trapped(&self) -> impl Iterator<Item = Range<u64>> {
        let ends = self.mapped.iter().map(|range| range.start).chain([self.bar.size]);
        let starts = [0].into_iter().chain(self.mapped.iter().map(|range| range.end));
        starts.zip(ends).map(|(start, end)| start..end).filter(|range| !range.is_empty())
    }

    /// Returns the owners of all its bytes, in order.
    #[must_use]
    pub fn runs(&self) -> &[OwnedRange<BarOwner>] {
        self.tiles.runs()
    }

    /// Splits an access into runs of one owner, in order. Bytes past the BAR's end have no owner.
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

/// Returns the pages that lie wholly in `range`.
fn whole_pages(range: &Range<u64>, page: PageSize) -> Range<u64> {
    let end = range.end - range.end % page.bytes();
    let start = range.start.checked_next_multiple_of(page.bytes()).unwrap_or(end);
    start.min(end)..end
}
