//! Memory for the table, the claim counts and the vector sets, owned by the embedder or the engine.
//!
//! Each vector costs 18.5 bytes: 16 for its entry, 2 for its claim count and 4 bits in the sets.

use crate::effects::{MAX_EFFECTS, bound};
use crate::msix::Entry;
use crate::spec::MAX_VECTORS;
use crate::vectors::Word;

pub(crate) mod sealed {
    use super::{Entry, Word};

    /// The engine's memory: N entries, N claim counts, ceil(N / 64) words.
    #[derive(Debug)]
    pub struct Memory<'a> {
        pub entries: &'a [Entry],
        pub claims: &'a [u16],
        pub words: &'a [Word],
    }

    #[derive(Debug)]
    pub struct MemoryMut<'a> {
        pub entries: &'a mut [Entry],
        pub claims: &'a mut [u16],
        pub words: &'a mut [Word],
    }

    pub trait Sealed {
        fn memory(&self) -> Memory<'_>;
        fn memory_mut(&mut self) -> MemoryMut<'_>;
    }

    /// Storage that can be made for a vector count.
    pub trait Fresh: Sealed + Sized {
        fn fresh(vectors: u16) -> Option<Self>;
    }
}

/// Memory for the state of each vector: [`Inline`], [`Borrowed`] or, with feature `alloc`,
/// `Boxed`.
///
/// Sealed, because the engine relies on slices that fit each other. No input allocates
/// ([I7](crate::rules#i7)), and the type knows the bound of a list ([I6](crate::rules#i6)).
pub trait Storage: sealed::Sealed {
    /// The most effects that one input emits with this storage (I6).
    const MAX_EFFECTS: usize;
}

/// The engine's memory: N entries, N claim counts, ceil(N / 64) words. Embedders name [`Inline`],
/// [`Borrowed`] or, with feature `alloc`, `Boxed`.
#[derive(Debug)]
pub struct VectorMemory<E, C, W> {
    entries: E,
    claims: C,
    words: W,
}

impl<E: Clone, C: Clone, W: Clone> Clone for VectorMemory<E, C, W> {
    fn clone(&self) -> Self {
        let Self { entries, claims, words } = self;
        Self { entries: entries.clone(), claims: claims.clone(), words: words.clone() }
    }

    /// Copies in place, where a derived one makes a copy first.
    fn clone_from(&mut self, source: &Self) {
        let Self { entries, claims, words } = source;
        self.entries.clone_from(entries);
        self.claims.clone_from(claims);
        self.words.clone_from(words);
    }
}

impl<E, C, W> sealed::Sealed for VectorMemory<E, C, W>
where
    E: AsRef<[Entry]> + AsMut<[Entry]>,
    C: AsRef<[u16]> + AsMut<[u16]>,
    W: AsRef<[Word]> + AsMut<[Word]>,
{
    fn memory(&self) -> sealed::Memory<'_> {
        sealed::Memory {
            entries: self.entries.as_ref(),
            claims: self.claims.as_ref(),
            words: self.words.as_ref(),
        }
    }

    fn memory_mut(&mut self) -> sealed::MemoryMut<'_> {
        sealed::MemoryMut {
            entries: self.entries.as_mut(),
            claims: self.claims.as_mut(),
            words: self.words.as_mut(),
        }
    }
}

/// Arrays inside the engine, for exactly `N` vectors (1 to 2048) in `W` = ceil(N / 64) words; any
/// other `W` does not compile. Stable Rust cannot compute `W` itself.
///
/// ```compile_fail
/// use msix_core::*;
/// let layout = Layout::exclusive_bar(65, BarIndex::new(0).unwrap()).unwrap();
/// let msix = Msix::<Inline<65, 1>>::new(layout, Policy::SPEC);
/// ```
pub type Inline<const N: usize, const W: usize> = VectorMemory<[Entry; N], [u16; N], [Word; W]>;

#[expect(clippy::as_conversions, reason = "conversions are not const yet; N is checked")]
impl<const N: usize, const W: usize> sealed::Fresh for Inline<N, W> {
    fn fresh(vectors: u16) -> Option<Self> {
        const {
            assert!(N >= 1 && N <= MAX_VECTORS as usize, "1 to 2048 vectors");
            assert!(W == N.div_ceil(64), "W is ceil(N / 64)");
        }
        (usize::from(vectors) == N).then_some(Self {
            entries: [Entry::RESET; N],
            claims: [0; N],
            words: [Word::RESET; W],
        })
    }
}

#[expect(clippy::as_conversions, reason = "conversions are not const yet; N is checked")]
impl<const N: usize, const W: usize> Storage for Inline<N, W> {
    const MAX_EFFECTS: usize = bound(N as u16);
}

/// Memory lent by the embedder, for instance `static` arrays.
pub type Borrowed<'a> = VectorMemory<&'a mut [Entry], &'a mut [u16], &'a mut [Word]>;

impl<'a> Borrowed<'a> {
    /// Takes N entries, N claim counts and ceil(N / 64) words, N from 1 to 2048, and resets them.
    ///
    /// # Errors
    /// [`StorageError`] when the lengths do not fit each other or N is out of range; the memory is
    /// then untouched.
    pub fn new(
        entries: &'a mut [Entry],
        claims: &'a mut [u16],
        words: &'a mut [Word],
    ) -> Result<Self, StorageError> {
        let vectors = entries.len();
        if vectors == 0
            || vectors > usize::from(MAX_VECTORS)
            || claims.len() != vectors
            || words.len() != vectors.div_ceil(64)
        {
            return Err(StorageError {
                entries: vectors,
                claims: claims.len(),
                words: words.len(),
            });
        }
        entries.fill(Entry::RESET);
        claims.fill(0);
        words.fill(Word::RESET);
        Ok(Self { entries, claims, words })
    }
}

#[cfg(msix_prove)]
impl<'a> Borrowed<'a> {
    /// Takes memory that fits, as it is.
    pub(crate) const fn lent(
        entries: &'a mut [Entry],
        claims: &'a mut [u16],
        words: &'a mut [Word],
    ) -> Self {
        Self { entries, claims, words }
    }
}

impl Storage for Borrowed<'_> {
    const MAX_EFFECTS: usize = MAX_EFFECTS;
}

/// The slices given to [`Borrowed::new`] do not fit each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageError {
    /// Entries given: N.
    pub entries: usize,
    /// Claims given; N are needed.
    pub claims: usize,
    /// Words given; ceil(N / 64) are needed.
    pub words: usize,
}

impl core::fmt::Display for StorageError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "storage of {} entries, {} claim counts and {} words: N from 1 to 2048 entries need N \
             claim counts and ceil(N / 64) words",
            self.entries, self.claims, self.words
        )
    }
}

impl core::error::Error for StorageError {}

/// Heap memory for a vector count known only at run time (feature `alloc`).
#[cfg(feature = "alloc")]
pub type Boxed =
    VectorMemory<alloc::boxed::Box<[Entry]>, alloc::boxed::Box<[u16]>, alloc::boxed::Box<[Word]>>;

#[cfg(feature = "alloc")]
impl Boxed {
    /// Makes memory for `vectors` vectors, reset.
    pub(crate) fn of(vectors: u16) -> Self {
        let vectors = usize::from(vectors);
        Self {
            entries: alloc::vec![Entry::RESET; vectors].into_boxed_slice(),
            claims: alloc::vec![0; vectors].into_boxed_slice(),
            words: alloc::vec![Word::RESET; vectors.div_ceil(64)].into_boxed_slice(),
        }
    }
}

#[cfg(feature = "alloc")]
impl sealed::Fresh for Boxed {
    fn fresh(vectors: u16) -> Option<Self> {
        Some(Self::of(vectors))
    }
}

#[cfg(feature = "alloc")]
impl Storage for Boxed {
    const MAX_EFFECTS: usize = MAX_EFFECTS;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borrowed_memory_must_fit_itself() {
        let mut entries = [Entry::RESET; 65];
        let mut claims = [7; 65];
        let mut words = [Word::RESET; 2];
        for (e, u, w) in [(0, 0, 0), (65, 64, 2), (64, 64, 2), (65, 65, 1)] {
            let error = Borrowed::new(&mut entries[..e], &mut claims[..u], &mut words[..w]);
            assert_eq!(error.unwrap_err(), StorageError { entries: e, claims: u, words: w });
        }
        assert_eq!(claims[0], 7, "refused memory is untouched");
        Borrowed::new(&mut entries, &mut claims, &mut words).unwrap();
        assert_eq!(claims[0], 0);
    }

    #[test]
    fn more_than_2048_vectors_are_refused() {
        let mut entries = [Entry::RESET; 2049];
        let mut claims = [0; 2049];
        let mut words = [Word::RESET; 33];
        assert!(Borrowed::new(&mut entries, &mut claims, &mut words).is_err());
    }
}
