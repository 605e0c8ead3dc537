//! The invariants as a question anybody may ask.

use crate::msix::Msix;
use crate::settle::used_among;
use crate::storage::Storage;
use core::ops::Range;

/// An invariant that does not hold: a defect of the engine. Bits are of vectors in 64-vector word
/// `word`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// I1: the host was told something else than what should hold.
    Liveness {
        /// The word.
        word: u16,
        /// Vectors that should be live.
        wanted: u64,
        /// Vectors that are.
        live: u64,
    },
    /// I2: vectors that are pending although deliverable and used.
    Stuck {
        /// The word.
        word: u16,
        /// The vectors.
        bits: u64,
    },
    /// A vector past the table is in one of the sets, or one that is not live is in fallback.
    Impossible {
        /// The word.
        word: u16,
        /// The vectors.
        bits: u64,
    },
}

impl<S: Storage> Msix<S> {
    /// Checks I1, I2 and the consistency of the vector sets, for all vectors. Debug builds do this
    /// after every input, for the vectors it touched.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn check(&self) -> Result<(), Violation> {
        self.check_words(0..self.vectors().div_ceil(64))
    }

    pub(crate) fn check_words(&self, words: Range<u16>) -> Result<(), Violation> {
        for index in words {
            let Some(word) = self.storage.memory().words.get(usize::from(index)) else { continue };
            let memory = self.storage.memory();
            let deliverable = self.gate().deliverable(memory.entries, index, word);
            let (wanted, live) = (self.gate().wanted(deliverable, word), word.live.get());
            if wanted != live {
                return Err(Violation::Liveness { word: index, wanted, live });
            }
            let ready = word.pending.get() & deliverable;
            let first = usize::from(index).wrapping_mul(64);
            let stuck = used_among(memory.uses.get(first..).unwrap_or_default(), ready);
            if stuck != 0 {
                return Err(Violation::Stuck { word: index, bits: stuck });
            }
            let inside = self.all().bits(index);
            let outside = (word.pending.get() | live | !word.masked.get()) & !inside;
            let lost = word.fallback.get() & !live;
            if outside | lost != 0 {
                return Err(Violation::Impossible { word: index, bits: outside | lost });
            }
        }
        Ok(())
    }
}
