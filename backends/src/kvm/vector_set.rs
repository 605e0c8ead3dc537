//! A set of a function's vectors.

use fixedbitset::FixedBitSet;

/// Some of a function's vectors.
#[derive(Debug, Clone)]
pub(super) struct VectorSet(FixedBitSet);

impl VectorSet {
    /// Makes an empty set, for `vectors` vectors.
    pub(super) fn none(vectors: u16) -> Self {
        Self(FixedBitSet::with_capacity(vectors.into()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_clear()
    }

    pub(super) fn contains(&self, vector: u16) -> bool {
        self.0.contains(vector.into())
    }

    /// Adds `vector`. Returns whether it was no member.
    pub(super) fn insert(&mut self, vector: u16) -> bool {
        !self.0.put(vector.into())
    }

    /// Removes `vector`. Returns whether it was a member.
    pub(super) fn remove(&mut self, vector: u16) -> bool {
        let was = self.contains(vector);
        if was {
            self.0.remove(vector.into());
        }
        was
    }

    /// Empties the set. Returns its members, in order.
    pub(super) fn take(&mut self) -> Vec<u16> {
        let members = self.members();
        self.0.clear();
        members
    }

    /// Returns its members, in order.
    pub(super) fn members(&self) -> Vec<u16> {
        // A vector number has 16 bits.
        self.0.ones().filter_map(|vector| u16::try_from(vector).ok()).collect()
    }
}
