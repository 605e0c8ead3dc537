//! Why a snapshot is not written, or not taken.

use super::VERSION;
use core::fmt;

/// The buffer is too short for the snapshot; it was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaveError {
    /// Bytes the snapshot takes.
    pub needed: usize,
    /// Bytes the buffer has.
    pub got: usize,
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the snapshot takes {} bytes, the buffer has {}", self.needed, self.got)
    }
}

impl core::error::Error for SaveError {}

/// Why a snapshot is refused. The state is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadError {
    /// Too short or too long.
    Length {
        /// Bytes such a snapshot has.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
    /// It does not begin with `"MSIX"`, or what a snapshot of its kind begins with.
    Magic([u8; 4]),
    /// A version this engine does not know.
    Version(u16),
    /// It is of a table of another size.
    Vectors {
        /// Vectors of the snapshot.
        snapshot: u32,
        /// Vectors of this function.
        engine: u16,
    },
    /// The checksum does not fit the bytes.
    Checksum,
    /// Message Control has a reserved bit set.
    ReservedControl(u16),
    /// The PBA has a bit set past the last vector; the value is the last word's offending bits.
    PbaTail(u64),
    /// A read-only byte of an MSI capability is not as this function's.
    Capability {
        /// Byte in the capability.
        at: u8,
    },
    /// The snapshot is of a function with other parts, or has a Command bit set that none has.
    Function,
    /// The parts of a [`crate::Snapshot`] do not have the lengths its vector count asks for.
    #[cfg(feature = "alloc")]
    Parts,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { expected, got } => {
                write!(f, "snapshot of {got} bytes, expected {expected}")
            }
            Self::Magic(magic) => write!(f, "not a snapshot: it begins with {magic:02x?}"),
            Self::Version(version) => {
                write!(f, "snapshot version {version}, expected {VERSION}")
            }
            Self::Vectors { snapshot, engine } => {
                write!(f, "snapshot of {snapshot} vectors for a function with {engine}")
            }
            Self::Checksum => f.write_str("the snapshot's checksum is wrong"),
            Self::ReservedControl(value) => {
                write!(f, "Message Control {value:#06x} has a reserved bit set")
            }
            Self::PbaTail(bits) => {
                write!(f, "the PBA has bits past the last vector set: {bits:#x}")
            }
            Self::Capability { at } => {
                write!(f, "byte {at} of the MSI capability is not as this function's")
            }
            Self::Function => f.write_str("the snapshot is of a function with other parts"),
            #[cfg(feature = "alloc")]
            Self::Parts => f.write_str("table, pending bits and uses differ in vector count"),
        }
    }
}

impl core::error::Error for LoadError {}
