//! The facts of a function as a whole, kept so that one comparison decides what to do in most cases.

use crate::kernel::Switches;
use crate::policy::{BusMasterOff, Policy, UnclaimedPending, WhileDisabled};

/// One of a function's facts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fact(u32);

impl Fact {
    // Reasons not to send: a function may send when none of them holds.
    /// The capability is not enabled.
    pub(crate) const DISABLED: Self = Self(1);
    /// Function Mask is set.
    pub(crate) const FUNCTION_MASKED: Self = Self(2);
    /// Between a load and its resume (H15).
    pub(crate) const LOADING: Self = Self(4);
    /// MSI-X is enabled too and takes the place of MSI (H18).
    pub(crate) const OVERRIDDEN: Self = Self(8);
    /// Bus master is off, and the policy lets that gate messages (H16).
    const NO_BUS_MASTER: Self = Self(0x10);
    const REASONS: Self = Self(0x1f);

    /// No backend is attached. Kept beside its opposite: a write of Vector Control wants one comparison with
    /// 0, and the loops over all words take two operations more for each where they have only this.
    const DETACHED: Self = Self(0x20);
    /// A backend is attached. Changed by [`Facts::set_attached`].
    const ATTACHED: Self = Self(0x100);
    /// Bus Master Enable. Changed by [`Facts::set_bus_master`].
    pub(crate) const BUS_MASTER: Self = Self(0x200);
    /// Bus master off is a reason not to send.
    const GATED: Self = Self(0x400);

    /// A deliverable pending bit of a vector without a claim is lost (H9).
    const LOSSY: Self = Self(0x800);

    /// INTx was last told that the capability is enabled, which prohibits it (A10).
    pub(crate) const INTX_TOLD: Self = Self(0x8000);

    // Special to a few functions. One comparison shows that none of these is set.
    /// Some messages are exempt from masks (H25).
    pub(crate) const EXEMPTS: Self = Self(0x1000);
    /// Written entries are reported by Snoop (G2).
    pub(crate) const SNOOPS: Self = Self(0x2000);
    /// Events that come while the capability is disabled are not latched (H3).
    pub(crate) const DIVERTS: Self = Self(0x4000);
    const SPECIAL: Self = Self(0x7000);
}

const STALE_ENTRIES: u32 = 0xffff_0000;

/// Enable, Function Mask, Bus Master Enable, the state of load and backend, and what is special
/// about the function. The upper half counts the table's entries with a message that the host was not
/// told (H4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Facts(u32);

impl Facts {
    /// The facts after reset: disabled, no backend attached, bus master on.
    pub(crate) const fn new(policy: &Policy) -> Self {
        let mut facts = Self(Fact::DISABLED.0 | Fact::DETACHED.0 | Fact::BUS_MASTER.0);
        facts.set(Fact::GATED, matches!(policy.bus_master_off, BusMasterOff::Latch)); // H16
        facts.set(Fact::LOSSY, matches!(policy.unclaimed_pending, UnclaimedPending::Lose));
        facts.set(Fact::SNOOPS, policy.snoop);
        facts.set(Fact::DIVERTS, !matches!(policy.while_disabled, WhileDisabled::Latch));
        facts
    }

    #[inline]
    pub(crate) const fn has(self, fact: Fact) -> bool {
        self.0 & fact.0 != 0
    }

    pub(crate) const fn set(&mut self, fact: Fact, holds: bool) {
        if holds {
            self.0 |= fact.0;
        } else {
            self.0 &= !fact.0;
        }
    }

    /// Returns whether a backend is attached.
    #[inline]
    pub(crate) const fn attached(self) -> bool {
        self.has(Fact::ATTACHED)
    }

    pub(crate) const fn set_attached(&mut self, attached: bool) {
        self.set(Fact::ATTACHED, attached);
        self.set(Fact::DETACHED, !attached);
    }

    pub(crate) const fn set_bus_master(&mut self, on: bool) {
        self.set(Fact::BUS_MASTER, on);
        self.set(Fact::NO_BUS_MASTER, !on && self.has(Fact::GATED));
    }

    /// Returns whether the function may send, apart from the vectors' own masks (A6).
    #[inline]
    pub(crate) const fn unmasked(self) -> bool {
        !self.has(Fact::REASONS)
    }

    /// Returns whether the function may send, apart from all masks.
    #[inline]
    pub(crate) const fn open(self) -> bool {
        self.0 & Fact::REASONS.0 & !Fact::FUNCTION_MASKED.0 == 0
    }

    /// Returns whether any special fact is set.
    #[inline]
    pub(crate) const fn special(self) -> bool {
        self.has(Fact::SPECIAL)
    }

    /// Returns whether the function may send (apart from the vectors' own masks), a backend is
    /// attached, the host was told every message and no special fact is set: the usual case.
    #[inline]
    pub(crate) const fn plainly_sending(self) -> bool {
        self.0 & (Fact::REASONS.0 | Fact::DETACHED.0 | Fact::SPECIAL.0 | STALE_ENTRIES) == 0
    }

    /// Returns how many entries of the table have a message that the host was not told, 0 to 2048.
    #[inline]
    pub(crate) const fn stale_entries(self) -> u16 {
        let [_, _, low, high] = self.0.to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    pub(crate) const fn set_stale_entries(&mut self, count: u16) {
        let ([b0, b1, ..], [low, high]) = (self.0.to_le_bytes(), count.to_le_bytes());
        self.0 = u32::from_le_bytes([b0, b1, low, high]);
    }

    pub(crate) const fn one_stale_entry_more(&mut self) {
        self.set_stale_entries(self.stale_entries().wrapping_add(1));
    }

    pub(crate) const fn one_stale_entry_less(&mut self) {
        self.set_stale_entries(self.stale_entries().wrapping_sub(1));
    }

    /// Returns the facts as the kernel takes them; `lanes` turns a fact into all lanes or none.
    #[inline]
    pub(crate) fn switches<L>(self, lanes: impl Fn(bool) -> L) -> Switches<L> {
        let closed = Fact::REASONS.0 & !(Fact::FUNCTION_MASKED.0 | Fact::LOADING.0);
        Switches {
            open: lanes(self.0 & closed == 0),
            function_masked: lanes(self.has(Fact::FUNCTION_MASKED)),
            loading: lanes(self.has(Fact::LOADING)),
            attached: lanes(self.attached()),
            bus_master: lanes(self.has(Fact::BUS_MASTER)),
            lossy: lanes(self.has(Fact::LOSSY)),
        }
    }
}

/// Returns all lanes of a word, or none.
#[inline]
pub(crate) const fn ones(all: bool) -> u64 {
    if all { u64::MAX } else { 0 }
}
