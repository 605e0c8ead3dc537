//! The frame of every snapshot (magic number, version, checksum), and the errors of saving and
//! loading.

use crate::checksum::crc32;
use core::fmt;
use twox_hash::XxHash64;

/// The one that is written. Version 1, which is read too, differs in the checksum only: the CRC-32 of Ethernet.
const VERSION: u16 = 2;
const CHECKSUM_LEN: usize = 4;
/// Bytes of the frame: magic number, version, and the checksum at the end.
pub(crate) const FRAME_LEN: usize = 6 + CHECKSUM_LEN;

/// A snapshot with a frame of which the beginning was checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// The bytes inside the frame, if the snapshot is complete.
    pub(crate) body: &'a [u8],
    version: u16,
    covered: &'a [u8],
    claimed: u32,
    expected: usize,
}

impl<'a> Frame<'a> {
    /// Opens a snapshot that should begin with `magic` and have `expected` bytes.
    pub(crate) fn open(
        bytes: &'a [u8],
        magic: [u8; 4],
        expected: usize,
    ) -> Result<Self, LoadError> {
        let wrong_length = LoadError::Length { expected, got: bytes.len() };
        let (covered, claimed) = bytes.split_last_chunk().ok_or(wrong_length)?;
        let (&[m0, m1, m2, m3, v0, v1], body) = covered.split_first_chunk().ok_or(wrong_length)?;
        if [m0, m1, m2, m3] != magic {
            return Err(LoadError::Magic([m0, m1, m2, m3]));
        }
        let version = u16::from_le_bytes([v0, v1]);
        if !(1..=VERSION).contains(&version) {
            return Err(LoadError::Version(version));
        }
        Ok(Self { body, version, covered, claimed: u32::from_le_bytes(*claimed), expected })
    }

    /// Checks length and checksum, once the rest of the header is known to fit.
    pub(crate) fn check(&self) -> Result<(), LoadError> {
        if self.covered.len().wrapping_add(CHECKSUM_LEN) != self.expected {
            return Err(self.wrong_length());
        }
        if checksum(self.version, self.covered) != self.claimed {
            return Err(LoadError::Checksum);
        }
        Ok(())
    }

    pub(crate) const fn wrong_length(&self) -> LoadError {
        let got = self.covered.len().wrapping_add(CHECKSUM_LEN);
        LoadError::Length { expected: self.expected, got }
    }
}

/// Writes the checksum of the first `len` bytes into the last four of them.
pub(crate) fn seal(bytes: &mut [u8], len: usize) {
    let covered = len.saturating_sub(CHECKSUM_LEN);
    let checksum = checksum(VERSION, bytes.get(..covered).unwrap_or_default());
    if let Some((_, slot)) = bytes.get_mut(..len).and_then(|b| b.split_last_chunk_mut()) {
        *slot = checksum.to_le_bytes();
    }
}

/// Returns the checksum that a snapshot of `version` has of the bytes before it. It is against accidents, not
/// against people.
fn checksum(version: u16, bytes: &[u8]) -> u32 {
    if cfg!(msix_prove) {
        return 0; // for the proofs any value does: it is only compared
    }
    if version == 1 {
        return crc32(bytes);
    }
    let [low @ .., _, _, _, _] = XxHash64::oneshot(0, bytes).to_le_bytes();
    u32::from_le_bytes(low)
}

/// Fills a slice front to back.
pub(crate) struct Writer<'a>(&'a mut [u8]);

impl<'a> Writer<'a> {
    /// Begins a snapshot of `needed` bytes, which [`seal`] ends.
    pub(crate) fn framed(
        bytes: &'a mut [u8],
        needed: usize,
        magic: [u8; 4],
    ) -> Result<Self, SaveError> {
        let mut out = Self::new(bytes, needed)?;
        out.put(magic);
        out.put(VERSION.to_le_bytes());
        Ok(out)
    }

    /// Returns the part that is not written yet.
    pub(crate) fn rest(self) -> &'a mut [u8] {
        self.0
    }

    pub(crate) fn new(bytes: &'a mut [u8], needed: usize) -> Result<Self, SaveError> {
        let got = bytes.len();
        bytes.get_mut(..needed).map(Self).ok_or(SaveError { needed, got })
    }

    pub(crate) fn put<const L: usize>(&mut self, value: [u8; L]) {
        self.put_all(core::iter::once(value));
    }

    /// Writes values of the same length, one after the other.
    // The room for all is taken at once: looked for before each, it would cost as much as what is written.
    pub(crate) fn put_all<const L: usize>(
        &mut self,
        values: impl ExactSizeIterator<Item = [u8; L]>,
    ) {
        let rest = core::mem::take(&mut self.0);
        if let Some((room, rest)) = rest.split_at_mut_checked(values.len().wrapping_mul(L)) {
            room.as_chunks_mut().0.iter_mut().zip(values).for_each(|(slot, value)| *slot = value);
            self.0 = rest;
        }
    }
}

/// The buffer is too short for the snapshot, and was not written ([I7](crate::rules#i7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
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

/// Why a snapshot is refused. An error leaves the state as it was ([I7](crate::rules#i7),
/// [H15](crate::rules#h15)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// Too short or too long.
    Length {
        /// Bytes such a snapshot has.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
    /// The first four bytes, which are not `"MSIX"`, or the magic number of the kind expected.
    Magic([u8; 4]),
    /// A version this engine does not know.
    Version(u16),
    /// The snapshot is of a table of another size.
    Vectors {
        /// Vectors of the snapshot.
        snapshot: u32,
        /// Vectors of this function.
        engine: u16,
    },
    /// The checksum is wrong.
    Checksum,
    /// Message Control has a reserved bit set.
    ReservedControl(u16),
    /// The PBA has bits set past the last vector: those of its last word.
    PbaTail(u64),
    /// A read-only byte of the MSI capability differs from this function's.
    Capability {
        /// Byte in the capability.
        at: u8,
    },
    /// The snapshot is of a function with other parts, or has a Command bit set that is not kept.
    Function,
    /// The parts of a [`crate::Snapshot`] have lengths that do not fit its vector count.
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
                write!(f, "snapshot version {version}, expected 1 to {VERSION}")
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
                write!(f, "byte {at} of the MSI capability differs from this function's")
            }
            Self::Function => f.write_str("the snapshot is of a function with other parts"),
            #[cfg(feature = "alloc")]
            Self::Parts => f.write_str("table, pending bits and claims differ in vector count"),
        }
    }
}

impl core::error::Error for LoadError {}
