//! Messages that entries do not hold any more.

use msix_core::Message;
use std::collections::{BTreeMap, BTreeSet};

/// Why a message that no entry holds is an entry's all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Relic {
    /// The entry held it when it was last live.
    Stale,
    /// Half of it is what the entry held then, and half is what it holds.
    Torn,
}

/// For every entry that was rewritten while it was blocked: the messages it must not send any more.
#[derive(Debug, Default)]
pub(super) struct Past {
    by_message: BTreeSet<(u64, u32, usize, u16, Relic)>,
    by_entry: BTreeMap<(usize, u16), [(Message, Relic); 3]>,
}

impl Past {
    /// The entry held `before` when it was last live and holds `now`; `None` if neither is known, or
    /// nothing can be said.
    pub(super) fn update(&mut self, device: usize, vector: u16, pair: Option<(Message, Message)>) {
        let entry = (device, vector);
        for (Message { address, data }, relic) in self.by_entry.remove(&entry).into_iter().flatten()
        {
            self.by_message.remove(&(address, data, device, vector, relic));
        }
        let Some((before, now)) = pair.filter(|(before, now)| before != now) else { return };
        let relics = [
            (before, Relic::Stale),
            (Message { address: before.address, data: now.data }, Relic::Torn),
            (Message { address: now.address, data: before.data }, Relic::Torn),
        ];
        let gone = |&(message, relic): &(Message, Relic)| {
            message != now && (relic == Relic::Stale || message != before)
        };
        for (Message { address, data }, relic) in relics.into_iter().filter(gone) {
            self.by_message.insert((address, data, device, vector, relic));
        }
        self.by_entry.insert(entry, relics);
    }

    /// The entries that this message is a relic of.
    pub(super) fn of(
        &self,
        Message { address, data }: Message,
    ) -> impl Iterator<Item = (usize, u16, Relic)> {
        let first = (address, data, 0, 0, Relic::Stale);
        let last = (address, data, usize::MAX, u16::MAX, Relic::Torn);
        let found = self.by_message.range(first..=last);
        found.map(|&(_, _, device, vector, relic)| (device, vector, relic))
    }

    /// Nothing is known of a device's entries any more.
    pub(super) fn forget(&mut self, device: usize) {
        let of = self.by_entry.range((device, 0)..=(device, u16::MAX));
        let vectors: Vec<u16> = of.map(|(&(_, vector), _)| vector).collect();
        for vector in vectors {
            self.update(device, vector, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_before_is_stale_and_its_halves_with_those_of_the_new_one_are_torn() {
        let message = |address, data| Message { address, data };
        let (old, new) = (message(1, 2), message(3, 4));
        let mut past = Past::default();
        past.update(5, 6, Some((old, new)));
        let found = |past: &Past, message| past.of(message).collect::<Vec<_>>();
        assert_eq!(found(&past, old), [(5, 6, Relic::Stale)]);
        assert_eq!(found(&past, message(1, 4)), [(5, 6, Relic::Torn)]);
        assert_eq!(found(&past, message(3, 2)), [(5, 6, Relic::Torn)]);
        assert_eq!(found(&past, new), []);
        past.update(5, 6, Some((old, message(1, 4))));
        assert_eq!(found(&past, old), [(5, 6, Relic::Stale)], "and half of it is the same");
        assert_eq!(found(&past, message(1, 4)), []);
        past.update(5, 6, Some((old, old)));
        assert!(past.by_message.is_empty() && past.by_entry.is_empty());
        past.update(5, 6, Some((old, new)));
        past.forget(5);
        assert!(past.by_message.is_empty() && past.by_entry.is_empty());
    }
}
