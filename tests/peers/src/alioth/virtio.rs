//! A whole virtio device of Alioth over PCI: its configuration space and its BAR are Alioth's, and so is the way
//! of an event from the worker's thread to a message, by `MsiSender::send`. Ours is what it does when a queue is
//! notified, which is to interrupt for that queue. Its last vector is that of configuration changes.

use super::{AliothSubject, Host, Irqfd, MOST, PBA, read, write};
use alioth::hv::{self, IoeventFd, IoeventFdRegistry, MsiSender};
use alioth::mem::MemRange;
use alioth::mem::emulated::{Mmio, MmioBus};
use alioth::mem::mapped::RamBus;
use alioth::pci::config::PciConfig;
use alioth::pci::{Pci, PciBar};
use alioth::sync::notifier::Notifier;
use alioth::virtio::dev::entropy::{EntropyConfig, EntropyFeature};
use alioth::virtio::dev::{Virtio, VirtioDevice, WakeEvent};
use alioth::virtio::pci::VirtioPciDevice;
use alioth::virtio::queue::{QueueReg, VirtQueue};
use alioth::virtio::worker::mio::{ActiveMio, Mio, VirtioMio};
use alioth::virtio::{DeviceId, Error, IrqSender, VirtioFeature};
use mio::Registry;
use mio::event::Event;
use msix_conformance::{
    Choices, Device, FunctionReset, Layouts, Message, NoDevice, Refused, Subject,
};
use parking_lot::Mutex;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// A virtio device of Alioth.
#[derive(Debug, Clone, Copy)]
pub struct VirtioSubject;

impl Subject for VirtioSubject {
    fn name(&self) -> String {
        "Alioth 0.12.0, a virtio device that sends from userspace".into()
    }

    fn choices(&self) -> Choices {
        AliothSubject.choices() // its table is the same
    }

    fn device(&self, vectors: u32) -> Result<Box<dyn Device>, NoDevice> {
        let queues = match vectors {
            1..=MOST => u16::try_from(vectors - 1).ok(),
            _ => None,
        };
        let no = || NoDevice::NotOffered(format!("a queue each: 1 to {MOST} vectors"));
        let queues = queues.ok_or_else(no)?;
        let device = Virtual::new(queues).map_err(NoDevice::NotOffered)?;
        Ok(Box::new(device))
    }

    fn layouts(&self) -> Option<&dyn Layouts> {
        None
    }
}

type VirtioResult<T> = Result<T, Error>;

/// Where the registers of virtio begin in the BAR, and fields of the common configuration there.
const REGISTERS: u64 = 12 << 10;
const CONFIG_VECTOR: u64 = REGISTERS + 16;
const STATUS: u64 = REGISTERS + 20;
const QUEUE_SELECT: u64 = REGISTERS + 22;
const QUEUE_VECTOR: u64 = REGISTERS + 26;
/// The driver is ready.
const DRIVER_OK: u64 = 4;
/// Id of the MSI-X capability.
const MSIX: u64 = 0x11;
/// How long an event may take to be sent or dropped.
const PATIENCE: Duration = Duration::from_secs(10);

/// The device as its driver has it.
struct Virtual {
    device: VirtioPciDevice<Messages, Ioevent>,
    bar: MmioBus<Arc<dyn Mmio>>,
    capability: u64,
    queues: u16,
    host: Arc<Mutex<Host>>,
    /// A queue's notification was handled, or the worker has stopped for a reset.
    handled: Receiver<()>,
}

impl Virtual {
    fn new(queues: u16) -> Result<Self, String> {
        let text = |why: &dyn std::fmt::Display| why.to_string();
        let (done, handled) = channel();
        let bell = Bell { queues, done };
        let host = Arc::new(Mutex::new(Host::default()));
        let memory = Arc::new(RamBus::new());
        let device = VirtioDevice::new("bell", bell, memory, false).map_err(|why| text(&why))?;
        let messages = Messages(Arc::clone(&host));
        let device =
            VirtioPciDevice::new(device, messages, NoIoevents).map_err(|why| text(&why))?;

        let PciBar::Mem(region) = &device.config.get_header().bars[0] else {
            return Err("no BAR".into());
        };
        let mut bar = MmioBus::<Arc<dyn Mmio>>::new();
        let mut at = 0;
        for range in &region.ranges {
            if let MemRange::Emulated(registers) = range {
                bar.add(at, Arc::clone(registers)).map_err(|why| text(&why))?;
            }
            at += range.size();
        }
        let config = |at| device.config.read(at, 1).map_err(|why| text(&why));
        let mut capability = config(0x34)?;
        while config(capability)? != MSIX {
            capability = config(capability + 1)?;
            if capability == 0 {
                return Err("no MSI-X capability".into());
            }
        }
        let device = Self { device, bar, capability, queues, host, handled };
        device.drive();
        Ok(device)
    }

    /// As a driver does: a vector for each queue, and one for changes of the configuration.
    fn drive(&self) {
        for queue in 0..self.queues {
            self.write_bar(QUEUE_SELECT, &queue.to_le_bytes());
            self.write_bar(QUEUE_VECTOR, &queue.to_le_bytes());
        }
        self.write_bar(CONFIG_VECTOR, &self.queues.to_le_bytes());
        self.bar.write(STATUS, 1, DRIVER_OK).expect("Alioth writes its status");
    }

    fn read_bar(&self, offset: u64, bytes: &mut [u8]) {
        read(offset, bytes, |at, len| self.bar.read(at, len).expect("Alioth reads its BAR"));
    }

    fn write_bar(&self, offset: u64, bytes: &[u8]) {
        write(offset, bytes, |at, len, value| {
            self.bar.write(at, len, value).expect("Alioth writes its BAR");
        });
    }
}

impl Device for Virtual {
    fn read_config(&mut self, offset: usize, bytes: &mut [u8]) {
        read(self.capability + offset as u64, bytes, |at, len| {
            self.device.config.read(at, len).expect("Alioth reads its configuration")
        });
    }
    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        // Configuration space has ports of a dword.
        for (part, bytes) in bytes.chunks(4).enumerate() {
            let at = self.capability + (offset + 4 * part) as u64;
            write(at, bytes, |at, len, value| {
                let written = self.device.config.write(at, len, value);
                written.expect("Alioth writes its configuration");
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
        let q_index = u16::try_from(vector).ok().filter(|vector| *vector <= self.queues);
        let Some(q_index) = q_index else {
            return Err(Refused(format!("no queue has vector {vector}")));
        };
        let sent = self.device.dev.event_tx.send(WakeEvent::Notify { q_index });
        sent.expect("the worker runs");
        self.device.dev.notifier.notify().expect("the worker is told");
        self.handled.recv_timeout(PATIENCE).expect("the worker handles the queue");
        Ok(())
    }
    fn messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.host.lock().messages)
    }
    fn function_reset(&mut self) -> Option<&mut dyn FunctionReset> {
        Some(self)
    }
    nothing! {
        claims: Claims, withdrawal: Withdrawal, side_channel: SideChannel, bus_master: BusMaster,
        intx: IntxLog, host_log: HostLog, host_script: HostScript, backend_log: BackendLog,
        attachment: Attachment, snapshots: Snapshots, qemu_field: QemuField
    }
}

impl FunctionReset for Virtual {
    fn reset(&mut self) {
        Pci::reset(&self.device).expect("Alioth resets the device");
        self.device.config.reset().expect("Alioth resets its configuration");
        // A worker that is notified before it has stopped misses that when it starts again.
        self.handled.recv_timeout(PATIENCE).expect("the worker stops");
        self.drive();
    }
}

/// A virtio device that interrupts for every queue that is notified. The queue behind the last one stands for a
/// change of the configuration.
#[derive(Debug)]
struct Bell {
    queues: u16,
    done: Sender<()>,
}

impl Virtio for Bell {
    type Config = EntropyConfig;
    type Feature = EntropyFeature;

    fn name(&self) -> &str {
        "bell"
    }
    fn id(&self) -> DeviceId {
        DeviceId::ENTROPY
    }
    fn num_queues(&self) -> u16 {
        self.queues
    }
    fn config(&self) -> Arc<EntropyConfig> {
        Arc::new(EntropyConfig)
    }
    fn feature(&self) -> u128 {
        VirtioFeature::VERSION_1.bits()
    }
    fn spawn_worker<S: IrqSender, E: IoeventFd>(
        self,
        events: Receiver<WakeEvent<S, E>>,
        memory: Arc<RamBus>,
        queues: Arc<[QueueReg]>,
    ) -> VirtioResult<(JoinHandle<()>, Arc<Notifier>)> {
        Mio::spawn_worker(self, events, memory, queues)
    }
}

impl VirtioMio for Bell {
    fn activate<'m, Q: VirtQueue<'m>, S: IrqSender, E: IoeventFd>(
        &mut self,
        _: u128,
        _: &mut ActiveMio<'_, '_, 'm, Q, S, E>,
    ) -> VirtioResult<()> {
        Ok(())
    }
    fn handle_queue<'m, Q: VirtQueue<'m>, S: IrqSender, E: IoeventFd>(
        &mut self,
        index: u16,
        active: &mut ActiveMio<'_, '_, 'm, Q, S, E>,
    ) -> VirtioResult<()> {
        if index < self.queues {
            active.irq_sender.queue_irq(index);
        } else {
            active.irq_sender.config_irq();
        }
        // Who fired is gone only when the device is.
        let _ = self.done.send(());
        Ok(())
    }
    fn handle_event<'m, Q: VirtQueue<'m>, S: IrqSender, E: IoeventFd>(
        &mut self,
        _: &Event,
        _: &mut ActiveMio<'_, '_, 'm, Q, S, E>,
    ) -> VirtioResult<()> {
        Ok(())
    }
    fn reset(&mut self, _: &Registry) {
        let _ = self.done.send(());
    }
}

/// The host, as Alioth's devices send messages to it.
#[derive(Debug)]
struct Messages(Arc<Mutex<Host>>);

impl MsiSender for Messages {
    type IrqFd = Irqfd;

    fn send(&self, address: u64, data: u32) -> hv::Result<()> {
        self.0.lock().messages.push(Message { address, data });
        Ok(())
    }

    fn create_irqfd(&self) -> hv::Result<Irqfd> {
        unreachable!("this device asks for no irqfd")
    }
}

/// There are none: a notification is an access to the BAR.
#[derive(Debug)]
struct NoIoevents;

#[derive(Debug)]
struct Ioevent(File);

impl AsFd for Ioevent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl IoeventFd for Ioevent {}

impl IoeventFdRegistry for NoIoevents {
    type IoeventFd = Ioevent;

    fn create(&self) -> hv::Result<Ioevent> {
        let error = std::io::ErrorKind::Unsupported.into();
        Err(hv::Error::IoeventFd { error, _location: Default::default() })
    }
    fn register(&self, _: &Ioevent, _: u64, _: u8, _: Option<u64>) -> hv::Result<()> {
        Ok(())
    }
    #[cfg(target_arch = "x86_64")]
    fn register_port(&self, _: &Ioevent, _: u16, _: u8, _: Option<u64>) -> hv::Result<()> {
        Ok(())
    }
    fn deregister(&self, _: &Ioevent) -> hv::Result<()> {
        Ok(())
    }
}
