//! Queries for models, explorers and tests; an embedder does not need them (feature `operations`).

use crate::counters::Counters;
use crate::facts::Fact;
use crate::intx::{ATTACHED, FALLBACK, Intx, IntxSource, LIVE};
use crate::kernel::{self, Registers};
use crate::layout::Layout;
use crate::msi::{Msi, MsiCapability, set};
use crate::msix::Msix;
use crate::spec::{CAPABILITY_LEN, MSI_LONGEST};
use crate::storage::Storage;
use crate::vectors::{Vector, Vectors, Word, numbered};

impl<S: Storage> Msix<S> {
    /// Returns where table and PBA lie.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the capability's 12 bytes as the guest reads them (A1).
    #[must_use]
    pub fn capability(&self) -> [u8; CAPABILITY_LEN] {
        self.image()
    }

    /// Returns the pending vectors, in sets of 64 that are not empty.
    pub fn pending(&self) -> impl Iterator<Item = Vectors> + '_ {
        self.sets(|word| word.pending.get())
    }

    /// Returns Bus Master Enable, as last set by [`set_bus_master`](Self::set_bus_master).
    #[must_use]
    pub const fn bus_master(&self) -> bool {
        self.facts.has(Fact::BUS_MASTER)
    }

    /// Returns whether a backend is attached.
    #[must_use]
    pub const fn is_attached(&self) -> bool {
        self.facts.attached()
    }

    /// Returns whether a snapshot was loaded and [`resume`](Self::resume) is still to come.
    #[must_use]
    pub const fn is_loading(&self) -> bool {
        self.facts.has(Fact::LOADING)
    }

    /// Returns whether `vector` is masked, by its own bit or by the Function Mask (A6), whatever
    /// Enable says; `None` outside the table.
    #[must_use]
    pub fn is_masked(&self, vector: Vector) -> Option<bool> {
        let own = self.word_of(vector)?.masked.get() & vector.bit() != 0;
        Some((own || self.facts.has(Fact::FUNCTION_MASKED)) && !self.is_exempt(vector))
    }

    /// Returns whether `vector` is live: armed and not disarmed since; `None` outside the table.
    #[must_use]
    pub fn is_live(&self, vector: Vector) -> Option<bool> {
        Some(self.word_of(vector)?.live.get() & vector.bit() != 0)
    }

    /// Returns whether `vector` is live but could not be armed, so that the device's events must
    /// come in through [`notify`](Self::notify) (H11); `None` outside the table.
    #[must_use]
    pub fn is_fallback(&self, vector: Vector) -> Option<bool> {
        Some(self.word_of(vector)?.fallback.get() & vector.bit() != 0)
    }

    /// Returns whether a message of `vector` would be sent at once: MSI-X is enabled, no mask is
    /// set, and bus master is on if the policy asks for it; `None` outside the table.
    #[must_use]
    pub fn is_deliverable(&self, vector: Vector) -> Option<bool> {
        let masked = self.word_of(vector)?.masked.get() & vector.bit() != 0;
        let exempt = self.is_exempt(vector);
        let registers = Registers { masked, exempt, pending: false, claimed: false };
        Some(kernel::deliverable(registers, self.facts.switches(|all| all)))
    }

    /// Returns the live vectors, in sets of 64 that are not empty.
    pub fn live(&self) -> impl Iterator<Item = Vectors> + '_ {
        self.sets(|word| word.live.get())
    }

    fn sets(&self, bits: impl Fn(&Word) -> u64) -> impl Iterator<Item = Vectors> {
        numbered(self.storage.memory().words)
            .map(move |(index, word)| Vectors::new(index, bits(word)))
            .filter(|set| set.bits() != 0)
    }
}

impl Msi {
    /// Returns the vectors that the pending register shows (A16): those that a waiting event would
    /// be sent as. Without mask registers the guest does not see them.
    #[must_use]
    pub fn pending(&self) -> Vectors {
        set(self.folded())
    }

    /// Returns what is fixed about the capability.
    #[must_use]
    pub const fn description(&self) -> MsiCapability {
        self.context.capability
    }

    /// Returns the capability as the guest reads it; bytes past its end are 0 (A14).
    #[must_use]
    pub fn capability(&self) -> [u8; MSI_LONGEST] {
        self.image()
    }

    /// Returns whether a backend is attached.
    #[must_use]
    pub const fn is_attached(&self) -> bool {
        self.state.facts.attached()
    }

    /// Returns the live vectors: armed and not disarmed since.
    #[must_use]
    pub fn live(&self) -> Vectors {
        set(self.state.live)
    }

    /// Returns the live vectors that could not be armed, so that their events must come in through
    /// [`Function::notify`](crate::Function::notify) (H11).
    #[must_use]
    pub fn fallback(&self) -> Vectors {
        set(self.state.fallback)
    }

    /// Returns the masked vectors.
    #[must_use]
    pub fn masked(&self) -> Vectors {
        set(self.state.masked)
    }

    /// Returns the vectors with a message that would be sent at once: allocated, enabled, not
    /// masked, and bus master on if the policy asks for it.
    #[must_use]
    pub fn deliverable(&self) -> Vectors {
        set(kernel::deliverable(self.lanes(), self.switches()))
    }
}

impl MsiCapability {
    /// Returns whether the message address has 64 bits.
    #[must_use]
    pub const fn is_64_bit(self) -> bool {
        self.wide
    }

    /// Returns whether there are mask and pending registers.
    #[must_use]
    pub const fn has_masks(self) -> bool {
        self.masks
    }
}

impl Counters {
    /// Returns how many events and pending bits were dropped, for any reason.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped_unclaimed
            .wrapping_add(self.dropped_disabled)
            .wrapping_add(self.dropped_bus_master)
            .wrapping_add(self.dropped_reset)
            .wrapping_add(self.dropped_load)
    }
}

impl Intx {
    /// Returns Interrupt Status, bit 3 of the Status register, of an emulated device: it asserts
    /// its level and INTx is not prohibited, whatever Interrupt Disable says (A17). For a physical
    /// pin it is 0.
    #[must_use]
    pub const fn status(&self) -> bool {
        self.interrupt_status()
    }

    /// Returns where the level comes from.
    #[must_use]
    pub const fn source(&self) -> IntxSource {
        self.source
    }

    /// Returns whether a backend is attached.
    #[must_use]
    pub const fn is_attached(&self) -> bool {
        self.has(ATTACHED)
    }

    /// Returns whether the line is live: armed and not disarmed since.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.has(LIVE)
    }

    /// Returns whether the line is live but could not be armed, so that userspace drives it: a
    /// physical line by [`Function::report_fired`](crate::Function::report_fired) and
    /// [`Function::eoi`](crate::Function::eoi), an emulated one by carrying out Assert and Deassert
    /// (H11).
    #[must_use]
    pub const fn is_fallback(&self) -> bool {
        self.has(FALLBACK)
    }
}
