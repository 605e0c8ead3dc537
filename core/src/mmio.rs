//! Guest accesses to the table and the PBA, of any width and alignment.

use crate::effect::{EffectSink, NotCarriedOut};
use crate::layout::Region;
use crate::msix::{Msix, ready};
use crate::policy::{LiveRewrite, TableAccess};
use crate::settle::{Request, Span};
use crate::spec::VECTOR_MASK;
use crate::storage::Storage;
use crate::vectors::Vector;

/// What became of a guest access. Never an error: a guest may do what it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It was carried out, at least in part.
    Done,
    /// Undefined width or alignment: ignored; the bytes inside the structure read 0 (A4, H6).
    Unsupported,
    /// Past the end of the structure: ignored, reads all ones (C07).
    OutOfRange,
    /// A write to the PBA: ignored (A5, C09).
    ReadOnly,
}

/// The dwords of a structure that an access carries out.
struct Dwords {
    /// Index of the first dword in the structure.
    first: u64,
    /// How many, 0 to 2.
    count: u64,
    /// Bytes of the access before the first dword.
    skipped: usize,
}

impl<S: Storage> Msix<S> {
    /// Guest read at byte `offset` of the table.
    pub fn read_table(&self, offset: u64, bytes: &mut [u8]) -> Access {
        let memory = self.storage.memory();
        self.read(Region::Table, offset, bytes, |dword| {
            let vector = entry_of(dword);
            let entry = memory.entries.get(vector.slot())?;
            let word = memory.words.get(vector.word())?;
            Some(entry.dword(dword % 4, word.masked.get() & vector.bit() != 0))
        })
    }

    /// Guest write at byte `offset` of the table. A QWORD is applied as one (H5, C33).
    ///
    /// Emits Release, or Use and Send, when the vector stops or starts to be deliverable; Reroute
    /// by [`LiveRewrite`], Snoop by [`crate::Policy::snoop`].
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn write_table<K: EffectSink>(
        &mut self,
        offset: u64,
        bytes: &[u8],
        fx: &mut K,
    ) -> Result<Access, NotCarriedOut> {
        ready::<S, K>(fx)?;
        let (dwords, access) = self.classify(Region::Table, offset, bytes.len());
        let mut values = bytes.get(dwords.skipped..).unwrap_or_default();
        let first = entry_of(dwords.first);
        let mut last = first;
        let mut completed = None;
        for dword in dwords.first..dwords.first.saturating_add(dwords.count) {
            let Some((value, rest)) = values.split_first_chunk() else { break };
            values = rest;
            last = entry_of(dword);
            self.store(last, dword % 4, u32::from_le_bytes(*value));
            if dword % 4 == 2 {
                completed = Some(last);
            }
        }
        if dwords.count == 2 && dwords.first % 4 == 0 {
            completed = Some(first); // A4: the address pair as one QWORD
        }
        if dwords.count > 0 {
            let span = Span::new(first.index(), last.index().wrapping_add(1));
            let mut request = Request::touching(span);
            request.completed = completed;
            if self.policy.snoop {
                request.snoop = span;
            }
            self.settle(request, fx);
        }
        Ok(access)
    }

    fn store(&mut self, vector: Vector, field: u64, value: u32) {
        let memory = self.storage.memory_mut();
        let Some(entry) = memory.entries.get_mut(vector.slot()) else { return };
        let Some(word) = memory.words.get_mut(vector.word()) else { return };
        if field == 3 {
            entry.store_control(value, &self.policy);
            if value & VECTOR_MASK == 0 {
                word.masked.remove(vector.bit());
            } else {
                word.masked.insert(vector.bit());
            }
        } else {
            let live = word.live.get() & vector.bit() != 0;
            if entry.store_message(field, value) && live {
                self.rewritten(vector);
            }
        }
    }

    /// The message of a live vector changed (H4).
    pub(crate) fn rewritten(&mut self, vector: Vector) {
        if self.policy.live_rewrite == LiveRewrite::Reroute {
            self.mark_stale(vector, true);
        }
    }

    /// First step of a guest read of `len` bytes at byte `offset` of the PBA: emits Poll for the
    /// vectors it covers whose events the host holds (C36, H12, H13). Carry it out, feed
    /// [`polled`](Self::polled), then [`read_pba`](Self::read_pba).
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn poll_pba<K: EffectSink>(
        &mut self,
        offset: u64,
        len: usize,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<S, K>(fx)?;
        let (dwords, _) = self.classify(Region::Pba, offset, len);
        let vector = |dword: u64| u16::try_from(dword.saturating_mul(32)).unwrap_or(u16::MAX);
        let end = vector(dwords.first.saturating_add(dwords.count)).min(self.vectors());
        let span = Span::new(vector(dwords.first), end);
        self.poll(span, fx);
        Ok(())
    }

    /// Second step: guest read at byte `offset` of the PBA as it stands now (A5).
    pub fn read_pba(&self, offset: u64, bytes: &mut [u8]) -> Access {
        let memory = self.storage.memory();
        self.read(Region::Pba, offset, bytes, |dword| {
            let word = memory.words.get(usize::try_from(dword / 2).ok()?)?.pending.get();
            let [b0, b1, b2, b3, b4, b5, b6, b7] = word.to_le_bytes();
            let half = if dword % 2 == 0 { [b0, b1, b2, b3] } else { [b4, b5, b6, b7] };
            Some(u32::from_le_bytes(half))
        })
    }

    /// Guest write at byte `offset` of the PBA, which changes nothing (A5, C09).
    #[must_use = "an ignored write is worth a diagnostic"]
    pub fn write_pba(&self, offset: u64, bytes: &[u8]) -> Access {
        match self.classify(Region::Pba, offset, bytes.len()).1 {
            Access::Done => Access::ReadOnly,
            ignored => ignored,
        }
    }

    fn read(
        &self,
        region: Region,
        offset: u64,
        bytes: &mut [u8],
        value: impl Fn(u64) -> Option<u32>,
    ) -> Access {
        let (dwords, access) = self.classify(region, offset, bytes.len());
        if access != Access::Done || dwords.count.saturating_mul(4) != len_of(bytes) {
            self.fill_ignored(region, offset, bytes);
        }
        let mut rest = bytes.get_mut(dwords.skipped..).unwrap_or_default();
        for dword in dwords.first..dwords.first.saturating_add(dwords.count) {
            let Some((bytes, after)) = rest.split_first_chunk_mut() else { break };
            *bytes = value(dword).unwrap_or(u32::MAX).to_le_bytes();
            rest = after;
        }
        access
    }

    /// Zero inside the structure, all ones past it (H6, C07).
    fn fill_ignored(&self, region: Region, offset: u64, bytes: &mut [u8]) {
        let inside = self.layout.len(region).saturating_sub(offset);
        for (index, byte) in (0_u64..).zip(bytes) {
            *byte = if index < inside { 0 } else { 0xff };
        }
    }

    /// Which dwords inside `region` an access of `len` bytes at `offset` carries out.
    fn classify(&self, region: Region, offset: u64, len: usize) -> (Dwords, Access) {
        let size = self.layout.len(region);
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        let none = Dwords { first: 0, count: 0, skipped: 0 };
        if offset >= size {
            return (none, Access::OutOfRange);
        }
        let aligned = len == 4 && offset.is_multiple_of(4) || len == 8 && offset.is_multiple_of(8);
        if aligned && len <= size.saturating_sub(offset) {
            return (Dwords { first: offset / 4, count: len / 4, skipped: 0 }, Access::Done);
        }
        if self.policy.table_access == TableAccess::Aligned || len > 8 {
            return (none, Access::Unsupported);
        }
        let first = offset.div_ceil(4);
        let end = offset.saturating_add(len).min(size) / 4;
        let skipped = usize::try_from(first.wrapping_mul(4).wrapping_sub(offset)).unwrap_or(0);
        match end.saturating_sub(first) {
            0 => (none, Access::Unsupported),
            count => (Dwords { first, count, skipped }, Access::Done),
        }
    }
}

fn len_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// The vector whose entry holds dword `index` of the table.
fn entry_of(index: u64) -> Vector {
    Vector::new(u16::try_from(index / 4).unwrap_or(u16::MAX))
}
