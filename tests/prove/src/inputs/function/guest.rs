//! Guest accesses.

use crate::any::{self, Property, prove};
use crate::case::write::Write;
use crate::engine::BYTES;
use crate::function::{Rules, Wanted};
use crate::function_harness;
use msix_core::Access;

/// Chooses a write to config space: its offset, and any bytes.
fn write(bytes: &[u8; BYTES]) -> (usize, &[u8]) {
    let (offset, len) = (any::up_to(usize::MAX), any::up_to(26));
    (offset, bytes.get(..len).unwrap_or_default())
}

function_harness!(prove_function_write_msi, |f, r, fx, bytes| {
    let (offset, written) = write(bytes);
    prove(Property::Answer, f.write_msi(offset, written, fx).is_ok());
    r.write_msi(offset, written)
});

function_harness!(prove_function_write_msix, |f, r, fx, bytes| {
    let (offset, written) = write(bytes);
    prove(Property::Answer, f.write_msix(offset, written, fx).is_ok());
    r.write_msix(offset, written)
});

function_harness!(prove_function_write_command, |f, r, fx, bytes| {
    let (offset, written) = write(bytes);
    prove(Property::Answer, f.write_command(offset, written, fx).is_ok());
    r.write_command(offset, written)
});

function_harness!(prove_function_poll_msi, |f, r, fx| {
    let (offset, len) = (any::up_to(usize::MAX), any::up_to(usize::MAX));
    prove(Property::Answer, f.poll_msi(offset, len, fx).is_ok());
    r.only_msi(|msi| msi.poll(offset, len))
});

function_harness!(prove_function_poll_pba, |f, r, fx| {
    let (offset, len) = (any::u64(), any::up_to(usize::MAX));
    prove(Property::Answer, f.poll_pba(offset, len, fx).is_ok());
    let (v, vectors) = (r.vector.index(), r.vectors);
    r.only_msix(|c| c.poll_pba(v, vectors, offset, len))
});

/// A write to the table.
fn table(r: &mut Rules, write: &Write, answer: Option<Access>) -> Wanted {
    let size = 16 * u64::from(r.vectors);
    prove(Property::Refused, (answer == Some(Access::OutOfRange)) == (write.offset >= size));
    let (v, vectors) = (r.vector.index(), r.vectors);
    r.only_msix(|c| {
        let (kinds, reached) = c.write_table(v, vectors, write);
        prove(Property::Answer, !reached || answer == Some(Access::Done));
        kinds
    })
}

function_harness!(prove_function_write_dword, |f, r, fx| {
    let write = Write::dword();
    let answer = f.write_table(write.offset, write.bytes(), fx).ok();
    table(r, &write, answer)
});

function_harness!(prove_function_write_qword, |f, r, fx| {
    let write = Write::qword();
    let answer = f.write_table(write.offset, write.bytes(), fx).ok();
    table(r, &write, answer)
});

// Reads change nothing; what they show of MSI-X is proven of MSI-X alone.

function_harness!(prove_function_read_msi, |f, r, _fx| {
    let (offset, len, index) = (any::up_to(usize::MAX), any::up_to(9), any::up_to(8));
    let mut bytes = [0; 9];
    f.read_msi(offset, bytes.get_mut(..len).unwrap_or_default());
    if index < len
        && let Some(&got) = bytes.get(index)
    {
        let want = match (r.msi, offset.checked_add(index)) {
            (Some(msi), Some(at)) => msi.byte(at),
            _ => 0xff,
        };
        prove(Property::Byte, got == want);
    }
    Wanted::NOTHING
});

function_harness!(prove_function_read, |f, r, _fx| {
    let (offset, index) = (any::u64(), any::up_to(7));
    let [mut got, mut want] = [[0; 8]; 2];
    let answers = [f.read_table(offset, &mut got), f.write_pba(offset, &got)];
    match f.msix() {
        Some(msix) => {
            let alone = [msix.read_table(offset, &mut want), msix.write_pba(offset, &want)];
            prove(Property::Answer, answers == alone);
            prove(Property::Byte, got[index] == want[index]);
            let answer = f.read_pba(offset, &mut got);
            prove(Property::Answer, answer == msix.read_pba(offset, &mut want));
            prove(Property::Byte, got[index] == want[index]);
            let at = usize::try_from(offset).unwrap_or(0);
            f.read_msix(at, &mut got);
            msix.read_config(at, &mut want);
            prove(Property::Byte, got[index] == want[index]);
        }
        None => {
            prove(Property::Answer, answers == [Access::OutOfRange; 2]);
            f.read_msix(0, &mut got);
            prove(Property::Byte, got[index] == 0xff);
        }
    }
    prove(Property::Answer, f.mode() == r.mode() && f.is_loading() == r.loading());
    let asserts = r.pin.is_some_and(|pin| {
        let emulated = pin.source == msix_core::IntxSource::Emulated;
        emulated && pin.state.high && !pin.state.prohibited
    });
    prove(Property::Answer, (f.status() == 8) == asserts && (asserts || f.status() == 0));
    Wanted::NOTHING
});
