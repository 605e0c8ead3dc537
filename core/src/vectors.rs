//! Vector numbers and sets of vectors.

use bitvec::{array::BitArray, order::Lsb0};
use core::fmt;

/// The number of a vector: its index in the table, from 0.
///
/// Any 16-bit value can be named. An input about a vector outside the table returns a typed error
/// and changes nothing ([I7](crate::rules#i7)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Vector(u16);

impl Vector {
    /// Names vector number `index`.
    #[must_use]
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// Returns the number.
    #[must_use]
    pub const fn index(self) -> u16 {
        self.0
    }

    pub(crate) fn slot(self) -> usize {
        usize::from(self.0)
    }

    /// Returns the index of the 64-vector word that holds this vector (A5).
    pub(crate) fn word(self) -> usize {
        usize::from(self.0 >> 6)
    }

    /// Returns this vector's bit in its word (A5).
    pub(crate) fn bit(self) -> u64 {
        1_u64.wrapping_shl(u32::from(self.0)) // the shift count is taken modulo 64
    }
}

impl From<u16> for Vector {
    fn from(index: u16) -> Self {
        Self(index)
    }
}

impl From<Vector> for u16 {
    fn from(vector: Vector) -> Self {
        vector.0
    }
}

impl From<Vector> for usize {
    fn from(vector: Vector) -> Self {
        Self::from(vector.0)
    }
}

impl fmt::Debug for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of vectors that share one 64-vector word: vector `64 * word + k` is in it when bit `k` is
/// set.
///
/// Effects name such sets. The whole table is at most 32 of them, which bounds a list
/// ([I6](crate::rules#i6), [H22](crate::rules#h22)).
///
/// ```
/// use msix_core::{Vector, Vectors};
///
/// let set = Vectors::new(1, 0b101);
/// assert_eq!(set.iter().collect::<Vec<_>>(), [Vector::new(64), Vector::new(66)]);
/// assert_eq!(Vectors::one(Vector::new(66)), Vectors::new(1, 0b100));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Vectors {
    word: u16,
    bits: u64,
}

impl Vectors {
    /// Makes the set of those vectors of word `word` that have a bit in `bits`.
    #[must_use]
    pub const fn new(word: u16, bits: u64) -> Self {
        Self { word, bits }
    }

    /// Makes the set of one vector.
    #[must_use]
    pub const fn one(vector: Vector) -> Self {
        Self { word: vector.0 >> 6, bits: 1_u64.wrapping_shl(shift(vector)) }
    }

    /// Returns the index of the 64-vector word.
    #[must_use]
    pub const fn word(self) -> u16 {
        self.word
    }

    /// Returns the members, one bit for each vector.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.bits
    }

    /// Returns the members, lowest first. A word with vectors that have no 16-bit number has none.
    pub fn iter(self) -> impl Iterator<Item = Vector> {
        let base = self.word.wrapping_shl(6);
        let nameable = self.word <= u16::MAX >> 6; // a vector's number has 16 bits
        Ones(if nameable { self.bits } else { 0 }).map(move |bit| Vector(base | bit))
    }
}

#[expect(clippy::as_conversions, reason = "a widening `From` is not const yet")]
const fn shift(vector: Vector) -> u32 {
    vector.0 as u32
}

impl fmt::Debug for Vectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Positions of the set bits of a word, lowest first.
struct Ones(u64);

impl Iterator for Ones {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        u16::try_from(bit).ok()
    }
}

/// Numbers the words of a table, from 0.
pub(crate) fn numbered<T>(words: impl IntoIterator<Item = T>) -> impl Iterator<Item = (u16, T)> {
    let mut next = 0_u16;
    words.into_iter().map(move |word| {
        let index = next;
        next = next.wrapping_add(1); // of at most 32 words
        (index, word)
    })
}

/// Splits a slice with one item for each vector into 64-vector words. Unlike `chunks`, it has no
/// division that could panic.
pub(crate) fn per_word<T>(items: &[T]) -> impl Iterator<Item = &[T]> {
    let (full, rest) = items.as_chunks::<64>();
    let rest = core::iter::once(rest).filter(|rest| !rest.is_empty());
    full.iter().map(<[T; 64]>::as_slice).chain(rest)
}

/// As [`per_word`].
pub(crate) fn per_word_mut<T>(items: &mut [T]) -> impl Iterator<Item = &mut [T]> {
    let (full, rest) = items.as_chunks_mut::<64>();
    let rest = core::iter::once(rest).filter(|rest| !rest.is_empty());
    full.iter_mut().map(<[T; 64]>::as_mut_slice).chain(rest)
}

/// What `bitvec` stores 64 bits in: it has no 64-bit store on 32-bit machines.
#[cfg(target_pointer_width = "64")]
mod store {
    pub(super) type Store = u64;

    pub(super) const fn of(bits: u64) -> Store {
        bits
    }

    pub(super) const fn bits(store: Store) -> u64 {
        store
    }
}

#[cfg(not(target_pointer_width = "64"))]
mod store {
    pub(super) type Store = [u32; 2];

    pub(super) const fn of(bits: u64) -> Store {
        [bits as u32, (bits >> 32) as u32]
    }

    pub(super) const fn bits([low, high]: Store) -> u64 {
        (high as u64) << 32 | low as u64
    }
}

/// One fact about each of 64 vectors. The storage is `bitvec`'s. Work is done on whole words,
/// because `bitvec`'s bit-wise calls keep panic paths and its iterators are ten times slower.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Bits(BitArray<store::Store, Lsb0>);

impl Bits {
    pub(crate) const fn new(bits: u64) -> Self {
        Self(BitArray { data: store::of(bits), ..BitArray::ZERO })
    }

    pub(crate) const fn get(self) -> u64 {
        store::bits(self.0.data)
    }

    /// Returns whether vector number `index` is a member, if it is one of these 64.
    pub(crate) fn has(self, index: usize) -> bool {
        self.get() >> (index % 64) & 1 != 0
    }

    pub(crate) fn insert(&mut self, bits: u64) {
        *self = Self::new(self.get() | bits);
    }

    /// Inserts `bits`; returns whether any of them was not a member before.
    pub(crate) fn insert_new(&mut self, bits: u64) -> bool {
        let new = bits & !self.get() != 0;
        self.insert(bits);
        new
    }

    pub(crate) fn keep(&mut self, bits: u64) {
        *self = Self::new(self.get() & bits);
    }

    pub(crate) fn toggle(&mut self, bits: u64) {
        *self = Self::new(self.get() ^ bits);
    }

    pub(crate) fn remove(&mut self, bits: u64) {
        *self = Self::new(self.get() & !bits);
    }
}

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.get())
    }
}

/// The facts about 64 consecutive vectors, one bit for each vector and fact (32 bytes).
///
/// Only the engine reads and writes it; embedders name it to lend memory to [`crate::Borrowed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Word {
    /// The mask bits of Vector Control. Bits past the last vector are always set, so nothing
    /// derived from this word can name them.
    pub(crate) masked: Bits,
    /// The PBA (A5).
    pub(crate) pending: Bits,
    /// Vectors that are armed and not disarmed since.
    pub(crate) live: Bits,
    /// Those of `live` that the host reported as failed: their events are sent (H11).
    pub(crate) fallback: Bits,
}

impl Word {
    /// The state after reset: all masked, none pending, none live (A3).
    pub const RESET: Self = Self {
        masked: Bits::new(u64::MAX),
        pending: Bits::new(0),
        live: Bits::new(0),
        fallback: Bits::new(0),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_names_its_vectors_lowest_first() {
        let set = Vectors::new(2, 0x8000_0000_0000_0003);
        let indices: std::vec::Vec<u16> = set.iter().map(Vector::index).collect();
        assert_eq!(indices, [128, 129, 191]);
        assert_eq!(Vectors::new(1023, 1 << 63).iter().next(), Some(Vector::new(u16::MAX)));
        assert_eq!(Vectors::new(1024, 1).iter().next(), None, "and not vector 0");
    }

    #[test]
    fn the_bit_of_a_vector_past_31_is_computed_in_64_bits() {
        for index in [0, 1, 31, 32, 33, 63, 64, 2047] {
            let vector = Vector::new(index);
            assert_eq!(vector.bit(), 1_u64 << (index % 64));
            assert_eq!(Vectors::one(vector).bits(), vector.bit());
            assert_eq!(usize::from(Vectors::one(vector).word()), vector.word());
        }
    }
}
