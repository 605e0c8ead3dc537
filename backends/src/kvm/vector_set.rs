//! A set of a function's vectors.

use fixedbitset::FixedBitSet;

/// Some of a function's vectors. Most sets are empty most of the time, and every access of a guest asks
/// some of them: that costs no look at the bits.
#[derive(Debug, Clone)]
pub(super) struct VectorSet {
    set: FixedBitSet,
    members: usize,
}

impl VectorSet {
    /// Makes an empty set, for `vectors` vectors.
    pub(super) fn none(vectors: u16) -> Self {
        Self { set: FixedBitSet::with_capacity(vectors.into()), members: 0 }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.members == 0
    }

    pub(super) fn contains(&self, vector: u16) -> bool {
        !self.is_empty() && self.set.contains(vector.into())
    }

    /// Adds `vector`. Returns whether it was no member.
    pub(super) fn insert(&mut self, vector: u16) -> bool {
        let is_new = !self.set.put(vector.into());
        self.members += usize::from(is_new);
        is_new
    }

    /// Removes `vector`. Returns whether it was a member.
    pub(super) fn remove(&mut self, vector: u16) -> bool {
        let was = self.contains(vector);
        if was {
            self.set.remove(vector.into());
            self.members -= 1;
        }
        was
    }

    /// Empties the set. Returns its members, in order.
    pub(super) fn take(&mut self) -> Vec<u16> {
        let members = self.members();
        if !members.is_empty() {
            self.set.clear();
            self.members = 0;
        }
        members
    }

    /// Returns its members, in order.
    pub(super) fn members(&self) -> Vec<u16> {
        if self.is_empty() {
            return Vec::new();
        }
        // A vector number has 16 bits.
        self.set.ones().filter_map(|vector| u16::try_from(vector).ok()).collect()
    }
}
