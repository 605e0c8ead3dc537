//! QEMU's `edu` device as a subject: one MSI vector with a 64-bit address, no masks, and a pin.
//!
//! It is raised and satisfied by its registers 0x60 and 0x64. Messages are taken from the trace log, the
//! line from the inputs of the I/O interrupt controller, which qtest intercepts.

use super::super::qemu::traced::Log;
use msix_conformance::{
    FunctionDevice, FunctionReset, FunctionSubject, MsixBeside, NoDevice, PhysicalLine, Withdrawal,
};
use msix_core::{Message, Mode, spec};
use msix_peers::{Extras, Qemu, QemuError, QemuFunction, Setup};
use std::path::{Path, PathBuf};

/// The `edu` device of an installed QEMU.
#[derive(Debug, Clone)]
pub struct EduSubject {
    program: PathBuf,
    version: String,
}

impl EduSubject {
    /// Of the QEMU that `program` is, found as a shell finds it.
    ///
    /// # Errors
    /// [`QemuError`] when it cannot be started or talked to.
    pub fn find(program: &Path) -> Result<Self, QemuError> {
        let with = program.to_owned().into();
        let setup = Setup { player: with, vectors: Vec::new(), incoming: None };
        let version = Qemu::start(&setup)?.version().to_owned();
        Ok(Self { program: program.to_owned(), version })
    }
}

impl FunctionSubject for EduSubject {
    fn name(&self) -> String {
        format!("QEMU {}, edu", self.version)
    }

    fn device(&self, vectors: u16, masks: bool) -> Result<Box<dyn FunctionDevice>, NoDevice> {
        if vectors != 1 || masks {
            let why = "edu has one vector and no masks".to_owned();
            return Err(NoDevice::NotOffered(why));
        }
        let device = Edu::start(&self.program);
        Ok(Box::new(device.unwrap_or_else(|error| panic!("QEMU: {error}"))))
    }
}

/// Where its registers are put.
const BAR: u64 = 0xe000_0000;
const RAISE: u64 = BAR + 0x60;
const SATISFY: u64 = BAR + 0x64;
/// It is the machine's only device.
const EDU: QemuFunction = QemuFunction { index: 0, capability: 0, table: 0, pba: 0 };

struct Edu {
    qemu: Qemu,
    log: Log,
    capability: u8,
    command: u16,
}

impl Edu {
    fn start(program: &Path) -> Result<Self, QemuError> {
        let log = Log::new()?;
        let slot = Qemu::slot(EDU.index);
        let arguments = vec!["-device".to_owned(), format!("edu,addr={slot:#x}")];
        let program = program.to_owned().into();
        let setup = Setup { player: program, vectors: Vec::new(), incoming: None };
        let extras = Extras { arguments, trace: Some(log.path()), ..Extras::default() };
        let mut qemu = Qemu::start_with(&setup, &extras)?;
        qemu.qtest().command("irq_intercept_in ioapic")?;
        EDU.set_config(&mut qemu, 0x10, 4, BAR)?;
        let at = EDU.config(&mut qemu, 0x34, 1)?;
        let capability = u8::try_from(at).unwrap_or(0);
        let id = EDU.config(&mut qemu, capability, 1)?;
        if id != u64::from(spec::MSI_CAPABILITY_ID) {
            return Err(QemuError::Device(format!("its first capability is {id:#x}")));
        }
        let command = spec::COMMAND_MEMORY | spec::COMMAND_BUS_MASTER;
        let mut edu = Self { qemu, log, capability, command };
        edu.set_command(spec::COMMAND_MEMORY, true);
        edu.messages(); // the machine's own, of its start
        Ok(edu)
    }

    /// What QEMU does not answer cannot be judged.
    fn must<T>(&mut self, answer: Result<T, QemuError>) -> T {
        answer.unwrap_or_else(|error| panic!("QEMU: {}", self.qemu.explain(error)))
    }

    fn set_command(&mut self, bit: u16, on: bool) {
        self.command = if on { self.command | bit } else { self.command & !bit };
        let written = EDU.command(&mut self.qemu, self.command);
        self.must(written);
    }

    /// One access may not cross a dword.
    fn pieces(offset: usize, len: usize) -> Vec<(usize, usize)> {
        let mut pieces = Vec::new();
        let mut at = offset;
        while at < offset + len {
            let left = offset + len - at;
            let fits = [4, 2, 1].into_iter().find(|n| *n <= left && at.is_multiple_of(*n));
            let piece = fits.unwrap_or(1);
            pieces.push((at, piece));
            at += piece;
        }
        pieces
    }

    fn poke(&mut self, address: u64, value: u32) {
        let written = self.qemu.qtest().command(&format!("writel {address:#x} {value:#x}"));
        self.must(written);
    }
}

impl FunctionDevice for Edu {
    fn read_msi(&mut self, offset: usize, bytes: &mut [u8]) {
        for (at, len) in Self::pieces(offset, bytes.len()) {
            let place = self.capability + at as u8;
            let value = EDU.config(&mut self.qemu, place, len as u8);
            let value = self.must(value).to_le_bytes();
            bytes[at - offset..at - offset + len].copy_from_slice(&value[..len]);
        }
    }

    fn write_msi(&mut self, offset: usize, bytes: &[u8]) {
        for (at, len) in Self::pieces(offset, bytes.len()) {
            let piece = &bytes[at - offset..at - offset + len];
            let value = piece.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
            let place = self.capability + at as u8;
            let written = EDU.set_config(&mut self.qemu, place, len as u8, value);
            self.must(written);
        }
    }

    fn set_bus_master(&mut self, on: bool) {
        self.set_command(spec::COMMAND_BUS_MASTER, on);
    }

    fn set_interrupt_disable(&mut self, on: bool) {
        self.set_command(spec::COMMAND_INTX_DISABLE, on);
    }

    fn interrupt_status(&mut self) -> bool {
        let status = EDU.config(&mut self.qemu, 6, 2);
        self.must(status) & u64::from(spec::STATUS_INTERRUPT) != 0
    }

    fn fire(&mut self, _vector: u16) {
        self.poke(RAISE, 1);
    }

    fn satisfy(&mut self) {
        self.poke(SATISFY, u32::MAX);
    }

    fn messages(&mut self) -> Vec<Message> {
        let messages = self.log.messages(&mut self.qemu, &(0..0));
        self.must(messages)
    }

    fn line(&mut self) -> bool {
        let asked = self.qemu.qtest().command("inl 0xcf8");
        self.must(asked);
        !self.qemu.qtest().raised().is_empty()
    }

    fn withdrawal(&mut self) -> Option<&mut dyn Withdrawal> {
        None
    }

    fn msix(&mut self) -> Option<&mut dyn MsixBeside> {
        None
    }

    fn physical(&mut self) -> Option<&mut dyn PhysicalLine> {
        None
    }

    fn function_reset(&mut self) -> Option<&mut dyn FunctionReset> {
        None
    }

    fn host_log(&mut self) -> Option<Vec<(Mode, bool)>> {
        None
    }
}
