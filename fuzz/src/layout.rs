//! Layouts and capability bytes from outside.

use arbitrary::{Arbitrary, Unstructured};
use msix_core::spec::CAPABILITY_LEN;
use msix_core::{
    BarIndex, Effects, Layout, LayoutError, Location, MAX_EFFECTS, Msix, Policy, Region,
};

/// What a caller may ask for.
#[derive(Debug, Arbitrary)]
struct Wanted {
    vectors: u32,
    table: (u8, u64),
    pba: (u8, u64),
    sizes: [u64; 6],
    used: u64,
}

/// Checks layouts that a caller asks for against the rules in arithmetic that cannot overflow.
///
/// # Panics
/// When a layout is accepted or refused wrongly.
pub fn layout(data: &[u8]) {
    let Ok(mut wanted) = Wanted::arbitrary(&mut Unstructured::new(data)) else { return };
    // Small numbers are where layouts are accepted.
    if wanted.used % 2 == 0 {
        wanted.vectors %= 2100;
        for (bar, offset) in [&mut wanted.table, &mut wanted.pba] {
            (*bar, *offset) = (*bar % 7, (*offset % 0x1_2000) & !3);
        }
        wanted.sizes = wanted.sizes.map(|size| size % 0x2_0000);
    }
    let place = |(bar, offset): (u8, u64)| Some(Location::new(BarIndex::new(bar).ok()?, offset));
    if let (Some(table), Some(pba)) = (place(wanted.table), place(wanted.pba)) {
        let got = Layout::new(wanted.vectors, table, pba, &wanted.sizes);
        assert_eq!(got.is_ok(), is_sound(&wanted), "{wanted:?}: {got:?}");
        if let Ok(layout) = got {
            read_back(layout, &wanted.sizes);
        }
        match Layout::after(wanted.vectors, table.bar, wanted.used) {
            Ok(layout) => {
                let start = layout.location(Region::Table).offset;
                assert!(start >= wanted.used && start.is_multiple_of(4096));
                read_back(layout, &[layout.min_bar_size(table.bar); 6]);
            }
            Err(LayoutError::Vectors(_) | LayoutError::OffsetTooLarge { .. }) => {}
            Err(other) => panic!("{wanted:?}: {other}"),
        }
    }
}

/// The rules A1 and A2, said once more.
fn is_sound(wanted: &Wanted) -> bool {
    let n = u128::from(wanted.vectors);
    let parts = [(wanted.table, 16 * n), (wanted.pba, 8 * n.div_ceil(64))];
    let fits = parts.iter().all(|((bar, offset), len)| {
        let size = wanted.sizes.get(usize::from(*bar)).copied().unwrap_or(0);
        offset % 8 == 0
            && u32::try_from(*offset).is_ok()
            && u128::from(*offset) + len <= u128::from(size)
    });
    let [(table, table_len), (pba, pba_len)] = parts;
    let (table_start, pba_start) = (u128::from(table.1), u128::from(pba.1));
    let apart = table.0 != pba.0
        || table_start + table_len <= pba_start
        || pba_start + pba_len <= table_start;
    (1..=2048).contains(&n) && fits && apart
}

/// A guest that reads the capability finds the same layout, and a BAR access the right structure.
fn read_back(layout: Layout, sizes: &[u64; 6]) {
    let msix = Msix::boxed(layout, Policy::SPEC);
    assert_eq!(Layout::from_capability(&msix.capability(), sizes), Ok(layout));
    for region in [Region::Table, Region::Pba] {
        let place = layout.location(region);
        let last = layout.len(region) - 1;
        assert_eq!(layout.locate(place.bar, place.offset), Some((region, 0)));
        assert_eq!(layout.locate(place.bar, place.offset + last), Some((region, last)));
        let behind = layout.locate(place.bar, place.offset + last + 1);
        assert_ne!(behind.map(|(found, _)| found), Some(region));
    }
}

/// Takes 12 bytes as a device's capability and, when they are sound, the rest as guest accesses to
/// it: an offset, a length and that many bytes each.
///
/// # Panics
/// When a guest changes anything but Enable and Function Mask, or reads something else than the
/// capability.
pub fn config_bytes(data: &[u8]) {
    let Some((capability, mut rest)) = data.split_first_chunk::<CAPABILITY_LEN>() else { return };
    let Ok(layout) = Layout::from_capability(capability, &[u64::MAX; 6]) else { return };
    let mut msix = Msix::boxed(layout, Policy::SPEC);
    let mut fx = Effects::<MAX_EFFECTS>::new();
    let fixed = |bytes: [u8; CAPABILITY_LEN]| {
        let mut bytes = bytes;
        bytes[3] &= 0x3f;
        bytes
    };
    let before = fixed(msix.capability());
    while let [offset, len, bytes @ ..] = rest {
        let (bytes, after) = bytes.split_at(usize::from(len % 16).min(bytes.len()));
        let offset = usize::from(*offset);
        let control = msix.capability()[3];
        assert_eq!(msix.write_config(offset, bytes, &mut fx), Ok(()));
        while fx.take().is_some() {}
        let expected = 3_usize.checked_sub(offset).and_then(|index| bytes.get(index));
        assert_eq!(msix.capability()[3] >> 6, expected.unwrap_or(&control) >> 6);
        assert_eq!(fixed(msix.capability()), before);
        let mut read = [0; 20];
        msix.read_config(offset, &mut read);
        for (index, byte) in read.iter().enumerate() {
            let expected = msix.capability().get(offset + index).copied();
            assert_eq!(*byte, expected.unwrap_or(0xff));
        }
        rest = after;
    }
}
