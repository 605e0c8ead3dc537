//! Everything unsafe: checked conversions of what C passes.
//!
//! These are safe to call here because the pointers come from the arguments of exported functions alone.
//! Those are `unsafe`: their caller promises, as the top of the header says, that a pointer is null,
//! misaligned, or good for what the function does with it until it returns; that an engine's memory is
//! neither written nor moved; and that one thread at a time uses an engine.

mod callbacks;
#[cfg(feature = "kvm")]
mod kvm;

#[cfg(feature = "kvm")]
pub(crate) use kvm::*;

use crate::effects::EffectList;
use crate::engine::{CEngine, Engine, EngineParts, magic};
use crate::error::CError;
use core::alloc::Layout;
use core::ffi::c_void;
use msix_core::{Borrowed, Effect, Entry, StorageError, Word};

/// Reads a struct.
pub(crate) fn read<T: Copy>(pointer: *const T) -> Result<T, CError> {
    check(pointer)?;
    // SAFETY: it is neither null nor misaligned, so it is good for a read, as the caller promised. `T` is
    // one of the structs of the header, which have no invalid values.
    Ok(unsafe { pointer.read() })
}

/// Writes an answer.
pub(crate) fn write<T: Copy>(pointer: *mut T, value: T) -> Result<(), CError> {
    check(pointer)?;
    // SAFETY: it is neither null nor misaligned, so it is good for a write, as the caller promised.
    unsafe { pointer.write(value) };
    Ok(())
}

/// Borrows bytes to read. Null is good for none.
pub(crate) fn bytes<'a>(pointer: *const c_void, len: usize) -> Result<&'a [u8], CError> {
    if len == 0 {
        return Ok(&[]);
    }
    check_array(pointer.cast::<u8>(), len)?;
    // SAFETY: `len` bytes behind it are good for reads until the exported function returns, as the caller
    // promised, and this is not used any longer.
    Ok(unsafe { core::slice::from_raw_parts(pointer.cast(), len) })
}

/// Borrows bytes to write. Null is good for none.
pub(crate) fn bytes_mut<'a>(pointer: *mut c_void, len: usize) -> Result<&'a mut [u8], CError> {
    items_mut(pointer.cast::<u8>(), len)
}

/// Borrows an array of structs to write. Null is good for none.
pub(crate) fn items_mut<'a, T: Copy>(pointer: *mut T, len: usize) -> Result<&'a mut [T], CError> {
    if len == 0 {
        return Ok(&mut []);
    }
    check_array(pointer, len)?;
    // SAFETY: the caller promised `len` items that are good for reads and writes, that nothing else uses,
    // until the exported function returns, and this is not used any longer.
    Ok(unsafe { core::slice::from_raw_parts_mut(pointer, len) })
}

/// Borrows the engine that was placed in this memory.
pub(crate) fn engine<'a>(pointer: *const CEngine) -> Result<&'a Engine, CError> {
    let pointer = pointer.cast::<Engine>();
    check(pointer)?;
    // SAFETY: whatever the memory holds, its first word can be read as a number.
    if unsafe { pointer.cast::<usize>().read() } != magic(pointer.addr()) {
        return Err(CError::NotInitialized);
    }
    // SAFETY: `place` put an engine here, and nobody but this library writes it. It is borrowed as shared,
    // also by callbacks that call back in: what changes in it is in cells.
    Ok(unsafe { &*pointer })
}

/// The parts of an engine's memory, as offsets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    entries: usize,
    words: usize,
    effects: usize,
    held: usize,
    claims: usize,
    /// Bytes of all.
    pub(crate) size: usize,
}

/// Alignment of an engine's memory.
pub(crate) const ALIGN: usize = align_of::<Engine>();

impl Places {
    /// Where the parts of an engine for `vectors` vectors lie.
    pub(crate) fn of(vectors: u16) -> Option<Self> {
        let vectors = usize::from(vectors);
        let words = vectors.div_ceil(64);
        let effects = words.checked_mul(3)?.checked_add(2)?; // I6
        let whole = Layout::new::<Engine>();
        let (whole, entries) = whole.extend(Layout::array::<Entry>(vectors).ok()?).ok()?;
        let (whole, word_place) = whole.extend(Layout::array::<Word>(words).ok()?).ok()?;
        let (whole, effect_place) = whole.extend(Layout::array::<Effect>(effects).ok()?).ok()?;
        let (whole, held) = whole.extend(Layout::array::<u64>(words).ok()?).ok()?;
        let (whole, claims) = whole.extend(Layout::array::<u16>(vectors).ok()?).ok()?;
        // Every part is aligned when the first is: the engine has the largest alignment.
        (whole.align() == ALIGN).then_some(Self {
            entries,
            words: word_place,
            effects: effect_place,
            held,
            claims,
            size: whole.size(),
        })
    }
}

/// Makes an engine in `size` bytes of memory, which it keeps.
pub(crate) fn place(
    memory: *mut c_void,
    size: usize,
    vectors: u16,
    make: impl FnOnce(EngineParts) -> Result<Engine, CError>,
) -> Result<*mut CEngine, CError> {
    let engine = memory.cast::<Engine>();
    check(engine)?;
    let places = Places::of(vectors).ok_or(CError::LayoutVectors)?;
    if size < places.size || isize::try_from(size).is_err() {
        return Err(CError::Size);
    }
    let count = usize::from(vectors);
    let words = count.div_ceil(64);
    let effects = words.saturating_mul(3).saturating_add(2);
    let storage = Borrowed::new(
        fill(memory, places.entries, count, Entry::RESET),
        fill(memory, places.claims, count, 0),
        fill(memory, places.words, words, Word::RESET),
    );
    let parts = EngineParts {
        storage: storage.map_err(|_: StorageError| CError::Size)?,
        list: EffectList::new(fill(memory, places.effects, effects, Effect::IntxDeassert)),
        held: fill(memory, places.held, words, 0),
        address: engine.addr(),
    };
    let made = make(parts)?;
    // SAFETY: it is aligned and has room, as was checked.
    unsafe { engine.write(made) };
    Ok(engine.cast())
}

/// Fills a part of an engine's memory, and borrows it for as long as the engine lives.
fn fill<T: Copy>(memory: *mut c_void, offset: usize, len: usize, value: T) -> &'static mut [T] {
    // SAFETY: `place` checked that the memory has room for all parts.
    let start = unsafe { memory.byte_add(offset) }.cast::<T>();
    for index in 0..len {
        // SAFETY: it is inside the part, which is aligned for it, as `Places` says.
        let item = unsafe { start.add(index) };
        // SAFETY: as above.
        unsafe { item.write(value) };
    }
    // SAFETY: all `len` items were written, and the parts do not overlap. The caller gave the memory to the
    // engine for as long as the engine is used, and neither writes nor moves it.
    unsafe { core::slice::from_raw_parts_mut(start, len) }
}

fn check<T>(pointer: *const T) -> Result<(), CError> {
    if pointer.is_null() {
        Err(CError::Null)
    } else if !pointer.is_aligned() {
        Err(CError::Misaligned)
    } else {
        Ok(())
    }
}

fn check_array<T>(pointer: *const T, len: usize) -> Result<(), CError> {
    check(pointer)?;
    let bytes = len.checked_mul(size_of::<T>());
    let fits = bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok());
    if fits { Ok(()) } else { Err(CError::Size) }
}
