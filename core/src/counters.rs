//! Counts how many interrupts went where.

/// Totals since the engine was made, which wrap at 2^64. Neither a reset nor a snapshot load clears
/// them.
///
/// Every event that [`crate::Msix::notify`] or [`crate::Msix::report_held`] takes, or the same
/// input of [`crate::Msi`], ends in exactly one place: it is pending now, or it is counted in
/// `sent`, `coalesced`, `withdrawn`, `to_intx` or one of the `dropped_*`, one for each reason of
/// [I4](crate::rules#i4). A snapshot load replaces the pending bits: those it drops are in
/// `dropped_load`, those it brings were counted by the engine that saved them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Messages emitted as [`crate::Effect::Send`].
    pub sent: u64,
    /// Events that found their pending bit set: one message stands for both (A12).
    pub coalesced: u64,
    /// Pending bits cleared by [`crate::Msix::withdraw`] (A8).
    pub withdrawn: u64,
    /// Events that came while MSI-X was disabled and were left to INTx
    /// ([`crate::policy::WhileDisabled::Intx`], H3).
    pub to_intx: u64,
    /// Events of a vector without a claim (C24), and pending bits that the last unclaim or
    /// [`crate::policy::UnclaimedPending::Lose`] cleared (H9).
    pub dropped_unclaimed: u64,
    /// Events while disabled under [`crate::policy::WhileDisabled::Drop`], and pending bits cleared by
    /// [`crate::policy::PendingOnDisable::Drop`] (H2, H3).
    pub dropped_disabled: u64,
    /// Messages that [`crate::policy::BusMasterOff::DropMessage`] threw away (H16).
    pub dropped_bus_master: u64,
    /// Pending bits cleared by a function reset (A13).
    pub dropped_reset: u64,
    /// Pending bits that a snapshot load replaced.
    pub dropped_load: u64,
    /// Vectors named by [`crate::Effect::Arm`].
    pub arms: u64,
    /// Vectors named by [`crate::Effect::Disarm`].
    pub disarms: u64,
    /// Vectors named by [`crate::Effect::Reroute`]: live, with a changed message (H4).
    pub reroutes: u64,
    /// Vectors that the host reported as failed (H11).
    pub failures: u64,
}

impl Counters {
    pub(crate) const ZERO: Self = Self {
        sent: 0,
        coalesced: 0,
        withdrawn: 0,
        to_intx: 0,
        dropped_unclaimed: 0,
        dropped_disabled: 0,
        dropped_bus_master: 0,
        dropped_reset: 0,
        dropped_load: 0,
        arms: 0,
        disarms: 0,
        reroutes: 0,
        failures: 0,
    };
}

impl Counters {
    /// Counts messages that were due while bus master was off (H16), and pending bits of vectors
    /// without a claim (H9).
    #[cold]
    #[inline(never)]
    pub(crate) fn drop_messages(&mut self, dropped: u64, lost: u64) {
        add(&mut self.dropped_bus_master, dropped);
        add(&mut self.dropped_unclaimed, lost);
    }
}

/// Adds the size of a set of vectors to a total.
#[inline]
pub(crate) fn add(total: &mut u64, bits: u64) {
    let count = if bits == u64::MAX { 64 } else { size(bits) };
    *total = total.wrapping_add(u64::from(count));
}

/// Kept out of line: it takes 17 instructions on plain x86-64, and most sets in long lists are
/// full.
#[cold]
#[inline(never)]
fn size(bits: u64) -> u32 {
    bits.count_ones()
}

/// Adds one to a total.
#[inline]
pub(crate) fn one(total: &mut u64) {
    *total = total.wrapping_add(1);
}
