//! Maps the bytes of a passed-through function to their owners. Pure, without I/O.
//!
//! From what a VMM reads from a real function, [`Assigned`] computes for every byte of config space
//! whether the VMM or the device answers it ([`ConfigOwner`], [`Masks`]), and for every byte of a
//! BAR whether it may be mapped to the guest, and who handles an access that traps ([`BarMap`]).
//! The function's bytes are not trusted: what is invalid is refused ([`AssignError`]).
//!
//! ```
//! use msix_backends::assign::{Assigned, BarOwner, FunctionBars, KernelBar, AssignOptions, ConfigOwner};
//! use msix_core::BarIndex;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut config = [0; 256];
//! # config[0x06] = 0x10;
//! # config[0x34] = 0x40;
//! # config[0x40..0x4c].copy_from_slice(&[0x11, 0, 15, 0, 0, 0x30, 0, 0, 0, 0x38, 0, 0]);
//! // Region 7 of the VFIO device, and the sizes of regions 0 to 5.
//! let bars = FunctionBars::from_config(&config, [0x4000, 0, 0, 0, 0, 0])?;
//! let mut options = AssignOptions::default();
//! options.kernel[0] = KernelBar::whole();
//! let function = Assigned::new(&config, bars, &options)?;
//!
//! assert_eq!(function.owner(0x00), ConfigOwner::Passed); // vendor id
//! assert_eq!(function.owner(0x04), ConfigOwner::Both); // Command
//! assert_eq!(function.owner(0x42), ConfigOwner::Emulated); // Message Control of MSI-X
//! assert_eq!(function.msix().map(|layout| layout.vectors()), Some(16));
//!
//! // Table and PBA share the last page; the ones before it may be memory slots.
//! let slots: Vec<_> = function.mapped().collect();
//! assert_eq!(slots, [(BarIndex::new(0)?, 0..0x3000)]);
//! let owners: Vec<_> =
//!     function.trap(BarIndex::new(0)?, 0x30fc, 8).map(|run| (run.range, run.owner)).collect();
//! assert_eq!(owners, [(0x30fc..0x3100, BarOwner::Table), (0x3100..0x3104, BarOwner::Device)]);
//! # Ok(())
//! # }
//! ```
//!
//! An expansion ROM is not mapped: its BAR is emulated, and it is read once.

mod bar_map;
mod capabilities;
mod check;
mod config;
mod error;
mod kernel;
mod owned_range;
mod pages;
mod relocation;
mod rules;
#[cfg(test)]
mod tests;

pub use bar_map::{Bar, BarError, BarKind, FunctionBars};
pub use capabilities::Capability;
pub use check::MapViolation;
pub use config::{ConfigOwner, Masks};
pub use error::AssignError;
pub use kernel::{KernelBar, Mappable};
pub use owned_range::OwnedRange;
pub use pages::{BarMap, BarOwner, PageSize, SmallBars};
pub use relocation::{OwnTable, Relocation};

use capabilities::{byte, rest};
use config::ConfigMap;
use msix_core::spec::{CAPABILITY_ID, ISOLATION, MSI_CAPABILITY_ID};
use msix_core::{BarIndex, Layout, MsiCapability, Region};
use owned_range::{Tiles, intersection};
use relocation::RelocationPlan;
use std::ops::Range;

/// The owner of the pending bits that the guest reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PbaOwner {
    /// The engine: the guest sees the pending bits of the vectors that it programmed.
    #[default]
    Emulated,
    /// The device: the guest reads its PBA (D11). A relocated PBA is emulated all the same.
    Device,
}

/// An interrupt pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pin {
    /// INTA.
    A,
    /// INTB.
    B,
    /// INTC.
    C,
    /// INTD.
    D,
}

/// The caller's choices, and what the kernel reports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AssignOptions {
    /// The size of the host's pages.
    pub page: PageSize,
    /// The kernel's reports of VFIO's regions 0 to 5; by default nothing may be mapped.
    pub kernel: [KernelBar; 6],
    /// What becomes of BARs smaller than a page.
    pub small_bars: SmallBars,
    /// The owner of the pending bits.
    pub pba: PbaOwner,
    /// Where the guest sees table and PBA.
    pub relocation: Relocation,
    /// What becomes of the device's own table, if that is elsewhere.
    pub own_table: OwnTable,
}

/// The map of a passed-through function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    config: ConfigMap,
    capabilities: Vec<Capability>,
    pin: Option<Pin>,
    msi: Option<MsiCapability>,
    msix: Option<MsixPlaces>,
    page: PageSize,
    own: FunctionBars,
    maps: [Option<BarMap>; 6],
}

/// The places of table and PBA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MsixPlaces {
    /// Where the device has them.
    own: Layout,
    /// Where the guest sees them.
    guest: Layout,
    /// Whether the device's own may be seen too.
    exposed: bool,
}

impl Assigned {
    /// Makes the map of a function from its `config` space, 256 or 4096 bytes as read from the
    /// device, and its BARs.
    ///
    /// # Errors
    /// [`AssignError`], which names what is wrong with the function, or with the relocation.
    pub fn new(
        config: &[u8],
        bars: FunctionBars,
        options: &AssignOptions,
    ) -> Result<Self, AssignError> {
        let header = byte(config, 0x0e);
        if ![256, 4096].contains(&config.len()) {
            return Err(AssignError::ConfigSize(config.len()));
        }
        if config.starts_with(&[0xff; 4]) {
            return Err(AssignError::NoDevice);
        }
        if header & 0x7f != 0 {
            return Err(AssignError::HeaderType(header));
        }
        let pin = match byte(config, 0x3d) {
            0 => None,
            1 => Some(Pin::A),
            2 => Some(Pin::B),
            3 => Some(Pin::C),
            4 => Some(Pin::D),
            other => return Err(AssignError::Pin(other)),
        };
        let capabilities = capabilities::capabilities(config)?;
        let find = |id| find(&capabilities, u16::from(id)).map(|c| rest(config, c.at));
        let msi = match find(MSI_CAPABILITY_ID) {
            Some(body) => {
                let control = u16::from_le_bytes([byte(body, 2), byte(body, 3)]);
                Some(MsiCapability::from_control(control)?)
            }
            None => None,
        };
        let own = match find(CAPABILITY_ID).and_then(|body| body.first_chunk()) {
            Some(body) => Some(layout(body, &bars)?),
            None => None,
        };
        let (msix, maps) = bar_maps(own, &bars, options)?;
        let config = ConfigMap::new(config.len(), &capabilities);
        Ok(Self { config, capabilities, pin, msi, msix, page: options.page, own: bars, maps })
    }

    /// Returns the owner of byte `offset` of config space. Bytes past the end are emulated.
    #[must_use]
    pub fn owner(&self, offset: u64) -> ConfigOwner {
        self.masks(offset).owner()
    }

    /// Returns the owners of the bits of byte `offset` of config space.
    #[must_use]
    pub fn masks(&self, offset: u64) -> Masks {
        self.config.masks(offset)
    }

    /// Splits an access to config space, of any offset and width, into runs of one owner, in order.
    pub fn split(&self, offset: u64, len: u64) -> impl Iterator<Item = OwnedRange<ConfigOwner>> {
        self.config.split(offset, len)
    }

    /// Returns the capabilities, in the order of the chains.
    #[must_use]
    pub fn capabilities(&self) -> &[Capability] {
        &self.capabilities
    }

    /// Returns the first capability with this id that is not an extended one.
    #[must_use]
    pub fn capability(&self, id: u8) -> Option<Capability> {
        find(&self.capabilities, u16::from(id))
    }

    /// Returns table and PBA as the guest sees them.
    #[must_use]
    pub fn msix(&self) -> Option<Layout> {
        self.msix.map(|msix| msix.guest)
    }

    /// Returns table and PBA as the device has them.
    #[must_use]
    pub fn own_msix(&self) -> Option<Layout> {
        self.msix.map(|msix| msix.own)
    }

    /// Returns the MSI capability.
    #[must_use]
    pub const fn msi(&self) -> Option<MsiCapability> {
        self.msi
    }

    /// Returns the interrupt pin.
    #[must_use]
    pub const fn pin(&self) -> Option<Pin> {
        self.pin
    }

    /// Returns BAR `index` as the guest sees it, if it is there.
    #[must_use]
    pub fn bar(&self, index: BarIndex) -> Option<&BarMap> {
        self.maps.get(usize::from(index.index()))?.as_ref()
    }

    /// Returns the BARs that the guest sees, in order.
    pub fn bars(&self) -> impl Iterator<Item = (BarIndex, &BarMap)> {
        bar_map::indexes().filter_map(|index| Some((index, self.bar(index)?)))
    }

    /// Returns what may be mapped: one memory slot for each range, at the same offset of the
    /// guest's BAR and of the device's region.
    pub fn mapped(&self) -> impl Iterator<Item = (BarIndex, Range<u64>)> {
        self.bars()
            .flat_map(|(index, map)| map.mapped().iter().map(move |run| (index, run.clone())))
    }

    /// Splits an access to `len` bytes at `offset` of BAR `index` into runs of one owner, in order.
    /// There are none for a BAR that is not there.
    pub fn trap(
        &self,
        index: BarIndex,
        offset: u64,
        len: u64,
    ) -> impl Iterator<Item = OwnedRange<BarOwner>> {
        self.bar(index).into_iter().flat_map(move |map| map.split(offset, len))
    }
}

fn find(capabilities: &[Capability], id: u16) -> Option<Capability> {
    capabilities.iter().find(|c| c.id == id && !c.is_extended()).copied()
}

fn layout(body: &[u8; 12], bars: &FunctionBars) -> Result<Layout, AssignError> {
    let ports = |bar| bars.bar(bar).is_some_and(|bar| !bar.is_memory());
    for (region, byte) in [(Region::Table, body[4]), (Region::Pba, body[8])] {
        match BarIndex::new(byte & 7) {
            Ok(bar) if ports(bar) => return Err(AssignError::InPorts { region, bar }),
            _ => {}
        }
    }
    Ok(Layout::from_capability(body, &bars.memory_sizes())?)
}

type Maps = [Option<BarMap>; 6];

/// Returns where the guest sees table and PBA, and its BARs.
fn bar_maps(
    own: Option<Layout>,
    bars: &FunctionBars,
    options: &AssignOptions,
) -> Result<(Option<MsixPlaces>, Maps), AssignError> {
    let stay = own.map(|own| MsixPlaces { own, guest: own, exposed: false });
    let relocated = |own: Layout, plan: RelocationPlan| {
        let table = usize::from(own.location(Region::Table).bar.index());
        let mappable = options.kernel.get(table).is_some_and(|kernel| kernel.msix_mappable);
        let exposed = mappable && options.own_table == OwnTable::Mapped;
        let msix = MsixPlaces { own, guest: plan.layout, exposed };
        (Some(msix), maps(Some(msix), bars, &plan.bars, options))
    };
    match (options.relocation, own) {
        (Relocation::Bar(_), None) => Err(AssignError::NothingToRelocate),
        (Relocation::Bar(to), Some(own)) => {
            Ok(relocated(own, relocation::plan(&own, bars, to, options.page)?))
        }
        (Relocation::Auto, Some(own)) => {
            let staying = (stay, maps(stay, bars, bars, options));
            let moving =
                relocation::automatic(&own, bars, options.page).map(|plan| relocated(own, plan));
            let gain = |maps: &Maps| useful(maps, &own);
            Ok(match moving {
                Some(moving) if gain(&moving.1) > gain(&staying.1) => moving,
                _ => staying,
            })
        }
        (Relocation::None, _) | (_, None) => Ok((stay, maps(stay, bars, bars, options))),
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
        let Some(bar) = guest.bar(index) else { continue };
        let size = own.bar(index).map_or(0, |bar| bar.size);
        let mut tiles = Tiles::new(bar.size, BarOwner::Nobody);
        tiles.give(0..size, BarOwner::Device);
        if let Some(msix) = msix {
            let moved = msix.own != msix.guest;
            if moved && !msix.exposed {
                tiles.give(bytes_of(&msix.own, Region::Table, index), BarOwner::Nobody);
            }
            tiles.give(bytes_of(&msix.guest, Region::Table, index), BarOwner::Table);
            if moved || options.pba == PbaOwner::Emulated {
                tiles.give(bytes_of(&msix.guest, Region::Pba, index), BarOwner::Pba);
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
fn bytes_of(layout: &Layout, region: Region, index: BarIndex) -> Range<u64> {
    let place = layout.location(region);
    if place.bar == index { place.offset..place.offset + layout.len(region) } else { 0..0 }
}
