//! What may be mapped, what traps, and its owner.

use super::BarOwner::{Device, Nobody, Pba, Table};
use super::*;
use crate::assign::Mappable::Areas;

const ONE: [u64; 6] = [0x10_0000, 0, 0, 0, 0, 0];

fn mapped(made: &Assigned) -> Vec<(u8, Range<u64>)> {
    made.mapped().map(|(index, range)| (index.index(), range)).collect()
}

fn owners(made: &Assigned, bar: u8, offset: u64, len: u64) -> Vec<(Range<u64>, BarOwner)> {
    made.trap(index(bar), offset, len).map(|run| (run.range, run.owner)).collect()
}

#[test]
fn pages_of_table_and_pba_trap_at_every_page_size() {
    for (page, expected) in [
        (PageSize::Kib4, [(0, 0..0x2_1000), (0, 0x2_2000..0x5_0000), (0, 0x5_1000..0x10_0000)]),
        (PageSize::Kib16, [(0, 0..0x2_0000), (0, 0x2_4000..0x5_0000), (0, 0x5_4000..0x10_0000)]),
        (PageSize::Kib64, [(0, 0..0x2_0000), (0, 0x3_0000..0x5_0000), (0, 0x6_0000..0x10_0000)]),
    ] {
        let made = with_msix(ONE, (8, 0x2_1000, 0x5_0800), &all(page)).unwrap();
        assert_eq!(mapped(&made), expected, "{page:?}");
        let trapped: u64 = made.bar(index(0)).unwrap().trapped().map(|r| r.end - r.start).sum();
        assert_eq!(trapped, 2 * page.bytes());
    }
    // The device's own PBA is mapped, unless it shares a page with the table.
    for (pba, expected) in [(0x5_0800, 2), (0x2_1800, 2)] {
        let options = AssignOptions { pba: PbaOwner::Device, ..all(PageSize::Kib4) };
        let made = with_msix(ONE, (8, 0x2_1000, pba), &options).unwrap();
        assert_eq!(mapped(&made).len(), expected);
        assert_eq!(owners(&made, 0, pba.into(), 8), [(pba.into()..u64::from(pba) + 8, Device)]);
    }
}

#[test]
fn what_shares_a_page_with_the_table_is_forwarded() {
    let made = with_msix(ONE, (2, 0x1000, 0x1030), &all(PageSize::Kib4)).unwrap();
    let expected = [
        (0xff8..0x1000, Device),
        (0x1000..0x1020, Table),
        (0x1020..0x1030, Device),
        (0x1030..0x1038, Pba),
        (0x1038..0x1040, Device),
    ];
    assert_eq!(owners(&made, 0, 0xff8, 0x48), expected);
    assert_eq!(owners(&made, 0, 0x101c, 8), [(0x101c..0x1020, Table), (0x1020..0x1024, Device)]);
    assert_eq!(owners(&made, 0, 0x1004, 4), [(0x1004..0x1008, Table)]);
    let end = [(0xf_fffc..0x10_0000, Device), (0x10_0000..0x10_0004, Nobody)];
    assert_eq!(owners(&made, 0, 0xf_fffc, 8), end);
    assert_eq!(owners(&made, 0, u64::MAX, 8), []);
    assert_eq!(owners(&made, 1, 0, 8), []);
}

#[test]
fn only_what_the_kernel_lets_be_mapped_is() {
    let areas = vec![0x8000..0x10000, 0x800..0x3800, 0x10000..0x12000];
    let mut options = AssignOptions::default();
    assert_eq!(mapped(&with_msix(ONE, (2, 0, 0x800), &options).unwrap()), []);
    options.kernel[0] = KernelBar { mappable: Areas(areas), msix_mappable: false };
    let made = with_msix(ONE, (2, 0x9000, 0x9800), &options).unwrap();
    let expected =
        [0x1000..0x3000, 0x8000..0x9000, 0xa000..0x10000, 0x10000..0x12000].map(|r| (0, r));
    assert_eq!(mapped(&made), expected);
    options.page = PageSize::Kib64;
    assert_eq!(mapped(&with_msix(ONE, (2, 0x9000, 0x9800), &options).unwrap()), []);
}

#[test]
fn ports_are_never_mapped_and_small_bars_when_the_caller_says_so() {
    let mut space = Space::new(256);
    space.put(0x18, &[1]).chain(&[(0x40, 0x11, &msix(2, 4, 0x804))]);
    let bars =
        FunctionBars::from_config(space.bytes(), [0x100, 0x4000, 0x1000, 0, 0x1000, 0]).unwrap();
    for (small_bars, page, expected) in [
        (SmallBars::Trap, PageSize::Kib4, vec![(1, 0..0x4000)]),
        (SmallBars::Map, PageSize::Kib4, vec![(0, 0..0x100), (1, 0..0x4000)]),
        (SmallBars::Trap, PageSize::Kib64, vec![]),
        (SmallBars::Map, PageSize::Kib64, vec![(0, 0..0x100), (1, 0..0x4000)]),
    ] {
        let options = AssignOptions { small_bars, ..all(page) };
        let made = Assigned::new(space.bytes(), bars, &options).unwrap();
        assert_eq!((made.check(), mapped(&made)), (Ok(()), expected), "{small_bars:?} {page:?}");
    }
    // A small BAR of which the kernel lets a part be mapped.
    let mut options = AssignOptions { small_bars: SmallBars::Map, ..AssignOptions::default() };
    options.kernel[0].mappable = Areas(vec![0..0x80; 1]);
    assert_eq!(mapped(&Assigned::new(space.bytes(), bars, &options).unwrap()), []);
}

#[test]
fn a_relocated_table_has_pages_of_its_own() {
    let move_to =
        |bar, page| AssignOptions { relocation: Relocation::Bar(index(bar)), ..all(page) };
    for page in PageSize::ALL {
        // In a BAR that the device does not have.
        let made = with_msix(ONE, (129, 0x1000, 0x3000), &move_to(2, page)).unwrap();
        let layout = made.msix().unwrap();
        let table = layout.location(Region::Table);
        assert_eq!((table.bar.index(), table.offset, layout.vectors()), (2, 0, 129));
        assert_eq!(made.bar(index(2)).unwrap().bar(), Bar::new(BarKind::Memory32, page.bytes()));
        assert_eq!(made.bar(index(2)).unwrap().mapped(), []);
        assert_eq!(owners(&made, 2, 0x80c, 12), [(0x80c..0x810, Table), (0x810..0x818, Pba)]);
        assert_eq!(owners(&made, 2, 0x828, 8), [(0x828..0x830, Nobody)]);
        // Its own is hidden, its PBA the device's.
        let hidden = [(0x1000..0x1810, Nobody), (0x1810..0x3800, Device)];
        assert_eq!(owners(&made, 0, 0x1000, 0x2800), hidden);
        assert!(
            mapped(&made).iter().all(|(_, range)| range.start >= 0x2000 || range.end <= 0x1000)
        );

        // The device cannot answer for a PBA that it does not have there.
        let options = AssignOptions { pba: PbaOwner::Device, ..move_to(2, page) };
        let made = with_msix(ONE, (129, 0x1000, 0x3000), &options).unwrap();
        assert_eq!(owners(&made, 2, 0x810, 8), [(0x810..0x818, Pba)]);

        // At the end of one that it has.
        let made = with_msix(ONE, (129, 0x1000, 0x3000), &move_to(0, page)).unwrap();
        assert_eq!(made.msix().unwrap().location(Region::Table).offset, 0x10_0000);
        assert_eq!(made.bar(index(0)).unwrap().bar().size, 0x20_0000);
        let end = [(0xf_fffc..0x10_0000, Device), (0x10_0000..0x10_0004, Table)];
        assert_eq!(owners(&made, 0, 0xf_fffc, 8), end);
        assert_eq!(mapped(&made).last().map(|(_, range)| range.end), Some(0x10_0000));

        // At the end of one that is smaller than a page.
        let small = with_msix([0x800, 0, 0, 0, 0, 0], (1, 0, 0x10), &move_to(0, page)).unwrap();
        assert_eq!(small.bar(index(0)).unwrap().bar().size, 2 * page.bytes());
        assert_eq!(small.msix().unwrap().location(Region::Table).offset, page.bytes());
        assert_eq!(mapped(&small), []);
    }
}

#[test]
fn the_table_moves_by_itself_only_if_more_can_be_mapped() {
    let automatic =
        |page, own_table| AssignOptions { relocation: Relocation::Auto, own_table, ..all(page) };
    let shared = (8, 0x1000, 0x1800); // registers share 64 KiB with it
    let alone = [0x10_0000, 0x1000, 0, 0, 0, 0];
    for (page, own_table, sizes, place, expected) in [
        (PageSize::Kib64, OwnTable::Mapped, ONE, shared, (1, 0)),
        (PageSize::Kib16, OwnTable::Mapped, ONE, shared, (1, 0)),
        (PageSize::Kib4, OwnTable::Mapped, ONE, shared, (0, 0x1000)), // A2: nothing else is there
        (PageSize::Kib64, OwnTable::Hidden, ONE, shared, (0, 0x1000)), // traps all the same
        (PageSize::Kib64, OwnTable::Mapped, [1 << 20; 6], shared, (0, 0x10_0000)), // no BAR is free
        (PageSize::Kib64, OwnTable::Mapped, alone, (8, 1, 0x801), (1, 0)), // a BAR of its own
    ] {
        let made = with_msix(sizes, place, &automatic(page, own_table)).unwrap();
        let table = made.msix().unwrap().location(Region::Table);
        assert_eq!((table.bar.index(), table.offset), expected, "{page:?} {own_table:?}");
    }
    let made = with_msix(ONE, shared, &automatic(PageSize::Kib64, OwnTable::Mapped)).unwrap();
    assert_eq!(mapped(&made), vec![(0, 0..0x10_0000); 1]);
    // A kernel that does not let the table's pages be mapped.
    let mut options = automatic(PageSize::Kib64, OwnTable::Mapped);
    options.kernel[0].msix_mappable = false;
    let made = with_msix(ONE, shared, &options).unwrap();
    assert_eq!(mapped(&made), vec![(0, 0x1_0000..0x10_0000); 1]);
    assert_eq!(made.msix().map(Ok), made.own_msix());
    // And a function without MSI-X has nothing to move.
    let options = automatic(PageSize::Kib64, OwnTable::Mapped);
    assert!(Assigned::new(Space::new(256).bytes(), FunctionBars::default(), &options).is_ok());
}
