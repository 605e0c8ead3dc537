//! C47 and C48: where table and PBA lie.

use super::adapter::{ExclusiveBar, Layouts, Placement, Refused};
use super::bench::{Outcome, Stop, no};
use super::lab::Lab;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub(super) fn c47(lab: &Lab<'_>) -> Outcome {
    let layouts = layouts(lab)?;
    for (vectors, pba, size) in [
        (1, 0x800, 0x1000),
        (2, 0x800, 0x1000),
        (127, 0x800, 0x1000),
        (128, 0x800, 0x1000),
        (129, 0x810, 0x1000),
        (252, 0xfc0, 0x1000),
        (253, 0xfd0, 0x1000),
        (254, 0xfe0, 0x1000), // 0xfe0 + 32 bytes of PBA: exactly full
        (255, 0xff0, 0x2000),
        (256, 0x1000, 0x2000),
        (257, 0x1010, 0x2000),
        (2048, 0x8000, 0x1_0000),
    ] {
        let expected = Ok(ExclusiveBar { table: 0, pba, size });
        let got = layouts.exclusive_bar(vectors);
        if got != expected {
            return wrong(format!("exclusive BAR of {vectors} vectors"), &expected, &got);
        }
    }
    for vectors in [0, 2049, 0x1_0001, 19_923_041] {
        let got = layouts.exclusive_bar(vectors);
        if got.is_ok() {
            return wrong(format!("exclusive BAR of {vectors} vectors"), &"refused", &got);
        }
    }
    Ok(())
}

pub(super) fn c48(lab: &Lab<'_>) -> Outcome {
    let layouts = layouts(lab)?;
    let bar_sizes = [0x1000, 0, 0x10_0000, 0, u64::MAX, 0x20];
    let place = |vectors, table, pba| Placement { vectors, table, pba, bar_sizes };
    for fine in [
        place(1, (0, 0), (0, 0x10)),
        place(64, (0, 8), (0, 0)),
        place(128, (0, 0x800), (0, 0)),
        place(128, (0, 0), (0, 0x800)),
        place(2048, (2, 0), (0, 0xf00)), // the same offsets of different BARs may overlap
        place(255, (0, 0), (2, 0)),
        place(256, (0, 0), (2, 8)), // exactly full
        place(2, (5, 0), (2, 0)),
        place(2048, (4, 0xffff_fff8), (4, 0)),
    ] {
        let got = layouts.check(&fine);
        if got.is_err() {
            return wrong(format!("{fine:x?}"), &"accepted", &got);
        }
    }
    let overlaps = [
        place(64, (0, 0), (0, 0x3f8)),
        place(64, (0, 0), (0, 0)),
        place(128, (0, 8), (0, 0)),
        place(65, (2, 0x1000), (2, 0xff8)),
    ];
    let misaligned = [
        place(1, (0, 4), (0, 0x800)),
        place(1, (0, 0), (0, 0x801)),
        place(1, (0, 1), (0, 0x800)),
        place(1, (0, 0), (0, 0x804)),
    ];
    let reserved = [place(1, (6, 0), (0, 0)), place(1, (0, 0), (7, 0)), place(1, (8, 0), (0, 0))];
    let outside = [
        place(128, (0, 0x808), (0, 0)),
        place(1, (0, 0), (0, 0x1000)),
        place(1, (1, 0), (0, 0)),
        place(3, (5, 0), (0, 0)),
        place(257, (0, 0), (2, 0)),
    ];
    let too_far = [
        place(1, (4, 0x1_0000_0000), (4, 0)),
        place(1, (4, 0), (4, 0x1_0000_0000)),
        place(1, (4, 0x1_0000_0008), (4, 8)),
        place(1, (4, u64::MAX - 7), (4, 0)),
        place(1, (4, 0), (4, u64::MAX - 7)),
    ];
    let mut reasons: Vec<String> = Vec::new();
    for (what, placements) in [
        ("overlap", &overlaps[..]),
        ("misalignment", &misaligned),
        ("reserved BIR", &reserved),
        ("outside the BAR", &outside),
        ("past 32 bits", &too_far),
    ] {
        for placement in placements {
            let got = layouts.check(placement);
            let refused = format!("refused: {what}");
            match &got {
                Err(Refused(why)) if why.is_empty() => {
                    return wrong(format!("{placement:x?}"), &"a reason", &"none");
                }
                Err(Refused(why)) if reasons.contains(why) => {
                    return wrong(format!("{placement:x?}"), &refused, &why);
                }
                Err(_) => {}
                Ok(()) => return wrong(format!("{placement:x?}"), &refused, &"accepted"),
            }
        }
        // A reason that is given for two different defects names neither.
        let why = placements.iter().filter_map(|placement| layouts.check(placement).err());
        reasons.extend(why.map(|Refused(why)| why));
    }
    Ok(())
}

fn layouts<'a>(lab: &Lab<'a>) -> Result<&'a dyn Layouts, Stop> {
    lab.subject.layouts().ok_or_else(|| no("layouts"))
}

fn wrong(did: String, expected: &impl core::fmt::Debug, got: &impl core::fmt::Debug) -> Outcome {
    let (expected, got) = (format!("{expected:x?}"), format!("{got:x?}"));
    Err(Stop::Failed { did, expected, got })
}
