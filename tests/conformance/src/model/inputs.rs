//! The other inputs, one function each.

use super::vector_effects::VectorEffect;
use super::{Ask, Reference, WRITABLE};
use msix_core::operation::Answer;
use msix_core::policy::{ClaimsOnReset, IntxRule, PendingOnDisable, WhileDisabled};
use msix_core::{Delivery, DropReason, Message, Vectors};

impl Reference {
    /// A guest write to the capability (A1, H19).
    pub(super) fn write_config(&mut self, offset: usize, bytes: &[u8]) -> Vec<VectorEffect> {
        let was_enabled = self.enabled();
        for (i, byte) in bytes.iter().enumerate() {
            let at = offset + i;
            if at < 12 {
                self.config[at] = self.config[at] & !WRITABLE[at] | byte & WRITABLE[at];
            }
        }
        let control_written = (offset..offset + bytes.len()).contains(&3);
        let on = !was_enabled && self.enabled();
        let off = was_enabled && !self.enabled();
        let mut ask = Ask::default();
        // H17; between a load and its resume INTx is told nothing (H15).
        if !self.loading {
            match self.policy.intx {
                IntxRule::OnChange => (ask.deassert, ask.reevaluate) = (on, off),
                IntxRule::OnEveryWrite => ask.deassert = control_written && self.enabled(),
            }
            self.intx_told = self.enabled();
        }
        if on && self.policy.while_disabled != WhileDisabled::Latch && self.policy.drain {
            ask.drain = self.all(); // H3: events that came while disabled are not wanted
        }
        if off && self.policy.pending_on_disable == PendingOnDisable::Drop {
            for v in self.all() {
                self.counters.dropped_disabled += self.clear_pending(v); // H2
            }
            if self.policy.drain {
                ask.drain = self.all();
            }
        } else if off && self.policy.poll_before_disable {
            ask.poll = self.all(); // H13
        }
        self.settle(ask)
    }

    /// The device has an event (A7).
    pub(super) fn notify(&mut self, v: usize) -> (Answer, Vec<VectorEffect>) {
        let none = vec![];
        if self.claims[v] == 0 {
            self.counters.dropped_unclaimed += 1; // C24
            return (Answer::Event(Delivery::Dropped(DropReason::Unclaimed)), none);
        }
        if !self.enabled() && self.policy.while_disabled == WhileDisabled::Drop {
            self.counters.dropped_disabled += 1; // H3
            return (Answer::Event(Delivery::Dropped(DropReason::Disabled)), none);
        }
        if !self.enabled() && self.policy.while_disabled == WhileDisabled::Intx {
            self.counters.to_intx += 1; // H3, A10
            let effects = self.settle(Ask { reevaluate: true, ..Ask::default() });
            return (Answer::Event(Delivery::Intx), effects);
        }
        if self.pending(v) {
            self.counters.coalesced += 1; // A12
            return (Answer::Event(Delivery::Coalesced), none);
        }
        self.set_pending(v, true);
        let effects = self.settle(Ask::default());
        let delivery = match (self.pending(v), self.bus_master) {
            (true, _) => Delivery::Pending,
            (false, true) => Delivery::Sent,
            (false, false) => Delivery::Dropped(DropReason::BusMaster),
        };
        (Answer::Event(delivery), effects)
    }

    /// The cause of a pending event is gone (A8).
    pub(super) fn withdraw(&mut self, v: usize) -> (Answer, Vec<VectorEffect>) {
        let withdrawn = self.clear_pending(v);
        self.counters.withdrawn += withdrawn;
        (Answer::Withdrawn(withdrawn == 1), self.dropped(vec![v]))
    }

    /// One claim less; the last one takes the pending bit along (C24).
    pub(super) fn unclaim(&mut self, v: usize) -> Vec<VectorEffect> {
        if self.claims[v] == 0 {
            return vec![];
        }
        self.claims[v] -= 1;
        if self.claims[v] > 0 {
            return vec![];
        }
        self.counters.dropped_unclaimed += self.clear_pending(v);
        self.dropped(vec![v])
    }

    /// No claim of any vector, and nothing pending.
    pub(super) fn unclaim_all(&mut self) -> Vec<VectorEffect> {
        for v in self.all() {
            self.claims[v] = 0;
            self.counters.dropped_unclaimed += self.clear_pending(v);
        }
        self.dropped(self.all())
    }

    /// Pending events of `vectors` were dropped; the host's go with them by policy.
    fn dropped(&mut self, vectors: Vec<usize>) -> Vec<VectorEffect> {
        let drain = if self.policy.drain { vectors } else { vec![] };
        self.settle(Ask { drain, ..Ask::default() })
    }

    /// Programs and unmasks a vector at once (H10).
    pub(super) fn set_message(&mut self, v: usize, message: Message) -> Vec<VectorEffect> {
        let mut entry = message.address.to_le_bytes().to_vec();
        entry.extend(message.data.to_le_bytes());
        if self.table[16 * v..16 * v + 12] != entry {
            self.message_changed(v);
        }
        self.table[16 * v..16 * v + 12].copy_from_slice(&entry);
        self.table[16 * v + 12] &= !1;
        self.settle(Ask { completed: Some(v), ..Ask::default() })
    }

    /// The backend goes: asked first for what it holds, then for everything that is armed (C40).
    pub(super) fn detach(&mut self) -> Vec<VectorEffect> {
        let mut effects = vec![];
        if self.policy.poll_before_disable {
            effects.extend(self.poll(self.all())); // H13
        }
        self.attached = false;
        effects.extend(self.settle(Ask::default()));
        effects
    }

    /// The host could not serve these live vectors (H11).
    pub(super) fn report_failed(&mut self, set: Vectors) {
        for v in self.members(set) {
            if self.live[v] {
                self.fallback[v] = true;
                self.counters.failures += 1;
            }
        }
    }

    /// The host held events of these (K8).
    pub(super) fn report_held(&mut self, set: Vectors) -> Vec<VectorEffect> {
        for v in self.members(set) {
            if self.claims[v] == 0 {
                self.counters.dropped_unclaimed += 1;
            } else if self.pending(v) {
                self.counters.coalesced += 1;
            } else {
                self.set_pending(v, true);
            }
        }
        self.settle(Ask::default())
    }

    /// Asks for events that the host holds. Events that came while disabled are only wanted where
    /// they would have been latched (H3).
    pub(super) fn poll(&mut self, vectors: Vec<usize>) -> Vec<VectorEffect> {
        let wanted = self.enabled() || self.policy.while_disabled == WhileDisabled::Latch;
        let poll = if wanted { vectors } else { vec![] };
        self.settle(Ask { poll, ..Ask::default() })
    }

    /// Function reset (A13, H8, C01).
    pub(super) fn reset(&mut self) -> Vec<VectorEffect> {
        let was_told = std::mem::take(&mut self.intx_told);
        for v in self.all() {
            self.counters.dropped_reset += self.clear_pending(v);
            if self.policy.claims_on_reset == ClaimsOnReset::Clear {
                self.claims[v] = 0;
            }
        }
        self.loading = false;
        self.reset_registers();
        self.settle(Ask {
            drain: if self.policy.drain { self.all() } else { vec![] },
            reevaluate: was_told && self.policy.intx == IntxRule::OnChange,
            ..Ask::default()
        })
    }

    /// Control clear, every message zero, every vector masked (A1, A3).
    pub(super) fn reset_registers(&mut self) {
        self.config[3] &= !WRITABLE[3];
        for v in self.all() {
            self.table[16 * v..16 * v + 16].fill(0);
            self.table[16 * v + 12] = 1;
            self.stale[v] = false;
        }
    }

    /// Ends a load: everything is armed again (C44).
    pub(super) fn resume(&mut self) -> Vec<VectorEffect> {
        if !self.loading {
            return vec![];
        }
        self.loading = false;
        let (told, enabled) = (self.intx_told, self.enabled());
        self.intx_told = enabled;
        self.settle(Ask {
            release_all: true,
            deassert: !told && enabled,
            reevaluate: told && !enabled && self.policy.intx == IntxRule::OnChange,
            ..Ask::default()
        })
    }

    /// Registers are replaced by those of a snapshot (H15): the pending bits are dropped, and
    /// others, or the same, come with the snapshot.
    pub(super) fn loaded(&mut self) {
        let pending = |v: &usize| self.pending(*v);
        self.counters.dropped_load += self.all().into_iter().filter(pending).count() as u64;
        self.stale.fill(false);
        self.loading = true;
    }
}
