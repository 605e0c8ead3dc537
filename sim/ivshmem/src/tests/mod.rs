//! The device with a server that the test plays, byte by byte where it must.

mod defects;
mod hostile;
mod life;
mod registers;
mod ring;

use super::{
    Board, DeviceError, DeviceOptions, Interrupt, IvshmemDevice, Revision, SessionError, Width,
    routes_without_vm, send_whole,
};
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{Deferral, Irqchip, RouteOptions, Routes};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where the tests put BAR0, BAR1 and BAR2.
const REGISTERS: u64 = 0xe000_0000;
const TABLE: u64 = 0xe010_0000;
const MEMORY: u64 = 0xe080_0000;

/// What the VMM was told.
#[derive(Debug, Clone, Default)]
struct Vmm(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    messages: Vec<u32>,
    line: Vec<bool>,
}

impl Board for Vmm {
    fn write_memory(&self, address: u64, data: u32) {
        assert_eq!(address, 0x1000);
        self.0.lock().unwrap().messages.push(data);
    }
    fn set_intx(&self, asserted: bool) {
        self.0.lock().unwrap().line.push(asserted);
    }
}

/// A device, its server's end of the connection, and the server's ends of what it sent.
struct World {
    device: IvshmemDevice<Vmm>,
    server: UnixStream,
    routes: Arc<Routes>,
    vmm: Vmm,
    memory: OwnedFd,
}

const OWN: u16 = 3;

impl World {
    fn new(options: DeviceOptions) -> Self {
        Self::with_id(options, OWN)
    }

    /// Set up, with the BARs placed and everything switched on.
    fn with_id(options: DeviceOptions, id: u16) -> Self {
        let memory = shared_memory(1 << 20);
        let (server, client) = UnixStream::pair().unwrap();
        send_whole(&server, 0, None).unwrap();
        send_whole(&server, i64::from(id), None).unwrap();
        send_whole(&server, -1, Some(memory.as_fd())).unwrap();
        let vmm = Vmm::default();
        let routes = routes_without_vm(vmm.clone()).unwrap();
        let device = IvshmemDevice::doorbell(client, options, &routes, vmm.clone(), None).unwrap();
        let mut world = Self { device, server, routes, vmm, memory };
        world.switch_on();
        world
    }

    fn switch_on(&mut self) {
        for (at, address) in [(0x10, REGISTERS), (0x14, TABLE), (0x18, MEMORY)] {
            self.device.write_config(at, &(address as u32).to_le_bytes());
        }
        self.device.write_config(4, &[6, 0]);
    }

    /// MSI-X on, vector v unmasked and sending 0x100 + v to 0x1000.
    fn program(&mut self, vectors: u16) {
        self.device.write_config(0x42, &[0, 0x80]);
        for vector in 0..vectors {
            self.device.write_bar(1, u64::from(vector) * 16, &0x1000_u64.to_le_bytes());
            let data = 0x100 + u32::from(vector);
            self.device.write_bar(1, u64::from(vector) * 16 + 8, &data.to_le_bytes());
            self.mask(vector, false);
        }
    }

    fn mask(&mut self, vector: u16, masked: bool) {
        let mask = u32::from(masked).to_le_bytes();
        self.device.write_bar(1, u64::from(vector) * 16 + 12, &mask);
    }

    fn say(&mut self, value: i64, descriptor: Option<BorrowedFd<'_>>) -> Result<(), SessionError> {
        send_whole(&self.server, value, descriptor).unwrap();
        self.device.serve()
    }

    /// Connects `vectors` vectors of `peer`; the server's ends.
    fn connect(&mut self, peer: u16, vectors: usize) -> Vec<OwnedFd> {
        let eventfds: Vec<OwnedFd> = (0..vectors).map(|_| event()).collect();
        for eventfd in &eventfds {
            self.say(i64::from(peer), Some(eventfd.as_fd())).unwrap();
        }
        eventfds
    }

    fn ring(&mut self, peer: u16, vector: u16) {
        let value = u32::from(peer) << 16 | u32::from(vector);
        self.device.write_bar(0, 12, &value.to_le_bytes());
    }

    fn read(&self, bar: u8, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        self.device.read_bar(bar, offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// The data of the messages since the last call.
    fn messages(&self) -> Vec<u32> {
        self.routes.run(Some(Duration::ZERO)).unwrap();
        std::mem::take(&mut self.vmm.0.lock().unwrap().messages)
    }

    /// What INTx did since the last call.
    fn line(&self) -> Vec<bool> {
        self.routes.run(Some(Duration::ZERO)).unwrap();
        std::mem::take(&mut self.vmm.0.lock().unwrap().line)
    }
}

/// Fails when `what` does not end: a peer made it wait.
fn in_time(what: impl FnOnce() + Send + 'static) {
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        what();
        drop(done);
    });
    let waited = ended.recv_timeout(Duration::from_secs(60));
    assert_eq!(waited, Err(std::sync::mpsc::RecvTimeoutError::Disconnected), "it waits");
    thread.join().unwrap();
}

fn shared_memory(len: u64) -> OwnedFd {
    let file = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, len).unwrap();
    file
}

fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn write(eventfd: &OwnedFd) {
    rustix::io::write(eventfd, &1_u64.to_ne_bytes()).unwrap();
}

/// Takes what the eventfd holds.
fn taken(eventfd: &OwnedFd) -> u64 {
    let mut bytes = [0; 8];
    rustix::io::read(eventfd, &mut bytes[..]).map_or(0, |_| u64::from_ne_bytes(bytes))
}
