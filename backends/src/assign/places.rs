//! Decides where the guest sees table and PBA, and maps the BARs by it.

use super::bar_map::{self, FunctionBars};
use super::error::AssignError;
use super::options::{AssignOptions, PbaOwner};
use super::own_msix::OwnMsix;
use super::owned_range::Tiles;
use super::pages::{BarMap, BarOwner};
use super::relocation::{self, OwnTable, Relocation, RelocationPlan};
use super::trap_range;
use msix_core::spec::ISOLATION;
use msix_core::{BarIndex, Layout, Region};
use std::ops::Range;

/// The places of table and PBA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MsixPlaces {
    /// Where the device claims to have them.
    pub(super) own: OwnMsix,
    /// Where the guest sees them; `None` if MSI-X is hidden from it.
    pub(super) guest: Option<Layout>,
    /// Whether the device's own table may be seen too.
    pub(super) exposed: bool,
}

impl MsixPlaces {
    fn new(own: OwnMsix, guest: Option<Layout>, options: &AssignOptions) -> Self {
        let bar = own.table.map(|place| usize::from(place.bar.index()));
        let kernel = bar.and_then(|bar| options.kernel.get(bar));
        let mappable = kernel.is_some_and(|kernel| kernel.msix_mappable);
        Self { own, guest, exposed: mappable && options.own_table == OwnTable::Mapped }
    }

    /// Returns whether the guest sees other places than the device claims, or none.
    pub(super) fn moved(&self) -> bool {
        self.guest.is_none_or(|guest| self.own.layout != Ok(guest))
    }

    /// Returns the bytes of the device's own table in BAR `index` that are hidden from the guest.
    pub(super) fn hidden(&self, index: BarIndex) -> Range<u64> {
        if self.moved() && !self.exposed { self.own.table_in(index) } else { 0..0 }
    }
}

pub(super) type Maps = [Option<BarMap>; 6];

/// Returns where the guest sees table and PBA, and its BARs.
pub(super) fn place(
    own: Option<OwnMsix>,
    bars: &FunctionBars,
    options: &AssignOptions,
) -> Result<(Option<MsixPlaces>, Maps), AssignError> {
    trap_range::check(&options.traps, bars)?;
    let Some(own) = own else {
        return match options.relocation {
            Relocation::Bar(_) => Err(AssignError::NothingToRelocate),
            _ => Ok((None, maps(None, bars, bars, options))),
        };
    };
    let with = |guest, guest_bars: &FunctionBars| {
        let msix = Some(MsixPlaces::new(own, guest, options));
        (msix, maps(msix, bars, guest_bars, options))
    };
    let moved = |plan: RelocationPlan| with(Some(plan.layout), &plan.bars);
    match options.relocation {
        Relocation::None => Ok(with(Some(own.layout?), bars)),
        Relocation::Nowhere => Ok(with(None, bars)),
        Relocation::Bar(to) => Ok(moved(relocation::plan(own.vectors, bars, to, options.page)?)),
        Relocation::Auto => {
            let moving = relocation::automatic(own.vectors, bars, options.page).map(moved);
            let staying = own.layout.map(|layout| (with(Some(layout), bars), layout));
            match (staying, moving) {
                (Ok((staying, layout)), Some(moving)) => {
                    let more = useful(&moving.1, &layout) > useful(&staying.1, &layout);
                    Ok(if more { moving } else { staying })
                }
                (Ok((staying, _)), None) => Ok(staying),
                (Err(_), Some(moving)) => Ok(moving),
                (Err(error), None) => Err(error),
            }
        }
    }
}

fn maps(
    msix: Option<MsixPlaces>,
    own: &FunctionBars,
    guest: &FunctionBars,
    options: &AssignOptions,
) -> Maps {
    let mut maps = [const { None }; 6];
    for ((index, kernel), map) in bar_map::indexes().zip(&options.kernel).zip(&mut maps) {
        let Some(bar) = guest.bar(index).map(|bar| bar.seen()) else { continue };
        let size = own.bar(index).map_or(0, |bar| bar.size);
        let mut tiles = Tiles::new(bar.size, BarOwner::Nobody);
        tiles.give(0..size, BarOwner::Device);
        for trap in options.traps.iter().filter(|trap| trap.bar == index) {
            tiles.give(trap.range.clone(), trap.owner());
        }
        if let Some(msix) = msix {
            tiles.give(msix.hidden(index), BarOwner::Nobody);
            if let Some(layout) = msix.guest {
                tiles.give(bytes_of(&layout, Region::Table, index), BarOwner::Table);
                if msix.moved() || options.pba == PbaOwner::Emulated {
                    tiles.give(bytes_of(&layout, Region::Pba, index), BarOwner::Pba);
                }
            }
        }
        let areas = kernel.areas(size);
        *map = Some(BarMap::new(bar, tiles, &areas, options.page, options.small_bars));
    }
    maps
}

/// Returns how many bytes are mapped, without the 4 KiB blocks of the device's table and PBA, in
/// which nothing else may be (A2).
fn useful(maps: &Maps, own: &Layout) -> u128 {
    let mut useful = 0;
    for (index, map) in bar_map::indexes().zip(maps) {
        let Some(map) = map else { continue };
        let mut tiles = Tiles::new(map.bar().size, false);
        map.mapped().iter().for_each(|range| tiles.give(range.clone(), true));
        for region in [Region::Table, Region::Pba] {
            let Range { start, end } = bytes_of(own, region, index);
            tiles.give(start - start % ISOLATION..end.next_multiple_of(ISOLATION), false);
        }
        useful += tiles
            .runs()
            .iter()
            .filter(|run| run.owner)
            .map(|run| u128::from(run.range.end - run.range.start))
            .sum::<u128>();
    }
    useful
}

/// Returns the bytes of table or PBA in BAR `index`; none if it is in another.
pub(super) fn bytes_of(layout: &Layout, region: Region, index: BarIndex) -> Range<u64> {
    let place = layout.location(region);
    if place.bar == index { place.offset..place.offset + layout.len(region) } else { 0..0 }
}
