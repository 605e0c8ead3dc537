//! Maps each byte of config space, and each bit of it, to its owner.

use super::capabilities::{Capability, EXTENDED};
use super::owned_range::OwnedRange;
use super::rules;

/// The owner of a byte of config space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConfigOwner {
    /// The VMM: it answers reads, and writes do not reach the device.
    Emulated,
    /// The device: reads and writes go to it unchanged.
    Passed,
    /// Both: [`Masks`] give the owner of each bit.
    Both,
}

/// The owners of the bits of a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Masks {
    /// Bits that the guest reads from the device; it reads the others from the VMM.
    pub read: u8,
    /// Bits that the guest writes to the device, and to the VMM too where `read` lacks them. The
    /// device keeps its other bits, and only the VMM sees what the guest writes to them.
    pub write: u8,
}

impl Masks {
    /// All bits belong to the VMM.
    pub const EMULATED: Self = Self::passed(0);
    /// All bits belong to the device.
    pub const PASSED: Self = Self::passed(0xff);
    /// The guest reads the device's bits, and its writes are dropped.
    pub(super) const READ: Self = Self { read: 0xff, write: 0 };

    /// Gives `bits` to the device and the others to the VMM.
    pub(super) const fn passed(bits: u8) -> Self {
        Self { read: bits, write: bits }
    }

    /// Returns the owner of the byte.
    #[must_use]
    pub const fn owner(self) -> ConfigOwner {
        match self {
            Self::EMULATED => ConfigOwner::Emulated,
            Self::PASSED => ConfigOwner::Passed,
            _ => ConfigOwner::Both,
        }
    }

    /// Returns the byte that the guest reads.
    #[must_use]
    pub const fn to_guest(self, emulated: u8, device: u8) -> u8 {
        emulated & !self.read | device & self.read
    }

    /// Returns the byte to write to the device, which reads `device` now, when the guest writes
    /// `written`; `None` if nothing is to be written, because a bit that is cleared by writing 1
    /// must not be written back. A byte that reaches the device in part has no such bits in the
    /// rest.
    #[must_use]
    pub const fn to_device(self, written: u8, device: u8) -> Option<u8> {
        match self.write {
            0 => None,
            write => Some(device & !write | written & write),
        }
    }
}

/// The owners of all bytes of a config space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConfigMap {
    bytes: Vec<Masks>,
}

impl ConfigMap {
    /// Makes the map of a config space of `size` bytes with these capabilities.
    pub(super) fn new(size: usize, capabilities: &[Capability]) -> Self {
        let mut map = Self { bytes: vec![Masks::PASSED; size] };
        for &(at, masks) in HEADER {
            map.set(at, masks);
        }
        for at in EMULATED_HEADER.iter().flat_map(|&(start, end)| start..end) {
            map.set(at, Masks::EMULATED);
        }
        for capability in capabilities {
            if capability.is_extended() {
                map.extended(capability);
            } else {
                map.capability(capability);
            }
        }
        if size > usize::from(EXTENDED) {
            // The first of the extended chain cannot be unlinked, only replaced.
            (EXTENDED..EXTENDED + 4).for_each(|at| map.set(at, Masks::EMULATED));
        }
        map
    }

    fn capability(&mut self, capability: &Capability) {
        let (whole, bytes) = rules::masks(capability.id.to_le_bytes()[0]);
        (capability.at..capability.end()).for_each(|at| self.set(at, whole));
        for &(offset, masks) in bytes.iter().filter(|(offset, _)| *offset < capability.len) {
            self.set(capability.at + offset, masks);
        }
        self.set(capability.at + 1, Masks::EMULATED); // next
    }

    fn extended(&mut self, capability: &Capability) {
        let whole = rules::extended_masks(capability.id);
        (capability.at..capability.end()).for_each(|at| self.set(at, whole));
        let version = Masks { read: whole.read & 0x0f, write: whole.write & 0x0f };
        self.set(capability.at + 2, version); // bits 7:4 are the low ones of next
        self.set(capability.at + 3, Masks::EMULATED);
    }

    fn set(&mut self, at: u16, masks: Masks) {
        if let Some(byte) = self.bytes.get_mut(usize::from(at)) {
            *byte = masks;
        }
    }

    /// Returns its size, bytes.
    pub(super) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Returns the masks of byte `at`. Bytes past the end belong to the VMM.
    pub(super) fn masks(&self, at: u64) -> Masks {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        self.bytes.get(at).copied().unwrap_or(Masks::EMULATED)
    }

    /// Splits an access into runs of one owner, in order.
    pub(super) fn split(&self, at: u64, len: u64) -> impl Iterator<Item = OwnedRange<ConfigOwner>> {
        let (mut start, end) = (at, at.saturating_add(len));
        std::iter::from_fn(move || {
            if start >= end {
                return None;
            }
            let owner = self.masks(start).owner();
            let known = end.min(self.size());
            let same = |at: &u64| self.masks(*at).owner() == owner;
            let next = if start < known {
                (start..known).find(|at| !same(at)).unwrap_or(known)
            } else {
                end
            };
            let range = start..next;
            start = next;
            Some(OwnedRange { range, owner })
        })
    }
}

/// Bytes of the header that the VMM and the device share.
const HEADER: &[(u16, Masks)] = &[
    // Command: I/O, memory and bus master are shadowed. The guest reads what it wrote, whatever
    // VFIO makes of it, and by these bits the VMM maps BARs and lets messages through (A11).
    (0x04, Masks { read: 0xf8, write: 0xff }),
    // Interrupt Disable does not reach the device: it follows the mode (A17), and the kernel masks
    // a line with the same bit (D12).
    (0x05, Masks::passed(0xfb)),
    // Status: Interrupt Status is the device's, which alone knows it (A17); Capabilities List follows
    // the emulated chain.
    (0x06, Masks::passed(0xef)),
    // Whether there are more functions is the guest's topology.
    (0x0e, Masks::passed(0x7f)),
];

/// Start and end of the emulated bytes in the header: BIST; the BARs; the ROM's BAR and the
/// capability pointer; interrupt line and pin.
const EMULATED_HEADER: &[(u16, u16)] = &[(0x0f, 0x28), (0x30, 0x35), (0x3c, 0x3e)];
