//! Ranges that must trap beside table and PBA.
//!
//! Some devices reach registers that the VMM emulates by another way as well: a window of two
//! registers to their table, or a mirror of config space in a BAR. A guest that uses it reads what
//! the host programmed, and what it writes is lost on the VMM.

use super::bar_map::FunctionBars;
use super::capabilities::byte;
use super::error::AssignError;
use super::pages::BarOwner;
use msix_core::BarIndex;
use std::ops::{Range, RangeInclusive};

/// A range of a BAR that must trap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrapRange {
    /// The device's BAR.
    pub bar: BarIndex,
    /// Its bytes.
    pub range: Range<u64>,
    /// The answer to an access.
    pub answer: TrapAnswer,
}

/// The answer to an access that traps in a [`TrapRange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrapAnswer {
    /// The device's: the VMM forwards the access, after it has seen it.
    Device,
    /// None: reads 0, and writes are dropped.
    Nobody,
    /// A mirror of config space, from its byte 0 on.
    Config,
    /// A window of two registers to the table, as [`TableWindow`](super::TableWindow) emulates it.
    TableWindow,
}

impl TrapRange {
    /// Returns the ranges that public documentation tells of the function with this `config`
    /// space, as far as its BARs have them.
    ///
    /// Known are the extended register interface of Realtek's RTL8168, which reaches the table, and
    /// the mirrors of config space in BAR 0 of NVIDIA's display controllers.
    #[must_use]
    pub fn known(config: &[u8], bars: &FunctionBars) -> Vec<Self> {
        let word = |at| u16::from_le_bytes([byte(config, at), byte(config, at + 1)]);
        let (vendor, device, class) = (word(0x00), word(0x02), byte(config, 0x0b));
        let known = KNOWN.iter().filter(|known| {
            known.vendor == vendor
                && known.devices.iter().any(|ids| ids.contains(&device))
                && known.class.is_none_or(|known| known == class)
        });
        known
            .filter_map(|known| {
                let bar = BarIndex::new(known.bar).ok()?;
                Some(Self { bar, range: known.range.clone(), answer: known.answer })
            })
            .filter(|trap| bars.bar(trap.bar).is_some_and(|bar| bar.is_memory()))
            .filter(|trap| trap.is_inside(bars))
            .collect()
    }

    /// Returns the owner of its bytes.
    pub(super) fn owner(&self) -> BarOwner {
        match self.answer {
            TrapAnswer::Device => BarOwner::Watched,
            TrapAnswer::Nobody => BarOwner::Nobody,
            TrapAnswer::Config => BarOwner::Config(self.range.start),
            TrapAnswer::TableWindow => BarOwner::TableWindow(self.range.start),
        }
    }

    fn is_inside(&self, bars: &FunctionBars) -> bool {
        let size = bars.bar(self.bar).map_or(0, |bar| bar.size);
        self.range.start <= self.range.end && self.range.end <= size
    }
}

/// Refuses ranges that the device's BARs do not have.
pub(super) fn check(traps: &[TrapRange], bars: &FunctionBars) -> Result<(), AssignError> {
    match traps.iter().find(|trap| !trap.is_inside(bars)) {
        Some(TrapRange { bar, range, .. }) => Err(AssignError::TrapOutside {
            bar: *bar,
            start: range.start,
            end: range.end,
            size: bars.bar(*bar).map_or(0, |bar| bar.size),
        }),
        None => Ok(()),
    }
}

/// A range that is known.
struct Known {
    vendor: u16,
    /// Ids of the devices that have it.
    devices: &'static [RangeInclusive<u16>],
    /// The base class; any if `None`.
    class: Option<u8>,
    bar: u8,
    range: Range<u64>,
    answer: TrapAnswer,
}

impl Known {
    /// Describes a mirror of config space in BAR 0 of NVIDIA's display controllers.
    const fn nvidia(devices: &'static [RangeInclusive<u16>], range: Range<u64>) -> Self {
        let answer = TrapAnswer::Config;
        Self { vendor: 0x10de, devices, class: Some(0x03), bar: 0, range, answer }
    }
}

const KNOWN: &[Known] = &[
    // Realtek's extended register interface, ERIDR and ERIAR: its type 1 is the table.
    Known {
        vendor: 0x10ec,
        devices: &[0x8168..=0x8168],
        class: None,
        bar: 2,
        range: 0x70..0x78,
        answer: TrapAnswer::TableWindow,
    },
    // Before GeForce 8, of which the first have ids 0x190 to 0x19f: 256 bytes.
    Known::nvidia(&[0x0000..=0x018f, 0x01a0..=0x03ff], 0x1800..0x1900),
    // From NV40 on. Older ones have nothing there.
    Known::nvidia(&[0x0000..=0x22ff, 0x2400..=0x28ff], 0x8_8000..0x8_9000),
    // Hopper, and from Blackwell on.
    Known::nvidia(&[0x2300..=0x23ff, 0x2900..=0xffff], 0x9_2000..0x9_3000),
];
