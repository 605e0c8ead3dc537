//! A small VMM for one function with MSI-X, which can be told to do one thing wrong.

use crate::tests::text;
use kvm_ioctls::{VcpuExit, VmFd};
use msix_backends::Route;
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{
    Deferral, Function, FunctionSetup, Irqchip, Platform, RouteOptions, Routes,
};
use msix_core::{BarIndex, Layout, Mode, Vector};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// What the VMM does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Nothing.
    Nothing,
    /// The mask of an entry does not reach KVM, and pending bits read 0.
    Mask,
    /// The function mask does not reach KVM.
    FunctionMask,
    /// MSI-X stays enabled for KVM.
    Disable,
    /// The message that an entry had first is its message for good.
    Reroute,
    /// The address that an entry had first is its address for good, with new data.
    HalfReroute,
    /// What is pending is dropped at the unmask.
    Pending,
}

/// Vectors of the function.
pub(crate) const VECTORS: u16 = 4;
/// Where the guest puts the BAR.
pub(crate) const BAR: u32 = 0xd000_0000;
/// Where the PBA is in it.
pub(crate) const PBA: u32 = 0x800;
/// Where the capability is.
pub(crate) const CAPABILITY: u8 = 0x40;
/// The guest has the device raise the vector that it writes here, or sleeps for 200 ms.
pub(crate) const DEVICE: u16 = 0xf6;
/// What it writes for that.
pub(crate) const SLEEP: u8 = 0xff;

/// The function and all that is around it.
pub(crate) struct Vmm {
    wrong: Wrong,
    function: Function<Nobody>,
    /// The registers as the guest must find them.
    table: [u32; 4 * VECTORS as usize],
    config: [u8; 256],
    /// The upper byte of Message Control.
    control: u8,
    address: u32,
    /// To the device, and back when it has done so.
    device: Sender<u8>,
    done: Receiver<()>,
}

/// Its function sends nothing to memory.
struct Nobody;

impl Platform for Nobody {
    fn write_memory(&mut self, address: u64, data: u32) {
        println!("a message is written to memory: {data:#x} to {address:#x}");
    }

    fn snoop(&mut self, _: Route) {}
}

impl Vmm {
    pub(crate) fn new(vm: &Arc<VmFd>, wrong: Wrong) -> Result<Self, String> {
        let mut options = RouteOptions::new(Irqchip::Full);
        options.deferral = Deferral::NONE;
        let routes = Routes::new(Box::new(Arc::clone(vm)), options, Loop::new().map_err(text)?);
        let bar = BarIndex::new(0).map_err(text)?;
        let layout = Layout::exclusive_bar(u32::from(VECTORS), bar).map_err(text)?;
        let setup = FunctionSetup { msix: Some(layout), ..FunctionSetup::new(Nobody) };
        let function = Function::new(&routes, setup).map_err(text)?;
        for vector in 0..VECTORS {
            function.claim(Vector::new(vector)).map_err(text)?;
        }
        let (device, raises) = channel();
        let (told, done) = channel();
        let its = function.clone();
        let thread = std::thread::Builder::new().name("device0".to_owned());
        thread.spawn(move || run_device(&its, &raises, &told)).map_err(text)?;
        let mut table = [0; 4 * VECTORS as usize];
        table.iter_mut().skip(3).step_by(4).for_each(|control| *control = 1);
        Ok(Self { wrong, function, table, config: config(), control: 0, address: 0, device, done })
    }

    /// An exit of the guest's processor.
    pub(crate) fn exit(&mut self, exit: VcpuExit<'_>) -> Result<(), String> {
        match exit {
            VcpuExit::IoOut(0xcf8, data) => self.address = word(data),
            VcpuExit::IoOut(port @ 0xcfc..=0xcff, data) => self.write_config(port, data),
            VcpuExit::IoIn(port @ 0xcfc..=0xcff, data) => self.read_config(port, data),
            VcpuExit::IoOut(DEVICE, data) => {
                let told = data.first().map(|what| self.device.send(*what));
                told.ok_or("an empty write")?.map_err(text)?;
                self.done.recv().map_err(text)?;
            }
            VcpuExit::MmioWrite(address, data) => self.write(address, data),
            VcpuExit::MmioRead(address, data) => self.read(address, data),
            other => return Err(format!("{other:?}")),
        }
        Ok(())
    }

    /// The register of the function that a port stands for.
    fn register(&self, port: u16) -> Option<u8> {
        let here = self.address & 0x80ff_ff00 == 0x8000_0800; // 00:01.0
        here.then_some((self.address as u8 & 0xfc) + (port & 3) as u8)
    }

    fn read_config(&mut self, port: u16, data: &mut [u8]) {
        let Some(register) = self.register(port) else { return data.fill(0xff) };
        let from = usize::from(register);
        let capability = &mut self.config[usize::from(CAPABILITY)..][..12];
        self.function.read_msix(0, capability);
        capability[3] = self.control;
        if let Some(found) = self.config.get(from..from + data.len()) {
            data.copy_from_slice(found);
        }
    }

    fn write_config(&mut self, port: u16, data: &[u8]) {
        let Some(register) = self.register(port) else { return };
        match register {
            4 => {
                self.config[4..4 + data.len()].copy_from_slice(data);
                self.function.write_command(0, data);
            }
            0x10 if data.len() == 4 => {
                self.config[0x10..0x14].copy_from_slice(&(word(data) & !0xfff).to_le_bytes());
            }
            _ => {
                let Some(offset) = register.checked_sub(CAPABILITY) else { return };
                let mut data = data.to_vec();
                if let (2, [_, high]) = (offset, &mut *data) {
                    self.control = *high & 0xc0;
                    match self.wrong {
                        Wrong::FunctionMask => *high &= !0x40,
                        Wrong::Disable if *high & 0xc0 == 0 => return,
                        _ => {}
                    }
                }
                self.function.write_msix(usize::from(offset), &data);
            }
        }
    }

    fn write(&mut self, address: u64, data: &[u8]) {
        let Some(offset) = address.checked_sub(BAR.into()) else { return };
        let Some(entry) = self.table.get_mut(offset as usize / 4) else { return };
        let first = *entry == 0;
        *entry = word(data);
        let vector = Vector::new((offset / 16) as u16);
        match (offset % 16, self.wrong) {
            (12, Wrong::Mask) if *entry & 1 != 0 => return,
            (12, Wrong::Pending) if *entry & 1 == 0 => {
                let dropped = self.function.withdraw(Mode::MsiX, vector);
                println!("{dropped:?} is dropped");
            }
            (0..12, Wrong::Reroute) | (0..8, Wrong::HalfReroute) if !first => return,
            _ => {}
        }
        self.function.write_table(offset, data);
    }

    fn read(&mut self, address: u64, data: &mut [u8]) {
        data.fill(0);
        let Some(offset) = address.checked_sub(BAR.into()) else { return };
        if let Some(pending) = offset.checked_sub(PBA.into()) {
            if self.wrong != Wrong::Mask {
                self.function.read_pba(pending, data);
            }
        } else if let Some(entry) = self.table.get(offset as usize / 4) {
            data.copy_from_slice(&entry.to_le_bytes()[..data.len()]);
        }
    }
}

fn run_device(function: &Function<Nobody>, raises: &Receiver<u8>, told: &Sender<()>) {
    while let Ok(what) = raises.recv() {
        if what == SLEEP {
            std::thread::sleep(Duration::from_millis(200));
        } else if let Err(error) = function.notify(Vector::new(what.into())) {
            println!("the device cannot raise {what}: {error}");
        }
        if told.send(()).is_err() {
            return; // the guest has ended
        }
    }
}

fn config() -> [u8; 256] {
    let mut config = [0; 256];
    config[0..4].copy_from_slice(&[0xf4, 0x1a, 0x10, 0x11]); // 1af4:1110
    config[6] = 0x10; // a list of capabilities
    config[0x34] = CAPABILITY;
    config
}

fn word(data: &[u8]) -> u32 {
    data.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
}
