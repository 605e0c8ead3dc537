//! Layouts, and what follows from them.

use crate::any::{self, Property, assume, prove};
use crate::engine::{self, Begun, Memory, any_vectors};
use msix_core::{Access, BarIndex, Layout, Location, Region};

/// A place in any BAR.
fn location() -> Option<Location> {
    let bar = u8::try_from(any::up_to(5)).ok()?;
    Some(Location::new(BarIndex::new(bar).ok()?, any::u64()))
}

/// Any layout is taken if and only if it is one (A1, A2, H21), and then tells what lies where.
pub fn prove_layout(_: Memory<'_>) {
    let (Some(table), Some(pba)) = (location(), location()) else { return };
    let vectors = any::u32();
    let mut sizes = [0; 6];
    for size in &mut sizes {
        *size = any::u64();
    }
    let (bar, offset) = (any::up_to(5), any::u64());
    let Ok(bar) = BarIndex::new(bar as u8) else { return };
    let made = Layout::new(vectors, table, pba, &sizes);
    let counted = (1..=2048).contains(&vectors);
    let lens = [16 * u64::from(vectors), 8 * u64::from(vectors.div_ceil(64))];
    let places = [table, pba];
    let mut good = counted;
    for (place, len) in places.into_iter().zip(lens) {
        let size = sizes[usize::from(place.bar.index())];
        good &= place.offset % 8 == 0 && place.offset < 1 << 32;
        good &= place.offset.checked_add(len).is_some_and(|end| end <= size);
    }
    // No byte of one is a byte of the other.
    let before = table.offset.saturating_add(lens[0]) <= pba.offset;
    let behind = pba.offset.saturating_add(lens[1]) <= table.offset;
    good &= table.bar != pba.bar || before || behind;
    prove(Property::Refused, made.is_ok() == good);
    let Ok(layout) = made else { return };
    prove(Property::Answer, u32::from(layout.vectors()) == vectors);
    let regions = [Region::Table, Region::Pba];
    let mut inside = None;
    let mut end = 0;
    for ((region, place), len) in regions.into_iter().zip(places).zip(lens) {
        prove(Property::Answer, layout.location(region) == place && layout.len(region) == len);
        if place.bar == bar {
            end = end.max(place.offset + len);
            if offset >= place.offset && offset - place.offset < len {
                inside = Some((region, offset - place.offset));
            }
        }
    }
    prove(Property::Answer, layout.locate(bar, offset) == inside);
    let size = layout.min_bar_size(bar);
    let smallest = size == 4096 || size / 2 < end;
    prove(Property::Answer, size >= end && (end == 0) == (size == 0));
    prove(Property::Answer, size == 0 || size.is_power_of_two() && size >= 4096 && smallest);
}

/// The capability reads as A1 says, in any layout.
pub fn prove_read_config(memory: Memory<'_>) {
    let (Some(table), Some(pba)) = (location(), location()) else { return };
    let vectors = any_vectors();
    let Ok(layout) = Layout::new(vectors, table, pba, &[u64::MAX; 6]) else { return };
    let Some(Begun { engine, case, .. }) = engine::engine_in(memory, layout) else { return };
    let (offset, len, index) = (any::up_to(usize::MAX), any::up_to(13), any::up_to(12));
    assume(index < len);
    let mut got = [0; 13];
    engine.read_config(offset, got.get_mut(..len).unwrap_or_default());
    let whole = case.whole;
    let control =
        (vectors - 1) | u32::from(whole.function_masked) << 14 | u32::from(whole.enabled) << 15;
    let [c0, c1, ..] = control.to_le_bytes();
    let [t0, t1, t2, t3] = (table.offset as u32 | u32::from(table.bar.index())).to_le_bytes();
    let [p0, p1, p2, p3] = (pba.offset as u32 | u32::from(pba.bar.index())).to_le_bytes();
    let image = [0x11, 0, c0, c1, t0, t1, t2, t3, p0, p1, p2, p3];
    let want = offset.checked_add(index).and_then(|at| image.get(at)).copied().unwrap_or(0xff);
    prove(Property::Byte, got[index] == want);
}

/// A write to the PBA is told to be one, and changes nothing: it has no way to (A5).
pub fn prove_write_pba(memory: Memory<'_>) {
    let Some(Begun { engine, .. }) = engine::any_engine(memory) else { return };
    let (offset, len) = (any::u64(), any::up_to(9));
    let answer = engine.write_pba(offset, [0; 9].get(..len).unwrap_or_default());
    let size = 8 * u64::from(engine.vectors().div_ceil(64));
    prove(Property::Refused, (answer == Access::OutOfRange) == (offset >= size));
    prove(Property::Answer, answer != Access::Done);
}
