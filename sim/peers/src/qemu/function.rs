//! One PCI function of QEMU: configuration space, capability and BARs.

use super::client;
use super::error::QemuError;
use super::process::Qemu;
use msix_core::spec::CAPABILITY_ID;

const VENDOR_DEVICE: u32 = 0x1110_1af4;
/// Command: memory and bus master.
pub(crate) const COMMAND_ON: u16 = 0b110;
/// Where the BARs of device 0 go; each device has 16 MiB.
const FIRST_BASE: u32 = 0xe000_0000;
const SPACING: u32 = 16 << 20;
/// Offset of the MSI-X BAR in a device's 16 MiB.
const MSIX_BAR: u32 = 0x10_0000;

/// One ivshmem-doorbell device whose BARs are placed and whose capability was found.
#[derive(Debug, Clone, Copy)]
pub struct QemuFunction {
    /// Which device of [`super::Setup::vectors`] it is.
    pub index: usize,
    /// Config offset of the MSI-X capability.
    pub capability: u8,
    /// Address of the table.
    pub table: u64,
    /// Address of the PBA.
    pub pba: u64,
}

impl QemuFunction {
    /// Finds the capability of device `index`, places its BARs and switches it on.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn set_up(qemu: &mut Qemu, index: usize) -> Result<Self, QemuError> {
        let mut function = Self { index, capability: 0, table: 0, pba: 0 };
        let id = function.config(qemu, 0, 4)?;
        if id != u64::from(VENDOR_DEVICE) {
            return Err(QemuError::Device(format!("device {index} has id {id:#x}")));
        }
        function.capability = function.find(qemu)?;
        qemu.qtest().commands(&function.place_lines())?;
        let bar = u64::from(function.base() + MSIX_BAR);
        let offset = |register: u64| bar + (register & !0b111);
        function.table = offset(function.config(qemu, function.capability + 4, 4)?);
        function.pba = offset(function.config(qemu, function.capability + 8, 4)?);
        Ok(function)
    }

    fn base(&self) -> u32 {
        FIRST_BASE + SPACING * u32::try_from(self.index).unwrap_or(0)
    }

    /// Returns the commands that place its BARs and switch it on, as after each reset.
    #[must_use]
    pub fn place_lines(&self) -> Vec<String> {
        let base = self.base();
        // BAR0 registers, BAR1 MSI-X, BAR2 and 3 shared memory (E1).
        let bars = [(0x10, base), (0x14, base + MSIX_BAR), (0x18, base + 0x80_0000), (0x1c, 0)];
        let bars = bars.map(|(register, value)| self.set_config_lines(register, 4, value.into()));
        bars.into_iter().flatten().chain(self.command_lines(COMMAND_ON)).collect()
    }

    /// Writes the Command register.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn command(&self, qemu: &mut Qemu, value: u16) -> Result<(), QemuError> {
        qemu.qtest().commands(&self.command_lines(value)).map(drop)
    }

    /// Returns the commands of [`command`](Self::command).
    #[must_use]
    pub fn command_lines(&self, value: u16) -> [String; 2] {
        self.set_config_lines(4, 2, u64::from(value))
    }

    fn find(&self, qemu: &mut Qemu) -> Result<u8, QemuError> {
        let mut at = self.config(qemu, 0x34, 1)?;
        for _ in 0..48 {
            let offset = u8::try_from(at & 0xfc).unwrap_or(0);
            if offset == 0 {
                break;
            }
            let header = self.config(qemu, offset, 2)?;
            if header & 0xff == u64::from(CAPABILITY_ID) {
                return Ok(offset);
            }
            at = header >> 8;
        }
        Err(QemuError::Device(format!("device {} has no MSI-X capability", self.index)))
    }

    /// Reads `len` bytes (1, 2 or 4) of configuration space, inside one aligned dword.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn config(&self, qemu: &mut Qemu, offset: u8, len: u8) -> Result<u64, QemuError> {
        let lines = self.config_lines(offset, len);
        let answers = qemu.qtest().commands(&lines)?;
        let [_, line] = &lines;
        Self::number(line, answers.last().map_or("", String::as_str))
    }

    /// Writes `len` bytes (1, 2 or 4) of configuration space, inside one aligned dword.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn set_config(
        &self,
        qemu: &mut Qemu,
        offset: u8,
        len: u8,
        value: u64,
    ) -> Result<(), QemuError> {
        qemu.qtest().commands(&self.set_config_lines(offset, len, value)).map(drop)
    }

    /// Returns the commands of [`config`](Self::config). The answer to the last is the number.
    #[must_use]
    pub fn config_lines(&self, offset: u8, len: u8) -> [String; 2] {
        let (select, port) = self.select(offset);
        [select, format!("in{} {port:#x}", suffix(len))]
    }

    /// Returns the commands of [`set_config`](Self::set_config).
    #[must_use]
    pub fn set_config_lines(&self, offset: u8, len: u8, value: u64) -> [String; 2] {
        let (select, port) = self.select(offset);
        [select, format!("out{} {port:#x} {value:#x}", suffix(len))]
    }

    fn select(&self, offset: u8) -> (String, u16) {
        let slot = u32::from(Qemu::slot(self.index));
        let address = 0x8000_0000 | slot << 11 | u32::from(offset & 0xfc);
        (format!("outl 0xcf8 {address:#x}"), 0xcfc + u16::from(offset & 3))
    }

    /// Reads memory, `bytes` in one access where QEMU has one of that width.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn read(qemu: &mut Qemu, address: u64, bytes: &mut [u8]) -> Result<(), QemuError> {
        let Some(line) = Self::read_line(address, bytes.len()) else { return Ok(()) };
        let answer = qemu.qtest().command(&line)?;
        Self::bytes(&line, &answer, bytes)
    }

    /// Writes memory, in one access where QEMU has one of that width.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn write(qemu: &mut Qemu, address: u64, bytes: &[u8]) -> Result<(), QemuError> {
        let Some(line) = Self::write_line(address, bytes) else { return Ok(()) };
        qemu.qtest().command(&line).map(drop)
    }

    /// Returns the command of [`read`](Self::read); `None` for no bytes, of which there is nothing to ask.
    #[must_use]
    pub fn read_line(address: u64, len: usize) -> Option<String> {
        (len != 0).then(|| format!("read {address:#x} {len:#x}"))
    }

    /// Returns the command of [`write`](Self::write); `None` for no bytes.
    #[must_use]
    pub fn write_line(address: u64, bytes: &[u8]) -> Option<String> {
        let mut line = format!("write {address:#x} {:#x} 0x", bytes.len());
        for byte in bytes {
            line.push_str(&format!("{byte:02x}"));
        }
        (!bytes.is_empty()).then_some(line)
    }

    /// Returns the number that `answer` to `line` is.
    ///
    /// # Errors
    /// [`QemuError::Garbled`].
    pub fn number(line: &str, answer: &str) -> Result<u64, QemuError> {
        client::number(line, answer)
    }

    /// Fills `bytes` with the memory that `answer` to `line` shows.
    ///
    /// # Errors
    /// [`QemuError::Garbled`].
    pub fn bytes(line: &str, answer: &str, bytes: &mut [u8]) -> Result<(), QemuError> {
        let len = bytes.len();
        let garbled = || QemuError::Garbled {
            sent: line.to_owned(),
            got: answer.chars().take(120).collect(),
        };
        let digits = answer.strip_prefix("0x").filter(|digits| digits.len() == 2 * len);
        let digits = digits.ok_or_else(garbled)?;
        for (index, byte) in bytes.iter_mut().enumerate() {
            let pair = digits.get(2 * index..2 * index + 2).ok_or_else(garbled)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| garbled())?;
        }
        Ok(())
    }
}

fn suffix(len: u8) -> char {
    match len {
        1 => 'b',
        2 => 'w',
        _ => 'l',
    }
}
