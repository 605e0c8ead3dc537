//! A machine with nothing but RAM, a host bridge and one device.

use crate::replay::Peer;
use msix_core::Message;
use msix_ivshmem::{Board, IvshmemDevice};
use std::fs::File;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of RAM, from address 0.
pub(super) const RAM: usize = 64 << 20;
const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const CONFIG_ENABLE: u32 = 1 << 31;

/// What the device writes, until the machine carries it out.
#[derive(Debug, Clone, Default)]
pub(super) struct Bus(Arc<Mutex<Vec<Message>>>);

impl Board for Bus {
    fn write_memory(&self, address: u64, data: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Message { address, data });
    }

    fn set_intx(&self, _asserted: bool) {} // read in the device's Status register
}

impl Bus {
    fn take(&self) -> Vec<Message> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) device: IvshmemDevice<Bus>,
    /// Nanoseconds, as the harness sets them; nothing here depends on them.
    pub(super) clock: u64,
    bus: Bus,
    ram: Vec<u8>,
    config_address: u32,
    /// PCI slot of the device.
    slot: u8,
    /// Messages are logged here, as QEMU logs them.
    trace: Option<File>,
    /// What is read where nothing is.
    nothing: u8,
    /// Vectors of peers that are known to be not connected.
    unconnected: u64,
}

impl Machine {
    /// Where nothing is, memory reads as QEMU's does, 0, or as a bus does where nobody answers, all ones.
    pub(super) fn new(
        device: IvshmemDevice<Bus>,
        bus: Bus,
        slot: u8,
        policy: Peer,
        trace: Option<File>,
    ) -> Self {
        let nothing = if policy == Peer::Qemu { 0 } else { 0xff };
        let ram = vec![0; RAM];
        let (clock, config_address, unconnected) = (0, 0, 0);
        Self { device, clock, bus, ram, config_address, slot, trace, nothing, unconnected }
    }

    /// Everything as after power-on, but for RAM, which a reset leaves alone.
    pub(super) fn reset(&mut self) {
        self.device.reset();
        self.config_address = 0;
    }

    /// Guest memory, `bytes` at `address`.
    pub(super) fn read(&mut self, address: u64, bytes: &mut [u8]) {
        self.each_part(address, bytes.len(), |machine, place, part| match place {
            Place::Ram(at) => bytes[part.clone()].copy_from_slice(&machine.ram[at..][..part.len()]),
            Place::Bar(bar, offset) => machine.device.read_bar(bar, offset, &mut bytes[part]),
            Place::Nowhere => bytes[part].fill(machine.nothing),
        });
    }

    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) {
        self.each_part(address, bytes.len(), |machine, place, part| match place {
            Place::Ram(at) => machine.ram[at..][..part.len()].copy_from_slice(&bytes[part]),
            Place::Bar(bar, offset) => machine.device.write_bar(bar, offset, &bytes[part]),
            Place::Nowhere => {}
        });
    }

    /// Splits an access where one thing ends and another begins.
    fn each_part(
        &mut self,
        address: u64,
        len: usize,
        mut each: impl FnMut(&mut Self, Place, std::ops::Range<usize>),
    ) {
        let mut from = 0;
        while from < len {
            let at = address.wrapping_add(from as u64);
            let (place, left) = self.place(at);
            let fits = usize::try_from(left).map_or(len - from, |left| left.min(len - from));
            each(self, place, from..from + fits);
            from += fits;
        }
        self.carry_out();
    }

    /// What is at `address`, and for how many bytes.
    fn place(&self, address: u64) -> (Place, u64) {
        if address < RAM as u64 {
            return (Place::Ram(address as usize), RAM as u64 - address);
        }
        if let Some((bar, offset)) = self.device.decode(address) {
            let end = self.device.bar(bar).map_or(address, |range| range.end);
            return (Place::Bar(bar, offset), end - address);
        }
        let starts = (0..3).filter_map(|bar| Some(self.device.bar(bar)?.start));
        let next = starts.filter(|start| *start > address).min().unwrap_or(0);
        (Place::Nowhere, next.wrapping_sub(address))
    }

    /// A port is read, 1, 2 or 4 bytes. Where nothing is, it reads all ones.
    pub(super) fn input(&self, port: u16, len: usize) -> u32 {
        let mut bytes = [0xff; 4];
        let asked = &mut bytes[..len];
        if let Some(at) = inside(CONFIG_ADDRESS, port, len) {
            asked.copy_from_slice(&self.config_address.to_le_bytes()[at..at + len]);
        } else if let Some(at) = inside(CONFIG_DATA, port, len)
            && let Some((slot, offset)) = self.selected(at)
        {
            match slot {
                0 => asked.copy_from_slice(&BRIDGE[offset..offset + len]),
                _ => self.device.read_config(offset, asked),
            }
        }
        bytes[len..].fill(0);
        u32::from_le_bytes(bytes)
    }

    /// A port is written.
    pub(super) fn output(&mut self, port: u16, bytes: &[u8]) {
        if let (CONFIG_ADDRESS, &[a, b, c, d]) = (port, bytes) {
            self.config_address = u32::from_le_bytes([a, b, c, d]);
        } else if let Some(at) = inside(CONFIG_DATA, port, bytes.len())
            && let Some((slot, offset)) = self.selected(at)
            && slot == self.slot
        {
            self.device.write_config(offset, bytes);
        }
        self.carry_out();
    }

    /// Slot and configuration offset that the address register selects, if a function is there.
    fn selected(&self, at: usize) -> Option<(u8, usize)> {
        let address = self.config_address;
        let [register, device, bus, _] = address.to_le_bytes();
        let (slot, function) = (device >> 3, device & 7);
        let there = address & CONFIG_ENABLE != 0 && bus == 0 && function == 0;
        (there && (slot == 0 || slot == self.slot))
            .then_some((slot, usize::from(register & 0xfc) + at))
    }

    /// What the server and the peers did by now.
    pub(super) fn catch_up(&mut self) {
        if let Err(error) = self.device.serve() {
            eprintln!("ivshmem server: {error}");
        }
        if let Some(unconnected) = self.device.unconnected()
            && std::mem::replace(&mut self.unconnected, unconnected.count) != unconnected.count
        {
            eprintln!("ivshmem server: {unconnected}");
        }
        self.carry_out();
    }

    /// Writes the messages of the device where they go. One that it sends to itself can have another
    /// as its consequence, which comes when the eventfds are read again.
    pub(super) fn carry_out(&mut self) {
        for Message { address, data } in self.bus.take() {
            if let Some(trace) = &mut self.trace {
                let line = format!(
                    "memory_region_ops_write cpu -1 mr 0x0 addr {address:#x} value {data:#x} size \
                     4 name 'apic-msi'\n"
                );
                if let Err(error) = trace.write_all(line.as_bytes()) {
                    eprintln!("trace: {error}");
                    self.trace = None;
                }
            }
            self.write(address, &data.to_le_bytes());
        }
    }
}

enum Place {
    Ram(usize),
    Bar(u8, u64),
    Nowhere,
}

/// Where in the four ports from `first` an access begins, if it lies in them.
fn inside(first: u16, port: u16, len: usize) -> Option<usize> {
    let at = usize::from(port.checked_sub(first)?);
    (at + len <= 4).then_some(at)
}

/// The q35 host bridge, as far as anybody asks: 8086:29c0.
const BRIDGE: [u8; 256] = {
    let mut bytes = [0; 256];
    (bytes[0], bytes[1], bytes[2], bytes[3]) = (0x86, 0x80, 0xc0, 0x29);
    bytes[0xb] = 0x06;
    (bytes[0x2c], bytes[0x2d], bytes[0x2f]) = (0xf4, 0x1a, 0x11);
    bytes
};
