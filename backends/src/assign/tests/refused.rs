//! What is wrong with a function is named.

use super::*;

fn refused(space: &Space, sizes: [u64; 6]) -> String {
    let bars = FunctionBars::from_config(space.bytes(), sizes).unwrap();
    match Assigned::new(space.bytes(), bars, &AssignOptions::default()) {
        Ok(made) => {
            assert_eq!(made.check(), Ok(()));
            "ok".to_string()
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_broken_chain_is_refused() {
    const MSI: &[u8] = &[0x80, 0];
    /// Where, and what is written there.
    type Changes<'a> = &'a [(usize, u8)];
    // PM at 0x40, MSI at 0x50, vendor specific at 0x60, MSI-X at 0x70.
    let cases: &[(Changes<'_>, &str)] = &[
        (&[], "ok"),
        (&[(0x34, 0)], "ok"),
        (&[(0x06, 0), (0x34, 0x13)], "ok"), // no capabilities list
        (&[(0x34, 0x3c)], "the capability pointer at 0x34 is 0x3c, must be at least 0x40"),
        (&[(0x51, 0x04)], "the capability pointer at 0x51 is 0x4, must be at least 0x40"),
        (&[(0x34, 0x41), (0x51, 0x62), (0x61, 0x73), (0x71, 3)], "ok"), // reserved bits
        (&[(0x51, 0xff)], "ok"), // nothing is at 0xfc, but a header fits
        (&[(0x61, 0x53)], "the capability pointer at 0x61 leads back to 0x50"),
        (&[(0x61, 0x50)], "the capability pointer at 0x61 leads back to 0x50"),
        (&[(0x61, 0x60)], "the capability pointer at 0x61 leads back to 0x60"),
        (
            &[(0x71, 0xfc), (0xfc, 0x01)],
            "capability 0x1 at 0xfc ends at 0x104, its config space at 0x100",
        ),
        (&[(0x71, 0xfc), (0xfc, 0x42)], "ok"),
        (&[(0x51, 0x54)], "capability 0x5 at 0x50 and capability 0x0 at 0x54 overlap"),
        (&[(0x62, 0x11)], "capability 0x9 at 0x60 and capability 0x11 at 0x70 overlap"),
        (&[(0x62, 0xff)], "capability 0x9 at 0x60 ends at 0x15f"),
        (&[(0x60, 0x05)], "capability 0x5 at 0x50 and again at 0x60: there is at most one"),
        (&[(0x40, 0x11)], "capability 0x11 at 0x40 and again at 0x70"),
        (&[(0x52, 0x8c)], "MSI capability: Message Control 0x008c"),
    ];
    for (changes, expected) in cases {
        let mut space = Space::new(256);
        space.chain(&[
            (0x40, 0x01, &[3, 0]),
            (0x50, 0x05, MSI),
            (0x60, 0x09, &[0x10]),
            (0x70, 0x11, &msix(4, 0, 0x800)),
        ]);
        for &(at, value) in *changes {
            space.put(at, &[value]);
        }
        let got = refused(&space, [0x1000, 0, 0, 0, 0, 0]);
        assert!(got.starts_with(expected), "{changes:x?}: {got} is not {expected}");
    }
}

#[test]
fn a_broken_extended_chain_is_refused() {
    /// Where, id, next.
    type Chain<'a> = &'a [(usize, u16, u32)];
    let cases: &[(Chain<'_>, &str)] = &[
        (&[], "ok"),
        (&[(0x100, 1, 0x140), (0x140, 3, 0)], "ok"),
        (&[(0x100, 0, 0x140), (0x140, 3, 0)], "ok"), // the first is hidden
        (&[(0x100, 1, 0x140)], "ok"),                // nothing is there
        (&[(0x100, 1, 0x0fc)], "the capability pointer at 0x102 is 0xfc, must be at least 0x100"),
        (&[(0x100, 1, 0x142), (0x140, 3, 1)], "ok"), // reserved bits
        (&[(0x100, 1, 0x140), (0x140, 3, 0x100)], "the capability pointer at 0x142 leads back to"),
        (
            &[(0x100, 1, 0x120), (0x120, 3, 0)],
            "capability 0x1 at 0x100 and capability 0x3 at 0x120",
        ),
        (
            &[(0x100, 3, 0xff8), (0xff8, 3, 0)],
            "capability 0x3 at 0xff8 ends at 0x1004, its config space at 0x1000",
        ),
        (&[(0x100, 0xb, 0xff8), (0xff8, 0xb, 0)], "ok"),
        (&[(0x100, 0xffff, 0xfff)], "ok"), // nothing is at 0xffc
        // MSI's and MSI-X's ids are other capabilities' here.
        (&[(0x100, 5, 0x140), (0x140, 5, 0x180), (0x180, 0x11, 0x1c0), (0x1c0, 0x11, 0)], "ok"),
    ];
    for (capabilities, expected) in cases {
        let mut space = Space::new(4096);
        for &(at, id, next) in *capabilities {
            space.extended(at, id, next);
        }
        let got = refused(&space, [0; 6]);
        assert!(got.starts_with(expected), "{capabilities:x?}: {got} is not {expected}");
    }
    let mut space = Space::new(4096);
    space.put(0x100, &[0xff; 4]);
    assert_eq!(refused(&space, [0; 6]), "ok", "a bus without extended config space");
}

#[test]
fn a_broken_msix_capability_is_refused() {
    let cases = [
        ((4, 0x000, 0x800), "ok"),
        ((4, 0x007, 0x800), "BAR index 7"),
        ((4, 0x000, 0x806), "BAR index 6"),
        ((4, 0x000, 0x03f & !7), "table at 0x0 and PBA at 0x38 of the same BAR overlap"),
        ((4, 0xfd0, 0x800), "table ends at 0x1010 of BAR 0, which has 0x1000 bytes"),
        ((4, 0x000, 0x1000), "PBA ends at 0x1008 of BAR 0"),
        ((4, 0x001, 0x800), "table ends at 0x40 of BAR 1, which has 0x0 bytes"),
        ((4, 0x003, 0x800), "table ends at 0x40 of BAR 3, which has 0x0 bytes"), // an upper half
        ((4, 0x004, 0x800), "table in BAR 4, which decodes I/O ports"),
        ((1, 0x000, 0x804), "PBA in BAR 4, which decodes I/O ports"),
        ((4, 0x002, 0x800), "ok"),
    ];
    for ((vectors, table, pba), expected) in cases {
        let mut space = Space::new(256);
        space.put(0x18, &[4]).put(0x20, &[1]);
        space.chain(&[(0x40, 0x11, &msix(vectors, table, pba))]);
        let got = refused(&space, [0x1000, 0, 0x1000, 0, 0x100, 0]);
        let got = got.trim_start_matches("MSI-X capability: ");
        assert!(got.starts_with(expected), "{table:x} {pba:x}: {got} is not {expected}");
    }
}

#[test]
fn what_is_no_function_is_refused() {
    for size in [0, 64, 255, 257, 4095, 8192] {
        let made =
            Assigned::new(&vec![0; size], FunctionBars::default(), &AssignOptions::default());
        assert_eq!(made, Err(AssignError::ConfigSize(size)));
    }
    let with = |at, bytes: &[u8]| {
        let mut space = Space::new(256);
        refused(space.put(at, bytes), [0; 6])
    };
    assert_eq!(with(0, &[0xff; 4]), AssignError::NoDevice.to_string());
    assert!(with(0x0e, &[0x81]).starts_with("header type 0x81"));
    assert_eq!(with(0x0e, &[0x80]), "ok");
    assert_eq!(with(0x3d, &[5]), "interrupt pin 5, must be 0 to 4");
}

#[test]
fn a_range_that_must_trap_is_in_its_bar() {
    let bars = [0x1000, 0, 0, 0, 0, 0];
    for (bar, range, expected) in [
        (0, 0..0x1000, "ok"),
        (0, 0x1000..0x1000, "ok"),
        (0, 0xfff..0x1001, "the range 0xfff to 0x1001 must trap, but BAR 0 has 0x1000 bytes"),
        (0, Range { start: 2, end: 1 }, "the range 0x2 to 0x1 must trap"),
        (3, 0..1, "the range 0x0 to 0x1 must trap, but BAR 3 has 0x0 bytes"),
    ] {
        let mut space = Space::new(256);
        let traps = vec![TrapRange { bar: index(bar), range, answer: TrapAnswer::Nobody }];
        let options = AssignOptions { traps, ..AssignOptions::default() };
        let bars = FunctionBars::from_config(space.put(0x20, &[1]).bytes(), bars).unwrap();
        let made = Assigned::new(space.bytes(), bars, &options);
        let got = made.map_or_else(|error| error.to_string(), |_| "ok".to_string());
        assert!(got.starts_with(expected), "{got} is not {expected}");
    }
}

#[test]
fn a_relocation_that_cannot_be_is_refused() {
    let to =
        |bar| AssignOptions { relocation: Relocation::Bar(index(bar)), ..AssignOptions::default() };
    let space = Space::new(256);
    let none = Assigned::new(space.bytes(), FunctionBars::default(), &to(0));
    assert_eq!(none, Err(AssignError::NothingToRelocate));

    let mut space = Space::new(256);
    space.chain(&[(0x40, 0x11, &msix(4, 0, 0x800))]).put(0x14, &[4, 0, 0, 0, 0, 0, 0, 0, 1]);
    space.put(0x20, &[4]);
    let sizes = [1 << 31, 0x1000, 0, 0x100, 1 << 33, 0];
    let bars = FunctionBars::from_config(space.bytes(), sizes).unwrap();
    for (bar, expected) in [
        (0, "the table cannot be relocated: BAR 0 has 0x100000000 bytes"),
        (1, "ok"),
        (2, "BAR 2 cannot hold the relocated table: it is not memory, or an upper half"),
        (3, "BAR 3 cannot hold the relocated table"),
        (4, "MSI-X capability: table offset 0x200000000: must fit 32 bits"),
        (5, "BAR 5 cannot hold the relocated table"),
    ] {
        let got = match Assigned::new(space.bytes(), bars, &to(bar)) {
            Ok(made) => made.check().map_or_else(|e| e.to_string(), |()| "ok".to_string()),
            Err(error) => error.to_string(),
        };
        assert!(got.starts_with(expected), "{bar}: {got} is not {expected}");
    }
}
