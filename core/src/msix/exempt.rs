//! Messages that are exempt from masks (H25).

use super::Msix;
use super::entry::{Entry, Message};
use crate::facts::Fact;
use crate::policy::MessageAddress;
use crate::storage::Storage;
use crate::vectors::Vector;

impl<S: Storage> Msix<S> {
    /// Exempts the messages for which `predicate` is true from both masks. Xen maps such messages
    /// to event channels, which have masks of their own (H25). MSI-X Enable and bus master still
    /// apply. The predicate must be a pure function of the message.
    ///
    /// Call it on a function in its reset state, before a backend is attached.
    #[must_use]
    pub const fn with_exempt_messages(mut self, predicate: fn(Message) -> bool) -> Self {
        self.exempt = Some(predicate);
        self.facts.set(Fact::EXEMPTS, true);
        self
    }

    /// Returns whether the message of `vector` is exempt from masks.
    pub(crate) fn is_exempt(&self, vector: Vector) -> bool {
        self.exempt.zip(self.message(vector)).is_some_and(|(exempt, m)| exempt(m))
    }

    /// Returns the decider of which messages are exempt.
    #[inline]
    pub(crate) fn exempting(&self) -> Exempting {
        Exempting { predicate: self.exempt, address: self.policy.message_address }
    }
}

/// Decides which vectors have messages that are exempt from masks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exempting {
    predicate: Option<fn(Message) -> bool>,
    address: MessageAddress,
}

impl Exempting {
    /// Returns the exempt vectors of word `index`.
    #[inline]
    pub(crate) fn of(&self, entries: &[Entry], index: u16) -> u64 {
        self.predicate.map_or(0, |predicate| self.among(predicate, entries, index))
    }

    #[cold]
    #[inline(never)]
    fn among(&self, predicate: fn(Message) -> bool, entries: &[Entry], index: u16) -> u64 {
        let first = usize::from(index).wrapping_mul(64);
        let entries = entries.iter().skip(first).take(64).rev();
        entries.fold(0, |bits, entry| bits << 1 | u64::from(predicate(entry.message(self.address))))
    }
}
