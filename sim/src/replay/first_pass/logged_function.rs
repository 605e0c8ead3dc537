//! One function of the log, as the first pass knows it.

use super::super::placed_bars::PlacedBars;
use super::capabilities::ConfigSpace;

/// What is known of one function after the first pass.
#[derive(Debug, Default)]
pub(crate) struct LoggedFunction {
    /// Types known, addresses forgotten: the second pass begins.
    pub(crate) bars: PlacedBars,
    /// Where the MSI-X capability begins.
    pub(crate) msix: Option<u16>,
    /// Where the PCI Express capability begins.
    pub(crate) express: Express,
    /// Number of vectors, for functions that are replayed.
    pub(crate) vectors: Option<u16>,
    pub(super) controlled: bool,
    pub(super) space: ConfigSpace,
    /// Different sizes that writes of Message Control held; few, or the guest writes nonsense.
    pub(super) sizes: Vec<u16>,
}

/// Where the PCI Express capability is, which has the function level reset bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Express {
    /// The log does not tell.
    #[default]
    Unknown,
    /// There is none.
    Absent,
    /// At this offset.
    At(u16),
}

impl LoggedFunction {
    /// Number of vectors that a read of Message Control gave (A1).
    pub(super) fn vectors_read(&self) -> Option<u16> {
        Some((self.space.word(self.msix? + 2)? & 0x7ff) + 1)
    }

    /// Number of vectors that Message Control says, read or written back, if it covers what was
    /// accessed.
    pub(super) fn vectors_said(&self, accessed: u16) -> Option<u16> {
        // A guest may write the read-only size as 0 or all ones: what it accessed decides.
        let written = self.sizes.iter().copied().filter(|&size| size >= accessed).min();
        self.vectors_read().or(written)
    }

    /// BAR and offset of the table, if the capability's second dword was read (A1).
    pub(super) fn table_said(&self) -> Option<(u8, u64)> {
        let value = self.space.dword(self.msix? + 4)?;
        Some(((value & 7) as u8, u64::from(value & !7)))
    }

    pub(super) fn has_msix(&self) -> bool {
        self.controlled || self.msix.is_some()
    }
}
