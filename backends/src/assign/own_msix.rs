//! Table and PBA as the device claims to have them, which need not be true.
//!
//! Real functions claim both at 0, one over the other, or past the end of a BAR. What they claim
//! matters only where the guest sees it, or where something must be hidden.

use super::bar_map::{Bar, FunctionBars};
use super::error::AssignError;
use super::owned_range::intersection;
use msix_core::spec::CAPABILITY_LEN;
use msix_core::{BarIndex, Layout, Location, Region};
use std::ops::Range;

/// What the MSI-X capability of a device says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OwnMsix {
    /// The number of vectors: 1 to 2048, by the width of its field (A1).
    pub(super) vectors: u16,
    /// Table and PBA, or why they cannot be there.
    pub(super) layout: Result<Layout, AssignError>,
    /// The table's place, if one can be there: in a memory BAR, and apart from the PBA.
    pub(super) table: Option<Location>,
}

impl OwnMsix {
    /// Reads a capability.
    pub(super) fn new(body: &[u8; CAPABILITY_LEN], bars: &FunctionBars) -> Self {
        let &[_, _, c0, c1, table @ .., p0, p1, p2, p3] = body;
        let vectors = (u16::from_le_bytes([c0, c1]) & 0x7ff) + 1;
        let table = Claim::new(table, 16 * u64::from(vectors));
        let pba = Claim::new([p0, p1, p2, p3], 8 * u64::from(vectors.div_ceil(64)));
        let is_real = table.is_in_memory(bars) && !table.overlaps(&pba);
        let place = BarIndex::new(table.bir).map(|bar| Location::new(bar, table.bytes.start));
        let in_ports = [(Region::Table, &table), (Region::Pba, &pba)]
            .into_iter()
            .find_map(|(region, claim)| Some((region, claim.ports(bars)?)));
        let layout = match in_ports {
            Some((region, bar)) => Err(AssignError::InPorts { region, bar }),
            None => Layout::from_capability(body, &bars.memory_sizes()).map_err(Into::into),
        };
        Self { vectors, layout, table: place.ok().filter(|_| is_real) }
    }

    /// Returns the bytes of the table in BAR `index`; none if it is in another, or cannot be there.
    pub(super) fn table_in(&self, index: BarIndex) -> Range<u64> {
        match self.table {
            Some(Location { bar, offset }) if bar == index => {
                offset..offset + 16 * u64::from(self.vectors)
            }
            _ => 0..0,
        }
    }
}

/// The place of table or PBA, as its register gives it.
struct Claim {
    bir: u8,
    bytes: Range<u64>,
}

impl Claim {
    fn new(register: [u8; 4], len: u64) -> Self {
        let bir = register[0] & 7;
        let start = u64::from(u32::from_le_bytes(register) & !7);
        Self { bir, bytes: start..start + len }
    }

    fn bar(&self, bars: &FunctionBars) -> Option<(BarIndex, Bar)> {
        let index = BarIndex::new(self.bir).ok()?;
        Some((index, bars.bar(index)?))
    }

    fn ports(&self, bars: &FunctionBars) -> Option<BarIndex> {
        self.bar(bars).filter(|(_, bar)| !bar.is_memory()).map(|(index, _)| index)
    }

    fn is_in_memory(&self, bars: &FunctionBars) -> bool {
        self.bar(bars).is_some_and(|(_, bar)| bar.is_memory() && self.bytes.end <= bar.size)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.bir == other.bir && !intersection(&self.bytes, &other.bytes).is_empty()
    }
}
