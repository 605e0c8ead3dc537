//! What a line says.

use std::fmt;

/// One understood line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelEvent {
    /// The thread that was running. 0 for a line about a whole buffer.
    pub thread: u32,
    /// Microseconds since some moment, when the clock counts seconds.
    pub time: Option<u64>,
    /// What happened.
    pub what: KernelWhat,
}

/// What a line says happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelWhat {
    /// `kvm_mmio: mmio write ...`: before it takes effect.
    Write(MmioAccess),
    /// `kvm_mmio: mmio read ...`, with the value the guest got.
    Read(MmioAccess),
    /// `kvm_mmio: mmio unsatisfied-read ...`: a read that is not answered yet.
    ReadBegins,
    /// `kvm_pio: pio_write ...`: before it takes effect.
    Out(PortAccess),
    /// `kvm_pio: pio_read ...`, with the value the guest got.
    In(PortAccess),
    /// `kvm_msi_set_irq: ...`: KVM has taken a message apart. It does so to deliver it, and also when it
    /// only looks at a route.
    Message(DecodedMessage),
    /// `kvm_apic_accept_irq: ...`: a local APIC takes an interrupt vector.
    Accepted {
        /// The interrupt vector.
        vector: u8,
    },
    /// `kvm_set_irq: ...`: the level of a GSI. Nothing follows from it for MSI: an irqfd whose message can
    /// be delivered at once does not emit it, and it names a GSI, whose route no event tells.
    Gsi {
        /// The GSI.
        gsi: u32,
        /// Whether it is raised.
        raised: bool,
    },
    /// `kvm_entry` or `kvm_exit`: the thread runs its guest, or did until now.
    Runs,
    /// Events are missing here.
    Missing,
}

/// A memory access of a guest that KVM emulates, or hands to the VMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MmioAccess {
    /// Guest physical address.
    pub address: u64,
    /// Width in bytes: 1 to 8.
    pub size: u8,
    /// The value.
    pub value: u64,
}

/// A port access of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortAccess {
    /// The port.
    pub port: u16,
    /// Width in bytes: 1, 2 or 4.
    pub size: u8,
    /// How many accesses it stands for; only the first one's value is told.
    pub count: u32,
    /// The value.
    pub value: u32,
}

/// An interrupt message as KVM tells it: without the bits of its words that KVM does not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DecodedMessage {
    /// Whom it is for.
    pub destination: u32,
    /// The interrupt vector.
    pub vector: u8,
    /// Delivery mode, 0 to 7.
    pub mode: u8,
    /// Whether the destination is a logical one.
    pub logical: bool,
    /// Whether it is for a level.
    pub level: bool,
    /// Redirection hint.
    pub redirect: bool,
}

/// As KVM writes them.
pub(super) const MODES: [&str; 8] =
    ["Fixed", "LowPrio", "SMI", "Res3", "NMI", "INIT", "SIPI", "ExtINT"];

impl DecodedMessage {
    /// Takes a message apart as KVM does (K4, K12): bits 31:8 of the destination come from the upper half
    /// of the address.
    #[must_use]
    pub const fn of(address: u64, data: u32) -> Self {
        let [vector, upper, ..] = data.to_le_bytes();
        let high = (address >> 32) as u32 & 0xffff_ff00;
        Self {
            destination: (address >> 12) as u32 & 0xff | high,
            vector,
            mode: upper & 7,
            logical: address & 4 != 0,
            level: data & 0x8000 != 0,
            redirect: address & 8 != 0,
        }
    }
}

impl fmt::Display for DecodedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = MODES.get(usize::from(self.mode)).copied().unwrap_or_default();
        let kind = if self.logical { "logical" } else { "physical" };
        let trigger = if self.level { "level" } else { "edge" };
        let hint = if self.redirect { "|rh" } else { "" };
        let Self { destination, vector, .. } = self;
        write!(f, "dst {destination:x} vec {vector} ({mode}|{kind}|{trigger}{hint})")
    }
}
