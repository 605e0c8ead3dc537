//! What the kernel lets a VMM map.

use super::owned_range::intersection;
use std::ops::Range;
use std::slice;

/// Which parts of a VFIO region may be mapped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Mappable {
    /// None: VFIO_REGION_INFO_FLAG_MMAP is clear.
    #[default]
    Nothing,
    /// All of it: the flag is set, and no capability lists areas.
    Whole,
    /// These areas, in bytes of the region: VFIO_REGION_INFO_CAP_SPARSE_MMAP. They may be in any
    /// order; what is past the region is ignored.
    Areas(Vec<Range<u64>>),
}

/// What the kernel reports of a BAR's region.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelBar {
    /// Which parts may be mapped.
    pub mappable: Mappable,
    /// VFIO_REGION_INFO_CAP_MSIX_MAPPABLE: pages with the device's own table may be mapped too
    /// (D11).
    pub msix_mappable: bool,
}

impl KernelBar {
    /// Describes a region that may be mapped whole, including the table's pages, as current kernels
    /// report of most.
    #[must_use]
    pub const fn whole() -> Self {
        Self { mappable: Mappable::Whole, msix_mappable: true }
    }

    /// Returns the areas of a region of `size` bytes, in order and without overlap. Areas that only
    /// touch stay apart, because each is mapped by a call of its own.
    pub(super) fn areas(&self, size: u64) -> Vec<Range<u64>> {
        let whole = 0..size;
        let areas = match &self.mappable {
            Mappable::Nothing => Default::default(),
            Mappable::Whole => slice::from_ref(&whole),
            Mappable::Areas(areas) => areas.as_slice(),
        };
        let mut clipped: Vec<_> = areas
            .iter()
            .map(|area| intersection(&whole, area))
            .filter(|area| !area.is_empty())
            .collect();
        clipped.sort_by_key(|area| (area.start, area.end));
        clipped.dedup_by(|next, last| {
            let joined = next.start < last.end;
            if joined {
                last.end = last.end.max(next.end);
            }
            joined
        });
        clipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_clipped_sorted_and_joined_where_they_overlap() {
        let areas = vec![
            0x800..0x1000,
            0..0x400,
            0x200..0x800,
            0xf00..u64::MAX,
            Range { start: 9, end: 3 },
            0x9000..0xa000,
        ];
        let bar = KernelBar { mappable: Mappable::Areas(areas), msix_mappable: false };
        assert_eq!(bar.areas(0x2000), [0..0x800, 0x800..0x2000]);
        assert_eq!(KernelBar::whole().areas(0x100), vec![0..0x100; 1]);
        assert_eq!(KernelBar::default().areas(0x100), []);
    }
}
