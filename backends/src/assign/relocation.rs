//! Moves table and PBA, as the guest sees them, into pages of their own.
//!
//! On a host with pages larger than 4 KiB, registers that share a page with the table trap, even
//! though they keep A2. In another place, which the device does not have, the emulated table shares
//! a page with nothing. The device's own table stays in place, and VFIO owns it.
//!
//! What a device claims of its own table need not be true. If table and PBA overlap, or the table
//! is not in a memory BAR, nothing of the device is hidden for it. VFIO believes the claim all the
//! same: it answers itself for those bytes of the region (D11), so the guest reaches the registers
//! there only where they are mapped.

use super::bar_map::{Bar, BarKind, FunctionBars, indexes};
use super::error::AssignError;
use super::pages::PageSize;
use msix_core::{BarIndex, Layout};

/// Where the guest sees table and PBA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Relocation {
    /// Where the device has them.
    #[default]
    None,
    /// In this BAR: one that the device does not have, or the end of one that it has, which is
    /// enlarged.
    Bar(BarIndex),
    /// Elsewhere if the device's own cannot be, or if more of the device can be mapped that way,
    /// which needs [`OwnTable::Mapped`]: in the lowest BAR that the device does not have, or else at
    /// the end of the smallest memory BAR.
    Auto,
    /// Nowhere: MSI-X is hidden from the guest, which has MSI and INTx, as far as the device has
    /// them. [`Assigned::pointers`](super::Assigned::pointers) gives the chain without it.
    Nowhere,
}

/// What becomes of the device's own table when the guest sees its table elsewhere or nowhere. A
/// table that cannot be where the device claims it is left out of account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OwnTable {
    /// Its pages trap, and it has no owner.
    #[default]
    Hidden,
    /// Its pages are mapped with the registers that share them, if the kernel allows it
    /// ([`KernelBar::msix_mappable`](super::KernelBar)). A guest that writes to this table can make
    /// its device send other messages than VFIO programmed, which the host's interrupt remapping
    /// has to refuse.
    Mapped,
}

/// What the guest sees after a relocation.
#[derive(Debug, Clone, Copy)]
pub(super) struct RelocationPlan {
    pub(super) layout: Layout,
    pub(super) bars: FunctionBars,
}

/// Plans a table of `vectors`, and its PBA, in BAR `to`.
pub(super) fn plan(
    vectors: u16,
    bars: &FunctionBars,
    to: BarIndex,
    page: PageSize,
) -> Result<RelocationPlan, AssignError> {
    let vectors = u32::from(vectors);
    let (old, moved) = match bars.bar(to) {
        Some(bar) if bar.is_memory() => {
            (bar, Layout::after(vectors, to, bar.size.max(page.bytes()))?)
        }
        None if !bars.is_upper_half(to) => {
            (Bar::new(BarKind::Memory32, 0), Layout::exclusive_bar(vectors, to)?)
        }
        _ => return Err(AssignError::NotMemory(to)),
    };
    let size = moved.min_bar_size(to).max(page.bytes());
    let bars = bars.with(to, Bar { size, ..old }).map_err(AssignError::RelocatedBar)?;
    Ok(RelocationPlan { layout: moved, bars })
}

/// Returns the plan for [`Relocation::Auto`], if there is any.
pub(super) fn automatic(
    vectors: u16,
    bars: &FunctionBars,
    page: PageSize,
) -> Option<RelocationPlan> {
    let mut places: Vec<_> = indexes().collect();
    // A BAR that is not there has 0 bytes; the sort is stable.
    places.sort_by_key(|&index| bars.bar(index).map_or(0, |bar| bar.size));
    places.into_iter().find_map(|to| plan(vectors, bars, to, page).ok())
}
