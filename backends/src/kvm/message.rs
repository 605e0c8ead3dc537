//! Encodes a guest's message for KVM.

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
            Self::Any => true,
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

    /// Returns the message for KVM; `None` when it is a plain write to memory and no interrupt. KVM
    /// does not check this: it would deliver a message to address 0 to the first processor (K11).
    pub(crate) fn encode(self, message: Message) -> Option<KvmMessage> {
        if !self.interrupts.contain(message.address) {
            return None;
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
        Some(KvmMessage { address_lo, address_hi, data: message.data, device: self.device })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c11_only_the_interrupt_window_is_an_interrupt() {
        let plain = Format { interrupts: InterruptAddresses::LocalApics, ..Format::default() };
        for address in [0, 0x1000, 0xfed0_0000, 0xfef0_0000, 0x1_fee0_0000, u64::MAX] {
            assert_eq!(plain.encode(Message { address, data: 0x41 }), None, "{address:#x}");
        }
        let message = Message { address: 0xfee0_1000, data: 0x41 };
        let msi = KvmMessage { address_lo: 0xfee0_1000, address_hi: 0, data: 0x41, device: None };
        assert_eq!(plain.encode(message), Some(msi));
        let told = Format { device: Some(0x20), ..plain };
        assert_eq!(told.encode(message), Some(KvmMessage { device: Some(0x20), ..msi }));
    }

    #[test]
    fn c11_extended_destinations_move_to_the_high_half() {
        let interrupts = InterruptAddresses::LocalApics;
        let extended = Format { extended_destinations: true, device: None, interrupts };
        let message = Message { address: 0xfee3_4fe0 | 0x8, data: 0 };
        let msi = KvmMessage { address_lo: 0xfee3_4008, address_hi: 0x7f00, data: 0, device: None };
        assert_eq!(extended.encode(message), Some(msi));
        assert_eq!(msi.address_hi & 0xff, 0, "K2: KVM refuses others");
        let remappable = Message { address: 0xfee3_4fe0 | 0x18, data: 0 };
        let as_it_is = KvmMessage { address_lo: 0xfee3_4ff8, address_hi: 0, data: 0, device: None };
        assert_eq!(extended.encode(remappable), Some(as_it_is));
    }

    #[test]
    fn k10_on_arm_only_the_doorbell_is_an_interrupt() {
        let interrupts = InterruptAddresses::Doorbell(0x809_0040);
        let its = Format { device: Some(0x20), interrupts, ..Format::default() };
        for address in [0, 0x809_0000, 0x809_003c, 0x809_0044, 0xfee0_0000, 0x1_0809_0040] {
            assert_eq!(its.encode(Message { address, data: 8192 }), None, "{address:#x}");
        }
        let message = its.encode(Message { address: 0x809_0040, data: 8192 });
        let (address_lo, data, device) = (0x809_0040, 8192, Some(0x20));
        assert_eq!(message, Some(KvmMessage { address_lo, address_hi: 0, data, device }));
    }
}
