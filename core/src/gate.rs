//! Which vectors may send, and which the host should be using. Derived, never stored.

use crate::control::Control;
use crate::entry::{Entry, Message};
use crate::policy::{BusMasterOff, Policy};
use crate::vectors::Word;

/// MSI-X Enable.
pub(crate) const ENABLED: u8 = 1;
/// Function Mask.
pub(crate) const FUNCTION_MASKED: u8 = 2;
/// Bus Master Enable.
pub(crate) const BUS_MASTER: u8 = 4;
/// A backend listens.
pub(crate) const ATTACHED: u8 = 8;
/// Between a load and its resume: nothing new is told to the host (H15).
pub(crate) const LOADING: u8 = 16;
/// Another capability of the function is in its place: MSI-X, which is preferred to MSI (H18).
pub(crate) const OVERRIDDEN: u8 = 32;

/// The facts of a function as a whole, as a set of flags, so that one comparison says whether it
/// may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Facts {
    flags: u8,
    /// Flags that decide whether the function as a whole may send.
    decisive: u8,
    /// Their values when it may.
    open: u8,
}

impl Facts {
    /// Disabled, nobody attached, bus master on.
    pub(crate) const fn new(policy: &Policy) -> Self {
        let gated = matches!(policy.bus_master_off, BusMasterOff::Latch); // H16
        let bus_master = if gated { BUS_MASTER } else { 0 };
        Self {
            flags: BUS_MASTER,
            decisive: ENABLED | LOADING | OVERRIDDEN | bus_master,
            open: ENABLED | bus_master,
        }
    }

    #[inline]
    pub(crate) const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) const fn set(&mut self, flag: u8, on: bool) {
        if on {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }

    pub(crate) fn set_control(&mut self, control: Control) {
        self.set(ENABLED, control.enabled());
        self.set(FUNCTION_MASKED, control.function_masked());
    }

    /// Whether a backend listens and is told of changes.
    #[inline]
    pub(crate) const fn settled(self) -> bool {
        self.flags & (ATTACHED | LOADING) == ATTACHED
    }

    /// Whether the function may send, but for masks.
    #[inline]
    pub(crate) const fn open(self) -> bool {
        self.flags & self.decisive == self.open
    }

    /// Whether the function may send, but for the vectors' own masks (A6).
    #[inline]
    pub(crate) const fn unmasked(self) -> bool {
        self.flags & (self.decisive | FUNCTION_MASKED) == self.open
    }
}

/// What the facts make of all vectors alike, as masks for a whole word.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gate<'a> {
    /// All ones when the function may send, but for masks.
    open: u64,
    /// All ones when the function may send, but for the vectors' own masks (A6).
    unmasked: u64,
    /// All ones when a backend listens.
    attached: u64,
    /// All ones between load and resume.
    loading: u64,
    /// Messages that no mask holds back (H25).
    never_masked: Option<fn(Message) -> bool>,
    policy: &'a Policy,
}

impl<'a> Gate<'a> {
    #[inline]
    pub(crate) fn new(facts: Facts, policy: &'a Policy) -> Self {
        Self {
            open: ones(facts.open()),
            unmasked: ones(facts.unmasked()),
            attached: ones(facts.has(ATTACHED)),
            loading: ones(facts.has(LOADING)),
            never_masked: policy.never_masked,
            policy,
        }
    }

    /// Vectors of word `index` whose message would be sent now.
    #[inline]
    pub(crate) fn deliverable(&self, entries: &[Entry], index: u16, word: &Word) -> u64 {
        let unmasked = self.unmasked & !word.masked.get();
        match self.never_masked {
            None => unmasked,
            Some(predicate) => unmasked | self.open & self.exempt(predicate, entries, index),
        }
    }

    /// Vectors of a word that the host should be using (I1): those that are `deliverable`. Between
    /// load and resume, when none is, it keeps what it has.
    #[inline]
    pub(crate) fn wanted(&self, deliverable: u64, word: &Word) -> u64 {
        (deliverable | word.live.get() & self.loading) & self.attached
    }

    /// Vectors of word `index` whose message no mask holds back (H25).
    #[cold]
    fn exempt(&self, predicate: fn(Message) -> bool, entries: &[Entry], index: u16) -> u64 {
        let first = usize::from(index).wrapping_mul(64);
        let entries = entries.iter().skip(first).take(64).rev();
        entries.fold(0, |bits, entry| bits << 1 | u64::from(predicate(entry.message(self.policy))))
    }
}

fn ones(all: bool) -> u64 {
    if all { u64::MAX } else { 0 }
}
