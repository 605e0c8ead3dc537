//! What a guest writes: the capabilities, the table and Command.

use crate::input::Input;
use crate::naive::{ADDRESS, HIGH};
use crate::world::World;

impl World {
    /// The guest writes a capability or the table.
    pub(crate) fn write(&mut self, input: Input) {
        let bytes = |value: u32| value.to_le_bytes();
        let (alt, low) = (u32::from, |alt: bool| ADDRESS | u32::from(alt) << 12);
        let high = |alt: bool| if alt { HIGH } else { 0 };
        let data = |vector: u8, alt: bool| 0x20 + u32::from(vector) * 2 + u32::from(alt);
        match input {
            Input::MsixControl { enable, mask } => {
                self.write_msix(3, &[u8::from(enable) << 7 | u8::from(mask) << 6]);
            }
            Input::Mask(vector, masked) => self.write_entry(vector, 12, &bytes(alt(masked))),
            Input::Address(vector, alt) => {
                self.write_entry(vector, 0, &u64::from(low(alt)).to_le_bytes());
            }
            Input::AddressLow(vector, alt) => self.write_entry(vector, 0, &bytes(low(alt))),
            Input::AddressHigh(vector, alt) => self.write_entry(vector, 4, &bytes(high(alt))),
            Input::Data(vector, alt) => self.write_entry(vector, 8, &bytes(data(vector, alt))),
            Input::DataAndMask(vector, alt, masked) => {
                let both = u64::from(data(vector, alt)) | u64::from(masked) << 32;
                self.write_entry(vector, 8, &both.to_le_bytes());
            }
            Input::MsiControl { enable, log } => {
                self.write_msi(2, &[u8::from(enable) | (log & 3) << 4]);
            }
            Input::MsiMask(bits) => {
                if let Some(at) = self.registers.masks_at() {
                    self.write_msi(at, &bytes(bits.into()));
                }
            }
            Input::MsiAddress(alt) if self.registers.data_at() == 12 => {
                self.write_msi(4, &u64::from(low(alt)).to_le_bytes());
            }
            Input::MsiAddress(alt) => self.write_msi(4, &bytes(low(alt))),
            Input::MsiAddressLow(alt) => self.write_msi(4, &bytes(low(alt))),
            Input::MsiAddressHigh(alt) if self.registers.data_at() == 12 => {
                self.write_msi(8, &bytes(high(alt)));
            }
            Input::MsiData(alt) => {
                let data = 0x60_u16 | u16::from(alt) << 4;
                self.write_msi(self.registers.data_at(), &data.to_le_bytes());
            }
            Input::MsiAddressByte(alt) => self.write_msi(5, &[u8::from(alt) << 5]),
            _ => {}
        }
    }

    fn write_msix(&mut self, at: usize, bytes: &[u8]) {
        if let Some(msix) = &mut self.registers.msix {
            msix.write(at, bytes);
            self.function().write_msix(at, bytes);
        }
    }

    fn write_entry(&mut self, vector: u8, at: usize, bytes: &[u8]) {
        if self.setup.msix {
            let at = usize::from(vector) * 16 + at;
            self.registers.table.write(at, bytes);
            self.function().write_table(at as u64, bytes);
        }
    }

    fn write_msi(&mut self, at: usize, bytes: &[u8]) {
        if let Some(msi) = &mut self.registers.msi {
            msi.write(at, bytes);
            self.function().write_msi(at, bytes);
        }
    }

    pub(crate) fn write_command(&mut self, bus_master: bool, intx_disable: bool) {
        self.registers.command = 2 | u16::from(bus_master) << 2 | u16::from(intx_disable) << 10;
        self.function().write_command(0, &self.registers.command.to_le_bytes());
    }

    /// The messages of the current mode, of those vectors that are delivered.
    pub(crate) fn messages(&self) -> Vec<Option<(u64, u32)>> {
        let mode = self.registers.mode();
        let message = |vector| {
            let message = self.registers.message(mode, vector);
            message.filter(|_| self.registers.deliverable(vector))
        };
        (0..self.setup.vectors).map(message).collect()
    }
}
