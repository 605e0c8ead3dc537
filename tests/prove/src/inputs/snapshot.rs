//! Saves and loads.

use crate::any::{self, Property, prove};
use crate::case::Case;
use crate::case::inputs::kept;
use crate::engine::BYTES;
use crate::harness;
use crate::sink::Kinds;
use msix_core::Vector;

harness!(prove_prepare_save, |m, _v, c, fx| {
    crate::input!(Operation::PrepareSave);
    prove(Property::Answer, m.prepare_save(fx).is_ok());
    Kinds::POLL.when(c.pollable())
});

harness!(prove_resume, |m, _v, c, fx| {
    crate::input!(Operation::Resume);
    prove(Property::Answer, m.resume(fx).is_ok());
    c.resume()
});

/// Returns dword `field` of the entry of `v` in a snapshot with the table at byte `table`.
fn dword(bytes: &[u8], table: usize, v: Vector, field: usize) -> u32 {
    let at = table + 16 * usize::from(v.index()) + 4 * field;
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |dword| u32::from_le_bytes(*dword))
}

/// Takes the registers of `v` from a snapshot with the table at byte `table` and the PBA at `pba`.
pub(super) fn take(c: &mut Case, v: Vector, bytes: &[u8], table: usize, pba: usize, control: u16) {
    c.whole.enabled = control & 0x8000 != 0;
    c.whole.function_masked = control & 0x4000 != 0;
    c.whole.loading = true; // H15
    let kept = kept(c.policy.vector_control);
    let field = |field| dword(bytes, table, v, field);
    c.lane.masked = field(3) & 1 != 0;
    c.lane.entry = [field(0), field(1), field(2), field(3) & kept];
    let byte = bytes.get(pba + usize::from(v.index() / 8)).copied().unwrap_or(0);
    c.lane.pending = byte >> (v.index() % 8) & 1 != 0;
    c.lane.stale = false;
}

/// Returns whether Message Control fits a table of `vectors` (A1, F4).
pub(super) fn fits(control: u16, vectors: u16) -> bool {
    control & 0x3fff == vectors - 1
}

harness!(prove_load_qemu, |m, v, c, fx, bytes| {
    let (control, len) = (any::u16(), any::up_to(BYTES));
    let given = bytes.get(..len).unwrap_or_default();
    let answer = m.load_qemu(control, given);
    let vectors = usize::from(m.vectors());
    let length = 16 * vectors + vectors.div_ceil(8);
    let well_formed = len == length && fits(control, m.vectors());
    prove(Property::Refused, well_formed || answer.is_err());
    // Only bits of the PBA past the last vector are another reason (F3, H15).
    let tail = given.last().is_some_and(|last| vectors % 8 != 0 && last >> (vectors % 8) != 0);
    let refused = tail && c.policy.reject_pba_tail;
    prove(Property::Answer, !well_formed || answer.is_err() == refused);
    if answer.is_ok() {
        take(c, v, given, 0, 16 * vectors, control);
        prove(Property::StaleCount, m.stale_entries() == 0);
        fx.events = m.pending_count(); // what it brought
    }
    Kinds::NONE
});

harness!(prove_load, |m, v, c, fx, bytes| {
    let len = any::up_to(BYTES);
    let given = bytes.get(..len).unwrap_or_default();
    let answer = m.load(given);
    let vectors = usize::from(m.vectors());
    let (pba, claims) = places(vectors);
    let byte = |at: usize| given.get(at).copied().unwrap_or(0);
    let control = u16::from_le_bytes([byte(6), byte(7)]);
    let counted = u32::from_le_bytes([byte(8), byte(9), byte(10), byte(11)]);
    let head = framed(given, *b"MSIX");
    let sizes = len == claims + 2 * vectors + 4 && counted == u32::from(m.vectors());
    let well_formed = head && sizes && fits(control, m.vectors());
    prove(Property::Refused, well_formed || answer.is_err());
    // Only the checksum, which is 0 in the proofs, and bits of the PBA past the last vector are other
    // reasons.
    let sealed = given.last_chunk() == Some(&[0; 4]);
    let tail = has_tail(given.get(pba..claims).unwrap_or_default(), vectors);
    prove(Property::Answer, !well_formed || answer.is_ok() == (sealed && !tail));
    if answer.is_ok() {
        take(c, v, given, 12, pba, control);
        let at = claims + 2 * usize::from(v.index());
        c.lane.claims = u16::from_le_bytes([byte(at), byte(at + 1)]);
        prove(Property::StaleCount, m.stale_entries() == 0);
        fx.events = m.pending_count(); // what it brought
    }
    Kinds::NONE
});

/// Returns whether `given` begins as a snapshot of either version does.
pub(super) fn framed(given: &[u8], magic: [u8; 4]) -> bool {
    given.first_chunk() == Some(&magic) && matches!(given.get(4..6), Some([1 | 2, 0]))
}

/// Returns whether a PBA has bits past the last of `vectors` vectors.
pub(super) fn has_tail(pba: &[u8], vectors: usize) -> bool {
    let mut some = false;
    for (index, byte) in pba.iter().enumerate() {
        some |= u16::from(*byte) >> vectors.saturating_sub(8 * index).min(8) != 0;
    }
    some
}

/// Returns the places of PBA and claims in the native encoding.
pub(super) fn places(vectors: usize) -> (usize, usize) {
    let pba = 12 + 16 * vectors;
    (pba, pba + 8 * vectors.div_ceil(64))
}

/// What was written of `v`.
pub(super) fn written(c: &Case, v: Vector, bytes: &[u8], table: usize, pba: usize) {
    let [low, high, data, control] = c.lane.entry;
    let want = [low, high, data, control | u32::from(c.lane.masked)];
    let got = [0, 1, 2, 3].map(|field| dword(bytes, table, v, field));
    prove(Property::Entry, got == want);
    let byte = bytes.get(pba + usize::from(v.index() / 8)).copied().unwrap_or(0);
    prove(Property::Pending, (byte >> (v.index() % 8) & 1 != 0) == c.lane.pending);
}

harness!(prove_save_qemu, |m, v, c, _fx, bytes| {
    let (len, probe) = (any::up_to(BYTES), any::up_to(BYTES - 1));
    let before = bytes[probe];
    let answer = m.save_qemu(bytes.get_mut(..len).unwrap_or_default());
    let vectors = usize::from(m.vectors());
    let length = 16 * vectors + vectors.div_ceil(8);
    prove(Property::Answer, answer.is_ok_and(|saved| saved == length) || answer.is_err());
    prove(Property::Refused, answer.is_err() == (len < length));
    if answer.is_ok() {
        written(c, v, bytes.as_slice(), 0, 16 * vectors);
    }
    // I7: no other byte is written.
    prove(Property::Byte, answer.is_ok() && probe < length || bytes[probe] == before);
    Kinds::NONE
});

harness!(prove_save, |m, v, c, _fx, bytes| {
    let (len, probe) = (any::up_to(BYTES), any::up_to(BYTES - 1));
    let before = bytes[probe];
    let answer = m.save(bytes.get_mut(..len).unwrap_or_default());
    let vectors = usize::from(m.vectors());
    let (pba, claims) = places(vectors);
    let length = claims + 2 * vectors + 4;
    prove(Property::Answer, answer.is_ok_and(|saved| saved == length) || answer.is_err());
    prove(Property::Refused, answer.is_err() == (len < length));
    if answer.is_ok() {
        written(c, v, bytes.as_slice(), 12, pba);
        let at = claims + 2 * usize::from(v.index());
        prove(Property::Claims, [bytes[at], bytes[at + 1]] == c.lane.claims.to_le_bytes());
        prove(Property::Whole, (bytes[7] & 0x80 != 0) == c.whole.enabled);
    }
    prove(Property::Byte, answer.is_ok() && probe < length || bytes[probe] == before);
    Kinds::NONE
});
