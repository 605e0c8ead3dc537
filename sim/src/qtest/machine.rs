//! A machine with nothing but RAM, a host bridge and the devices.

use super::bridge::Bridge;
use super::memory_map::{MemoryMap, Place};
use super::ports::Ports;
use super::setup::MachineKind;
use crate::replay::Peer;
use msix_core::Message;
use msix_ivshmem::{Board, IvshmemDevice};
use std::fs::File;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// What the devices write, until the machine carries it out.
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

/// A device in its PCI slot.
#[derive(Debug)]
pub(super) struct Seated {
    pub(super) slot: u8,
    pub(super) device: IvshmemDevice<Bus>,
    /// Vectors of peers that are known to be not connected.
    unconnected: u64,
}

impl Seated {
    pub(super) const fn new(slot: u8, device: IvshmemDevice<Bus>) -> Self {
        Self { slot, device, unconnected: 0 }
    }
}

/// The machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) devices: Vec<Seated>,
    /// Nanoseconds, as the harness sets them; nothing here depends on them.
    pub(super) clock: u64,
    pub(super) ports: Ports,
    /// Resets that the guest asked for.
    pub(super) resets: u64,
    bridge: Bridge,
    bus: Bus,
    map: MemoryMap,
    ram: Vec<u8>,
    /// Messages are logged here, as QEMU logs them.
    trace: Option<File>,
    /// What is read where nothing is.
    nothing: u8,
}

impl Machine {
    /// Where nothing is, memory reads as QEMU's does, 0, or as a bus does where nobody answers, all ones.
    pub(super) fn new(
        kind: MachineKind,
        ram: usize,
        devices: Vec<Seated>,
        bus: Bus,
        policy: Peer,
        trace: Option<File>,
    ) -> Self {
        let ram = if kind == MachineKind::None { 0 } else { ram };
        Self {
            devices,
            clock: 0,
            ports: Ports::new(kind),
            resets: 0,
            bridge: Bridge::new(kind),
            bus,
            map: MemoryMap::new(ram),
            ram: vec![0; ram],
            trace,
            nothing: if policy == Peer::Qemu { 0 } else { 0xff },
        }
    }

    /// Everything as after power-on, but for RAM and what QEMU's machine keeps.
    pub(super) fn reset(&mut self) {
        for seated in &mut self.devices {
            seated.device.reset();
        }
        self.ports.reset();
        self.bridge.reset();
        self.moved();
    }

    /// Guest memory, `bytes` at `address`.
    pub(super) fn read(&mut self, address: u64, bytes: &mut [u8]) {
        self.each_part(address, bytes.len(), |machine, place, part| match place {
            Place::Ram(at) => bytes[part.clone()].copy_from_slice(&machine.ram[at..][..part.len()]),
            Place::Bar { device, bar, offset } => {
                if let Some(seated) = machine.devices.get(device) {
                    seated.device.read_bar(bar, offset, &mut bytes[part]);
                }
            }
            Place::Config(at) => {
                for (at, byte) in (at..).zip(&mut bytes[part]) {
                    let (function, offset) = in_memory(at);
                    machine.read_config(function, offset, std::slice::from_mut(byte));
                }
            }
            Place::Nowhere => bytes[part].fill(machine.nothing),
        });
    }

    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) {
        self.each_part(address, bytes.len(), |machine, place, part| match place {
            Place::Ram(at) => machine.ram[at..][..part.len()].copy_from_slice(&bytes[part]),
            Place::Bar { device, bar, offset } => {
                if let Some(seated) = machine.devices.get_mut(device) {
                    seated.device.write_bar(bar, offset, &bytes[part]);
                }
            }
            Place::Config(at) => {
                // Aligned parts, as a bus has them: a register is written in one.
                let mut from = part.start;
                while from < part.end {
                    let (function, offset) = in_memory(at + (from - part.start) as u64);
                    let len = super::ports::aligned(offset, part.end - from);
                    machine.write_config(function, offset, &bytes[from..from + len]);
                    from += len;
                }
            }
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
            let (place, left) = self.map.find(at);
            let fits = usize::try_from(left).map_or(len - from, |left| left.min(len - from));
            each(self, place, from..from + fits);
            from += fits;
        }
        self.carry_out();
    }

    /// Configuration space of a function of bus 0, whose number is bus, slot and function as in 0xcf8.
    /// Whether it is there; otherwise, and behind its end, all ones are read.
    pub(super) fn read_config(&self, function: u32, offset: usize, bytes: &mut [u8]) -> bool {
        bytes.fill(0xff);
        if function == 0 {
            self.bridge.read(offset, bytes);
            return true;
        }
        let seated = self.devices.iter().find(|seated| seated.is(function));
        seated.inspect(|seated| seated.device.read_config(offset, bytes)).is_some()
    }

    pub(super) fn write_config(&mut self, function: u32, offset: usize, bytes: &[u8]) {
        if function == 0 {
            self.bridge.write(offset, bytes);
        } else if let Some(seated) = self.devices.iter_mut().find(|seated| seated.is(function)) {
            seated.device.write_config(offset, bytes);
        }
        self.moved();
        self.carry_out();
    }

    /// Things may be elsewhere now.
    fn moved(&mut self) {
        for (index, seated) in self.devices.iter().enumerate() {
            for bar in 0..3 {
                self.map.place_bar(index, bar, seated.device.bar(bar));
            }
        }
        self.map.place_ecam(self.bridge.ecam());
    }

    /// What the server and the peers did by now.
    pub(super) fn catch_up(&mut self) {
        for Seated { device, unconnected, .. } in &mut self.devices {
            if let Err(error) = device.serve() {
                eprintln!("ivshmem server: {error}");
            }
            if let Some(now) = device.unconnected()
                && std::mem::replace(unconnected, now.count) != now.count
            {
                eprintln!("ivshmem server: {now}");
            }
        }
        self.carry_out();
    }

    /// Writes the messages of the devices where they go. One that a device sends to itself can have
    /// another as its consequence, which comes when the eventfds are read again.
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

impl Seated {
    /// Whether it is the function with this number.
    const fn is(&self, function: u32) -> bool {
        function == (self.slot as u32) << 3
    }
}

/// Function and offset of a byte of configuration space in memory. Behind the first 256 bytes of a
/// function, which is all that these have, is none.
const fn in_memory(at: u64) -> (u32, usize) {
    ((at >> 12) as u32, (at & 0xfff) as usize)
}
