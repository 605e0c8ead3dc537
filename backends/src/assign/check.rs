//! Checks what must hold of every map, from the outside: for tests and fuzzing.

use super::capabilities::{EXTENDED, POINTER};
use super::owned_range::intersection;
use super::places::bytes_of;
use super::{Assigned, BarMap, BarOwner, ConfigOwner};
use msix_core::spec::{CAPABILITY_ID, MSI_CAPABILITY_ID};
use msix_core::{BarIndex, Layout, Region};
use std::ops::Range;
use thiserror::Error;

/// A property of every map that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MapViolation {
    /// A byte of config space that must be emulated is not: a BAR, interrupt line or pin, a pointer
    /// of the chain, MSI or MSI-X.
    #[error("byte {0:#x} of config space is not emulated")]
    NotEmulated(u64),
    /// The runs of a BAR leave a gap or overlap before this offset, or end elsewhere than it.
    #[error("the runs of BAR {bar} do not cover it once at {offset:#x}")]
    Cover {
        /// The BAR.
        bar: u8,
        /// Where.
        offset: u64,
    },
    /// A byte of table or PBA belongs to another.
    #[error("the {region} in BAR {bar} belongs to another at {offset:#x}")]
    Owner {
        /// The BAR.
        bar: u8,
        /// Table or PBA.
        region: Region,
        /// Where.
        offset: u64,
    },
    /// A mapped range is neither of whole pages nor a whole BAR smaller than a page.
    #[error("what is mapped at {offset:#x} of BAR {bar} is not of whole pages")]
    Pages {
        /// The BAR.
        bar: u8,
        /// Where it begins.
        offset: u64,
    },
    /// A mapped range holds bytes that are emulated, hidden or not the device's.
    #[error("what is mapped at {offset:#x} of BAR {bar} is not all the device's")]
    Mapped {
        /// The BAR.
        bar: u8,
        /// Where it begins.
        offset: u64,
    },
    /// A relocated table or PBA overlaps the device's bytes.
    #[error("the relocated {region} at {offset:#x} of BAR {bar} overlaps the device's bytes")]
    Relocated {
        /// The BAR.
        bar: u8,
        /// Table or PBA.
        region: Region,
        /// Where it begins.
        offset: u64,
    },
}

impl Assigned {
    /// Checks the map against its invariants, which hold for every map that
    /// [`new`](Self::new) makes.
    ///
    /// # Errors
    /// [`MapViolation`], the first that is found.
    pub fn check(&self) -> Result<(), MapViolation> {
        self.check_config()?;
        for (index, map) in self.bars() {
            let runs = map.runs().iter().map(|run| run.range.clone());
            cover(index, map, runs)?;
            let mut both: Vec<_> = map.mapped().iter().cloned().chain(map.trapped()).collect();
            both.sort_by_key(|range| range.start);
            cover(index, map, both.into_iter())?;
            self.check_mapped(index, map)?;
            if let Some(layout) = self.msix() {
                self.check_msix(index, map, &layout)?;
            }
        }
        Ok(())
    }

    fn check_config(&self) -> Result<(), MapViolation> {
        let mut emulated = vec![0x10..0x28, 0x30..0x34, u64::from(POINTER)..0x35, 0x3c..0x3e];
        for capability in &self.capabilities {
            let (at, end) = (u64::from(capability.at), u64::from(capability.end()));
            let whole = [CAPABILITY_ID, MSI_CAPABILITY_ID].map(u16::from).contains(&capability.id);
            emulated.push(match capability.at {
                EXTENDED => at..at + 4,
                _ if capability.is_extended() => at + 3..at + 4,
                _ if whole => at..end,
                _ => at + 1..at + 2,
            });
        }
        match emulated.into_iter().flatten().find(|&at| self.owner(at) != ConfigOwner::Emulated) {
            Some(at) => Err(MapViolation::NotEmulated(at)),
            None => Ok(()),
        }
    }

    fn check_mapped(&self, index: BarIndex, map: &BarMap) -> Result<(), MapViolation> {
        let (bar, page) = (index.index(), self.page.bytes());
        let size = self.own.bar(index).map_or(0, |bar| bar.size);
        for range in map.mapped() {
            let offset = range.start;
            let pages = offset.is_multiple_of(page) && range.end.is_multiple_of(page);
            if !pages && *range != (0..map.bar().size) {
                return Err(MapViolation::Pages { bar, offset });
            }
            let mut owners = map.split(offset, range.end - offset).map(|run| run.owner);
            let guest = self.msix().map_or(0..0, |guest| bytes_of(&guest, Region::Table, index));
            let own = self.msix.map_or(0..0, |msix| msix.own.table_in(index));
            let is_hidden = self.msix.is_some_and(|msix| msix.moved() && !msix.exposed);
            let table = shares(&guest, range) || is_hidden && shares(&own, range);
            if range.end > size || table || owners.any(|owner| owner != BarOwner::Device) {
                return Err(MapViolation::Mapped { bar, offset });
            }
        }
        Ok(())
    }

    fn check_msix(
        &self,
        index: BarIndex,
        map: &BarMap,
        layout: &Layout,
    ) -> Result<(), MapViolation> {
        let bar = index.index();
        let own = self.own.bar(index).map_or(0, |bar| bar.size);
        let moved = self.own_msix() != Some(Ok(*layout));
        for region in [Region::Table, Region::Pba] {
            let bytes = bytes_of(layout, region, index);
            let offset = bytes.start;
            if moved && shares(&bytes, &(0..own)) {
                return Err(MapViolation::Relocated { bar, region, offset });
            }
            for run in map.split(offset, bytes.end - offset) {
                let right = match (region, run.owner) {
                    (Region::Table, BarOwner::Table) | (Region::Pba, BarOwner::Pba) => true,
                    (_, BarOwner::Table | BarOwner::Pba) | (Region::Table, _) => false,
                    // Its own, if that was chosen, and what traps there for another reason.
                    (Region::Pba, _) => !moved,
                };
                if !right {
                    return Err(MapViolation::Owner { bar, region, offset: run.range.start });
                }
            }
        }
        // Nothing else is table or PBA.
        for run in map.runs() {
            let region = match run.owner {
                BarOwner::Table => Region::Table,
                BarOwner::Pba => Region::Pba,
                _ => continue,
            };
            if run.range != bytes_of(layout, region, index) {
                return Err(MapViolation::Owner { bar, region, offset: run.range.start });
            }
        }
        Ok(())
    }
}

/// Checks that the ranges cover the BAR, in order, each byte once.
fn cover(
    index: BarIndex,
    map: &BarMap,
    ranges: impl Iterator<Item = Range<u64>>,
) -> Result<(), MapViolation> {
    let mut covered = 0;
    for range in ranges {
        if range.start != covered || range.is_empty() {
            return Err(MapViolation::Cover { bar: index.index(), offset: covered });
        }
        covered = range.end;
    }
    if covered == map.bar().size {
        Ok(())
    } else {
        Err(MapViolation::Cover { bar: index.index(), offset: covered })
    }
}

fn shares(one: &Range<u64>, other: &Range<u64>) -> bool {
    !intersection(one, other).is_empty()
}
