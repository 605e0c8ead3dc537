//! Guest accesses.

use crate::any::{self, Property, prove};
use crate::case::Case;
use crate::case::inputs::covers;
use crate::case::write::Write;
use crate::engine::Engine;
use crate::harness;
use crate::sink::{Kinds, Sink};
use msix_core::{Access, Vector};

harness!(prove_write_config, |m, _v, c, fx| {
    let (offset, len) = (any::up_to(usize::MAX), any::up_to(8));
    let value = any::u64();
    crate::input!(Operation::WriteConfig {
        offset: offset.try_into().ok()?,
        len: len.try_into().ok()?,
        value,
    });
    let value = value.to_le_bytes();
    let written = value.get(..len).unwrap_or_default();
    prove(Property::Answer, m.write_config(offset, written, fx).is_ok());
    match 3_usize.checked_sub(offset).and_then(|at| written.get(at)) {
        None => Kinds::NONE, // H19
        Some(high) => c.write_control(*high),
    }
});

/// Gives a write to the engine. Returns the effects that name `v`.
fn write(m: &mut Engine<'_>, v: Vector, c: &mut Case, fx: &mut Sink, write: &Write) -> Kinds {
    crate::input!(Operation::WriteTable {
        offset: write.offset.try_into().ok()?,
        len: u8::try_from(write.bytes().len()).ok().filter(|len| *len <= 8)?,
        value: write.value,
    });
    let answer = m.write_table(write.offset, write.bytes(), fx);
    let size = 16 * u64::from(m.vectors());
    prove(Property::Refused, (answer == Ok(Access::OutOfRange)) == (write.offset >= size));
    let (kinds, reached) = c.write_table(v.index(), m.vectors(), write);
    if reached {
        prove(Property::Answer, answer == Ok(Access::Done));
    }
    kinds
}

harness!(prove_write_dword, |m, v, c, fx| { write(m, v, c, fx, &Write::dword()) });

harness!(prove_write_qword, |m, v, c, fx| { write(m, v, c, fx, &Write::qword()) });

harness!(prove_write_other, |m, v, c, fx| { write(m, v, c, fx, &Write::other()) });

harness!(prove_poll_pba, |m, v, c, fx| {
    let (offset, len) = (any::u64(), any::up_to(usize::MAX));
    crate::input!(Operation::PollPba {
        offset: offset.try_into().ok()?,
        len: len.try_into().ok()?,
    });
    prove(Property::Answer, m.poll_pba(offset, len, fx).is_ok());
    c.poll_pba(v.index(), m.vectors(), offset, len)
});

harness!(prove_read_table, |m, v, c, _fx| {
    let (offset, len, index) = (any::u64(), any::up_to(9), any::up_to(8));
    let mut bytes = [0; 9];
    let answer = m.read_table(offset, bytes.get_mut(..len).unwrap_or_default());
    let size = 16 * u64::from(m.vectors());
    prove(Property::Answer, (answer == Access::OutOfRange) == (offset >= size));
    if index < len
        && let Some(&got) = bytes.get(index)
    {
        let (index, len) = (u64::try_from(index).unwrap_or(0), u64::try_from(len).unwrap_or(0));
        match offset.checked_add(index) {
            Some(at) if at < size => {
                if at / 16 == u64::from(v.index()) {
                    let covered = covers(&c.policy, offset, len, size, at & !3);
                    let want = if covered { c.table_byte(at) } else { 0 };
                    prove(Property::Byte, got == want);
                }
            }
            _ => prove(Property::Byte, got == 0xff), // C07
        }
    }
    Kinds::NONE
});

harness!(prove_read_pba, |m, v, c, _fx| {
    let (offset, len, index, bit) = (any::u64(), any::up_to(9), any::up_to(8), any::u64() & 7);
    let mut bytes = [0; 9];
    let answer = m.read_pba(offset, bytes.get_mut(..len).unwrap_or_default());
    let size = 8 * u64::from(m.vectors().div_ceil(64));
    prove(Property::Answer, (answer == Access::OutOfRange) == (offset >= size));
    if index < len
        && let Some(&got) = bytes.get(index)
    {
        let (index, len) = (u64::try_from(index).unwrap_or(0), u64::try_from(len).unwrap_or(0));
        match offset.checked_add(index) {
            Some(at) if at < size => {
                let covered = covers(&c.policy, offset, len, size, at & !3);
                if 8 * at + bit == u64::from(v.index()) {
                    let pending = got >> bit & 1 != 0;
                    prove(Property::Byte, pending == (covered && c.lane.pending));
                }
                if 8 * at + bit >= u64::from(m.vectors()) {
                    prove(Property::Tail, got >> bit & 1 == 0); // A5
                }
            }
            _ => prove(Property::Byte, got == 0xff), // C07
        }
    }
    Kinds::NONE
});
