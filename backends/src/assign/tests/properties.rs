//! What holds for every function that is not refused.

use super::devices::{DEVICES, load};
use super::*;
use crate::assign::Mappable::{Areas, Nothing, Whole};
use proptest::prelude::*;

/// A config space that is one of QEMU's, or a chain of random capabilities; then some bytes are
/// overwritten at random.
fn spaces() -> impl Strategy<Value = (Vec<u8>, [u64; 6])> {
    let known = prop::sample::select(DEVICES.to_vec()).prop_map(|(_, text)| load(text));
    let places = prop::collection::vec((any::<u8>(), prop::array::uniform10(any::<u8>())), 0..10);
    let made =
        (places, chains(), sizes(), any::<bool>()).prop_map(|(bodies, ids, sizes, large)| {
            let mut space = Space::new(if large { 4096 } else { 256 });
            let mut at = 0x40;
            let mut chain: Vec<(u8, u8, &[u8])> = Vec::new();
            for ((gap, body), &id) in bodies.iter().zip(&ids) {
                at += gap & 0x0c;
                chain.push((at, id, &body[..]));
                at = at.min(0xc8) + 0x18;
            }
            space.chain(&chain);
            (space.bytes().to_vec(), sizes)
        });
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (prop_oneof![1 => known, 1 => made, 2 => tabled()], damage, any::<bool>()).prop_map(
        |((mut config, sizes), damage, broken)| {
            for (at, value) in damage.into_iter().filter(|_| broken) {
                let at = at.index(config.len());
                config[at] = value;
            }
            (config, sizes)
        },
    )
}

/// A function with MSI and MSI-X, the latter in places that may be wrong.
fn tabled() -> impl Strategy<Value = (Vec<u8>, [u64; 6])> {
    (tables(), sizes()).prop_map(|((vectors, table, pba), sizes)| {
        let mut space = Space::new(256);
        space.chain(&[(0x40, 0x11, &msix(vectors, table, pba)), (0x60, 0x05, &[0x80, 1])]);
        (space.bytes().to_vec(), sizes)
    })
}

/// Two capabilities in three are of the kinds that have rules.
fn chains() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![0x01, 0x03, 0x05, 0x09, 0x10, 0x11, 0x13, 0x14]);
    prop::collection::vec(prop_oneof![2 => known, 1 => any::<u8>()], 10)
}

fn sizes() -> impl Strategy<Value = [u64; 6]> {
    let size = prop_oneof![
        8 => Just(0),
        16 => (4_u32..24).prop_map(|log| 1 << log),
        1 => any::<u64>(),
    ];
    prop::array::uniform6(size)
}

/// Vectors, table and PBA.
fn tables() -> impl Strategy<Value = (u16, u32, u32)> {
    let place = |limit| {
        let at = prop_oneof![1 => Just(0), 4 => 0..limit];
        (at, 0_u32..4).prop_map(|(at, bar)| at << 3 | bar)
    };
    (prop_oneof![1_u16..=64, 1_u16..=2048], place(0x4000_u32), place(0x4000_u32))
}

fn options() -> impl Strategy<Value = AssignOptions> {
    let area = (0_u64..0x2_0000, 0_u64..0x1_0000).prop_map(|(start, len)| start..start + len);
    let areas = prop::collection::vec(area, 0..5).prop_map(Areas);
    let mappable = prop_oneof![1 => Just(Nothing), 4 => Just(Whole), 2 => areas];
    let kernel = (mappable, any::<bool>())
        .prop_map(|(mappable, msix_mappable)| KernelBar { mappable, msix_mappable });
    let relocation = prop_oneof![
        Just(Relocation::None),
        Just(Relocation::Auto),
        Just(Relocation::Nowhere),
        (0_u8..6).prop_map(|bar| Relocation::Bar(index(bar))),
    ];
    let own_table = prop::sample::select(vec![OwnTable::Hidden, OwnTable::Mapped]);
    let small = prop::sample::select(vec![SmallBars::Trap, SmallBars::Map]);
    let pba = prop::sample::select(vec![PbaOwner::Emulated, PbaOwner::Device]);
    let page = prop::sample::select(PageSize::ALL.to_vec());
    let traps = prop::collection::vec(traps(), 0..3);
    (prop::array::uniform6(kernel), relocation, own_table, small, pba, page, traps).prop_map(
        |(kernel, relocation, own_table, small_bars, pba, page, traps)| AssignOptions {
            page,
            kernel,
            small_bars,
            pba,
            relocation,
            own_table,
            traps,
        },
    )
}

/// A range of a BAR that may be there.
fn traps() -> impl Strategy<Value = TrapRange> {
    let answers =
        [TrapAnswer::Device, TrapAnswer::Nobody, TrapAnswer::Config, TrapAnswer::TableWindow];
    let answer = prop::sample::select(answers.to_vec());
    (0_u8..4, 0_u64..0x2_0000, 0_u64..0x2000, answer).prop_map(|(bar, start, len, answer)| {
        let start = start >> (len % 14); // small BARs are as likely
        TrapRange { bar: index(bar), range: start..start + len, answer }
    })
}

/// The ranges that a function's BARs have: others are refused, which is tried elsewhere.
pub(super) fn only_inside(options: AssignOptions, bars: &FunctionBars) -> AssignOptions {
    let inside = |trap: &TrapRange| bars.bar(trap.bar).is_some_and(|b| trap.range.end <= b.size);
    AssignOptions { traps: options.traps.into_iter().filter(inside).collect(), ..options }
}

/// Runs cover an access once, in order.
fn covers<T>(runs: impl Iterator<Item = OwnedRange<T>>, offset: u64, len: u64) -> bool {
    let mut at = offset;
    runs.into_iter().all(|run| {
        let follows = run.range.start == at && !run.range.is_empty();
        at = run.range.end;
        follows
    }) && at == offset.saturating_add(len)
}

/// An offset near the start, or anywhere.
fn offsets() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0_u64..0x1100, 2 => 0_u64..0x4_0000, 1 => any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_function_is_refused_or_its_map_is_whole(
        (config, sizes) in spaces(),
        options in options(),
        offset in offsets(),
        len in prop_oneof![0_u64..16, any::<u64>()],
    ) {
        let Ok(bars) = FunctionBars::from_config(&config, sizes) else { return Ok(()) };
        let options = only_inside(options, &bars);
        let Ok(made) = Assigned::new(&config, bars, &options) else { return Ok(()) };
        prop_assert_eq!(made.check(), Ok(()));
        prop_assert!(covers(made.split(offset, len), offset, len));
        for run in made.split(offset, len.min(64)) {
            prop_assert!(run.range.clone().all(|at| made.owner(at) == run.owner));
        }
        for (index, map) in made.bars() {
            prop_assert!(covers(made.trap(index, offset, len), offset, len));
            for run in made.trap(index, offset, len.min(64)) {
                // A byte at a time says the same.
                for at in run.range {
                    let byte: Vec<_> = map.split(at, 1).map(|run| run.owner).collect();
                    prop_assert_eq!(byte, [run.owner]);
                }
            }
        }
    }

    #[test]
    fn the_map_is_that_of_the_oracle(
        (config, sizes) in prop_oneof![1 => spaces(), 3 => tabled()],
        options in options(),
    ) {
        let Ok(bars) = FunctionBars::from_config(&config, sizes) else { return Ok(()) };
        let options = only_inside(options, &bars);
        if let Ok(made) = Assigned::new(&config, bars, &options) {
            oracle::compare(&made, &config, &bars, &options);
        }
    }

    #[test]
    fn no_bytes_are_a_panic(config in prop::collection::vec(any::<u8>(), 0..300), large in any::<bool>()) {
        let mut config = config;
        if large {
            let seed = config.clone();
            config = seed.into_iter().chain([0]).cycle().take(4096).collect();
            config[0x0e] = 0;
            config[0x3d] = 0;
        }
        let made = FunctionBars::from_config(&config, [0x1000, 0, 0, 0, 0, 0])
            .map(|bars| Assigned::new(&config, bars, &AssignOptions::default()));
        if let Ok(Ok(made)) = made {
            prop_assert_eq!(made.check(), Ok(()));
        }
    }
}
