//! Where table and PBA lie.

use crate::error::{CError, answer, done};
use crate::raw;
use core::ffi::c_int;
use msix_core::{BarIndex, Layout, Location};

/// Vector count, and where table and PBA lie in the function's BARs.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CLayout {
    /// 1 to 2048.
    pub vectors: u32,
    /// The BAR of the table, 0 to 5; of a 64-bit BAR, its lower half.
    pub table_bar: u32,
    /// The BAR of the PBA, 0 to 5; of a 64-bit BAR, its lower half.
    pub pba_bar: u32,
    /// Bytes from the start of the BAR to the table, a multiple of 8. The table has 16 bytes a vector.
    pub table_offset: u64,
    /// Bytes from the start of the BAR to the PBA, a multiple of 8. The PBA has 8 bytes for every 64
    /// vectors.
    pub pba_offset: u64,
}

/// A structure in a BAR.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CRegion {
    /// Neither.
    None = 0,
    /// The table.
    Table = 1,
    /// The PBA.
    Pba = 2,
}

impl CLayout {
    fn of(layout: &Layout) -> Self {
        let table = layout.location(msix_core::Region::Table);
        let pba = layout.location(msix_core::Region::Pba);
        Self {
            vectors: u32::from(layout.vectors()),
            table_bar: u32::from(table.bar.index()),
            pba_bar: u32::from(pba.bar.index()),
            table_offset: table.offset,
            pba_offset: pba.offset,
        }
    }

    pub(crate) fn checked(&self, bar_sizes: *const u64) -> Result<Layout, CError> {
        let sizes = if bar_sizes.is_null() { [u64::MAX; 6] } else { raw::read(bar_sizes.cast())? };
        let table = Location::new(bar(self.table_bar)?, self.table_offset);
        let pba = Location::new(bar(self.pba_bar)?, self.pba_offset);
        Ok(Layout::new(self.vectors, table, pba, &sizes)?)
    }
}

fn bar(index: u32) -> Result<BarIndex, CError> {
    let index = u8::try_from(index).map_err(|_| CError::LayoutBar)?;
    Ok(BarIndex::new(index)?)
}

/// Checks a layout. `bar_sizes` are the sizes of the six BARs, bytes, 0 for one that is not there; null if
/// they are not known.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, and the MSIX_ERROR_LAYOUT ones.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_layout_check(layout: *const CLayout, bar_sizes: *const u64) -> c_int {
    done(raw::read(layout).and_then(|layout| layout.checked(bar_sizes).map(drop)))
}

/// Lays out a BAR that holds only table and PBA, as QEMU does: up to 128 vectors in 4 KiB with the PBA at
/// 0x800; for more, the PBA follows the table. `*bar_size` becomes the size that the BAR needs, bytes;
/// `bar_size` may be null.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_LAYOUT_VECTORS, MSIX_ERROR_LAYOUT_BAR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_layout_exclusive_bar(
    layout: *mut CLayout,
    vectors: u32,
    bar_index: u32,
    bar_size: *mut u64,
) -> c_int {
    let plan = || {
        let bar = bar(bar_index)?;
        let plan = Layout::exclusive_bar(vectors, bar)?;
        raw::write(layout, CLayout::of(&plan))?;
        if bar_size.is_null() { Ok(()) } else { raw::write(bar_size, plan.min_bar_size(bar)) }
    };
    done(plan())
}

/// Finds the structure that byte `offset` of BAR `bar_index` belongs to, one of msix_region, and writes
/// the offset in it, bytes, to `*inside`, or 0 where there is neither. A VMM sends accesses of a BAR on by
/// this.
///
/// Errors: those of msix_layout_check() for the layout.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_layout_locate(
    layout: *const CLayout,
    bar_index: u32,
    offset: u64,
    inside: *mut u64,
) -> c_int {
    let locate = || {
        let layout = raw::read(layout)?.checked(core::ptr::null())?;
        let found = bar(bar_index).ok().and_then(|bar| layout.locate(bar, offset));
        let (region, at) = match found {
            Some((msix_core::Region::Table, at)) => (CRegion::Table, at),
            Some((msix_core::Region::Pba, at)) => (CRegion::Pba, at),
            None => (CRegion::None, 0),
        };
        raw::write(inside, at)?;
        #[expect(clippy::as_conversions, reason = "a discriminant")]
        Ok(region as c_int)
    };
    answer(locate())
}
