//! Encodes a guest's message for KVM.

use super::route_table::{MOST_SPIS, RouteTarget};
use msix_core::Message;

/// A message as KVM takes it, in a route or for KVM_SIGNAL_MSI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvmMessage {
    /// Low 32 bits of the address.
    pub address_lo: u32,
    /// High 32 bits; with extended destinations, bits 31:8 are bits 31:8 of the APIC id (K11).
    pub address_hi: u32,
    /// The data.
    pub data: u32,
    /// The device's id, where interrupt controllers tell devices apart (K10).
    pub device: Option<u32>,
}

/// How the messages of a function are encoded for KVM, and which of them are interrupts.
///
/// A message is a write of four bytes to an address that the guest chose, and an interrupt at some
/// addresses only ([`InterruptAddresses`]). A message to any other address is a plain write by the device,
/// and goes to [`Platform::write_memory`](super::Platform::write_memory): to guest memory, or to a register
/// on the VMM's bus (K11). KVM does not check this itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Format {
    /// The VMM offers KVM_FEATURE_MSI_EXT_DEST_ID and has enabled 32-bit APIC ids with
    /// KVM_CAP_X2APIC_API: address bits 11:5 are bits 14:8 of the destination, unless bit 4 says that
    /// the message is in the remappable format of an IOMMU (K11).
    pub extended_destinations: bool,
    /// Device id to send with every message, which an Arm ITS needs (K15); other interrupt controllers
    /// ignore it.
    pub device: Option<u32>,
    /// The addresses at which a message is an interrupt.
    pub interrupts: InterruptAddresses,
}

/// The addresses of a machine at which a message is an interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterruptAddresses {
    /// 0xFEE00000 to 0xFEEFFFFF: the local APICs of x86, with or without an extended destination (K11).
    LocalApics,
    /// One register, such as the GITS_TRANSLATER of an Arm ITS: 0x10040 behind the start of its frames.
    Doorbell(u64),
    /// The MSI_SETSPI_NS register of a GICv2m frame, for the SPIs of the frame.
    Gicv2m(Gicv2mFrame),
    /// All addresses: the VMM does not say. A guest that points a vector at memory then has messages that
    /// KVM does not take, and nothing is written.
    Any,
}

impl Default for InterruptAddresses {
    /// Returns [`LocalApics`](Self::LocalApics) on x86-64, and [`Any`](Self::Any) elsewhere, where the VMM
    /// chooses the address.
    fn default() -> Self {
        if cfg!(target_arch = "x86_64") { Self::LocalApics } else { Self::Any }
    }
}

impl InterruptAddresses {
    const fn contain(self, address: u64) -> bool {
        match self {
            Self::LocalApics => address >> 20 == 0xfee,
            Self::Doorbell(register) => address == register,
            Self::Gicv2m(frame) => address == frame.register(),
            Self::Any => true,
        }
    }
}

/// A GICv2m frame, which turns messages into SPIs on a machine with Arm's interrupt controller and no ITS.
/// KVM has none: the VMM answers the guest's reads of it, and of its messages there are the pins of SPIs
/// for KVM (K16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gicv2mFrame {
    /// The guest-physical address at which the frame begins. MSI_SETSPI_NS is 0x40 behind.
    pub address: u64,
    /// The number of the frame's first interrupt, 32 or more: bits 25:16 of its MSI_TYPER register.
    pub first: u32,
    /// How many there are: bits 9:0 of that register.
    pub count: u32,
}

impl Gicv2mFrame {
    const fn register(self) -> u64 {
        self.address.wrapping_add(0x40)
    }

    /// Returns the SPI that a message to the frame raises, counted from 0; `None` when it is not of the
    /// frame. The register has ten bits (K16).
    fn spi(self, data: u32) -> Option<u32> {
        let interrupt = data & 0x3ff;
        let is_its = interrupt.checked_sub(self.first).is_some_and(|index| index < self.count);
        interrupt.checked_sub(32).filter(|spi| is_its && *spi < MOST_SPIS)
    }
}

/// What comes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoded {
    /// An interrupt.
    Interrupt(RouteTarget),
    /// An interrupt that nobody will ever take.
    Nobodys,
    /// No interrupt, but a plain write.
    Write,
}

impl Encoded {
    /// Returns what the message is routed to, if KVM can deliver it.
    pub(crate) const fn target(self) -> Option<RouteTarget> {
        match self {
            Self::Interrupt(target) => Some(target),
            Self::Nobodys | Self::Write => None,
        }
    }
}

impl Format {
    /// Makes the format of a device on an Arm ITS: `translater` is the guest-physical address of
    /// GITS_TRANSLATER, 0x10040 behind the start of the ITS's frames, and `device` the id by which the
    /// guest's ITS knows the device, which is the requester id (bus << 8 | device << 3 | function) unless
    /// the VMM's tables map it to another (`msi-map` of a device tree, the IORT).
    #[must_use]
    pub const fn its(translater: u64, device: u32) -> Self {
        let interrupts = InterruptAddresses::Doorbell(translater);
        Self { extended_destinations: false, device: Some(device), interrupts }
    }

    /// Makes the format of a device with messages to a GICv2m frame.
    #[must_use]
    pub const fn gicv2m(frame: Gicv2mFrame) -> Self {
        let interrupts = InterruptAddresses::Gicv2m(frame);
        Self { extended_destinations: false, device: None, interrupts }
    }

    /// Returns what the message is for KVM. KVM does not check whether it is an interrupt: it would deliver a
    /// message to address 0 to the first processor (K11).
    pub(crate) fn encode(self, message: Message) -> Encoded {
        if !self.interrupts.contain(message.address) {
            return Encoded::Write;
        }
        if let InterruptAddresses::Gicv2m(frame) = self.interrupts {
            let pin = |pin| Encoded::Interrupt(RouteTarget::Pin { irqchip: 0, pin });
            return frame.spi(message.data).map_or(Encoded::Nobodys, pin);
        }
        let [a0, a1, a2, a3, rest @ ..] = message.address.to_le_bytes();
        let (lo, hi) = (u32::from_le_bytes([a0, a1, a2, a3]), u32::from_le_bytes(rest));
        let is_remappable = lo & 0x10 != 0;
        let (address_lo, address_hi) = if self.extended_destinations && !is_remappable {
            let extended = lo >> 5 & 0x7f;
            (lo & !(0x7f << 5), hi | extended << 8)
        } else {
            (lo, hi)
        };
        let msi = KvmMessage { address_lo, address_hi, data: message.data, device: self.device };
        Encoded::Interrupt(RouteTarget::Msi(msi))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interrupt(msi: KvmMessage) -> Encoded {
        Encoded::Interrupt(RouteTarget::Msi(msi))
    }

    #[test]
    fn c11_only_the_interrupt_window_is_an_interrupt() {
        let plain = Format { interrupts: InterruptAddresses::LocalApics, ..Format::default() };
        for address in [0, 0x1000, 0xfed0_0000, 0xfef0_0000, 0x1_fee0_0000, u64::MAX] {
            let encoded = plain.encode(Message { address, data: 0x41 });
            assert_eq!(encoded, Encoded::Write, "{address:#x}");
        }
        let message = Message { address: 0xfee0_1000, data: 0x41 };
        let msi = KvmMessage { address_lo: 0xfee0_1000, address_hi: 0, data: 0x41, device: None };
        assert_eq!(plain.encode(message), interrupt(msi));
        let told = Format { device: Some(0x20), ..plain };
        assert_eq!(told.encode(message), interrupt(KvmMessage { device: Some(0x20), ..msi }));
    }

    #[test]
    fn c11_extended_destinations_move_to_the_high_half() {
        let interrupts = InterruptAddresses::LocalApics;
        let extended = Format { extended_destinations: true, device: None, interrupts };
        let message = Message { address: 0xfee3_4fe0 | 0x8, data: 0 };
        let msi = KvmMessage { address_lo: 0xfee3_4008, address_hi: 0x7f00, data: 0, device: None };
        assert_eq!(extended.encode(message), interrupt(msi));
        assert_eq!(msi.address_hi & 0xff, 0, "K2: KVM refuses others");
        let remappable = Message { address: 0xfee3_4fe0 | 0x18, data: 0 };
        let as_it_is = KvmMessage { address_lo: 0xfee3_4ff8, address_hi: 0, data: 0, device: None };
        assert_eq!(extended.encode(remappable), interrupt(as_it_is));
    }

    #[test]
    fn k10_on_arm_only_the_doorbell_is_an_interrupt() {
        let interrupts = InterruptAddresses::Doorbell(0x809_0040);
        let its = Format { device: Some(0x20), interrupts, ..Format::default() };
        for address in [0, 0x809_0000, 0x809_003c, 0x809_0044, 0xfee0_0000, 0x1_0809_0040] {
            let encoded = its.encode(Message { address, data: 8192 });
            assert_eq!(encoded, Encoded::Write, "{address:#x}");
        }
        let message = its.encode(Message { address: 0x809_0040, data: 8192 });
        let (address_lo, data, device) = (0x809_0040, 8192, Some(0x20));
        assert_eq!(message, interrupt(KvmMessage { address_lo, address_hi: 0, data, device }));
    }

    #[test]
    fn k16_a_message_to_a_frame_is_the_pin_of_an_spi_that_the_frame_has() {
        let frame = Gicv2mFrame { address: 0x802_0000, first: 80, count: 64 };
        let to = |frame, address, data| Format::gicv2m(frame).encode(Message { address, data });
        let spi = |pin| Encoded::Interrupt(RouteTarget::Pin { irqchip: 0, pin });
        for (data, expected) in [
            (80, spi(48)),
            (143, spi(111)),
            (0x1_0050, spi(48)), // ten bits count
            (79, Encoded::Nobodys),
            (144, Encoded::Nobodys),
            (0, Encoded::Nobodys),
            (0x400, Encoded::Nobodys),
            (u32::MAX, Encoded::Nobodys),
        ] {
            assert_eq!(to(frame, 0x802_0040, data), expected, "{data:#x}");
        }
        for address in [0, 0x802_0000, 0x802_003c, 0x802_0044, 0x1_0802_0040, 0xfee0_0000] {
            assert_eq!(to(frame, address, 80), Encoded::Write, "{address:#x}");
        }
        // A frame that cannot be has the SPIs that can.
        let all = Gicv2mFrame { address: u64::MAX - 0x3f, first: 0, count: u32::MAX };
        for data in 0..1024 {
            let is_spi = (32..1020).contains(&data);
            let expected = if is_spi { spi(data - 32) } else { Encoded::Nobodys };
            assert_eq!(to(all, 0, data), expected);
        }
    }
}
