//! The window of RTL8168 to its table: what the guest's accesses to it mean for the VMM's table.
//!
//! Two registers of 32 bits, of Realtek's drivers: data at 0 (ERIDR), and at 4 the command (ERIAR).
//! Bits 11:0 of a command are an address, 15:12 enable bytes of the data, 17:16 are the type, of
//! which 1 is the table. Bit 31 set writes, and the device clears it when it is done; clear reads,
//! and the device sets it when the data is there.

/// The state of a window to the table; one for each [`BarOwner::TableWindow`](super::BarOwner).
///
/// Commands to the table are the VMM's and done at once; all others are the device's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableWindow {
    data: u32,
    /// The last command, with bit 31 as the device would leave it; `None` if the device got it.
    command: Option<u32>,
}

/// What the VMM does about an access to the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowAccess {
    /// Forward it to the device.
    Forward,
    /// Read these 4 bytes of the table, and hand them to [`TableWindow::fetched`].
    ReadTable {
        /// Offset in the table, bytes.
        offset: u64,
    },
    /// Write these bytes of the table, as far as it has them.
    WriteTable {
        /// Offset in the table, bytes.
        offset: u64,
        /// Four bytes.
        value: u32,
        /// Bit k: byte k is written.
        bytes: u8,
    },
    /// Nothing: the access is answered, or dropped.
    Done,
}

impl TableWindow {
    /// Writes `value` to the register at `offset`, 0 or 4 bytes from the window's start. Returns
    /// what the VMM does.
    ///
    /// Writes of another width or place are undefined: drop them.
    pub fn write(&mut self, offset: u64, value: u32) -> WindowAccess {
        match offset {
            DATA => {
                self.data = value;
                // The device's, if the next command is. The table never sees it from there.
                WindowAccess::Forward
            }
            COMMAND if value >> 16 & 3 == TABLE => {
                self.command = Some(value ^ FLAG);
                let offset = u64::from(value & 0xffc);
                if value & FLAG == 0 {
                    return WindowAccess::ReadTable { offset };
                }
                let [_, enabled, ..] = value.to_le_bytes();
                WindowAccess::WriteTable { offset, value: self.data, bytes: enabled >> 4 }
            }
            COMMAND => {
                self.command = None;
                WindowAccess::Forward
            }
            _ => WindowAccess::Done,
        }
    }

    /// Takes what [`WindowAccess::ReadTable`] read; 0 for what is not in the table.
    pub fn fetched(&mut self, value: u32) {
        self.data = value;
    }

    /// Reads the register at `offset`; `None` if the device answers.
    #[must_use]
    pub fn read(&self, offset: u64) -> Option<u32> {
        let command = self.command?;
        match offset {
            DATA => Some(self.data),
            COMMAND => Some(command),
            _ => Some(0),
        }
    }
}

const DATA: u64 = 0;
const COMMAND: u64 = 4;
/// Bit 31 of a command.
const FLAG: u32 = 1 << 31;
/// Bits 17:16 of a command.
const TABLE: u32 = 1;

#[cfg(test)]
mod tests {
    use super::WindowAccess::{Done, Forward, ReadTable, WriteTable};
    use super::*;

    #[test]
    fn commands_to_the_table_are_the_vmms() {
        let mut window = TableWindow::default();
        assert_eq!((window.read(0), window.read(4)), (None, None), "the device answers");
        assert_eq!(window.write(0, 0xfee0_0000), Forward);
        let write = WriteTable { offset: 0x10, value: 0xfee0_0000, bytes: 0xf };
        assert_eq!(window.write(4, 0x8001_f010), write);
        assert_eq!(window.read(4), Some(0x0001_f010), "a write is done when the flag is clear");

        assert_eq!(window.write(4, 0x0001_f01c), ReadTable { offset: 0x1c });
        window.fetched(1);
        assert_eq!(window.read(4), Some(0x8001_f01c), "a read is done when the flag is set");
        assert_eq!((window.read(0), window.read(6)), (Some(1), Some(0)));
    }

    #[test]
    fn other_commands_are_the_devices() {
        let mut window = TableWindow::default();
        let _ = window.write(4, 0x0001_f000);
        for command in [0x8000_f1dc, 0x0000_f1dc, 0x8002_10e8, 0x0003_f000] {
            assert_eq!(window.write(0, 7), Forward);
            assert_eq!(window.write(4, command), Forward);
            assert_eq!((window.read(0), window.read(4)), (None, None), "{command:#x}");
        }
    }

    #[test]
    fn only_enabled_bytes_are_written_and_addresses_are_of_dwords() {
        let mut window = TableWindow::default();
        let write = WriteTable { offset: 0xffc, value: 0, bytes: 0x5 };
        assert_eq!(window.write(4, 0x8001_5fff), write);
        assert_eq!(window.write(1, u32::MAX), Done);
        assert_eq!(window.write(8, u32::MAX), Done);
    }
}
