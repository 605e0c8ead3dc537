//! Functions that say what cannot be, and what is done about it.

use super::BarOwner::{Config, Device, Nobody, Table, TableWindow, Watched};
use super::*;

fn owners(made: &Assigned, bar: u8, offset: u64, len: u64) -> Vec<(Range<u64>, BarOwner)> {
    made.trap(index(bar), offset, len).map(|run| (run.range, run.owner)).collect()
}

/// Tables that cannot be, or a PBA, in one BAR of 64 KiB, and whether the table can.
const WRONG: [((u16, u32, u32), bool); 7] = [
    ((1, 0, 0), false),            // both at 0
    ((64, 0x1000, 0x1200), false), // the PBA is in the table
    ((8, 0x1_0000, 0x800), false), // the table is past the end
    ((8, 0x1001, 0x800), false),   // no such BAR
    ((8, 0x1006, 0x800), false),   // reserved
    ((8, 0x1000, 0x1_8000), true), // the PBA is past the end
    ((8, 0x1000, 0x2007), true),   // reserved
];

#[test]
fn a_table_that_cannot_be_is_refused_only_where_the_guest_would_see_it() {
    for (place, has_table) in WRONG {
        let sizes = [0x1_0000, 0, 0, 0, 0, 0];
        let with = |relocation| {
            with_msix(sizes, place, &AssignOptions { relocation, ..all(PageSize::Kib4) })
        };
        assert!(with(Relocation::None).is_err(), "{place:x?}");
        for relocation in [Relocation::Auto, Relocation::Bar(index(1)), Relocation::Nowhere] {
            let made = with(relocation).unwrap();
            let seen = made.msix().map(|layout| layout.location(Region::Table).bar.index());
            assert_eq!(seen, (relocation != Relocation::Nowhere).then_some(1), "{place:x?}");
            assert!(made.own_msix().is_some_and(|own| own.is_err()), "{place:x?}");
            let hidden = has_table.then_some((index(0), 0x1000..0x1080));
            assert_eq!(made.hidden(), hidden, "{place:x?}");
            let expected: &[(u8, Range<u64>)] = if has_table {
                &[(0, 0..0x1000), (0, 0x2000..0x1_0000)]
            } else {
                &[(0, 0..0x1_0000)]
            };
            let mapped: Vec<_> = made.mapped().map(|(bar, run)| (bar.index(), run)).collect();
            assert_eq!(mapped, expected, "{place:x?}");
        }
    }
    // Nowhere to move it to: the reason is that of the device's own.
    let options = AssignOptions { relocation: Relocation::Auto, ..all(PageSize::Kib4) };
    let full = with_msix([1 << 31; 6], (1, 0, 0), &options);
    assert!(matches!(full, Err(AssignError::Layout(_))), "{full:?}");
}

#[test]
fn a_table_in_ports_moves_too_and_the_ports_stay_the_devices() {
    let mut space = Space::new(256);
    space.put(0x10, &[1]).chain(&[(0x40, 0x11, &msix(1, 0, 0x10))]);
    let bars = FunctionBars::from_config(space.bytes(), [0x100, 0, 0x1000, 0, 0, 0]).unwrap();
    let options = |relocation| AssignOptions { relocation, ..all(PageSize::Kib4) };
    let stay = Assigned::new(space.bytes(), bars, &options(Relocation::None));
    assert_eq!(stay, Err(AssignError::InPorts { region: Region::Table, bar: index(0) }));
    let made = Assigned::new(space.bytes(), bars, &options(Relocation::Auto)).unwrap();
    assert_eq!(made.check(), Ok(()));
    assert_eq!(owners(&made, 0, 0, 0x100), [(0..0x100, Device)]);
    assert_eq!(owners(&made, 1, 0, 0x10), [(0..0x10, Table)]);
    assert_eq!(made.mapped().collect::<Vec<_>>(), vec![(index(2), 0..0x1000); 1]);
}

#[test]
fn msix_can_be_hidden_and_msi_and_the_pin_stay() {
    let mut space = Space::new(256);
    space.chain(&[
        (0x40, 0x01, &[3, 0]),
        (0x70, 0x11, &msix(8, 0x1000, 0x1800)),
        (0x50, 0x05, &[0x80, 0]),
    ]);
    space.put(0x34, &[0x42]).put(0x41, &[0x73]); // reserved bits
    let bars = FunctionBars::from_config(space.bytes(), [0x4000, 0, 0, 0, 0, 0]).unwrap();
    let made = |relocation, own_table| {
        let options = AssignOptions { relocation, own_table, ..all(PageSize::Kib4) };
        let made = Assigned::new(space.bytes(), bars, &options).unwrap();
        assert_eq!(made.check(), Ok(()));
        made
    };
    let seen = made(Relocation::None, OwnTable::Hidden);
    assert_eq!(seen.hidden(), None);
    let pointers: Vec<_> = seen.pointers().collect();
    assert_eq!(pointers, [(0x34, 0x40), (0x41, 0x70), (0x71, 0x50), (0x51, 0)]);

    let hidden = made(Relocation::Nowhere, OwnTable::Hidden);
    let pointers: Vec<_> = hidden.pointers().collect();
    assert_eq!(pointers, [(0x34, 0x40), (0x41, 0x50), (0x51, 0)]);
    assert_eq!((hidden.msix(), hidden.pin()), (None, Some(Pin::A)));
    assert_eq!(hidden.msi().map(|msi| msi.vectors()), Some(1));
    assert!(hidden.own_msix().is_some_and(|own| own.is_ok()));
    assert!((0x70..0x7c).all(|at| hidden.owner(at) == ConfigOwner::Emulated));
    // The device's table is hidden, its PBA is one of its registers.
    let expected = [(0xff8..0x1000, Device), (0x1000..0x1080, Nobody), (0x1080..0x1808, Device)];
    assert_eq!(owners(&hidden, 0, 0xff8, 0x810), expected);
    // Or all of it is mapped.
    let mapped: Vec<_> = made(Relocation::Nowhere, OwnTable::Mapped).mapped().collect();
    assert_eq!(mapped, vec![(index(0), 0..0x4000); 1]);

    // A function that has nothing else: the chain is empty.
    let mut space = Space::new(256);
    space.chain(&[(0x70, 0x11, &msix(1, 0, 0))]);
    let options = AssignOptions { relocation: Relocation::Nowhere, ..AssignOptions::default() };
    let made = Assigned::new(space.bytes(), bars, &options).unwrap();
    assert_eq!(made.pointers().collect::<Vec<_>>(), [(0x34, 0)]);
}

#[test]
fn ports_of_one_and_two_bytes_are_four_to_the_guest() {
    // An IDE function in its fixed ports: the control blocks are one byte each.
    let mut space = Space::new(256);
    space.put(0x10, &[1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]);
    let bars = FunctionBars::from_config(space.bytes(), [8, 1, 8, 2, 16, 0]).unwrap();
    let made = Assigned::new(space.bytes(), bars, &all(PageSize::Kib4)).unwrap();
    assert_eq!(made.check(), Ok(()));
    let sizes: Vec<_> = made.bars().map(|(_, map)| map.bar().size).collect();
    assert_eq!(sizes, [8, 4, 8, 4, 16]);
    assert_eq!(owners(&made, 1, 0, 4), [(0..1, Device), (1..4, Nobody)]);
    assert_eq!(owners(&made, 3, 0, 4), [(0..2, Device), (2..4, Nobody)]);
    assert_eq!(made.mapped().count(), 0);
}

#[test]
fn further_ranges_trap_and_the_rest_of_their_pages_is_forwarded() {
    let trap = |bar, range, answer| TrapRange { bar: index(bar), range, answer };
    let traps = vec![
        trap(0, 0x1010..0x1020, TrapAnswer::Device),
        trap(0, 0x1018..0x1028, TrapAnswer::Nobody), // over the one before
        trap(0, 0x8000..0x9000, TrapAnswer::Config),
        trap(0, 0x2ff8..0x3010, TrapAnswer::TableWindow), // under the table
    ];
    let options = AssignOptions { traps, ..all(PageSize::Kib4) };
    let made = with_msix([0x1_0000, 0, 0, 0, 0, 0], (1, 0x3000, 0x3800), &options).unwrap();
    let mapped: Vec<_> = made.mapped().map(|(_, run)| run).collect();
    assert_eq!(mapped, [0..0x1000, 0x4000..0x8000, 0x9000..0x1_0000]);
    let expected = [
        (0x1000..0x1010, Device),
        (0x1010..0x1018, Watched),
        (0x1018..0x1028, Nobody),
        (0x1028..0x1030, Device),
    ];
    assert_eq!(owners(&made, 0, 0x1000, 0x30), expected);
    assert_eq!(
        owners(&made, 0, 0x8ffc, 8),
        [(0x8ffc..0x9000, Config(0x8000)), (0x9000..0x9004, Device)]
    );
    let expected = [(0x2ff8..0x3000, TableWindow(0x2ff8)), (0x3000..0x3010, Table)];
    assert_eq!(owners(&made, 0, 0x2ff8, 0x18), expected);
}

#[test]
fn what_is_known_of_a_device_traps_by_its_ids() {
    let known = |vendor: u16, device: u16, class: u8, sizes| {
        let mut space = Space::new(256);
        space.put(0, &vendor.to_le_bytes()).put(2, &device.to_le_bytes()).put(0x0b, &[class]);
        let bars = FunctionBars::from_config(space.bytes(), sizes).unwrap();
        let known = TrapRange::known(space.bytes(), &bars);
        let options = AssignOptions { traps: known.clone(), ..all(PageSize::Kib4) };
        let made = Assigned::new(space.bytes(), bars, &options).unwrap();
        assert_eq!(made.check(), Ok(()));
        let is_mapped = |trap: &TrapRange| {
            made.mapped().any(|(bar, run)| bar == trap.bar && run.contains(&trap.range.start))
        };
        assert!(!known.iter().any(is_mapped));
        known.into_iter().map(|trap| (trap.bar.index(), trap.range.start)).collect::<Vec<_>>()
    };
    let gpu = [16 << 20, 0, 0, 0, 0, 0];
    let nic = [0x100, 0, 0x1000, 0, 0x4000, 0];
    assert_eq!(known(0x10ec, 0x8168, 0x02, nic), [(2, 0x70)]);
    assert_eq!(known(0x10ec, 0x8168, 0x02, [0x100, 0x100, 0, 0, 0, 0]), [], "an older one");
    assert_eq!(known(0x10ec, 0x8139, 0x02, nic), []);
    assert_eq!(known(0x10de, 0x0045, 0x03, gpu), [(0, 0x1800), (0, 0x8_8000)]); // NV40
    assert_eq!(known(0x10de, 0x0191, 0x03, gpu), [(0, 0x8_8000)]); // GeForce 8800
    assert_eq!(known(0x10de, 0x1b80, 0x03, gpu), [(0, 0x8_8000)]); // GP104
    assert_eq!(known(0x10de, 0x2330, 0x03, gpu), [(0, 0x9_2000)]); // GH100
    assert_eq!(known(0x10de, 0x2684, 0x03, gpu), [(0, 0x8_8000)]); // AD102
    assert_eq!(known(0x10de, 0x2b85, 0x03, gpu), [(0, 0x9_2000)]); // GB202
    assert_eq!(known(0x10de, 0x1b80, 0x03, [0x1_0000, 0, 0, 0, 0, 0]), [], "past its end");
    assert_eq!(known(0x10de, 0x10f0, 0x04, gpu), [], "the audio function beside it");
}
