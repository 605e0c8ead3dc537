//! A QEMU whose messages are read from its trace log.

use msix_conformance::Message;
use msix_peers::trace::{TracedRegion, What, parse_line};
use msix_peers::{Extras, Player, Qemu, QemuError, QemuFunction, Setup};
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::PathBuf;
use tempfile::TempDir;

/// Addresses above 4 GiB at which a message is seen: those of the BAR of a USB controller that
/// nobody uses. C12 sends there.
const HIGH: Range<u64> = 0x1234_5678_fee0_0000..0x1234_5678_fee0_4000;
/// The controller comes behind the one ivshmem device.
const BYSTANDER: QemuFunction = QemuFunction { index: 1, capability: 0, table: 0, pba: 0 };
/// Command: memory.
const MEMORY: u64 = 0b010;

/// QEMU's trace log.
#[derive(Debug)]
pub(in crate::conformance) struct Log {
    file: File,
    /// A line whose end was not written yet.
    partial: Vec<u8>,
    folder: TempDir,
}

impl Log {
    /// A new one, empty.
    pub(in crate::conformance) fn new() -> Result<Self, QemuError> {
        let system = |what| move |source| QemuError::System { what, source };
        let folder = tempfile::tempdir().map_err(system("temporary folder"))?;
        let path = folder.path().join("log");
        File::create(&path).map_err(system("trace log"))?;
        let file = File::open(&path).map_err(system("trace log"))?;
        Ok(Self { file, partial: Vec::new(), folder })
    }

    /// Where QEMU must write it.
    pub(in crate::conformance) fn path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The messages since the last call; `high` are addresses outside the interrupt controller at
    /// which one is seen too.
    pub(in crate::conformance) fn messages(
        &mut self,
        qemu: &mut Qemu,
        high: &Range<u64>,
    ) -> Result<Vec<Message>, QemuError> {
        // QEMU has handled all that was there before a command when it answers.
        qemu.qtest().command("inl 0xcf8")?;
        let read = self.file.read_to_end(&mut self.partial);
        read.map_err(|source| QemuError::System { what: "trace log", source })?;
        let whole = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let text: Vec<u8> = self.partial.drain(..whole).collect();
        let mut messages = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            let event = parse_line(line).map_err(|why| QemuError::Device(why.to_string()))?;
            let Some(What::Write(write)) = event.map(|event| event.what) else { continue };
            if write.region == TracedRegion::Messages || high.contains(&write.address) {
                let data = u32::try_from(write.value);
                let data = data.map_err(|why| QemuError::Device(why.to_string()))?;
                messages.push(Message { address: write.address, data });
            }
        }
        Ok(messages)
    }
}

/// QEMU and what it logged.
#[derive(Debug)]
pub(super) struct Traced {
    pub(super) qemu: Qemu,
    log: Log,
}

impl Traced {
    /// Starts one, perhaps from a migration stream.
    pub(super) fn start(
        program: &Player,
        vectors: u16,
        incoming: Option<PathBuf>,
    ) -> Result<Self, QemuError> {
        let log = Log::new()?;
        let slot = Qemu::slot(BYSTANDER.index);
        let arguments = vec!["-device".to_owned(), format!("qemu-xhci,addr={slot:#x}")];
        let setup = Setup { player: program.clone(), vectors: vec![vectors], incoming };
        let extras = Extras { arguments, trace: Some(log.path()), ..Extras::default() };
        Ok(Self { qemu: Qemu::start_with(&setup, &extras)?, log })
    }

    /// Places the BARs, after a start or a reset.
    pub(super) fn set_up(&mut self) -> Result<QemuFunction, QemuError> {
        BYSTANDER.set_config(&mut self.qemu, 0x10, 4, HIGH.start & 0xffff_ffff)?;
        BYSTANDER.set_config(&mut self.qemu, 0x14, 4, HIGH.start >> 32)?;
        BYSTANDER.set_config(&mut self.qemu, 4, 2, MEMORY)?;
        QemuFunction::set_up(&mut self.qemu, 0)
    }

    /// The messages since the last call.
    pub(super) fn messages(&mut self) -> Result<Vec<Message>, QemuError> {
        self.log.messages(&mut self.qemu, &HIGH)
    }
}
