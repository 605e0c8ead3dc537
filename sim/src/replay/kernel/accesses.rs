//! Accesses to configuration space, as ports and memory show them.

use msix_peers::kernel_trace::{MmioAccess, PortAccess};
use msix_peers::trace::Bdf;

/// An access of a register of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConfigCycle {
    pub(super) bdf: Bdf,
    /// In bytes, below 4096.
    pub(super) offset: u16,
    /// Width in bytes: 1, 2 or 4.
    pub(super) size: u8,
    pub(super) value: u32,
}

impl ConfigCycle {
    /// The bytes of the value.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.value.to_le_bytes().into_iter().take(usize::from(self.size)).collect()
    }

    /// A sizing write of a BAR.
    pub(super) const fn sizes(&self) -> bool {
        self.size == 4 && self.value >= 0xffff_fff0
    }

    /// The BAR register that it is exactly.
    pub(super) fn bar(&self) -> Option<u8> {
        let at = self.offset.checked_sub(0x10)?;
        let exact = self.size == 4 && at.is_multiple_of(4) && at < 24;
        u8::try_from(at / 4).ok().filter(|_| exact)
    }

    /// Byte `at` of configuration space, if it covers that.
    pub(super) fn byte(&self, at: u16) -> Option<u8> {
        let place = usize::from(at.checked_sub(self.offset)?);
        self.bytes().get(place).copied()
    }
}

/// Makes configuration accesses of what a recording shows.
#[derive(Debug, Clone, Default)]
pub(super) struct ConfigDecoder {
    /// Port 0xcf8.
    address: Option<u32>,
    /// Where an ECAM begins.
    ecam: Option<u64>,
    /// What the guest wrote to the registers of a Q35 host bridge that place its ECAM.
    q35: [u32; 2],
    is_q35: bool,
}

impl ConfigDecoder {
    pub(super) fn new(ecam: Option<u64>) -> Self {
        Self { ecam, ..Self::default() }
    }

    /// An access by ports; `None` if it is none of configuration space.
    pub(super) fn port(&mut self, access: &PortAccess, write: bool) -> Option<ConfigCycle> {
        let PortAccess { port, size, count, value } = *access;
        if port == 0xcf8 && size == 4 && count == 1 {
            if write {
                self.address = Some(value);
            }
            return None;
        }
        let (0xcfc..=0xcff, Some(address)) = (port, self.address) else { return None };
        if address >> 31 == 0 || count != 1 || (port & 3) + u16::from(size) > 4 {
            return None;
        }
        let [_, low, bus, high] = address.to_le_bytes();
        let bdf = Bdf { bus, device: low >> 3, function: low & 7 };
        // Some bridges take bits 11:8 of the register from bits 27:24; elsewhere they are 0.
        let register = u16::from(high & 0xf) << 8 | (address & 0xfc) as u16;
        let cycle = ConfigCycle { bdf, offset: register + (port & 3), size, value };
        self.watch(&cycle, write);
        Some(cycle)
    }

    /// An access by memory; `None` if it is none of configuration space.
    pub(super) fn memory(&mut self, access: &MmioAccess, write: bool) -> Option<ConfigCycle> {
        let at = access.address.checked_sub(self.ecam?)?;
        let size = access.size;
        if at >= ECAM_SIZE || !matches!(size, 1 | 2 | 4) || at % 4096 + u64::from(size) > 4096 {
            return None;
        }
        let bus = (at >> 20) as u8;
        let (device, function) = ((at >> 15) as u8 & 31, (at >> 12) as u8 & 7);
        let bdf = Bdf { bus, device, function };
        let (offset, value) = ((at & 0xfff) as u16, access.value as u32);
        let cycle = ConfigCycle { bdf, offset, size, value };
        self.watch(&cycle, write);
        Some(cycle)
    }

    /// A Q35 host bridge has the place of the ECAM in registers 0x60 and 0x64.
    fn watch(&mut self, cycle: &ConfigCycle, write: bool) {
        if cycle.bdf != (Bdf { bus: 0, device: 0, function: 0 }) || cycle.size < 2 {
            return;
        }
        match (cycle.offset, write) {
            (0, false) if cycle.size == 4 => self.is_q35 = cycle.value == Q35,
            (2, false) => self.is_q35 = cycle.value == Q35 >> 16,
            (0x60, true) if self.is_q35 => self.q35 = [cycle.value, self.q35[1]],
            (0x64, true) if self.is_q35 => self.q35 = [self.q35[0], cycle.value],
            _ => return,
        }
        let [low, high] = self.q35;
        if self.is_q35 && low & 1 != 0 {
            self.ecam = Some(u64::from(high) << 32 | u64::from(low & 0xf000_0000));
        }
    }
}

const ECAM_SIZE: u64 = 256 << 20;
/// Device and vendor of the host bridge.
const Q35: u32 = 0x29c0_8086;

#[cfg(test)]
mod tests {
    use super::*;

    fn out(port: u16, size: u8, value: u32) -> PortAccess {
        PortAccess { port, size, count: 1, value }
    }

    #[test]
    fn ports_name_a_register_and_the_bytes_of_it() {
        let mut config = ConfigDecoder::default();
        assert_eq!(config.port(&out(0xcfc, 4, 1), true), None, "no address was written yet");
        assert_eq!(config.port(&out(0xcf8, 4, 0x8000_089a), true), None);
        let bdf = Bdf { bus: 0, device: 1, function: 0 };
        let control = ConfigCycle { bdf, offset: 0x9a, size: 2, value: 0xc002 };
        assert_eq!(config.port(&out(0xcfe, 2, 0xc002), true), Some(control));
        assert_eq!((control.byte(0x9b), control.byte(0x9c)), (Some(0xc0), None));
        assert_eq!(config.port(&out(0xcff, 2, 0), true), None, "past the register");
        assert_eq!(config.port(&out(0xcfb, 1, 0), true), None);
        config.port(&out(0xcf8, 4, 0x0000_0800), true);
        assert_eq!(config.port(&out(0xcfc, 4, 0), false), None, "not enabled");
        config.port(&out(0xcf8, 4, 0x8102_f304), true);
        let bdf = Bdf { bus: 2, device: 30, function: 3 };
        let found = config.port(&out(0xcfc, 4, 7), false);
        assert_eq!(found, Some(ConfigCycle { bdf, offset: 0x104, size: 4, value: 7 }));
    }

    #[test]
    fn an_ecam_is_where_it_is_said_or_where_a_q35_has_it() {
        let read = |address, value| MmioAccess { address, size: 4, value };
        let mut config = ConfigDecoder::default();
        assert_eq!(config.memory(&read(0xb000_8000, 0), false), None);
        for (register, value, write) in [(0, 0x29c0_8086, false), (0x60, 0xb000_0001, true)] {
            config.port(&out(0xcf8, 4, 0x8000_0000 | register), true);
            config.port(&out(0xcfc, 4, value), write);
        }
        let bdf = Bdf { bus: 1, device: 1, function: 2 };
        let found = config.memory(&read(0xb010_a104, 9), false);
        assert_eq!(found, Some(ConfigCycle { bdf, offset: 0x104, size: 4, value: 9 }));
        assert_eq!(config.memory(&read(0xc000_0000, 0), false), None);
        let mut given = ConfigDecoder::new(Some(0xe800_0000));
        assert!(given.memory(&read(0xe800_0000, 0), false).is_some());
    }
}
