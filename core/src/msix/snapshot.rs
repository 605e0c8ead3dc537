//! Saves the registers of a function, and loads them from untrusted bytes.
//!
//! Two encodings, both little-endian:
//!
//! *Native*: `"MSIX"`, version (2 bytes, 2), Message Control (2), N (4); the table as the guest
//! reads it (16 N); the PBA (8 ceil(N / 64)); the claim counts (2 N); of all before it the low half
//! of xxHash64 with seed 0 (4). Version 1, which is loaded too, has the CRC-32 of Ethernet there.
//!
//! *QEMU* (F3): the table (16 N) and ceil(N / 8) bytes of PBA, no header. Message Control travels
//! in the saved config space, and claim counts are not saved.
//!
//! Not in either: policy, layout, bus master, whether a backend is attached, counters.

use super::Msix;
use super::entry::{Entry, mask_bit};
use super::message_control::MessageControl;
use super::settle::Request;
use crate::counters;
use crate::effects::{Effect, EffectSink, NotCarriedOut, ready};
use crate::facts::Fact;
use crate::snapshot::{FRAME_LEN, Frame, LoadError, SaveError, Writer, seal};
use crate::spec::CONTROL_SIZE;
use crate::storage::Storage;
use crate::switch::Switch;
use crate::vectors::{numbered, per_word, per_word_mut};

const MAGIC: [u8; 4] = *b"MSIX";
/// Message Control and the vector count.
const HEADER_LEN: usize = 6;

impl<S: Storage> Msix<S> {
    /// Begins a save: emits Poll for every vector that may have held events, so that the snapshot
    /// includes them (H14, C42). Carry it out and report the answer through
    /// [`report_held`](Self::report_held); then save.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn prepare_save<K: EffectSink>(&mut self, fx: &mut K) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        self.poll(self.all(), fx);
        Ok(())
    }

    /// Returns the length of the native encoding, bytes.
    #[must_use]
    pub fn saved_len(&self) -> usize {
        let vectors = usize::from(self.vectors());
        let words = vectors.div_ceil(64);
        vectors
            .wrapping_mul(18) // at most 2048
            .wrapping_add(words.wrapping_mul(8))
            .wrapping_add(HEADER_LEN)
            .wrapping_add(FRAME_LEN)
    }

    /// Returns the length of the QEMU encoding, bytes (F3).
    #[must_use]
    pub fn qemu_len(&self) -> usize {
        let vectors = usize::from(self.vectors());
        vectors.wrapping_mul(16).wrapping_add(vectors.div_ceil(8))
    }

    /// Writes the native encoding to the start of `bytes`. Returns its length, bytes.
    ///
    /// # Errors
    /// [`SaveError`] when `bytes` is shorter than [`saved_len`](Self::saved_len).
    pub fn save(&self, bytes: &mut [u8]) -> Result<usize, SaveError> {
        let needed = self.saved_len();
        let mut out = Writer::framed(bytes, needed, MAGIC)?;
        out.put(self.control().to_le_bytes());
        out.put(u32::from(self.vectors()).to_le_bytes());
        self.put_table(&mut out);
        let memory = self.storage.memory();
        out.put_all(memory.words.iter().map(|word| word.pending.get().to_le_bytes()));
        out.put_all(memory.claims.iter().map(|count| count.to_le_bytes()));
        seal(bytes, needed);
        Ok(needed)
    }

    /// Writes QEMU's msix field to the start of `bytes` (F3, C45). Returns its length, bytes.
    ///
    /// # Errors
    /// [`SaveError`] when `bytes` is shorter than [`qemu_len`](Self::qemu_len).
    pub fn save_qemu(&self, bytes: &mut [u8]) -> Result<usize, SaveError> {
        let needed = self.qemu_len();
        let mut out = Writer::new(bytes, needed)?;
        self.put_table(&mut out);
        let pba = self.storage.memory().words.iter().flat_map(|w| w.pending.get().to_le_bytes());
        pba.take(usize::from(self.vectors()).div_ceil(8)).for_each(|byte| out.put([byte]));
        Ok(needed)
    }

    /// Loads the native encoding. All bytes are checked first: an error changes nothing. Nothing is
    /// emitted before [`resume`](Self::resume), and until then no vector is deliverable (H15, C44).
    /// Reserved bits of entries are kept or dropped as in a guest write.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(&mut self, bytes: &[u8]) -> Result<(), LoadError> {
        let frame = Frame::open(bytes, MAGIC, self.saved_len())?;
        let (header, rest) = frame.body.split_first_chunk().ok_or(frame.wrong_length())?;
        let &[c0, c1, n0, n1, n2, n3]: &[u8; HEADER_LEN] = header;
        let vectors = u32::from_le_bytes([n0, n1, n2, n3]);
        if vectors != u32::from(self.vectors()) {
            return Err(LoadError::Vectors { snapshot: vectors, engine: self.vectors() });
        }
        frame.check()?;
        let wrong_length = frame.wrong_length();
        let control = self.checked_control(u16::from_le_bytes([c0, c1]))?;
        let (table, rest) = self.split_table(rest).ok_or(wrong_length)?;
        let words = usize::from(self.vectors()).div_ceil(64);
        let (pba, uses) = rest.split_at_checked(words.wrapping_mul(8)).ok_or(wrong_length)?;
        self.check_pba_tail(pba_words(pba), true)?;
        let uses = uses.as_chunks().0.iter().map(|count| u16::from_le_bytes(*count));
        self.replace(control, table.iter().copied(), pba_words(pba), Some(uses));
        Ok(())
    }

    /// Loads QEMU's msix field; `control` is Message Control from the saved config space, bytes 2
    /// and 3 of the capability (F3, F4). Claims stay as they are. Otherwise it is as
    /// [`load`](Self::load).
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load_qemu(&mut self, control: u16, bytes: &[u8]) -> Result<(), LoadError> {
        let wrong_length = LoadError::Length { expected: self.qemu_len(), got: bytes.len() };
        if bytes.len() != self.qemu_len() {
            return Err(wrong_length);
        }
        let control = self.checked_control(control)?;
        let (table, pba) = self.split_table(bytes).ok_or(wrong_length)?;
        self.check_pba_tail(pba_words(pba), self.policy.reject_pba_tail)?;
        self.replace(control, table.iter().copied(), pba_words(pba), NO_CLAIMS);
        Ok(())
    }

    /// Ends a load, once the interrupt controllers are restored (C44). Emits Disarm for what was
    /// live before the load, Arm for what is wanted now, Send for what is pending, deliverable and
    /// claimed, and IntxDeassert or IntxReevaluate by policy when the load, or a write since,
    /// changed Enable (A10). Does nothing when no load came before.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn resume<K: EffectSink>(&mut self, fx: &mut K) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        if self.facts.has(Fact::LOADING) {
            let (told, is) = (self.facts.has(Fact::INTX_TOLD), self.is_enabled());
            let mut intx = Switch::intx(&self.policy, told, is, told != is);
            if intx == Some(Effect::IntxDeassert) {
                fx.push(Effect::IntxDeassert); // before anything is disarmed
                intx = None;
            }
            self.facts.set(Fact::INTX_TOLD, is);
            self.disarm_loaded(fx);
            self.facts.set(Fact::LOADING, false);
            self.settle(Request { intx, ..Request::FACTS }, fx);
        }
        Ok(())
    }

    /// Does the first half of a resume. The host's view predates the load: disarms everything, as a
    /// detach would.
    pub(crate) fn disarm_loaded<K: EffectSink>(&mut self, fx: &mut K) {
        let attached = self.facts.attached();
        self.facts.set_attached(false);
        self.settle(Request::FACTS, fx);
        self.facts.set_attached(attached);
    }

    fn put_table(&self, out: &mut Writer<'_>) {
        let memory = self.storage.memory();
        for (entries, word) in per_word(memory.entries).zip(memory.words) {
            let mut masked = word.masked.get();
            out.put_all(entries.iter().map(|entry| {
                let view = entry.guest_view(masked & 1 != 0);
                masked >>= 1;
                view
            }));
        }
    }

    fn split_table<'a>(&self, bytes: &'a [u8]) -> Option<(&'a [[u8; 16]], &'a [u8])> {
        let len = usize::from(self.vectors()).wrapping_mul(16);
        let (table, rest) = bytes.split_at_checked(len)?;
        Some((table.as_chunks().0, rest))
    }

    pub(crate) fn checked_control(&self, register: u16) -> Result<MessageControl, LoadError> {
        let control = MessageControl::from_register(register);
        let vectors = u32::from(register & CONTROL_SIZE).saturating_add(1);
        if vectors != u32::from(self.vectors()) {
            return Err(LoadError::Vectors { snapshot: vectors, engine: self.vectors() }); // F4
        }
        if control.register(self.vectors()) != register {
            return Err(LoadError::ReservedControl(register));
        }
        Ok(control)
    }

    pub(crate) fn check_pba_tail(
        &self,
        mut pba: impl Iterator<Item = u64>,
        reject: bool,
    ) -> Result<(), LoadError> {
        let full = usize::from(self.vectors() / 64);
        // The shift count is taken modulo 64.
        let tail = u64::MAX.wrapping_shl(u32::from(self.vectors()));
        match pba.nth(full) {
            Some(bits) if reject && bits & tail != 0 => Err(LoadError::PbaTail(bits & tail)),
            _ => Ok(()),
        }
    }

    /// Stores checked registers.
    pub(crate) fn replace(
        &mut self,
        control: MessageControl,
        table: impl Iterator<Item = [u8; 16]>,
        pba: impl Iterator<Item = u64>,
        claims: Option<impl Iterator<Item = u16>>,
    ) {
        self.set_control(control);
        self.facts.set(Fact::LOADING, true);
        self.facts.set_stale_entries(0);
        let vectors = self.all();
        let kept = self.policy.vector_control.bits(); // looked up once, not for each entry
        let memory = self.storage.memory_mut();
        for (index, (word, bits)) in numbered(memory.words.iter_mut().zip(pba)) {
            counters::add(&mut self.counters.dropped_load, word.pending.get());
            word.pending.remove(u64::MAX);
            word.pending.insert(bits & vectors.bits(index));
        }
        let mut table = table;
        for (entries, word) in per_word_mut(memory.entries).zip(memory.words) {
            let mut masked = u64::MAX;
            let mut bit = 1_u64;
            for (entry, bytes) in entries.iter_mut().zip(table.by_ref()) {
                *entry = Entry::from_guest_view(bytes, kept);
                if !mask_bit(bytes) {
                    masked ^= bit;
                }
                bit = bit.wrapping_shl(1);
            }
            word.masked.remove(u64::MAX);
            word.masked.insert(masked);
        }
        if let Some(claims) = claims {
            memory.claims.iter_mut().zip(claims).for_each(|(slot, count)| *slot = count);
        }
        self.orphans = self.has_orphans();
    }
}

const NO_CLAIMS: Option<core::iter::Empty<u16>> = None;

/// Returns words of 64 vectors, the last one padded with zeros.
fn pba_words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let (full, rest) = bytes.as_chunks();
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let last = (!rest.is_empty()).then_some(last);
    full.iter().copied().chain(last).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{engine, take};
    use crate::{Effect, Policy, Vector, Vectors};
    use std::vec::Vec;

    /// Makes an engine with live, pending and masked vectors, and its saved bytes.
    fn busy() -> (Msix<crate::Inline<65, 2>>, Vec<u8>) {
        let (mut msix, mut fx) = engine::<65, 2>(Policy::SPEC);
        for index in [0, 64] {
            let message = crate::Message { address: 0x1_fee0_1000, data: 0x20 + u32::from(index) };
            msix.set_message(Vector::new(index), message, &mut fx).unwrap();
            take(&mut fx);
        }
        msix.notify(Vector::new(7), &mut fx).unwrap();
        let mut bytes = std::vec![0; msix.saved_len()];
        assert_eq!(msix.save(&mut bytes), Ok(bytes.len()));
        (msix, bytes)
    }

    #[test]
    fn a_loaded_engine_is_silent_until_it_resumes_and_then_tells_everything_once() {
        let (_, bytes) = busy();
        let (mut msix, mut fx) = engine::<65, 2>(Policy::SPEC);
        for index in [0, 1] {
            msix.set_mask(Vector::new(index), false, &mut fx).unwrap();
            take(&mut fx);
        }
        msix.load(&bytes).unwrap();
        assert!(msix.is_loading() && fx.is_empty());
        assert_eq!(msix.notify(Vector::new(0), &mut fx), Ok(crate::Delivery::Pending));
        assert_eq!(take(&mut fx), []);
        msix.resume(&mut fx).unwrap();
        assert_eq!(
            take(&mut fx),
            [
                Effect::Disarm(Vectors::new(0, 3)),
                Effect::Arm(Vectors::new(0, 1)),
                Effect::Arm(Vectors::new(1, 1)),
                Effect::Send(Vectors::new(0, 1)),
            ]
        );
        let mut again = std::vec![0; bytes.len()];
        msix.save(&mut again).unwrap();
        assert_eq!(again, bytes);
        msix.resume(&mut fx).unwrap();
        assert_eq!(take(&mut fx), [], "a second resume has nothing to say");
    }

    #[test]
    fn a_reset_or_a_detach_ends_what_was_live_before_a_load() {
        let (_, bytes) = busy();
        for reset in [false, true] {
            let (mut msix, mut fx) = engine::<65, 2>(Policy::QEMU);
            msix.set_mask(Vector::new(1), false, &mut fx).unwrap();
            take(&mut fx);
            msix.load(&bytes).unwrap();
            if reset {
                msix.reset(&mut fx).unwrap();
            } else {
                msix.detach(&mut fx).unwrap();
            }
            assert_eq!(take(&mut fx), [Effect::Disarm(Vectors::new(0, 2))]);
            assert_eq!(msix.is_loading(), !reset);
        }
    }

    #[test]
    fn a_resume_tells_intx_what_the_load_made_of_enable() {
        for (before, loaded, during, effect) in [
            (0x00, 0x8040, None, Some(Effect::IntxDeassert)),
            (0x80, 0x0040, None, Some(Effect::IntxReevaluate)),
            (0x80, 0x8040, None, None),
            (0x00, 0x0040, None, None),
            (0x00, 0x8040, Some(0x00), None), // a write between load and resume
            (0x80, 0x8040, Some(0x00), Some(Effect::IntxReevaluate)),
        ] {
            let (mut msix, mut fx) = engine::<65, 2>(Policy::SPEC);
            msix.write_config(3, &[before], &mut fx).unwrap();
            take(&mut fx);
            msix.load_qemu(loaded, &[0; 65 * 16 + 9]).unwrap();
            if let Some(control) = during {
                msix.write_config(3, &[control], &mut fx).unwrap();
                assert!(!take(&mut fx).iter().any(is_intx), "the resume says it");
            }
            msix.resume(&mut fx).unwrap();
            let told: Vec<Effect> = take(&mut fx).into_iter().filter(is_intx).collect();
            assert_eq!(told, Vec::from_iter(effect), "{before:#x} {loaded:#x} {during:?}");
        }
        let (mut msix, mut fx) = engine::<65, 2>(Policy::SPEC);
        msix.load_qemu(0x40, &[0; 65 * 16 + 9]).unwrap();
        msix.reset(&mut fx).unwrap();
        assert!(take(&mut fx).contains(&Effect::IntxReevaluate), "a reset ends a load too");
    }

    fn is_intx(effect: &Effect) -> bool {
        matches!(effect, Effect::IntxDeassert | Effect::IntxReevaluate)
    }

    #[test]
    fn a_loaded_pending_bit_that_nobody_claims_waits_for_its_claim_in_every_input() {
        let (mut msix, mut fx) = engine::<65, 2>(Policy::SPEC);
        let v64 = Vector::new(64);
        msix.unclaim(v64, &mut fx).unwrap();
        take(&mut fx);
        let mut field = [0; 65 * 16 + 9];
        (field[65 * 16], field[65 * 16 + 8]) = (1, 1); // 0 and 64, unmasked
        msix.load_qemu(0xc040, &field).unwrap(); // function masked
        msix.resume(&mut fx).unwrap();
        take(&mut fx);
        msix.write_config(3, &[0x80], &mut fx).unwrap();
        let sent: Vec<Effect> =
            take(&mut fx).into_iter().filter(|e| matches!(e, Effect::Send(_))).collect();
        assert_eq!(sent, [Effect::Send(Vectors::new(0, 1))]);
        assert_eq!(msix.is_pending(v64), Some(true));
        msix.claim(v64, &mut fx).unwrap();
        assert_eq!(take(&mut fx), [Effect::Send(Vectors::one(v64))]);
    }

    #[test]
    fn every_defect_of_a_snapshot_is_named_and_changes_nothing() {
        let (mut msix, good) = busy();
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            let len = bytes.len();
            seal(&mut bytes, len);
            bytes
        };
        let pba = 12 + 65 * 16;
        let mut truncated = good.clone();
        truncated.pop();
        let length = |got| LoadError::Length { expected: good.len(), got };
        let vectors = |snapshot| LoadError::Vectors { snapshot, engine: 65 };
        let mut flipped = good.clone();
        flipped[100] ^= 0x10;
        let cases: Vec<(Vec<u8>, LoadError)> = [
            (Vec::new(), length(0)),
            (good[..15].to_vec(), length(15)),
            (truncated, length(good.len() - 1)),
            (with(&|b| b.push(0)), length(good.len() + 1)),
            (with(&|b| b[0] = b'm'), LoadError::Magic(*b"mSIX")),
            (with(&|b| b[4] = 0), LoadError::Version(0)),
            (with(&|b| b[4] = 3), LoadError::Version(3)),
            (with(&|b| b[4] = 1), LoadError::Checksum), // the other version's
            (with(&|b| b[8] = 66), vectors(66)),
            (with(&|b| b[11] = 1), vectors(0x0100_0041)),
            (with(&|b| b[6] = 7), vectors(8)),
            (with(&|b| b[7] = 0xa0), LoadError::ReservedControl(0xa040)),
            (with(&|b| b[pba + 8] = 0b110), LoadError::PbaTail(0b110)),
            (flipped, LoadError::Checksum),
        ]
        .into();
        for (bytes, error) in cases {
            assert_eq!(msix.load(&bytes), Err(error));
            let mut now = std::vec![0; good.len()];
            msix.save(&mut now).unwrap();
            assert!(now == good && !msix.is_loading(), "{error}");
        }
    }

    #[test]
    fn the_qemu_field_has_no_header_and_takes_its_control_from_outside() {
        let (msix, _) = busy();
        let mut field = std::vec![0; msix.qemu_len()];
        assert_eq!(field.len(), 65 * 16 + 9);
        msix.save_qemu(&mut field).unwrap();
        assert_eq!(field[..16], [0, 0x10, 0xe0, 0xfe, 1, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(field[65 * 16..], [0x80, 0, 0, 0, 0, 0, 0, 0, 0]);

        let (mut other, _) = engine::<65, 2>(Policy::SPEC);
        let expected = LoadError::Length { expected: field.len(), got: field.len() - 1 };
        assert_eq!(other.load_qemu(0x8040, &field[1..]), Err(expected));
        let expected = LoadError::Vectors { snapshot: 66, engine: 65 };
        assert_eq!(other.load_qemu(0x8041, &field), Err(expected));
        assert_eq!(other.load_qemu(0x9040, &field), Err(LoadError::ReservedControl(0x9040)));
        field[65 * 16 + 8] = 2;
        assert_eq!(other.load_qemu(0x8040, &field), Err(LoadError::PbaTail(2)));
        let (mut qemu, _) = engine::<65, 2>(Policy::QEMU);
        qemu.load_qemu(0x8040, &field).unwrap();
        assert_eq!(qemu.pending().collect::<Vec<_>>(), [Vectors::new(0, 0x80)], "H15: no tail");
    }

    #[test]
    fn a_buffer_that_is_too_short_is_not_written() {
        let (msix, good) = busy();
        let mut short = std::vec![0xa5; good.len() - 1];
        let expected = SaveError { needed: good.len(), got: short.len() };
        assert_eq!(msix.save(&mut short), Err(expected));
        let expected = SaveError { needed: msix.qemu_len(), got: 3 };
        assert_eq!(msix.save_qemu(&mut short[..3]), Err(expected));
        assert!(short.iter().all(|byte| *byte == 0xa5));
    }
}
