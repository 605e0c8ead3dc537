//! usbvfiod 0.3: a vfio-user server, each device a process of its own, driven over its socket.
//!
//! Its parts are not public. A vfio-user server leaves messages to the VMM that it serves: it has the
//! capability, it names the place of table and PBA in a BAR, and an event is a write to an eventfd. So its
//! registers are judged, as a client reads and writes them; and its events, behind a VMM ([`BehindVmm`]).

mod behind;
mod controller;

pub use behind::{BehindVmm, counted};

use msix_conformance::{Choices, Device, Layouts, Message, NoDevice, Refused, Subject};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use vfio_user::Client;

/// A program that is usbvfiod.
#[derive(Debug, Clone)]
pub struct UsbvfiodSubject {
    /// Where it is.
    pub program: PathBuf,
}

/// The index of configuration space among the regions.
const CONFIG: u32 = 7;
/// Id of the MSI-X capability.
const MSIX: u8 = 0x11;
/// How long a server may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);

impl Subject for UsbvfiodSubject {
    fn name(&self) -> String {
        "usbvfiod 0.3.0, registers over its socket".into()
    }

    fn choices(&self) -> Choices {
        Choices::UNKNOWN
    }

    fn device(&self, vectors: u32) -> Result<Box<dyn Device>, NoDevice> {
        if vectors != 1 {
            return Err(NoDevice::NotOffered("it has one vector".into()));
        }
        let device = Server::start(&self.program).map_err(NoDevice::NotOffered)?;
        Ok(Box::new(device))
    }

    fn layouts(&self) -> Option<&dyn Layouts> {
        None
    }
}

pub(crate) struct Server {
    process: Child,
    client: Client,
    capability: u64,
    /// BAR and offset.
    table: (u32, u64),
    pba: (u32, u64),
    _folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start(program: &Path) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|why| why.to_string())?;
        let path = folder.path().join("socket");
        let process = Command::new(program)
            .arg("--socket-path")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut process = process.map_err(|why| format!("{}: {why}", program.display()))?;
        let begin = Instant::now();
        let client = loop {
            match Client::new(&path) {
                Ok(client) => break client,
                Err(_) if begin.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(2))
                }
                Err(why) => {
                    let _ = process.kill();
                    let _ = process.wait();
                    return Err(format!("no connection: {why}"));
                }
            }
        };
        let place = (0, 0);
        let mut server =
            Self { process, client, capability: 0, table: place, pba: place, _folder: folder };
        let mut at = u64::from(server.config_byte(0x34));
        for _ in 0..48 {
            if server.config_byte(at) == MSIX {
                server.capability = at;
                let place = |bytes: [u8; 4]| {
                    let value = u32::from_le_bytes(bytes);
                    (value & 7, u64::from(value & !7))
                };
                let mut bytes = [0; 4];
                server.read(CONFIG, at + 4, &mut bytes);
                server.table = place(bytes);
                server.read(CONFIG, at + 8, &mut bytes);
                server.pba = place(bytes);
                return Ok(server);
            }
            at = u64::from(server.config_byte(at + 1));
        }
        Err("no MSI-X capability".into())
    }

    fn config_byte(&mut self, at: u64) -> u8 {
        let mut byte = [0];
        self.read(CONFIG, at, &mut byte);
        byte[0]
    }

    /// An access that the server does not survive is a failure.
    fn read(&mut self, region: u32, offset: u64, bytes: &mut [u8]) {
        if self.client.region_read(region, offset, bytes).is_err() {
            panic!(
                "a read of {} bytes at {offset:#x} of region {region} ended the server",
                bytes.len()
            );
        }
    }

    fn write(&mut self, region: u32, offset: u64, bytes: &[u8]) {
        if self.client.region_write(region, offset, bytes).is_err() {
            panic!(
                "a write of {} bytes at {offset:#x} of region {region} ended the server",
                bytes.len()
            );
        }
    }
}

/// As a guest's configuration ports split an access: aligned, up to a dword.
fn pieces(offset: usize, len: usize) -> Vec<(usize, usize)> {
    let (mut at, end) = (offset, offset + len);
    let mut pieces = Vec::new();
    while at < end {
        let width =
            [4, 2].into_iter().find(|width| at % width == 0 && at + width <= end).unwrap_or(1);
        pieces.push((at, width));
        at += width;
    }
    pieces
}

impl Device for Server {
    fn read_config(&mut self, offset: usize, bytes: &mut [u8]) {
        for (at, width) in pieces(offset, bytes.len()) {
            let place = self.capability + at as u64;
            self.read(CONFIG, place, &mut bytes[at - offset..][..width]);
        }
    }
    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        for (at, width) in pieces(offset, bytes.len()) {
            self.write(CONFIG, self.capability + at as u64, &bytes[at - offset..][..width]);
        }
    }
    fn read_table(&mut self, offset: u64, bytes: &mut [u8]) {
        let (bar, first) = self.table;
        self.read(bar, first.saturating_add(offset), bytes);
    }
    fn write_table(&mut self, offset: u64, bytes: &[u8]) {
        let (bar, first) = self.table;
        self.write(bar, first.saturating_add(offset), bytes);
    }
    fn read_pba(&mut self, offset: u64, bytes: &mut [u8]) {
        let (bar, first) = self.pba;
        self.read(bar, first.saturating_add(offset), bytes);
    }
    fn write_pba(&mut self, offset: u64, bytes: &[u8]) {
        let (bar, first) = self.pba;
        self.write(bar, first.saturating_add(offset), bytes);
    }
    fn fire(&mut self, _vector: u32) -> Result<(), Refused> {
        Err(Refused("an event is a write to an eventfd: see the module".into()))
    }
    fn messages(&mut self) -> Vec<Message> {
        Vec::new()
    }
    nothing! {
        claims: Claims, withdrawal: Withdrawal, side_channel: SideChannel, function_reset: FunctionReset,
        bus_master: BusMaster, intx: IntxLog, host_log: HostLog, host_script: HostScript,
        backend_log: BackendLog, attachment: Attachment, snapshots: Snapshots, qemu_field: QemuField
    }
}
