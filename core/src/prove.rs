//! Hooks of the proofs in `tests/prove`, which compile the engine with `--cfg msix_prove`: an engine
//! in any state, and what its state says.

pub use crate::intx::prove::PinState;
pub use crate::msi::prove::MsiState;

use crate::facts::{Fact, Facts};
use crate::layout::Layout;
use crate::msix::{Entry, Message, Msix};
use crate::policy::Policy;
use crate::storage::{Borrowed, Storage};
use crate::vectors::{Vector, Word};
use crate::{Counters, vector_range::VectorRange};

/// The facts of a function as a whole that inputs change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Whole {
    /// MSI-X Enable.
    pub enabled: bool,
    /// Function Mask.
    pub function_masked: bool,
    /// Between a load and its resume.
    pub loading: bool,
    /// A backend is attached.
    pub attached: bool,
    /// Bus Master Enable.
    pub bus_master: bool,
    /// INTx was last told that MSI-X is enabled.
    pub intx_told: bool,
    /// A load may have brought pending bits of vectors without a claim.
    pub orphans: bool,
}

/// The state of one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lane {
    /// Its mask bit.
    pub masked: bool,
    /// Its pending bit.
    pub pending: bool,
    /// It is armed and not disarmed since.
    pub live: bool,
    /// It is live and was reported as failed.
    pub fallback: bool,
    /// The host was told an older message.
    pub stale: bool,
    /// How often it is claimed.
    pub claims: u16,
    /// Its entry, without the mask bit.
    pub entry: [u32; 4],
}

impl<'a> Msix<Borrowed<'a>> {
    /// Makes an engine in a given state. The memory is taken as it is.
    /// Slices that do not fit each other are an engine that ignores some vectors.
    #[expect(clippy::too_many_arguments, reason = "they are the whole state")]
    pub fn in_state(
        entries: &'a mut [Entry],
        claims: &'a mut [u16],
        words: &'a mut [Word],
        layout: Layout,
        policy: Policy,
        exempt: Option<fn(Message) -> bool>,
        whole: Whole,
        stale_entries: u16,
        counters: Counters,
    ) -> Self {
        let mut facts = Facts::new(&policy);
        facts.set_whole(whole);
        facts.set(Fact::EXEMPTS, exempt.is_some());
        facts.set_stale_entries(stale_entries);
        Self {
            storage: Borrowed::lent(entries, claims, words),
            layout,
            policy,
            counters,
            facts,
            next_capability: 0,
            exempt,
            orphans: whole.orphans,
        }
    }
}

impl Facts {
    fn set_whole(&mut self, whole: Whole) {
        self.set(Fact::DISABLED, !whole.enabled);
        self.set(Fact::FUNCTION_MASKED, whole.function_masked);
        self.set(Fact::LOADING, whole.loading);
        self.set_attached(whole.attached);
        self.set(Fact::INTX_TOLD, whole.intx_told);
        self.set_bus_master(whole.bus_master);
    }
}

impl<S: Storage> Msix<S> {
    /// Returns the facts of the function.
    pub const fn whole(&self) -> Whole {
        Whole {
            enabled: !self.facts.has(Fact::DISABLED),
            function_masked: self.facts.has(Fact::FUNCTION_MASKED),
            loading: self.facts.has(Fact::LOADING),
            attached: self.facts.attached(),
            bus_master: self.facts.has(Fact::BUS_MASTER),
            intx_told: self.facts.has(Fact::INTX_TOLD),
            orphans: self.orphans,
        }
    }

    /// Returns whether the facts that follow from others and from the policy do so.
    pub fn facts_agree(&self) -> bool {
        let mut facts = Facts::new(&self.policy);
        facts.set_whole(self.whole());
        facts.set(Fact::EXEMPTS, self.exempt.is_some());
        facts.set_stale_entries(self.stale_entries());
        facts == self.facts
    }

    /// Returns the state of a vector. One outside the table is as after reset.
    pub fn lane(&self, vector: Vector) -> Lane {
        let memory = self.storage.memory();
        let entry = memory.entries.get(vector.slot()).copied().unwrap_or(Entry::RESET);
        let word = memory.words.get(vector.word()).copied().unwrap_or(Word::RESET);
        let has = |bits: u64| bits & vector.bit() != 0;
        Lane {
            masked: has(word.masked.get()),
            pending: has(word.pending.get()),
            live: has(word.live.get()),
            fallback: has(word.fallback.get()),
            stale: entry.is_stale(),
            claims: memory.claims.get(vector.slot()).copied().unwrap_or(0),
            entry: [0, 1, 2, 3].map(|index| entry.dword(index, false)),
        }
    }

    /// Returns whether the bits of word `index` past the last vector are as after reset.
    pub fn tail_is_clean(&self, index: u16) -> bool {
        let Some(word) = self.storage.memory().words.get(usize::from(index)) else { return true };
        let inside = VectorRange::new(0, self.vectors()).bits(index);
        let set = word.pending.get() | word.live.get() | word.fallback.get() | !word.masked.get();
        set & !inside == 0
    }

    /// Returns how many vectors are pending.
    pub fn pending_count(&self) -> u64 {
        let words = self.storage.memory().words.iter();
        words.fold(0, |sum: u64, word| sum.wrapping_add(u64::from(word.pending.get().count_ones())))
    }

    /// Returns the count of entries with a message that the host was not told.
    pub const fn stale_entries(&self) -> u16 {
        self.facts.stale_entries()
    }

    /// Returns whether the entry of vector `index` has one.
    pub fn is_stale(&self, index: u16) -> bool {
        self.storage.memory().entries.get(usize::from(index)).is_some_and(Entry::is_stale)
    }
}
