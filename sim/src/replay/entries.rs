//! Which entries hold which message.

use msix_core::Message;
use std::collections::{BTreeMap, BTreeSet};

/// Which entries hold which message, over all devices. What it answers costs the same however many
/// entries hold one message.
#[derive(Debug, Default)]
pub(super) struct Entries {
    by_message: BTreeSet<(u64, u32, usize, u16)>,
    by_bearing: BTreeSet<(u64, u32, Bearing, Option<usize>, u16, usize)>,
    by_entry: BTreeMap<(usize, u16), Held>,
}

/// How an entry bears on a message that equals it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bearing {
    /// It sends at once.
    Live,
    /// It may send: the log does not tell.
    Open,
    /// It does not send, and has a reason to.
    Pending,
    /// It does not send.
    Blocked,
}

/// What is known of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) message: Message,
    pub(crate) bearing: Bearing,
    /// Which of the events that name raises its device has.
    pub(crate) names: Option<usize>,
}

/// The devices whose entries hold a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owners {
    None,
    One(usize),
    Several,
}

impl Entries {
    /// The entry of `vector` now holds this, or no message that is known.
    pub(super) fn update(&mut self, device: usize, vector: u16, now: Option<Held>) {
        let entry = (device, vector);
        let before = match now {
            Some(held) => self.by_entry.insert(entry, held),
            None => self.by_entry.remove(&entry),
        };
        if before == now {
            return;
        }
        if let Some(Held { message: Message { address, data }, bearing, names }) = before {
            self.by_message.remove(&(address, data, device, vector));
            self.by_bearing.remove(&(address, data, bearing, names, vector, device));
        }
        if let Some(Held { message: Message { address, data }, bearing, names }) = now {
            self.by_message.insert((address, data, device, vector));
            self.by_bearing.insert((address, data, bearing, names, vector, device));
        }
    }

    /// The entry of `vector` holds what it held, and bears on it otherwise.
    pub(super) fn turn(&mut self, device: usize, vector: u16, bearing: Bearing) {
        if let Some(&held) = self.by_entry.get(&(device, vector)) {
            self.update(device, vector, Some(Held { bearing, ..held }));
        }
    }

    /// All entries of the device are gone.
    pub(super) fn forget(&mut self, device: usize) {
        let all = self.by_entry.range((device, 0)..=(device, u16::MAX));
        let vectors: Vec<u16> = all.map(|(&(_, vector), _)| vector).collect();
        for vector in vectors {
            self.update(device, vector, None);
        }
    }

    /// The devices with this message.
    pub(super) fn owners(&self, Message { address, data }: Message) -> Owners {
        let mut all = self
            .by_message
            .range((address, data, 0, 0)..=(address, data, usize::MAX, u16::MAX))
            .map(|&(_, _, device, _)| device);
        match (all.next(), all.next_back()) {
            (None, _) => Owners::None,
            (Some(first), None) => Owners::One(first),
            (Some(first), Some(last)) if first == last => Owners::One(first),
            _ => Owners::Several,
        }
    }

    /// Device and vector of every entry with this message that bears on it so.
    pub(super) fn bearing(
        &self,
        Message { address, data }: Message,
        bearing: Bearing,
    ) -> impl Iterator<Item = (usize, u16)> {
        let first = (address, data, bearing, None, 0, 0);
        let last = (address, data, bearing, Some(usize::MAX), u16::MAX, usize::MAX);
        self.by_bearing.range(first..=last).map(|&(.., vector, device)| (device, vector))
    }

    /// The one device with this message live in `vector`, of those that name their raises by event
    /// `names`.
    pub(super) fn only_live(
        &self,
        Message { address, data }: Message,
        names: Option<usize>,
        vector: u16,
    ) -> Option<usize> {
        let key = |device| (address, data, Bearing::Live, names, vector, device);
        let mut found = self.by_bearing.range(key(0)..=key(usize::MAX));
        let &(.., device) = found.next()?;
        found.next().is_none().then_some(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: Message = Message { address: 0xfee0_1000, data: 0x40 };

    fn held(bearing: Bearing) -> Option<Held> {
        Some(Held { message: MESSAGE, bearing, names: Some(0) })
    }

    #[test]
    fn an_entry_is_found_by_its_message_and_how_it_bears_on_it() {
        let mut entries = Entries::default();
        assert_eq!(entries.owners(MESSAGE), Owners::None);
        entries.update(3, 7, held(Bearing::Blocked));
        entries.update(3, 8, held(Bearing::Live));
        assert_eq!(entries.owners(MESSAGE), Owners::One(3));
        assert_eq!(entries.only_live(MESSAGE, Some(0), 8), Some(3));
        assert_eq!(entries.only_live(MESSAGE, Some(0), 7), None);
        assert_eq!(entries.only_live(MESSAGE, Some(1), 8), None);
        entries.turn(3, 7, Bearing::Live);
        entries.turn(3, 9, Bearing::Live);
        assert_eq!(entries.bearing(MESSAGE, Bearing::Live).collect::<Vec<_>>(), [(3, 7), (3, 8)]);
        assert_eq!(entries.bearing(MESSAGE, Bearing::Blocked).next(), None);
        entries.update(4, 8, held(Bearing::Live));
        assert_eq!(entries.owners(MESSAGE), Owners::Several);
        assert_eq!(entries.only_live(MESSAGE, Some(0), 8), None, "of two devices");
        entries.forget(3);
        assert_eq!(entries.owners(MESSAGE), Owners::One(4));
        entries.update(4, 8, None);
        assert!(entries.by_message.is_empty() && entries.by_bearing.is_empty());
        assert!(entries.by_entry.is_empty());
    }
}
