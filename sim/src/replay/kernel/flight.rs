//! Writes that the VMM may not have seen yet.

use crate::replay::unusable::Unusable;
use std::collections::BTreeMap;

/// What a write is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The function: its control bits, its BARs, or a reset.
    Function,
    /// Entries of the table.
    Entries([Option<u16>; 2]),
}

/// The last write of each thread, until the thread runs its guest again.
#[derive(Debug, Default)]
pub(super) struct Flights {
    by_thread: BTreeMap<u32, (usize, Target)>,
}

impl Flights {
    /// `thread` writes to a device.
    pub(super) fn begin(
        &mut self,
        thread: u32,
        device: usize,
        target: Target,
        line: u64,
    ) -> Result<(), Unusable> {
        if self.by_thread.len() >= MAX_THREADS && !self.by_thread.contains_key(&thread) {
            return Err(Unusable::TooMany { line, what: "virtual processors", limit: MAX_THREADS });
        }
        self.by_thread.insert(thread, (device, target));
        Ok(())
    }

    /// `thread` has run its guest: what it wrote before is done.
    pub(super) fn land(&mut self, thread: u32) {
        self.by_thread.remove(&thread);
    }

    /// Whether a write to this vector's entry, or to its function, may not be done yet.
    pub(super) fn over(&self, device: usize, vector: u16) -> bool {
        self.by_thread.values().any(|&(of, target)| {
            let entry = match target {
                Target::Function => true,
                Target::Entries(entries) => entries.contains(&Some(vector)),
            };
            of == device && entry
        })
    }

    pub(super) fn forget(&mut self) {
        self.by_thread.clear();
    }
}

/// KVM's own limit of virtual processors.
const MAX_THREADS: usize = 4096;
