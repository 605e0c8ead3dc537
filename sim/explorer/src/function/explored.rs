//! The function under exploration, and what can be read of it.

use msix_core::policy::BusMasterOff;
use msix_core::{
    BarIndex, Counters, Effects, Function, FunctionEffect, Inline, IntxSource, Layout, Mode,
    MsiCapability, Parts, Policy, Vector, Vectors,
};

/// The function under exploration.
pub(super) type Explored = Function<Inline<2, 1>>;

/// A function with two vectors of each kind, after reset.
pub(super) fn fresh(policy: Policy, source: IntxSource) -> Explored {
    let made = || {
        let parts = Parts {
            msi: Some(MsiCapability::new(2).ok()?.with_masks()),
            msix: Some(Layout::exclusive_bar(2, BarIndex::new(0).ok()?).ok()?),
            pin: Some(source),
        };
        let mut function = Function::new(parts, policy).ok()?;
        for v in [0, 1].map(Vector::new) {
            function.claim(v, &mut Effects::<14, FunctionEffect>::new()).ok()?;
        }
        Some(function)
    };
    made().unwrap_or_else(|| unreachable!("two vectors fit everything"))
}

/// What a guest and an operator can read of a function.
#[derive(Debug, Clone, Copy)]
pub(super) struct FunctionRegisters {
    pub(super) msi_enabled: bool,
    pub(super) msix_enabled: bool,
    /// Vectors whose message may be sent.
    pub(super) msi_open: u64,
    pub(super) msix_open: u64,
    pub(super) msi_pending: u64,
    /// Events of MSI by their own numbers, as a snapshot has them.
    pub(super) msi_events: u64,
    pub(super) msix_pending: u64,
    /// Vectors of MSI-X with a claim.
    pub(super) claimed: u64,
    pub(super) msi_live: u64,
    pub(super) msix_live: u64,
    pub(super) msi_counters: Counters,
    pub(super) msix_counters: Counters,
}

/// Where a snapshot of the function has MSI's events: behind its own header (10 bytes), MSI's (6) and
/// the capability (24).
const MSI_EVENTS: usize = 40;

impl FunctionRegisters {
    pub(super) fn of(function: &Explored) -> Self {
        let (Some(msi), Some(msix)) = (function.msi(), function.msix()) else {
            unreachable!("the explored function has both");
        };
        let config = msi.capability();
        let mut saved = [0; 128];
        let _ = function.save(&mut saved);
        let msix_control = msix.capability()[3];
        let (msi_enabled, msix_enabled) = (config[2] & 1 != 0, msix_control & 0x80 != 0);
        let gated = msix.policy().bus_master_off == BusMasterOff::Latch;
        let may = !function.is_loading() && (!gated || function.command() & 4 != 0);
        let allocated = if config[2] & 0x70 == 0 { 1 } else { 3 };
        let (mut masked, mut claimed) = (0, 0);
        for v in [0_u16, 1] {
            let mut control = [0; 4];
            msix.read_table(u64::from(v) * 16 + 12, &mut control);
            masked |= u64::from(control[0] & 1) << v;
            claimed |= u64::from(msix.claims(Vector::new(v)).is_some_and(|claims| claims > 0)) << v;
        }
        let mut pba = [0; 8];
        msix.read_pba(0, &mut pba);
        let all = |holds: bool| if holds { 3 } else { 0 };
        Self {
            msi_enabled,
            msix_enabled,
            msi_open: all(msi_enabled && !msix_enabled && may) & allocated & !u64::from(config[12]),
            msix_open: all(msix_enabled && msix_control & 0x40 == 0 && may) & !masked,
            msi_pending: u64::from(config[16]),
            msi_events: u64::from(saved[MSI_EVENTS]),
            msix_pending: u64::from(pba[0]),
            claimed,
            msi_live: msi.live().bits(),
            msix_live: msix.live().next().map_or(0, Vectors::bits),
            msi_counters: *msi.counters(),
            msix_counters: *msix.counters(),
        }
    }

    pub(super) const fn mode(&self) -> Mode {
        match (self.msix_enabled, self.msi_enabled) {
            (true, _) => Mode::MsiX,
            (false, true) => Mode::Msi,
            (false, false) => Mode::Intx,
        }
    }
}
