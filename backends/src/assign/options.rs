//! The caller's choices, and what the kernel reports.

use super::kernel::KernelBar;
use super::pages::{PageSize, SmallBars};
use super::relocation::{OwnTable, Relocation};
use super::trap_range::TrapRange;

/// The caller's choices, and what the kernel reports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AssignOptions {
    /// The size of the host's pages.
    pub page: PageSize,
    /// The kernel's reports of VFIO's regions 0 to 5; by default nothing may be mapped.
    pub kernel: [KernelBar; 6],
    /// What becomes of BARs smaller than a page.
    pub small_bars: SmallBars,
    /// The owner of the pending bits.
    pub pba: PbaOwner,
    /// Where the guest sees table and PBA.
    pub relocation: Relocation,
    /// What becomes of the device's own table, if the guest sees another or none.
    pub own_table: OwnTable,
    /// Further ranges that must trap, such as [`TrapRange::known`] returns. A later one comes over
    /// an earlier one; the guest's table, its emulated PBA and the device's hidden table come over
    /// all of them.
    pub traps: Vec<TrapRange>,
}

/// The owner of the pending bits that the guest reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PbaOwner {
    /// The engine: the guest sees the pending bits of the vectors that it programmed.
    #[default]
    Emulated,
    /// The device: the guest reads its PBA (D11). A relocated PBA is emulated all the same.
    Device,
}
