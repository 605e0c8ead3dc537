//! The functions of a VM, and those of them that a flush has to look at.

use std::collections::BTreeMap;
use std::sync::Weak;

/// A function that waits for commits.
pub(super) trait Waiter: Send + Sync {
    /// Arms what waited.
    fn flush(&self);
}

/// A function's turn in the next flush.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// The function's number; `None` for one that is flushed by whoever has it.
    pub(super) waiter: Option<u64>,
    /// Whether the next flush will look at the function.
    pub(super) is_told: bool,
}

/// The functions, by number.
#[derive(Default)]
pub(super) struct Waiters {
    by_id: BTreeMap<u64, Joined>,
    next: u64,
    /// Those with something for the next flush, once each. A flush looks at no others.
    waiting: Vec<u64>,
}

struct Joined {
    waiter: Weak<dyn Waiter>,
    /// Whether it is among those with something for the next flush.
    waits: bool,
}

impl Waiters {
    /// Adds a function. Returns its number.
    pub(super) fn join(&mut self, waiter: Weak<dyn Waiter>) -> u64 {
        let id = self.next;
        self.next += 1;
        self.by_id.insert(id, Joined { waiter, waits: false });
        id
    }

    /// Removes a function.
    pub(super) fn leave(&mut self, id: u64) {
        self.by_id.remove(&id);
        self.waiting.retain(|waiting| *waiting != id);
    }

    /// Notes that a function has something for the next flush. Returns whether there is that function.
    pub(super) fn waits(&mut self, id: u64) -> bool {
        let Some(joined) = self.by_id.get_mut(&id) else { return false };
        if !std::mem::replace(&mut joined.waits, true) {
            self.waiting.push(id);
        }
        true
    }

    /// Takes those with something for the next flush, in the order in which they began to wait. One that
    /// still waits afterwards, or again by then, says so.
    pub(super) fn take(&mut self) -> Vec<Weak<dyn Waiter>> {
        let waiter = |id| {
            let joined = self.by_id.get_mut(&id)?;
            joined.waits = false;
            Some(Weak::clone(&joined.waiter))
        };
        self.waiting.drain(..).filter_map(waiter).collect()
    }

    /// Returns how many functions there are.
    #[cfg(test)]
    pub(super) fn joined(&self) -> usize {
        self.by_id.len()
    }
}
