//! Passed-through functions whose config space nobody has checked.

use arbitrary::{Arbitrary, Unstructured};
use msix_backends::assign::{
    AssignOptions, Assigned, Bar, BarKind, BarMap, BarOwner, ConfigOwner, FunctionBars, KernelBar,
    Mappable, Masks, OwnTable, OwnedRange, PageSize, PbaOwner, Relocation, SmallBars, TrapAnswer,
    TrapRange,
};
use msix_core::spec::{CAPABILITY_ID, MSI_CAPABILITY_ID};
use msix_core::{BarIndex, Layout, Region};

/// What comes before the bytes of config space.
#[derive(Debug, Arbitrary)]
struct Wanted {
    /// Bits 5:0 log2 of the size of each BAR, 0 if it is not there; bits 7:6 what it decodes: as its
    /// register says, 32-bit memory, 64-bit memory, ports. The registers decide when they do for one.
    bars: [u8; 6],
    /// Bits 1:0 what the kernel lets of each region be mapped: nothing, all, or `areas`; bit 2 the
    /// table's pages too.
    kernel: [u8; 6],
    /// Start and length.
    areas: [(u64, u64); 3],
    /// Bits 1:0 the page size, bit 2 small BARs are mapped, bit 3 the device's own PBA, bit 4 its own
    /// table is mapped; bits 7:5 the relocation: to a BAR, none or automatic.
    options: u8,
    /// Bits 1:0 the size of config space: 256, 4096, or as many bytes as there are. Bit 2: areas and
    /// accesses are as large as they come. Bit 3: MSI-X is hidden. Bits 6:4: the first of `areas`
    /// traps in the BAR before this one, and what is known of the device does; at 0 and 7 nothing.
    /// Bit 7: who answers there, with bit 0 of the area's start.
    size: u8,
    /// Offset and length.
    accesses: [(u64, u64); 4],
}

/// Maps a function that is passed through, and asks the map the same in several ways.
///
/// The bytes: what is wanted (117, in the encoding of `arbitrary`), then config space, with zeros
/// behind it up to its size.
///
/// # Panics
/// When the map breaks an invariant, or its answers contradict each other or config space.
pub fn assign(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let Ok(mut wanted) = Wanted::arbitrary(&mut bytes) else { return };
    let mut config = bytes.take_rest().to_vec();
    match wanted.size & 3 {
        0 => config.resize(256, 0),
        1 => config.resize(4096, 0),
        _ => {}
    }
    if wanted.size & 4 == 0 {
        // Small numbers are where something is.
        for (start, len) in &mut wanted.areas {
            (*start, *len) = (*start % 0x2_0000, *len % 0x2_0000);
        }
        for (offset, len) in &mut wanted.accesses {
            (*offset, *len) = (*offset % 0x2_0000, *len % 0x100);
        }
    }
    let Some(bars) = bars(&config, wanted.bars) else { return };
    let mut options = options(&wanted);
    if let Ok(bar) = BarIndex::new((wanted.size >> 4 & 7).wrapping_sub(1)) {
        let (start, len) = wanted.areas[0];
        let answer = match (wanted.size & 0x80 != 0, start & 1 != 0) {
            (false, false) => TrapAnswer::Device,
            (false, true) => TrapAnswer::Nobody,
            (true, false) => TrapAnswer::Config,
            (true, true) => TrapAnswer::TableWindow,
        };
        options.traps = TrapRange::known(&config, &bars);
        options.traps.push(TrapRange { bar, range: start..start.saturating_add(len), answer });
    }
    let made = match Assigned::new(&config, bars, &options) {
        Ok(made) => made,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(made.check(), Ok(()));
    parts(&made, &config, &bars, &options);
    for at in 0..=config.len() as u64 {
        masks(made.masks(at), made.owner(at));
    }
    let small = |(offset, len): (u64, u64)| [(offset, len), (offset % 0x1100, len % 0x20)];
    for (offset, len) in wanted.accesses.into_iter().flat_map(small) {
        config_access(&made, config.len() as u64, offset, len);
        for index in indexes() {
            bar_access(&made, index, offset, len);
        }
    }
    for (index, map) in made.bars() {
        hidden(&made, index, &options);
        trapped(&made, index, &options);
        for run in map.runs() {
            bar_access(&made, index, run.range.start.saturating_sub(5), 9);
            bar_access(&made, index, run.range.end - 1, 9);
        }
    }
}

fn indexes() -> impl Iterator<Item = BarIndex> {
    (0..6).filter_map(|index| BarIndex::new(index).ok())
}

/// The BARs, if there can be such.
fn bars(config: &[u8], wanted: [u8; 6]) -> Option<FunctionBars> {
    let size = |bar: u8| if bar & 0x3f == 0 { 0 } else { 1_u64 << (bar & 0x3f) };
    let kinds = [BarKind::Memory32, BarKind::Memory64, BarKind::Io];
    let kind = |bar: u8| usize::from(bar >> 6).checked_sub(1).and_then(|kind| kinds.get(kind));
    if wanted.iter().any(|&bar| size(bar) != 0 && kind(bar).is_none()) {
        return FunctionBars::from_config(config, wanted.map(size)).ok();
    }
    let bar = |bar: u8| kind(bar).filter(|_| size(bar) != 0).map(|&k| Bar::new(k, size(bar)));
    FunctionBars::new(wanted.map(bar)).ok()
}

fn options(wanted: &Wanted) -> AssignOptions {
    let areas: Vec<_> =
        wanted.areas.iter().map(|&(start, len)| start..start.saturating_add(len)).collect();
    let kernel = wanted.kernel.map(|kernel| KernelBar {
        mappable: match kernel & 3 {
            0 => Mappable::Nothing,
            1 => Mappable::Whole,
            _ => Mappable::Areas(areas.clone()),
        },
        msix_mappable: kernel & 4 != 0,
    });
    let bit = |bit: u8| wanted.options & bit != 0;
    let mut options = AssignOptions::default();
    options.page = match wanted.options & 3 {
        1 => PageSize::Kib16,
        2 => PageSize::Kib64,
        _ => PageSize::Kib4,
    };
    options.kernel = kernel;
    options.small_bars = if bit(4) { SmallBars::Map } else { SmallBars::Trap };
    options.pba = if bit(8) { PbaOwner::Device } else { PbaOwner::Emulated };
    options.own_table = if bit(16) { OwnTable::Mapped } else { OwnTable::Hidden };
    options.relocation = match BarIndex::new(wanted.options >> 5) {
        _ if wanted.size & 8 != 0 => Relocation::Nowhere,
        Ok(index) => Relocation::Bar(index),
        Err(_) if bit(32) => Relocation::Auto,
        Err(_) => Relocation::None,
    };
    options
}

/// What was found is what config space says.
fn parts(made: &Assigned, config: &[u8], bars: &FunctionBars, options: &AssignOptions) {
    for capability in made.capabilities() {
        let bytes = &config[usize::from(capability.at)..];
        let mask = if capability.is_extended() { 0xffff } else { 0xff };
        assert_eq!(u16::from_le_bytes([bytes[0], bytes[1]]) & mask, capability.id);
        assert!(bytes.len() >= usize::from(capability.len), "{capability:?}");
    }
    assert_eq!(made.msi().is_some(), made.capability(MSI_CAPABILITY_ID).is_some());
    let body = made.capability(CAPABILITY_ID).map(|found| &config[usize::from(found.at)..]);
    let own = body
        .and_then(|body| body.first_chunk())
        .map(|body| Layout::from_capability(body, &bars.memory_sizes()).ok());
    assert_eq!(made.own_msix().map(Result::ok), own);
    match (made.msix(), options.relocation) {
        (guest, Relocation::None) => assert_eq!(guest, own.flatten()),
        (guest, Relocation::Nowhere) => assert_eq!(guest, None),
        (Some(guest), Relocation::Bar(to)) => {
            assert_eq!([Region::Table, Region::Pba].map(|r| guest.location(r).bar), [to; 2]);
        }
        (guest, _) => {
            let vectors = body.map(|body| (u16::from_le_bytes([body[2], body[3]]) & 0x7ff) + 1);
            assert_eq!(guest.map(|g| g.vectors()), vectors);
        }
    }
    // The chain as the guest reads it is that of the device, but for a hidden MSI-X.
    let mut to = 0;
    for (from, at) in made.pointers() {
        assert_eq!(made.owner(from.into()), ConfigOwner::Emulated);
        assert!(to == 0 || from == to + 1, "{from:#x}");
        to = u16::from(at);
        let id = config[usize::from(to)];
        assert!(to == 0 || id != CAPABILITY_ID || made.msix().is_some(), "{to:#x}");
    }
    assert_eq!(to, 0);
}

/// A byte of config space is answered by whom its owner says.
fn masks(masks: Masks, owner: ConfigOwner) {
    assert_eq!(masks.owner(), owner);
    let (read, written) = (masks.to_guest(0x5a, 0xa5), masks.to_device(0x5a, 0xa5));
    match owner {
        ConfigOwner::Emulated => assert_eq!((read, written), (0x5a, None)),
        ConfigOwner::Passed => assert_eq!((read, written), (0xa5, Some(0x5a))),
        ConfigOwner::Both => assert_eq!(written.is_none(), masks.write == 0),
    }
}

/// Most bytes of a run that are asked for one by one.
const BYTES: usize = 64;

fn config_access(made: &Assigned, size: u64, offset: u64, len: u64) {
    covers(made.split(offset, len), offset, len);
    for run in made.split(offset, len) {
        for at in run.range.take(BYTES) {
            assert_eq!(made.owner(at), run.owner, "{at:#x}");
            assert!(at < size || run.owner == ConfigOwner::Emulated, "{at:#x}");
        }
    }
}

fn bar_access(made: &Assigned, index: BarIndex, offset: u64, len: u64) {
    let Some(map) = made.bar(index) else {
        assert_eq!(made.trap(index, offset, len).count(), 0);
        return;
    };
    covers(made.trap(index, offset, len), offset, len);
    assert!(made.trap(index, offset, len).eq(map.split(offset, len)));
    for run in made.trap(index, offset, len) {
        for at in run.range.take(BYTES) {
            let byte: Vec<_> = made.trap(index, at, 1).map(|run| run.owner).collect();
            assert!(byte == [run.owner], "BAR {index:?} at {at:#x}: {byte:?}, not {:?}", run.owner);
            byte_of(made, index, map, at, run.owner);
        }
    }
}

/// The owner of a byte of a BAR is what layout, runs and memory slots say.
fn byte_of(made: &Assigned, index: BarIndex, map: &BarMap, at: u64, owner: BarOwner) {
    let found = map.runs().iter().find(|run| run.range.contains(&at)).map(|run| run.owner);
    assert_eq!(found.unwrap_or(BarOwner::Nobody), owner, "BAR {index:?} at {at:#x}");
    let region = made.msix().and_then(|layout| layout.locate(index, at)).map(|found| found.0);
    let right = match owner {
        BarOwner::Table => region == Some(Region::Table),
        BarOwner::Pba => region == Some(Region::Pba),
        // The device may have its own PBA.
        BarOwner::Device => region != Some(Region::Table),
        // A range that traps may be over the device's own PBA.
        _ => region != Some(Region::Table),
    };
    assert!(right, "BAR {index:?} at {at:#x}: {region:?} is {owner:?}'s");
    let mapped = map.mapped().iter().any(|range| range.contains(&at));
    let trapped = map.trapped().any(|range| range.contains(&at));
    assert_eq!(mapped || trapped, at < map.bar().size);
    assert!(!(mapped && trapped), "BAR {index:?} at {at:#x} is mapped and traps");
    assert!(!mapped || owner == BarOwner::Device, "BAR {index:?} at {at:#x} is mapped");
}

/// After a relocation the device's own table is nobody's, unless it may be seen.
fn hidden(made: &Assigned, index: BarIndex, options: &AssignOptions) {
    let kernel = &options.kernel[usize::from(index.index())];
    let seen = options.own_table == OwnTable::Mapped && kernel.msix_mappable;
    let own = made.own_msix().and_then(Result::ok).filter(|own| made.msix() != Some(*own));
    let place = own.map(|own| (own.location(Region::Table), own.len(Region::Table)));
    if let Some((place, len)) = place.filter(|(place, _)| place.bar == index && !seen) {
        assert_eq!(made.hidden(), Some((index, place.offset..place.offset + len)));
    }
    if let Some((bar, range)) = made.hidden().filter(|(bar, _)| *bar == index) {
        let mut runs = made.trap(bar, range.start, range.end - range.start);
        assert!(runs.all(|run| run.owner == BarOwner::Nobody), "BAR {index:?}");
    }
}

/// What must trap is not mapped.
fn trapped(made: &Assigned, index: BarIndex, options: &AssignOptions) {
    for trap in options.traps.iter().filter(|trap| trap.bar == index) {
        let shared = |mapped: &std::ops::Range<u64>| {
            mapped.start < trap.range.end && trap.range.start < mapped.end && !trap.range.is_empty()
        };
        assert!(!made.bar(index).is_some_and(|map| map.mapped().iter().any(shared)), "{trap:x?}");
    }
}

/// Runs cover an access once, in order.
fn covers<T>(runs: impl Iterator<Item = OwnedRange<T>>, offset: u64, len: u64) {
    let mut at = offset;
    for run in runs {
        assert!(run.range.start == at && !run.range.is_empty(), "{:#x?}", run.range);
        at = run.range.end;
    }
    assert_eq!(at, offset.saturating_add(len));
}
