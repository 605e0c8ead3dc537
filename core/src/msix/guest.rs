//! Guest accesses to the table and the PBA, of any width and alignment.

use super::Msix;
use super::settle::{Change, Request};
use crate::effects::{EffectSink, NotCarriedOut, ready};
use crate::layout::Region;
use crate::policy::{LiveRewrite, TableAccess};
use crate::spec::VECTOR_MASK;
use crate::storage::Storage;
use crate::vector_range::VectorRange;
use crate::vectors::Vector;

/// What became of a guest access ([A4](crate::rules#a4), [H6](crate::rules#h6)). Nothing that a
/// guest does is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It was carried out, at least in part.
    Done,
    /// Undefined width or alignment: ignored, and the bytes inside the structure read 0 (A4, H6).
    Unsupported,
    /// Past the end of the structure: ignored, and reads all ones (C07).
    OutOfRange,
    /// A write to the PBA: ignored (A5, C09).
    ReadOnly,
}

/// The dwords of a structure that an access carries out.
struct Dwords {
    /// Index of the first dword in the structure.
    first: usize,
    /// The number of dwords, 0 to 2.
    count: usize,
    /// Bytes of the access before the first dword.
    skipped: usize,
}

impl<S: Storage> Msix<S> {
    /// Reads for a guest at byte `offset` of the table.
    #[inline]
    pub fn read_table(&self, offset: u64, bytes: &mut [u8]) -> Access {
        // Kept short: this is the access that every guest makes.
        if let (Ok(dword), 0) = (<&mut [u8; 4]>::try_from(&mut *bytes), offset % 4)
            && let Some(value) = self.table_dword(dword_at(offset))
        {
            *dword = value.to_le_bytes();
            return Access::Done;
        }
        self.read_others(Region::Table, offset, bytes)
    }

    /// Returns dword `index` of the table as the guest reads it.
    #[inline]
    fn table_dword(&self, index: usize) -> Option<u32> {
        let memory = self.storage.memory();
        let vector = index / 4;
        let entry = memory.entries.get(vector)?;
        let masked = memory.words.get(vector / 64)?.masked.has(vector);
        Some(entry.dword(field_of(index), masked))
    }

    /// Writes for a guest at byte `offset` of the table. A QWORD is applied as one (H5, C33).
    ///
    /// Emits Disarm, or Arm and Send, when the vector stops or starts to be deliverable; Reroute by
    /// [`LiveRewrite`]; Snoop by [`crate::Policy::snoop`].
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    #[inline]
    pub fn write_table<K: EffectSink>(
        &mut self,
        offset: u64,
        bytes: &[u8],
        fx: &mut K,
    ) -> Result<Access, NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        // Kept short: aligned dwords are the accesses that every guest makes.
        let Ok(&dword) = <&[u8; 4]>::try_from(bytes) else {
            return Ok(self.write_others(offset, bytes, fx));
        };
        let value = u32::from_le_bytes(dword);
        Ok(if offset % 16 == 12 {
            self.write_control(offset, value, fx)
        } else if offset.is_multiple_of(4) {
            self.write_message(offset, value, fx)
        } else {
            self.write_otherwise(offset, value, fx)
        })
    }

    /// Applies a write of a dword that is not aligned, or of Vector Control while the function is not plainly
    /// sending.
    // By value: a caller that has a number would keep its bytes in memory for this alone, and wait for them.
    #[inline(never)]
    fn write_otherwise<K: EffectSink>(&mut self, offset: u64, value: u32, fx: &mut K) -> Access {
        self.write_others(offset, &value.to_le_bytes(), fx)
    }

    /// Writes Vector Control, at an aligned `offset`.
    #[inline]
    fn write_control<K: EffectSink>(&mut self, offset: u64, value: u32, fx: &mut K) -> Access {
        if !self.facts.plainly_sending() {
            return self.write_otherwise(offset, value, fx);
        }
        let dword = dword_at(offset);
        let memory = self.storage.memory_mut();
        let Some(entry) = memory.entries.get_mut(dword / 4) else { return Access::OutOfRange };
        let vector = entry_of(dword);
        let Some(word) = memory.words.get_mut(vector.word()) else { return Access::OutOfRange };
        entry.set_control(value, self.policy.vector_control);
        // One call for each case, so that each is compiled on its own.
        let counters = &mut self.counters;
        let ready = if value & VECTOR_MASK != 0 {
            Self::settle_mask(word, vector, true, counters, fx)
        } else {
            Self::settle_mask(word, vector, false, counters, fx)
        };
        if ready {
            self.send_vector(vector, fx);
        }
        self.check_vector(vector);
        Access::Done
    }

    /// Writes a dword of a message, at an aligned `offset`.
    #[inline]
    fn write_message<K: EffectSink>(&mut self, offset: u64, value: u32, fx: &mut K) -> Access {
        let dword = dword_at(offset);
        let Some(touched) = self.store_message(dword, value) else { return Access::OutOfRange };
        // Only the mask decides deliverability, unless the policy exempts messages.
        if touched != OTHER || self.facts.special() {
            let change = Change { written: true, complete: touched & COMPLETE != 0 };
            self.settle_vector(entry_of(dword), change, fx);
        }
        Access::Done
    }

    /// Applies a table write that is not an aligned DWORD.
    #[inline(never)]
    fn write_others<K: EffectSink>(&mut self, offset: u64, bytes: &[u8], fx: &mut K) -> Access {
        let (dwords, access) = self.classify(Region::Table, offset, bytes.len());
        let mut values = bytes.get(dwords.skipped..).unwrap_or_default();
        let first = entry_of(dwords.first);
        let (mut last, mut touched) = (first, 0);
        for dword in dwords.first..dwords.first.saturating_add(dwords.count) {
            let Some((value, rest)) = values.split_first_chunk() else { break };
            values = rest;
            last = entry_of(dword);
            touched |= self.store(dword, u32::from_le_bytes(*value)).unwrap_or(NOTHING);
        }
        if first != last {
            let written = VectorRange::new(first.index(), last.index().wrapping_add(1));
            self.settle(Request { written, ..Request::FACTS }, fx);
        } else if touched != NOTHING {
            // A4: the address pair as one QWORD is complete.
            let pair = touched & (LOW | HIGH) == LOW | HIGH;
            let change = Change { written: true, complete: pair || touched & COMPLETE != 0 };
            self.settle_vector(first, change, fx);
        }
        access
    }

    /// Stores a dword. Returns what that touched; `None` when it is not in the table.
    #[inline(never)]
    fn store(&mut self, dword: usize, value: u32) -> Option<u8> {
        if field_of(dword) != 3 {
            return self.store_message(dword, value);
        }
        let memory = self.storage.memory_mut();
        let entry = memory.entries.get_mut(dword / 4)?;
        let vector = entry_of(dword);
        let word = memory.words.get_mut(vector.word())?;
        entry.store_control(value, self.policy.vector_control);
        let masked = value & VECTOR_MASK != 0;
        if masked == (word.masked.get() & vector.bit() != 0) {
            return Some(OTHER);
        }
        word.masked.toggle(vector.bit());
        Some(MASK)
    }

    /// Stores a dword of a message, as [`store`](Self::store).
    #[inline(always)]
    fn store_message(&mut self, dword: usize, value: u32) -> Option<u8> {
        let memory = self.storage.memory_mut();
        let (vector, field) = (dword / 4, field_of(dword));
        let entry = memory.entries.get_mut(vector)?;
        let is_live = memory.words.get(vector / 64)?.live.has(vector);
        let changed = entry.store_message(field, value);
        if !is_live {
            return Some(OTHER);
        }
        if changed {
            self.rewritten(entry_of(dword));
        }
        Some(match field {
            0 => LOW,
            1 => HIGH,
            _ => COMPLETE,
        })
    }

    /// Notes that the message of a live vector changed (H4).
    pub(crate) fn rewritten(&mut self, vector: Vector) {
        if self.policy.live_rewrite == LiveRewrite::Reroute {
            self.mark_stale(vector);
        }
    }

    /// Begins a guest read of `len` bytes at byte `offset` of the PBA: emits Poll for the vectors
    /// it covers that may have held events (C36, H12, H13). Carry it out and report the answer
    /// through [`report_held`](Self::report_held); then call [`read_pba`](Self::read_pba).
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn poll_pba<K: EffectSink>(
        &mut self,
        offset: u64,
        len: usize,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        // Kept short: this is the access of a guest that polls.
        if len == 8 && offset.is_multiple_of(8) && !self.may_hold(dword_at(offset) / 2) {
            return Ok(());
        }
        let (dwords, _) = self.classify(Region::Pba, offset, len);
        let vector = |dword: usize| u16::try_from(dword.saturating_mul(32)).unwrap_or(u16::MAX);
        let end = vector(dwords.first.saturating_add(dwords.count)).min(self.vectors());
        let span = VectorRange::new(vector(dwords.first), end);
        self.poll(span, fx);
        Ok(())
    }

    /// Reads for a guest at byte `offset` of the PBA as it is now, after
    /// [`poll_pba`](Self::poll_pba) (A5).
    #[inline]
    pub fn read_pba(&self, offset: u64, bytes: &mut [u8]) -> Access {
        // Kept short: this is the access of a guest that polls.
        if let (Ok(qword), 0) = (<&mut [u8; 8]>::try_from(&mut *bytes), offset % 8)
            && let Some(pending) = self.pba_word(dword_at(offset) / 2)
        {
            *qword = pending.to_le_bytes();
            return Access::Done;
        }
        self.read_others(Region::Pba, offset, bytes)
    }

    #[inline]
    fn pba_word(&self, index: usize) -> Option<u64> {
        Some(self.storage.memory().words.get(index)?.pending.get())
    }

    fn pba_dword(&self, index: usize) -> Option<u32> {
        let [b0, b1, b2, b3, b4, b5, b6, b7] = self.pba_word(index / 2)?.to_le_bytes();
        let half = if index.is_multiple_of(2) { [b0, b1, b2, b3] } else { [b4, b5, b6, b7] };
        Some(u32::from_le_bytes(half))
    }

    /// Ignores a guest write at byte `offset` of the PBA, which changes nothing (A5, C09).
    #[must_use = "an ignored write is worth a diagnostic"]
    pub fn write_pba(&self, offset: u64, bytes: &[u8]) -> Access {
        match self.classify(Region::Pba, offset, bytes.len()).1 {
            Access::Done => Access::ReadOnly,
            ignored => ignored,
        }
    }

    /// Reads with another width or alignment, or past the end.
    #[inline(never)]
    fn read_others(&self, region: Region, offset: u64, bytes: &mut [u8]) -> Access {
        let (dwords, access) = self.classify(region, offset, bytes.len());
        self.fill_ignored(region, offset, bytes);
        let mut rest = bytes.get_mut(dwords.skipped..).unwrap_or_default();
        for index in dwords.first..dwords.first.saturating_add(dwords.count) {
            let Some((bytes, after)) = rest.split_first_chunk_mut() else { break };
            let dword = match region {
                Region::Table => self.table_dword(index),
                Region::Pba => self.pba_dword(index),
            };
            *bytes = dword.unwrap_or(u32::MAX).to_le_bytes();
            rest = after;
        }
        access
    }

    /// Fills in 0 inside the structure and all ones past it (H6, C07).
    fn fill_ignored(&self, region: Region, offset: u64, bytes: &mut [u8]) {
        let inside = self.layout.len(region).saturating_sub(offset);
        for (index, byte) in (0..u64::MAX).zip(bytes) {
            *byte = if index < inside { 0 } else { 0xff };
        }
    }

    /// Returns the dwords inside `region` that an access of `len` bytes at `offset` carries out.
    #[inline]
    fn classify(&self, region: Region, offset: u64, len: usize) -> (Dwords, Access) {
        let size = self.layout.len(region);
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        let none = Dwords { first: 0, count: 0, skipped: 0 };
        if offset >= size {
            return (none, Access::OutOfRange);
        }
        let aligned = len == 4 && offset.is_multiple_of(4) || len == 8 && offset.is_multiple_of(8);
        if aligned && len <= size.saturating_sub(offset) {
            let count = if len == 4 { 1 } else { 2 };
            return (Dwords { first: dword_at(offset), count, skipped: 0 }, Access::Done);
        }
        if self.policy.table_access == TableAccess::Aligned || len > 8 {
            return (none, Access::Unsupported);
        }
        let first = dword_at(offset.saturating_add(3));
        let end = dword_at(offset.saturating_add(len).min(size));
        let skipped = usize::try_from(offset.wrapping_neg() % 4).unwrap_or(0);
        match end.saturating_sub(first) {
            0 => (none, Access::Unsupported),
            count => (Dwords { first, count, skipped }, Access::Done),
        }
    }
}

/// Nothing was written.
const NOTHING: u8 = 0;
/// The mask bit changed.
const MASK: u8 = 1;
/// The write completes the message of a live vector (H4).
const COMPLETE: u8 = 2;
/// Half of a live vector's address was written.
const LOW: u8 = 4;
/// The other half of it was written.
const HIGH: u8 = 8;
/// Something else was written.
const OTHER: u8 = 16;

/// Returns the index of the dword that holds byte `offset`, which no structure has where it does not fit.
fn dword_at(offset: u64) -> usize {
    usize::try_from(offset / 4).unwrap_or(usize::MAX)
}

/// Returns which dword of its entry dword `index` of the table is, 0 to 3.
fn field_of(index: usize) -> usize {
    index % 4
}

/// Returns the vector with the entry that holds dword `index` of the table.
fn entry_of(index: usize) -> Vector {
    Vector::new(u16::try_from(index / 4).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{engine, take};
    use crate::{Effect, Policy, Vectors};
    use std::vec::Vec;

    #[test]
    fn an_access_is_carried_out_as_its_width_and_alignment_say() {
        use Access::{Done, OutOfRange, Unsupported};
        // Offset and bytes of an access to a table of 4 entries; verdict by SPEC and by QEMU.
        let cases = [
            (0x0, 4, Done, Done),
            (0x8, 8, Done, Done),
            (0x3c, 4, Done, Done),
            (0x4, 8, Unsupported, Done), // two dwords
            (0x6, 8, Unsupported, Done), // one dword, at 8
            (0x6, 4, Unsupported, Unsupported),
            (0x1, 7, Unsupported, Done),
            (0x0, 3, Unsupported, Unsupported),
            (0x0, 6, Unsupported, Done),
            (0x0, 16, Unsupported, Unsupported),
            (0x0, 0, Unsupported, Unsupported),
            (0x3c, 8, Unsupported, Done), // half of it is past the table
            (0x40, 4, OutOfRange, OutOfRange),
            (u64::MAX, 8, OutOfRange, OutOfRange),
        ];
        for (offset, len, spec, qemu) in cases {
            for (policy, expected) in [(Policy::SPEC, spec), (Policy::QEMU, qemu)] {
                let (mut msix, mut fx) = engine::<4, 1>(policy);
                let mut bytes = std::vec![0xa5; len];
                assert_eq!(msix.read_table(offset, &mut bytes), expected, "{offset:#x} {len}");
                assert_eq!(msix.write_table(offset, &bytes, &mut fx), Ok(expected));
            }
        }
    }

    #[test]
    fn what_is_not_carried_out_reads_zero_inside_and_ones_past_the_end() {
        let (mut msix, mut fx) = engine::<1, 1>(Policy::QEMU);
        msix.write_table(0x8, &[0x11, 0x22, 0x33, 0x44], &mut fx).unwrap();
        let mut bytes = [0xa5; 8];
        msix.read_table(0x6, &mut bytes);
        assert_eq!(bytes, [0, 0, 0x11, 0x22, 0x33, 0x44, 0, 0]);
        msix.read_table(0xe, &mut bytes[..4]);
        assert_eq!(bytes[..4], [0, 0, 0xff, 0xff]);
        msix.read_pba(0x7, &mut bytes[..3]);
        assert_eq!(bytes[..3], [0, 0xff, 0xff]);
    }

    #[test]
    fn a_live_message_is_rerouted_once_and_whole() {
        let (mut msix, mut fx) = engine::<2, 1>(Policy::SPEC);
        msix.set_mask(Vector::new(1), false, &mut fx).unwrap();
        take(&mut fx);
        let v1 = Vectors::one(Vector::new(1));
        let mut write = |offset: u64, bytes: &[u8]| {
            msix.write_table(0x10 + offset, bytes, &mut fx).unwrap();
            take(&mut fx)
        };
        assert_eq!(write(0, &[0x00, 0x20, 0xe0, 0xfe]), [], "half an address");
        assert_eq!(write(4, &[1, 0, 0, 0]), [], "the data may follow");
        assert_eq!(write(8, &[0x31, 0, 0, 0]), [Effect::Reroute(v1)]);
        assert_eq!(write(8, &[0x31, 0, 0, 0]), [], "nothing changed");
        assert_eq!(write(0, &[0, 0x30, 0xe0, 0xfe, 0, 0, 0, 0]), [Effect::Reroute(v1)], "A4");
        assert_eq!(write(0, &[0, 0x40, 0xe0, 0xfe]), []);
        assert_eq!(write(12, &[1, 0, 0, 0]), [Effect::Disarm(v1)]);
        assert_eq!(write(12, &[0, 0, 0, 0]), [Effect::Arm(v1)], "tells the new address");
        assert_eq!(write(8, &[0x31, 0, 0, 0]), [], "so there is nothing left to tell");
        assert_eq!(msix.counters().reroutes, 2);
    }

    #[test]
    fn a_pba_read_polls_the_vectors_it_covers_that_the_host_holds() {
        let (mut msix, mut fx) = engine::<65, 2>(Policy::SPEC);
        msix.set_mask(Vector::new(33), false, &mut fx).unwrap();
        take(&mut fx);
        let high = 0xffff_ffff_0000_0000 & !(1 << 33); // v33 is live: its events are delivered
        let cases: [(u64, usize, Vec<Effect>); 5] = [
            (0, 4, [Effect::Poll(Vectors::new(0, 0xffff_ffff))].into()),
            (4, 4, [Effect::Poll(Vectors::new(0, high))].into()),
            (8, 8, [Effect::Poll(Vectors::new(1, 1))].into()),
            (12, 4, Vec::new()),
            (16, 8, Vec::new()),
        ];
        for (offset, len, expected) in cases {
            msix.poll_pba(offset, len, &mut fx).unwrap();
            assert_eq!(take(&mut fx), expected, "{offset} {len}");
        }
        msix.report_failed(Vectors::one(Vector::new(33)));
        msix.poll_pba(4, 4, &mut fx).unwrap();
        let all = Vectors::new(0, 0xffff_ffff_0000_0000);
        assert_eq!(take(&mut fx), [Effect::Poll(all)], "what failed is held too");
    }

    #[test]
    fn a_written_entry_is_snooped_where_somebody_wants_to_know() {
        let policy = Policy { snoop: true, ..Policy::QEMU };
        let (mut msix, mut fx) = engine::<65, 2>(policy);
        msix.write_table(63 * 16 + 12, &[1, 0, 0, 0, 0, 0, 0, 0], &mut fx).unwrap();
        let expected = [Effect::Snoop(Vectors::new(0, 1 << 63)), Effect::Snoop(Vectors::new(1, 1))];
        assert_eq!(take(&mut fx), expected);
        msix.write_table(0, &[0, 0, 0, 0], &mut fx).unwrap();
        assert_eq!(take(&mut fx), [Effect::Snoop(Vectors::new(0, 1))]);
        msix.set_mask(Vector::new(0), true, &mut fx).unwrap();
        assert_eq!(take(&mut fx), [], "no guest wrote it");
    }

    #[test]
    fn a_mask_that_a_qword_writes_beside_the_data_works_as_one_written_alone() {
        let (mut msix, mut fx) = engine::<2, 1>(Policy::SPEC);
        let v1 = Vectors::new(0, 2);
        for (control, expected) in [
            (0, Some(Effect::Arm(v1))),
            (0, None),
            (1, Some(Effect::Disarm(v1))),
            (1, None),
            (0, Some(Effect::Arm(v1))),
        ] {
            let bytes = [0x41, 0, 0, 0, control, 0, 0, 0];
            assert_eq!(msix.write_table(24, &bytes, &mut fx), Ok(Access::Done));
            assert_eq!(take(&mut fx), Vec::from_iter(expected), "Vector Control {control}");
            assert_eq!(msix.is_masked(Vector::new(1)), Some(control == 1));
        }
    }
}
