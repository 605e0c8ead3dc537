//! Maps the bytes of a passed-through function to their owners. Pure, without I/O.
//!
//! From what a VMM reads from a real function, [`Assigned`] computes for every byte of config space
//! whether the VMM or the device answers it ([`ConfigOwner`], [`Masks`]), and for every byte of a
//! BAR whether it may be mapped to the guest, and who handles an access that traps ([`BarMap`]).
//! The function's bytes are not trusted: what is invalid is refused ([`AssignError`]).
//!
//! Real functions have their faults, and these are the remedies:
//!
//! - A table or PBA that cannot be where the device claims it matters only where the guest would see
//!   it. [`Relocation::Auto`] gives the guest another, and [`Relocation::Nowhere`] hides MSI-X and
//!   leaves MSI and INTx. [`Assigned::own_msix`] tells what is wrong.
//! - Registers that the VMM emulates may be reached by another way: a window to the table, a mirror
//!   of config space. [`AssignOptions::traps`] takes such ranges with the answer to them;
//!   [`TrapRange::known`] returns those that are known from public documentation.
//! - Ports of 1 or 2 bytes, as of IDE functions at their fixed ports, are 4 bytes to the guest, of
//!   which the rest has no owner. Reserved bits in capability pointers are masked.
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
mod options;
mod own_msix;
mod owned_range;
mod pages;
mod places;
mod relocation;
mod rules;
mod table_window;
#[cfg(test)]
mod tests;
mod trap_range;

pub use bar_map::{Bar, BarError, BarKind, FunctionBars};
pub use capabilities::Capability;
pub use check::MapViolation;
pub use config::{ConfigOwner, Masks};
pub use error::AssignError;
pub use kernel::{KernelBar, Mappable};
pub use options::{AssignOptions, PbaOwner};
pub use owned_range::OwnedRange;
pub use pages::{BarMap, BarOwner, PageSize, SmallBars};
pub use relocation::{OwnTable, Relocation};
pub use table_window::{TableWindow, WindowAccess};
pub use trap_range::{TrapAnswer, TrapRange};

use capabilities::{POINTER, byte, rest};
use config::ConfigMap;
use msix_core::spec::{CAPABILITY_ID, MSI_CAPABILITY_ID};
use msix_core::{BarIndex, Layout, MsiCapability};
use own_msix::OwnMsix;
use places::{Maps, MsixPlaces};
use std::ops::Range;

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
    maps: Maps,
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
        let claimed = find(CAPABILITY_ID).and_then(|body| body.first_chunk());
        let own = claimed.map(|body| OwnMsix::new(body, &bars));
        let (msix, maps) = places::place(own, &bars, options)?;
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

    /// Returns the pointers of the first chain as the guest reads them: where each is in config
    /// space, and its value. They are emulated. A hidden MSI-X ([`Relocation::Nowhere`]) is not in
    /// this chain, and the reserved bits of a pointer read 0.
    pub fn pointers(&self) -> impl Iterator<Item = (u16, u8)> {
        let is_hidden = |id| id == u16::from(CAPABILITY_ID) && self.msix().is_none();
        let seen = move |c: &&Capability| !c.is_extended() && !is_hidden(c.id);
        let places = self.capabilities.iter().filter(seen).map(|c| c.at);
        let from = [POINTER].into_iter().chain(places.clone().map(|at| at + 1));
        from.zip(places.map(|at| at.to_le_bytes()[0]).chain([0]))
    }

    /// Returns table and PBA as the guest sees them; `None` also if MSI-X is hidden from it.
    #[must_use]
    pub fn msix(&self) -> Option<Layout> {
        self.msix?.guest
    }

    /// Returns table and PBA as the device claims to have them, or why that cannot be: such a
    /// function is accepted only where the guest sees them elsewhere, or not at all.
    #[must_use]
    pub fn own_msix(&self) -> Option<Result<Layout, AssignError>> {
        Some(self.msix?.own.layout)
    }

    /// Returns the bytes of the device's own table that are hidden from the guest. There are none
    /// if the guest sees that table or may see it, or if the device does not have it where it
    /// claims.
    #[must_use]
    pub fn hidden(&self) -> Option<(BarIndex, Range<u64>)> {
        let hidden = |index| Some((index, self.msix?.hidden(index)));
        bar_map::indexes().filter_map(hidden).find(|(_, range)| !range.is_empty())
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
