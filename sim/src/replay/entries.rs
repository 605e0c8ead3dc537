//! Which entries hold which message.

use msix_core::Message;
use std::collections::{BTreeMap, BTreeSet};

/// Which entries hold which message, over all devices.
#[derive(Debug, Default)]
pub(super) struct Entries {
    by_message: BTreeSet<(u64, u32, usize, u16)>,
    by_entry: BTreeMap<(usize, u16), Message>,
}

impl Entries {
    /// The entry of `vector` now holds `message`, or none that is known.
    pub(super) fn update(&mut self, device: usize, vector: u16, message: Option<Message>) {
        let before = match message {
            Some(message) => self.by_entry.insert((device, vector), message),
            None => self.by_entry.remove(&(device, vector)),
        };
        if before == message {
            return;
        }
        if let Some(Message { address, data }) = before {
            self.by_message.remove(&(address, data, device, vector));
        }
        if let Some(Message { address, data }) = message {
            self.by_message.insert((address, data, device, vector));
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

    /// Device and vector of every entry with this message.
    pub(super) fn holding(&self, Message { address, data }: Message) -> Vec<(usize, u16)> {
        let all = (address, data, 0, 0)..=(address, data, usize::MAX, u16::MAX);
        self.by_message.range(all).map(|&(_, _, device, vector)| (device, vector)).collect()
    }
}
