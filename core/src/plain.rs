//! Registers as plain data: of a whole function, and as other programs save them (feature `alloc`;
//! feature `serde` serialises them).
//!
//! [`Snapshot`] is MSI-X with its table, [`FunctionSnapshot`] a function with all its parts. The other
//! types have the fields of what a program saves, with its names and in its order, so that its own
//! encoding can be read and written with serde:
//!
//! | type | what it is, and where |
//! |---|---|
//! | [`QemuMsix`] | QEMU: the `msix` field of a device's migration section ([F3](crate::rules#f3)), with Message Control from the config space beside it |
//! | [`CloudHypervisorMsix`] | Cloud Hypervisor: `MsixConfigState`, the JSON text of the node `msix_config` of a device in `state.json` (crate `pci`, `src/msix.rs`) |
//! | [`FirecrackerMsix`] | Firecracker: `MsixConfigState`, the field `msix_state` of a `VirtioPciDeviceState` (crate `vmm`, `src/pci/msix.rs`) |
//! | [`CrosvmMsix`] | crosvm: `MsixConfigSnapshot`, JSON (crate `devices`, `src/pci/msix.rs`) |
//! | [`PropolisMsix`] | Propolis: `MsixStateV1`, the field `msix` of the payload `pci-device` version 1 (crate `propolis`, `src/hw/pci/device.rs`) |
//!
//! Nothing in them is trusted. [`Snapshot`] can be made of each by `TryFrom`, which checks that its parts
//! fit together ([`ImportError`]); the load then checks that it fits the function. Each can be made of a
//! [`Snapshot`] by `From`. None of these programs saves claims: they stay as they are.
//!
//! ```
//! use msix_core::plain::{CloudHypervisorMsix, FunctionSnapshot, MsixTableEntry};
//! use msix_core::{BarIndex, Function, Layout, Message, Mode, Parts, Policy, Snapshot, Vector};
//!
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! let entry = MsixTableEntry { msg_addr_lo: 0xfee0_0000, msg_addr_hi: 0, msg_data: 0x41, vector_ctl: 0 };
//! let saved = CloudHypervisorMsix {
//!     table_entries: vec![entry],
//!     pba_entries: vec![0],
//!     masked: false,
//!     enabled: true,
//! };
//! let snapshot = FunctionSnapshot {
//!     command: 0x0006, // from the config space
//!     msix: Some(Snapshot::try_from(&saved)?),
//!     ..FunctionSnapshot::default()
//! };
//! let layout = Layout::exclusive_bar(1, BarIndex::new(0)?)?;
//! let mut function = Function::boxed(Parts { msix: Some(layout), ..Parts::default() }, Policy::SPEC);
//! function.load_snapshot(&snapshot)?;
//! let message = Message { address: 0xfee0_0000, data: 0x41 };
//! assert_eq!(function.message(Mode::MsiX, Vector::new(0)), Some(message));
//! # Ok(())
//! # }
//! ```

mod cloud_hypervisor;
mod crosvm;
mod firecracker;
mod function;
mod propolis;
mod qemu;
mod table;

pub use cloud_hypervisor::CloudHypervisorMsix;
pub use crosvm::CrosvmMsix;
pub use firecracker::FirecrackerMsix;
pub use function::{FunctionSnapshot, MsiSnapshot};
pub use propolis::{PropolisEntry, PropolisMsix};
pub use qemu::QemuMsix;
pub use table::MsixTableEntry;

use crate::Snapshot;
use core::fmt;

/// Why what another program saved cannot be a [`Snapshot`]: its parts do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportError {
    /// The number of entries, which must be 1 to 2048 (A1).
    Vectors(usize),
    /// A count differs from the number of entries.
    Count {
        /// The count.
        said: usize,
        /// The number of entries.
        entries: usize,
    },
    /// The PBA has too few or too many words.
    PbaWords {
        /// Words that so many vectors have.
        expected: usize,
        /// Words that were saved.
        got: usize,
    },
    /// The PBA has these bits set past the last vector, all in one word.
    PbaTail(u64),
    /// Message Control has a reserved bit set.
    ReservedControl(u16),
    /// QEMU's field is too short or too long for the vectors that Message Control says.
    Length {
        /// Bytes that such a field has.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vectors(entries) => write!(f, "a table of {entries} entries, expected 1 to 2048"),
            Self::Count { said, entries } => write!(f, "{entries} entries, but a count of {said}"),
            Self::PbaWords { expected, got } => {
                write!(f, "a PBA of {got} words, expected {expected}")
            }
            Self::PbaTail(bits) => {
                write!(f, "the PBA has bits past the last vector set: {bits:#x}")
            }
            Self::ReservedControl(value) => {
                write!(f, "Message Control {value:#06x} has a reserved bit set")
            }
            Self::Length { expected, got } => write!(f, "{got} bytes, expected {expected}"),
        }
    }
}

impl core::error::Error for ImportError {}
