//! Checks the invariants I1 and I2 at run time.

use super::Msix;
use super::settle::{claimed_among, registers, stale_among, told};
use crate::facts::ones;
use crate::kernel;
use crate::storage::Storage;
use core::ops::Range;

/// An invariant that does not hold ([I1](crate::rules#i1), [I2](crate::rules#i2)): a defect of the
/// engine. Bits name vectors of 64-vector word `word`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// I1: the vectors that are live are not those that should be.
    Liveness {
        /// The word.
        word: u16,
        /// Vectors that should be live.
        wanted: u64,
        /// Vectors that are live.
        live: u64,
    },
    /// I2: vectors that are pending although deliverable and claimed; under
    /// [`UnclaimedPending::Lose`](crate::policy::UnclaimedPending::Lose) also those without a claim.
    Stuck {
        /// The word.
        word: u16,
        /// The vectors.
        bits: u64,
    },
    /// The number of entries with a message that the host was not told differs from the count kept.
    StaleCount {
        /// Entries with such a message.
        stale: u32,
        /// The count kept.
        counted: u16,
    },
    /// A vector outside the table is in one of the sets, one that is not live is in fallback or
    /// stale, or one without a claim is pending and no load made it so.
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
        let entries = self.storage.memory().entries.iter();
        let stale = entries.fold(0_u32, |sum, entry| sum.wrapping_add(u32::from(entry.is_stale())));
        let counted = self.facts.stale_entries();
        if stale != u32::from(counted) {
            return Err(Violation::StaleCount { stale, counted });
        }
        self.check_words(0..self.vectors().div_ceil(64))
    }

    pub(crate) fn check_words(&self, words: Range<u16>) -> Result<(), Violation> {
        let memory = self.storage.memory();
        let switches = self.facts.switches(ones);
        for index in words {
            let first = usize::from(index).wrapping_mul(64);
            let entries = memory.entries.get(first..).unwrap_or_default();
            let Some(word) = memory.words.get(usize::from(index)) else { continue };
            // Most functions have no stale entry at any time, and 64 are many to look at.
            let stale = if self.facts.stale_entries() == 0 { 0 } else { stale_among(entries) };
            let told = told(word, stale);
            let exempt = self.exempting().of(memory.entries, index);
            let claimed = claimed_among(memory.claims, index, word.pending.get());
            let registers = registers(word, exempt, claimed);
            let next = kernel::step(told, registers, switches, 0);
            if next.arm | next.disarm != 0 {
                let (wanted, live) = (next.told.live, told.live);
                return Err(Violation::Liveness { word: index, wanted, live });
            }
            // A step finds nothing to send, drop or lose.
            let stuck = next.send | next.dropped | next.lost;
            if stuck != 0 {
                return Err(Violation::Stuck { word: index, bits: stuck });
            }
            let inside = self.all().bits(index);
            let outside = (registers.pending | told.live | !registers.masked) & !inside;
            let kept = (told.fallback | told.stale) & !told.live;
            let pending = registers.pending & inside;
            let orphans = if self.orphans { 0 } else { pending & !claimed };
            let impossible = outside | kept | orphans;
            if impossible != 0 {
                return Err(Violation::Impossible { word: index, bits: impossible });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sealed::Sealed;
    use crate::testing::engine;
    use crate::{Policy, Word};

    type Break = fn(&mut Word);

    #[test]
    fn a_broken_state_is_named_with_its_vectors() {
        // Of 70 vectors: word 1 has 6.
        let cases: [(Break, Violation); 7] = [
            (|w| w.live.insert(2), Violation::Liveness { word: 1, wanted: 0, live: 2 }),
            (|w| w.masked.remove(4), Violation::Liveness { word: 1, wanted: 4, live: 0 }),
            (|w| w.pending.insert(1 << 6), Violation::Impossible { word: 1, bits: 1 << 6 }),
            (|w| w.fallback.insert(8), Violation::Impossible { word: 1, bits: 8 }),
            (
                |w| {
                    w.masked.remove(1);
                    w.live.insert(1);
                    w.pending.insert(1);
                },
                Violation::Stuck { word: 1, bits: 1 },
            ),
            (
                |w| {
                    w.masked.remove(1 << 7);
                    w.live.insert(1 << 7);
                },
                Violation::Impossible { word: 1, bits: 1 << 7 },
            ),
            (
                |w| {
                    w.pending.insert(1 << 6 | 1 << 8);
                    w.fallback.insert(1 << 8 | 2);
                },
                Violation::Impossible { word: 1, bits: 1 << 6 | 1 << 8 | 2 },
            ),
        ];
        for (number, (breaks, violation)) in cases.into_iter().enumerate() {
            let (mut msix, _) = engine::<70, 2>(Policy::SPEC);
            assert_eq!(msix.check(), Ok(()));
            breaks(&mut msix.storage.memory_mut().words[1]);
            assert_eq!(msix.check(), Err(violation), "case {number}");
        }
    }

    #[test]
    fn what_is_to_be_lost_does_not_stay_pending() {
        for policy in [Policy::SPEC, Policy::QEMU] {
            let (mut msix, mut fx) = engine::<2, 1>(policy);
            msix.set_mask(crate::Vector::new(0), false, &mut fx).unwrap();
            crate::testing::take(&mut fx);
            msix.unclaim_all(&mut fx).unwrap();
            msix.orphans = true; // as after a load
            msix.storage.memory_mut().words[0].pending.insert(1);
            let lost = policy == Policy::QEMU;
            let stuck = Violation::Stuck { word: 0, bits: 1 };
            assert_eq!(msix.check(), if lost { Err(stuck) } else { Ok(()) });
        }
    }

    #[test]
    fn a_vector_past_the_table_is_never_unmasked() {
        let (mut msix, mut fx) = engine::<70, 2>(Policy::SPEC);
        msix.write_config(3, &[0], &mut fx).unwrap(); // nothing is wanted
        let word = &mut msix.storage.memory_mut().words[1];
        word.masked.remove(1 << 9);
        assert_eq!(msix.check(), Err(Violation::Impossible { word: 1, bits: 1 << 9 }));
    }

    #[test]
    fn only_a_load_leaves_pending_what_nobody_claims() {
        let (mut msix, mut fx) = engine::<2, 1>(Policy::SPEC);
        msix.unclaim_all(&mut fx).unwrap();
        msix.storage.memory_mut().words[0].pending.insert(2);
        assert_eq!(msix.check(), Err(Violation::Impossible { word: 0, bits: 2 }));
        msix.storage.memory_mut().words[0].pending.remove(2);
        crate::testing::take(&mut fx);
        let mut field = [0; 33];
        (field[12], field[28], field[32]) = (1, 1, 0b11); // both masked and pending
        msix.load_qemu(0x8001, &field).unwrap();
        assert_eq!(msix.check(), Ok(()));
    }

    #[test]
    fn what_is_impossible_twice_is_named_once() {
        let (mut msix, _) = engine::<70, 2>(Policy::SPEC);
        let word = &mut msix.storage.memory_mut().words[1];
        word.pending.insert(1 << 9);
        word.fallback.insert(1 << 9);
        assert_eq!(msix.check(), Err(Violation::Impossible { word: 1, bits: 1 << 9 }));

        let (mut msix, mut fx) = engine::<70, 2>(Policy::SPEC);
        msix.unclaim_all(&mut fx).unwrap();
        let word = &mut msix.storage.memory_mut().words[1];
        word.pending.insert(4); // nobody claims it
        word.fallback.insert(4);
        assert_eq!(msix.check(), Err(Violation::Impossible { word: 1, bits: 4 }));
    }

    #[test]
    fn only_a_live_vector_has_a_message_to_tell() {
        let (mut msix, _) = engine::<70, 2>(Policy::SPEC);
        msix.facts.one_stale_entry_more();
        let memory = msix.storage.memory_mut();
        memory.entries[66].set_stale(true);
        assert_eq!(msix.check(), Err(Violation::Impossible { word: 1, bits: 4 }));
        msix.storage.memory_mut().words[1].fallback.insert(4);
        assert_eq!(msix.check(), Err(Violation::Impossible { word: 1, bits: 4 }));
    }

    #[test]
    fn between_load_and_resume_a_live_vector_must_exist_too() {
        let (mut msix, _) = engine::<70, 2>(Policy::SPEC);
        let mut bytes = [0; 1400];
        let len = msix.save(&mut bytes).unwrap();
        msix.load(&bytes[..len]).unwrap();
        assert_eq!(msix.check(), Ok(()));
        let word = &mut msix.storage.memory_mut().words[1];
        word.live.insert(1 << 9);
        word.pending.insert(1 << 9);
        assert_eq!(msix.check(), Err(Violation::Impossible { word: 1, bits: 1 << 9 }));
    }
}
