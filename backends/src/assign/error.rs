//! Why a function cannot be assigned.

use super::bar_map::BarError;
use msix_core::{BarIndex, LayoutError, MsiCapabilityError, Region};
use thiserror::Error;

/// Why a function is refused. Positions are offsets in its config space, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AssignError {
    /// Config space has neither 256 nor 4096 bytes.
    #[error("config space of {0} bytes, must be 256 or 4096")]
    ConfigSize(usize),
    /// All bits read 1: the device is gone or does not respond.
    #[error("vendor and device id read 0xffffffff: no device answers")]
    NoDevice,
    /// The function is a bridge, or has an unknown header type.
    #[error("header type {0:#04x}: only functions with header type 0 can be assigned")]
    HeaderType(u8),
    /// The pin is neither 0 (none) nor 1 to 4 (INTA to INTD).
    #[error("interrupt pin {0}, must be 0 to 4")]
    Pin(u8),
    /// A pointer of the chain leads into the header, or from the extended chain below 0x100.
    #[error("the capability pointer at {from:#x} is {to:#x}, must be at least {least:#x}")]
    Below {
        /// Where the pointer is.
        from: u16,
        /// Where it leads.
        to: u16,
        /// First byte that a capability of its chain can have.
        least: u16,
    },
    /// The chain leads to a capability a second time.
    #[error("the capability pointer at {from:#x} leads back to {to:#x}")]
    Loop {
        /// Where the pointer is.
        from: u16,
        /// Where it leads.
        to: u16,
    },
    /// A capability does not fit its config space: 256 bytes, or 4096 for an extended one.
    #[error("capability {id:#x} at {at:#x} ends at {end:#x}, its config space at {limit:#x}")]
    RunsOver {
        /// Its id.
        id: u16,
        /// Where it is.
        at: u16,
        /// First byte behind it.
        end: u16,
        /// First byte behind its config space.
        limit: u16,
    },
    /// Two capabilities share bytes, so the bytes have no single owner.
    #[error("capability {id:#x} at {at:#x} and capability {other:#x} at {other_at:#x} overlap")]
    Overlap {
        /// Id of the first in config space.
        id: u16,
        /// Where it is.
        at: u16,
        /// Id of the second.
        other: u16,
        /// Where that is.
        other_at: u16,
    },
    /// The function has a second MSI or MSI-X capability (A1).
    #[error("capability {id:#x} at {first:#x} and again at {second:#x}: there is at most one")]
    Twice {
        /// 0x05 or 0x11.
        id: u16,
        /// The first in the chain.
        first: u16,
        /// The second.
        second: u16,
    },
    /// The MSI capability is invalid (A14).
    #[error("MSI capability: {0}")]
    Msi(#[from] MsiCapabilityError),
    /// The MSI-X capability does not fit the BARs or contradicts itself (A1, A2), and the guest
    /// would see it as it is: relocate or hide it ([`Relocation`](super::Relocation)). A BAR that is
    /// not there has 0 bytes.
    #[error("MSI-X capability: {0}")]
    Layout(#[from] LayoutError),
    /// Table or PBA lies in a BAR that decodes ports (A1), and the guest would see it there.
    #[error("MSI-X capability: {region} in BAR {}, which decodes I/O ports", .bar.index())]
    InPorts {
        /// Table or PBA.
        region: Region,
        /// The BAR.
        bar: BarIndex,
    },
    /// Relocation was asked for, but the function has no MSI-X.
    #[error("there is no MSI-X table to relocate")]
    NothingToRelocate,
    /// Relocation to a BAR that decodes ports, or to the upper half of one.
    #[error("BAR {} cannot hold the relocated table: it is not memory, or an upper half", .0.index())]
    NotMemory(BarIndex),
    /// Relocation would make a BAR of a size it cannot have.
    #[error("the table cannot be relocated: {0}")]
    RelocatedBar(BarError),
    /// A range that must trap is not in its BAR, or ends before it begins. A BAR that is not there
    /// has 0 bytes.
    #[error("the range {start:#x} to {end:#x} must trap, but BAR {} has {size:#x} bytes", .bar.index())]
    TrapOutside {
        /// The BAR.
        bar: BarIndex,
        /// First byte of the range.
        start: u64,
        /// First byte behind it.
        end: u64,
        /// The BAR's size, bytes.
        size: u64,
    },
}
