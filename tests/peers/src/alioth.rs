//! Alioth 0.12: its MSI-X capability and table, with events that take the way of its irqfds.
//!
//! The capability, the list it is in, the table and the bus are Alioth's own public types. Its trait `IrqFd` is
//! implemented here, by a host that does what a kernel does: an event of an unmasked irqfd is a message, one
//! of a masked irqfd is held until it is unmasked (K7, K8), and a changed message is a changed route.

mod virtio;

pub use virtio::VirtioSubject;

use alioth::hv::{self, IrqFd};
use alioth::mem::emulated::{Mmio, MmioBus};
use alioth::pci::cap::{
    MsixCap, MsixCapMmio, MsixCapOffset, MsixMsgCtrl, MsixTableMmio, MsixTableMmioEntry, PciCap,
    PciCapHdr, PciCapId, PciCapList,
};
use alioth::pci::config::PciConfigArea;
use msix_conformance::{
    Choices, Device, FunctionReset, HostCall, HostLog, Layouts, Message, NoDevice, Refused,
    Subject, VectorControlBits, WhileDisabled,
};
use parking_lot::{Mutex, RwLock};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Alioth's MSI-X.
#[derive(Debug, Clone, Copy)]
pub struct AliothSubject;

/// Where a capability list begins: behind the header.
const CAPABILITY: u64 = 0x40;
/// Where Alioth's virtio devices have the PBA in the BAR of the table.
const PBA: u64 = 8 << 10;
/// Most vectors whose table ends before that.
const MOST: u32 = 512;

impl Subject for AliothSubject {
    fn name(&self) -> String {
        "Alioth 0.12.0, capability and table".into()
    }

    fn choices(&self) -> Choices {
        Choices {
            while_disabled: Some(WhileDisabled::Latch),
            vector_control: Some(VectorControlBits::MaskOnly),
            ..Choices::UNKNOWN
        }
    }

    fn device(&self, vectors: u32) -> Result<Box<dyn Device>, NoDevice> {
        let no = |why: String| NoDevice::NotOffered(why);
        match vectors {
            1..=MOST => {}
            0 | 2049.. => {
                return Err(no("the type of the table takes any number of entries".into()));
            }
            _ => return Err(no(format!("the PBA is at 8 KiB: at most {MOST} vectors"))),
        }
        let host = Arc::new(Mutex::new(Host::default()));
        let count = u16::try_from(vectors).map_err(|why| no(why.to_string()))?;
        let capability: Box<dyn PciCap> = Box::new(MsixCapMmio::new(MsixCap {
            header: PciCapHdr { id: PciCapId::MSIX, next: 0 },
            control: MsixMsgCtrl::new(count),
            table_offset: MsixCapOffset::new(0, 0),
            pba_offset: MsixCapOffset::new(PBA as u32, 0),
        }));
        let capabilities =
            PciCapList::try_from(vec![capability]).map_err(|why| no(why.to_string()))?;
        let table = Arc::new(MsixTableMmio { entries: RwLock::new(irqfds(count, &host)?) });
        let mut bar = MmioBus::<Arc<dyn Mmio>>::new();
        bar.add(0, Arc::clone(&table) as Arc<dyn Mmio>).map_err(|why| no(why.to_string()))?;
        Ok(Box::new(AliothDevice { count, capabilities, table, bar, host }))
    }

    fn layouts(&self) -> Option<&dyn Layouts> {
        None
    }
}

/// One irqfd for each vector, all masked.
fn irqfds(
    count: u16,
    host: &Arc<Mutex<Host>>,
) -> Result<Box<[MsixTableMmioEntry<Irqfd>]>, NoDevice> {
    (0..count)
        .map(|vector| {
            // Nobody reads or writes it: the trait takes something with a descriptor.
            let fd =
                File::open("/dev/null").map_err(|why| NoDevice::NotOffered(why.to_string()))?;
            let state = Mutex::new(State { message: [0; 3], masked: true, held: false });
            Ok(MsixTableMmioEntry::IrqFd(Irqfd { vector, fd, state, host: Arc::clone(host) }))
        })
        .collect()
}

/// What the host was asked for, and what it delivered.
#[derive(Debug, Default)]
struct Host {
    calls: Vec<HostCall>,
    messages: Vec<Message>,
}

/// An irqfd of the host.
#[derive(Debug)]
struct Irqfd {
    vector: u16,
    fd: File,
    state: Mutex<State>,
    host: Arc<Mutex<Host>>,
}

#[derive(Debug)]
struct State {
    /// Low address, high address, data.
    message: [u32; 3],
    masked: bool,
    held: bool,
}

impl State {
    fn message(&self) -> Message {
        let [low, high, data] = self.message;
        Message { address: u64::from(high) << 32 | u64::from(low), data }
    }
}

impl Irqfd {
    fn set(&self, field: usize, value: u32) {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.message[field], value) != value && !state.masked {
            let message = state.message();
            self.host.lock().calls.push(HostCall::Reroute { vector: self.vector, message });
        }
    }

    /// The device writes the eventfd.
    fn signal(&self) {
        let mut state = self.state.lock();
        if state.masked {
            state.held = true;
        } else {
            self.host.lock().messages.push(state.message());
        }
    }
}

impl Drop for Irqfd {
    fn drop(&mut self) {
        if !self.state.lock().masked {
            self.host.lock().calls.push(HostCall::Disarm { vector: self.vector });
        }
    }
}

impl AsFd for Irqfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl IrqFd for Irqfd {
    fn set_addr_lo(&self, value: u32) -> hv::Result<()> {
        self.set(0, value);
        Ok(())
    }
    fn get_addr_lo(&self) -> u32 {
        self.state.lock().message[0]
    }
    fn set_addr_hi(&self, value: u32) -> hv::Result<()> {
        self.set(1, value);
        Ok(())
    }
    fn get_addr_hi(&self) -> u32 {
        self.state.lock().message[1]
    }
    fn set_data(&self, value: u32) -> hv::Result<()> {
        self.set(2, value);
        Ok(())
    }
    fn get_data(&self) -> u32 {
        self.state.lock().message[2]
    }
    fn set_masked(&self, masked: bool) -> hv::Result<bool> {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.masked, masked) == masked {
            return Ok(false);
        }
        let (vector, message) = (self.vector, state.message());
        let mut host = self.host.lock();
        if masked {
            host.calls.push(HostCall::Disarm { vector });
            return Ok(true);
        }
        host.calls.push(HostCall::Arm { vector, message });
        if std::mem::take(&mut state.held) {
            host.messages.push(message);
        }
        Ok(true)
    }
    fn get_masked(&self) -> bool {
        self.state.lock().masked
    }
}

struct AliothDevice {
    count: u16,
    capabilities: PciCapList,
    table: Arc<MsixTableMmio<Irqfd>>,
    bar: MmioBus<Arc<dyn Mmio>>,
    host: Arc<Mutex<Host>>,
}

/// The accesses that a processor makes of one of so many bytes: 1, 2, 4 or 8, aligned where they are split.
fn pieces(offset: u64, len: usize) -> Vec<(u64, usize)> {
    if matches!(len, 1 | 2 | 4 | 8) {
        return vec![(offset, len)];
    }
    let mut pieces = Vec::new();
    let end = offset.saturating_add(len as u64);
    let mut at = offset;
    while at < end {
        let fits = |width: &u64| at.is_multiple_of(*width) && end - at >= *width;
        let width = [4, 2].into_iter().find(fits).unwrap_or(1);
        pieces.push((at, width as usize));
        at += width;
    }
    pieces
}

fn read(offset: u64, bytes: &mut [u8], one: impl Fn(u64, u8) -> u64) {
    for (at, len) in pieces(offset, bytes.len()) {
        let value = one(at, u8::try_from(len).unwrap_or(8)).to_le_bytes();
        let first = usize::try_from(at - offset).unwrap_or(0);
        bytes[first..first + len].copy_from_slice(&value[..len]);
    }
}

fn write(offset: u64, bytes: &[u8], one: impl Fn(u64, u8, u64)) {
    for (at, len) in pieces(offset, bytes.len()) {
        let first = usize::try_from(at - offset).unwrap_or(0);
        let mut value = [0; 8];
        value[..len].copy_from_slice(&bytes[first..first + len]);
        one(at, u8::try_from(len).unwrap_or(8), u64::from_le_bytes(value));
    }
}

impl AliothDevice {
    fn read_bar(&self, offset: u64, bytes: &mut [u8]) {
        read(offset, bytes, |at, len| self.bar.read(at, len).expect("Alioth reads its table"));
    }

    fn write_bar(&self, offset: u64, bytes: &[u8]) {
        write(offset, bytes, |at, len, value| {
            self.bar.write(at, len, value).expect("Alioth writes its table");
        });
    }
}

impl Device for AliothDevice {
    fn read_config(&mut self, offset: usize, bytes: &mut [u8]) {
        read(CAPABILITY + offset as u64, bytes, |at, len| {
            self.capabilities.read(at, len).expect("Alioth reads its capability")
        });
    }
    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        // Configuration space has ports of a dword.
        for (part, bytes) in bytes.chunks(4).enumerate() {
            write(CAPABILITY + (offset + 4 * part) as u64, bytes, |at, len, value| {
                self.capabilities.write(at, len, value).expect("Alioth writes its capability");
            });
        }
    }
    fn read_table(&mut self, offset: u64, bytes: &mut [u8]) {
        self.read_bar(offset, bytes);
    }
    fn write_table(&mut self, offset: u64, bytes: &[u8]) {
        self.write_bar(offset, bytes);
    }
    fn read_pba(&mut self, offset: u64, bytes: &mut [u8]) {
        self.read_bar(PBA.saturating_add(offset), bytes);
    }
    fn write_pba(&mut self, offset: u64, bytes: &[u8]) {
        self.write_bar(PBA.saturating_add(offset), bytes);
    }
    fn fire(&mut self, vector: u32) -> Result<(), Refused> {
        let entries = self.table.entries.read();
        match usize::try_from(vector).ok().and_then(|vector| entries.get(vector)) {
            Some(MsixTableMmioEntry::IrqFd(irqfd)) => irqfd.signal(),
            _ => return Err(Refused(format!("vector {vector} has no irqfd"))),
        }
        Ok(())
    }
    fn messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.host.lock().messages)
    }
    fn function_reset(&mut self) -> Option<&mut dyn FunctionReset> {
        Some(self)
    }
    fn host_log(&mut self) -> Option<&mut dyn HostLog> {
        Some(self)
    }
    nothing! {
        claims: Claims, withdrawal: Withdrawal, side_channel: SideChannel, bus_master: BusMaster,
        intx: IntxLog, host_script: HostScript, backend_log: BackendLog, attachment: Attachment,
        snapshots: Snapshots, qemu_field: QemuField
    }
}

impl FunctionReset for AliothDevice {
    fn reset(&mut self) {
        self.capabilities.reset().expect("Alioth resets its capability");
        self.table.reset();
        // A device that starts again asks for its irqfds again.
        let irqfds = irqfds(self.count, &self.host).expect("as before");
        *self.table.entries.write() = irqfds;
    }
}

impl HostLog for AliothDevice {
    fn calls(&mut self) -> Vec<HostCall> {
        std::mem::take(&mut self.host.lock().calls)
    }
}
