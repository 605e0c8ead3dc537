//! Who else sends messages: I/O APICs that userspace has, and functions with MSI.

use super::accesses::ConfigCycle;
use super::{decoded, encoded};
use msix_core::Message;
use msix_peers::kernel_trace::{DecodedMessage, MmioAccess};
use msix_peers::trace::Bdf;
use std::collections::BTreeMap;

/// Messages of others than MSI-X functions.
#[derive(Debug, Default)]
pub(super) struct Sources {
    index: u8,
    /// Redirection entries, two words each, of the I/O APIC.
    pins: BTreeMap<u8, u32>,
    msi: BTreeMap<Bdf, Msi>,
}

/// An MSI capability.
#[derive(Debug, Clone, Copy)]
struct Msi {
    at: u16,
    /// Its first 16 bytes, as written.
    bytes: [u8; 16],
}

impl Sources {
    /// Functions with MSI, and where their capability begins.
    pub(super) fn new(msi: impl Iterator<Item = (Bdf, u16)>) -> Self {
        let capability = |(bdf, at)| (bdf, Msi { at, bytes: [0; 16] });
        Self { msi: msi.map(capability).collect(), ..Self::default() }
    }

    /// A write to memory.
    pub(super) fn write(&mut self, access: &MmioAccess) {
        match access.address {
            IOREGSEL => self.index = access.value as u8,
            IOWIN if self.index >= 0x10 => {
                self.pins.insert(self.index, access.value as u32);
            }
            _ => {}
        }
    }

    /// A configuration access, with what the function then has there.
    pub(super) fn config(&mut self, cycle: &ConfigCycle) {
        let Some(Msi { at, bytes }) = self.msi.get_mut(&cycle.bdf) else { return };
        for (place, byte) in (*at..).zip(bytes) {
            if let Some(told) = cycle.byte(place) {
                *byte = told;
            }
        }
    }

    /// Whether one of them can have sent a message, as the kernel tells it.
    pub(super) fn may_send(&self, message: Message) -> bool {
        self.msi.values().any(|msi| msi.may_send(message)) || self.pin_may_send(message)
    }

    fn pin_may_send(&self, message: Message) -> bool {
        // Whoever made a message of the entry may have set the redirection hint.
        let message = Message { address: message.address & !8, ..message };
        self.pins.iter().filter(|(index, _)| *index % 2 == 0).any(|(index, &low)| {
            let high = self.pins.get(&(index | 1)).copied().unwrap_or(0);
            let [vector, ..] = low.to_le_bytes();
            let pin = DecodedMessage {
                destination: high >> 24,
                vector,
                mode: (low >> 8) as u8 & 7,
                logical: low & 1 << 11 != 0,
                level: low & 1 << 15 != 0,
                redirect: false,
            };
            encoded(pin) == message
        })
    }
}

impl Msi {
    fn may_send(&self, message: Message) -> bool {
        let word = |at: usize| {
            let bytes = self.bytes.get(at..at + 4).and_then(|bytes| bytes.first_chunk());
            bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        let control = word(0) >> 16;
        let wide = control & 0x80 != 0;
        let high = if wide { word(8) } else { 0 };
        let data = word(if wide { 12 } else { 8 }) & 0xffff;
        let several = (1_u32 << (control >> 4 & 7).min(5)) - 1;
        let address = u64::from(high) << 32 | u64::from(word(4));
        let own = decoded(Message { address, data: data & !several });
        let told = Message { data: message.data & !several, ..message };
        control & 1 != 0 && own == told
    }
}

const IOREGSEL: u64 = 0xfec0_0000;
const IOWIN: u64 = 0xfec0_0010;

#[cfg(test)]
mod tests {
    use super::*;

    fn sends(sources: &Sources, address: u64, data: u32) -> bool {
        sources.may_send(Message { address, data })
    }

    #[test]
    fn a_pin_of_an_io_apic_sends_its_redirection_entry_with_and_without_the_hint() {
        let mut sources = Sources::default();
        let mut write = |address, value| {
            sources.write(&MmioAccess { address, size: 4, value });
        };
        for (index, value) in [(0x19, 0x0100_0000), (0x18, 0x21)] {
            write(IOREGSEL, index);
            write(IOWIN, value);
        }
        assert!(sends(&sources, 0xfee0_1000, 0x21) && sends(&sources, 0xfee0_1008, 0x21));
        assert!(!sends(&sources, 0xfee0_0000, 0x21) && !sends(&sources, 0xfee0_1000, 0x22));
    }

    #[test]
    fn a_function_with_msi_sends_one_of_its_messages_while_it_is_enabled() {
        let bdf = Bdf { bus: 0, device: 31, function: 2 };
        let mut sources = Sources::new([(bdf, 0x80)].into_iter());
        let mut config = |offset, size, value| {
            sources.config(&ConfigCycle { bdf, offset, size, value });
        };
        config(0x84, 4, 0xfee0_2000);
        config(0x88, 4, 0);
        config(0x8c, 2, 0x4040);
        config(0x82, 2, 0x00a1); // 64-bit, 4 messages, enabled
        for data in 0x40..=0x43 {
            assert!(sends(&sources, 0xfee0_2000, data));
        }
        assert!(!sends(&sources, 0xfee0_2000, 0x44) && !sends(&sources, 0xfee0_1000, 0x40));
        sources.config(&ConfigCycle { bdf, offset: 0x82, size: 2, value: 0x00a0 });
        assert!(!sends(&sources, 0xfee0_2000, 0x40));
    }
}
