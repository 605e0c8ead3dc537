//! What a line of a log says.

use super::raise::RaiseEvent;
use std::fmt;

/// One understood line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceEvent<'a> {
    /// Microseconds since 1970, when the line has the `PID@SECONDS.MICROS:` prefix.
    pub time: Option<u64>,
    /// What happened.
    pub what: What<'a>,
}

/// What a line says happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// `pci_cfg_write NAME BB:DD.F @0xOFFSET <- 0xVALUE`; printed before the write takes effect,
    /// without its width.
    ConfigWrite(ConfigAccess<'a>),
    /// `pci_cfg_read NAME BB:DD.F @0xOFFSET -> 0xVALUE`.
    ConfigRead(ConfigAccess<'a>),
    /// `msix_write_config dev NAME enabled E masked M`: the two control bits after a write that
    /// covered them (H19).
    Control {
        /// The device's type name.
        name: &'a str,
        /// MSI-X Enable.
        enabled: bool,
        /// Function Mask.
        masked: bool,
    },
    /// `memory_region_ops_write ...`, printed before the write takes effect.
    Write(MemoryAccess),
    /// `memory_region_ops_read ...`, with the value the guest got.
    Read(MemoryAccess),
    /// `virtio_notify vdev 0x.. vq 0x..` or `virtio_notify_irqfd ...`: a virtio device has something for
    /// the driver in this queue, by its address inside QEMU. Which vector that is, no event says.
    QueueNotify {
        /// The queue's identity.
        queue: u64,
    },
    /// A device model says that it raises a vector.
    Raise {
        /// Which event said so.
        event: &'static RaiseEvent,
        /// The vector.
        vector: u32,
    },
}

/// A configuration space access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigAccess<'a> {
    /// The device's type name, such as `nvme`.
    pub name: &'a str,
    /// Where the function sits.
    pub bdf: Bdf,
    /// Offset in bytes, below 4096.
    pub offset: u16,
    /// The value; its width is not in the log.
    pub value: u32,
}

/// An access to an emulated memory region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryAccess {
    /// Which region.
    pub region: TracedRegion,
    /// The region's identity: its address inside QEMU.
    pub mr: u64,
    /// Guest physical address.
    pub address: u64,
    /// The value.
    pub value: u64,
    /// Width in bytes: 1, 2, 4 or 8.
    pub size: u8,
}

/// The memory regions that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TracedRegion {
    /// `'msix-table'`: a device's MSI-X table.
    Table,
    /// `'apic-msi'`, or `'kvm-apic-msi'` with KVM: where interrupt messages are written.
    Messages,
    /// Any other name.
    Other,
    /// No name: QEMU before 7.0 does not print it.
    Unnamed,
}

/// Bus, device and function number, as the guest addressed the function at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bdf {
    /// Bus, as numbered by the guest when it made the access.
    pub bus: u8,
    /// Device, 0 to 31.
    pub device: u8,
    /// Function, 0 to 7.
    pub function: u8,
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{:x}", self.bus, self.device, self.function)
    }
}

/// Text is not `BUS:DEVICE.FUNCTION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("BUS:DEVICE.FUNCTION expected, as in 00:04.0")]
pub struct NoBdf;

impl std::str::FromStr for Bdf {
    type Err = NoBdf;

    fn from_str(text: &str) -> Result<Self, NoBdf> {
        Self::parse(text).ok_or(NoBdf)
    }
}

impl Bdf {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (bus, rest) = text.split_once(':')?;
        let (device, function) = rest.split_once('.')?;
        let number = |digits: &str, below: u8| {
            let plain = digits.len() <= 2 && !digits.starts_with('+');
            u8::from_str_radix(digits, 16).ok().filter(|&n| plain && n < below)
        };
        Some(Self {
            bus: u8::from_str_radix(bus, 16).ok().filter(|_| bus.len() == 2)?,
            device: number(device, 32)?,
            function: number(function, 8)?,
        })
    }
}
