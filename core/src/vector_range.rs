//! Consecutive vectors, taken apart into 64-vector words.

use crate::vectors::Vector;
use core::ops::Range;

/// Vectors `first` to `end - 1`; empty when `end` is not above `first`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VectorRange {
    first: u16,
    end: u16,
}

impl VectorRange {
    pub(crate) const EMPTY: Self = Self { first: 0, end: 0 };

    pub(crate) const fn new(first: u16, end: u16) -> Self {
        Self { first, end }
    }

    pub(crate) const fn one(vector: Vector) -> Self {
        Self { first: vector.index(), end: vector.index().wrapping_add(1) }
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.first >= self.end
    }

    /// Returns the words that have its members.
    pub(crate) const fn words(self) -> Range<u16> {
        self.first / 64..self.end.div_ceil(64)
    }

    /// Returns its members in word `word`.
    pub(crate) fn bits(self, word: u16) -> u64 {
        let base = word.wrapping_shl(6);
        below(self.end.saturating_sub(base)) & !below(self.first.saturating_sub(base))
    }
}

/// Returns the lowest `count` bits; all 64 for more.
fn below(count: u16) -> u64 {
    match count {
        0..64 => !u64::MAX.wrapping_shl(u32::from(count)),
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::Vectors;
    use std::vec::Vec;

    #[test]
    fn a_span_is_split_into_words_without_losing_a_vector() {
        for (first, end) in
            [(0, 1), (63, 64), (63, 65), (0, 2048), (64, 128), (31, 97), (5, 5), (9, 3)]
        {
            let span = VectorRange::new(first, end);
            for words in [0..32, span.words()] {
                let members = words.flat_map(|word| Vectors::new(word, span.bits(word)).iter());
                let vectors: Vec<u16> = members.map(Vector::index).collect();
                assert_eq!(vectors, (first..end).collect::<Vec<_>>());
            }
            assert_eq!(span.bits(33), 0, "a word it does not touch");
        }
    }
}
