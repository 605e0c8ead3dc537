//! Saves and loads.

use crate::any::{self, Property, prove};
use crate::case::Case;
use crate::engine::BYTES;
use crate::function::{KEPT, Rules, Wanted, pending_count};
use crate::function_harness;
use crate::inputs::snapshot::{fits, framed, has_tail, places, take, written};
use crate::msi::MsiCase;
use crate::sink::Kinds;
use msix_core::IntxSource;

function_harness!(prove_function_prepare_save, |f, r, fx| {
    prove(Property::Answer, f.prepare_save(fx).is_ok());
    let poll = |c: &mut Case| Kinds::POLL.when(c.pollable());
    let poll_msi = |msi: &mut MsiCase| Kinds::POLL.when(msi.pollable());
    r.each(poll, poll_msi, |_| Kinds::NONE)
});

function_harness!(
    prove_function_resume,
    |f, r, fx, _bytes| {
        prove(Property::Answer, f.resume(fx).is_ok());
        r.resume()
    },
    false
);

/// Bytes before the encodings of the parts: magic number, version, flags, 0, Command.
const HEADER: usize = 10;
/// Bytes of the encoding of MSI: magic number and version, the capability, events, checksum.
const MSI: usize = 6 + 24 + 4 + 4;

/// Returns the place of MSI-X in a snapshot, the length of all of it, and the flags of the parts.
fn shape(r: &Rules) -> (usize, usize, u8) {
    let msix = HEADER + if r.msi.is_some() { MSI } else { 0 };
    let vectors = usize::from(r.vectors);
    let len = if r.msix.is_some() { places(vectors).1 + 2 * vectors + 4 } else { 0 };
    let [msi, has_msix, pin] = [r.msi.is_some(), r.msix.is_some(), r.pin.is_some()].map(u8::from);
    (msix, msix + len + 4, msi | has_msix << 1 | pin << 2)
}

function_harness!(prove_function_save, |f, r, _fx, bytes| {
    let (len, probe, at) = (any::up_to(BYTES), any::up_to(BYTES - 1), any::up_to(23));
    let before = bytes[probe];
    let answer = f.save(bytes.get_mut(..len).unwrap_or_default());
    let (msix, length, flags) = shape(r);
    prove(Property::Answer, answer.is_ok_and(|saved| saved == length) || answer.is_err());
    prove(Property::Refused, answer.is_err() == (len < length));
    prove(Property::Answer, f.saved_len() == length);
    if answer.is_ok() {
        let level = r.pin.is_some_and(|p| p.source == IntxSource::Emulated && p.state.high);
        let [c0, c1] = r.command.to_le_bytes();
        let header = [b'F', b'N', b'C', b'T', 2, 0, flags | u8::from(level) << 3, 0, c0, c1];
        prove(Property::Byte, bytes.get(..HEADER) == Some(header.as_slice()));
        if let Some(msi) = &r.msi {
            prove(
                Property::Byte,
                bytes.get(HEADER..HEADER + 6) == Some(b"MSI \x02\x00".as_slice()),
            );
            prove(Property::Byte, bytes[HEADER + 6 + at] == msi.saved(at));
            let events = bytes.get(HEADER + 30..HEADER + 34);
            prove(Property::Byte, events == Some(msi.state.events.to_le_bytes().as_slice()));
        }
        if let Some(c) = &r.msix {
            let part = bytes.get(msix..).unwrap_or_default();
            let (pba, claims) = places(r.vectors.into());
            written(c, r.vector, part, 12, pba);
            let at = claims + 2 * usize::from(r.vector.index());
            let saved = part.get(at..at + 2);
            prove(Property::Claims, saved == Some(c.lane.claims.to_le_bytes().as_slice()));
        }
    }
    // I7: no other byte is written.
    prove(Property::Byte, answer.is_ok() && probe < length || bytes[probe] == before);
    Wanted::NOTHING
});

/// Stores what a load brings besides the registers of MSI and MSI-X.
fn loaded(r: &mut Rules, command: u16, high: bool) {
    r.command = command;
    let (msix, msi) = (r.msix_enabled(), r.msi_enabled());
    let bus_master = command & 4 != 0;
    if let Some(msix) = &mut r.msix {
        msix.whole.bus_master = bus_master;
    }
    if let Some(part) = &mut r.msi {
        part.state.bus_master = bus_master;
        part.state.overridden = msix;
    }
    if let Some(pin) = &mut r.pin {
        pin.state.high = high && pin.source == IntxSource::Emulated;
        pin.state.disabled = command & 0x400 != 0;
        pin.state.prohibited = msix || msi;
        pin.state.loading = true;
    }
}

function_harness!(prove_function_load, |f, r, fx, bytes| {
    let len = any::up_to(BYTES);
    let given = bytes.get(..len).unwrap_or_default();
    let answer = f.load(given);
    let byte = |at: usize| given.get(at).copied().unwrap_or(0);
    // The proofs' checksum is 0.
    let zeros = |at: usize| (0..4).all(|index| byte(at + index) == 0);
    let (at_msix, length, flags) = shape(r);
    let head = framed(given, *b"FNCT");
    let high = byte(6) & 8 != 0;
    let emulated = r.pin.is_some_and(|pin| pin.source == IntxSource::Emulated);
    let command = u16::from_le_bytes([byte(8), byte(9)]);
    let parts = byte(6) & !8 == flags && (!high || emulated) && byte(7) == 0;
    let mut well_formed = len == length && head && parts && command & !KEPT == 0;
    well_formed &= zeros(length - 4);
    let mut msi = None;
    if let Some(part) = &r.msi {
        let mut image = [0; 24];
        for (at, to) in (0..).zip(&mut image) {
            *to = byte(HEADER + 6 + at);
        }
        let events = [0, 1, 2, 3].map(|at| byte(HEADER + 30 + at));
        msi = part.load(&image, Some(u32::from_le_bytes(events)));
        well_formed &= msi.is_some() && zeros(HEADER + 34);
        well_formed &= framed(given.get(HEADER..).unwrap_or_default(), *b"MSI ");
    }
    let part = given.get(at_msix..).unwrap_or_default();
    let (pba, claims) = places(r.vectors.into());
    let control = u16::from_le_bytes([byte(at_msix + 6), byte(at_msix + 7)]);
    if r.msix.is_some() {
        let counted = [8, 9, 10, 11].map(|at| byte(at_msix + at));
        well_formed &= framed(part, *b"MSIX")
            && fits(control, r.vectors)
            && u32::from_le_bytes(counted) == u32::from(r.vectors)
            && zeros(length - 8);
    }
    prove(Property::Refused, well_formed || answer.is_err());
    // Only bits of the PBA past the last vector are another reason.
    let tail = has_tail(part.get(pba..claims).unwrap_or_default(), r.vectors.into());
    let refused = r.msix.is_some() && tail;
    prove(Property::Answer, !well_formed || answer.is_err() == refused);
    if answer.is_ok() {
        r.msi = msi;
        if let Some(c) = &mut r.msix {
            take(c, r.vector, part, 12, pba, control);
            let at = claims + 2 * usize::from(r.vector.index());
            c.lane.claims = u16::from_le_bytes([byte(at_msix + at), byte(at_msix + at + 1)]);
        }
        loaded(r, command, high);
        fx.events = pending_count(f); // what it brought
    }
    Wanted::NOTHING
});

function_harness!(prove_function_load_qemu, |f, r, fx, bytes| {
    let (command, high, control) = (any::u16(), any::bool(), any::u16());
    let (give_msi, give_msix) = (any::bool(), any::bool());
    let (msi_len, msix_len) = (any::up_to(25), any::up_to(BYTES - 25));
    let [msi, msix] = match bytes.split_at_checked(25) {
        Some((msi, msix)) => {
            [msi.get(..msi_len), msix.get(..msix_len)].map(Option::unwrap_or_default)
        }
        None => [Default::default(); 2],
    };
    let answer =
        f.load_qemu(command, high, give_msi.then_some(msi), give_msix.then_some((control, msix)));
    let mut well_formed = give_msi == r.msi.is_some() && give_msix == r.msix.is_some();
    let mut registers = None;
    if let Some(part) = &r.msi {
        let mut image = [0; 24];
        image.iter_mut().zip(msi).for_each(|(to, from)| *to = *from);
        registers = part.load(&image, None);
        well_formed &= msi_len == part.length() && registers.is_some();
    }
    let vectors = usize::from(r.vectors);
    let pba = 16 * vectors;
    if r.msix.is_some() {
        well_formed &= msix_len == pba + vectors.div_ceil(8) && fits(control, r.vectors);
        let last = msix.last().copied().unwrap_or(0);
        let tail = vectors % 8 != 0 && last >> (vectors % 8) != 0;
        well_formed &= !(tail && r.policy.reject_pba_tail);
    }
    prove(Property::Refused, well_formed == answer.is_ok());
    if answer.is_ok() {
        r.msi = registers;
        if let Some(c) = &mut r.msix {
            take(c, r.vector, msix, 0, pba, control);
        }
        loaded(r, command & KEPT, high);
        fx.events = pending_count(f); // what it brought
    }
    Wanted::NOTHING
});
