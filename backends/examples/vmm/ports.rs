//! The ports: a serial console, the reset line, and the mechanism that reaches configuration space.

use crate::Outcome;
use crate::acpi::{POWER, POWER_LEN};
use crate::pci::{ConfigSpace, Identity};
use crate::virtio::VirtioPci;
use kvm_ioctls::VmFd;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vm_superio::{I8042Device, Serial, Trigger, serial::NoEvents};
use vmm_sys_util::eventfd::EventFd;

/// What the processors reach through ports.
pub(crate) struct Ports {
    serial: Serial<Line, NoEvents, Box<dyn Write + Send>>,
    keyboard: I8042Device<ResetLine>,
    /// Which register of which function 0xcfc to 0xcff are.
    config_address: u32,
    host_bridge: ConfigSpace,
    /// The registers of power management: status, enable, control.
    power: [u8; POWER_LEN as usize],
    device: Arc<VirtioPci>,
}

/// The serial port's pin of the interrupt controllers in the kernel.
struct Line(EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// Set when the guest resets the machine.
#[derive(Clone, Default)]
pub(crate) struct ResetLine(Arc<AtomicBool>);

impl ResetLine {
    /// Returns whether the guest has reset the machine, and forgets it.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

impl Trigger for ResetLine {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.store(true, Ordering::Release);
        Ok(())
    }
}

impl Ports {
    /// Makes them, with the serial port's output going to `console`.
    pub(crate) fn new(
        vm: &VmFd,
        device: Arc<VirtioPci>,
        reset: ResetLine,
        console: Box<dyn Write + Send>,
    ) -> Outcome<Self> {
        let line = EventFd::new(0)?;
        vm.register_irqfd(&line, SERIAL_PIN)?;
        // A guest that finds no host bridge looks no further.
        let host_bridge = Identity {
            vendor: 0x8086,
            device: 0x1237,
            subsystem: [0x1af4, 0x1100],
            class: [2, 0, 0, 6],
        };
        Ok(Self {
            serial: Serial::new(Line(line), console),
            keyboard: I8042Device::new(reset),
            config_address: 0,
            host_bridge: ConfigSpace::new(host_bridge),
            power: [0; POWER_LEN as usize],
            device,
        })
    }

    /// Reads for a guest.
    pub(crate) fn read(&mut self, port: u16, data: &mut [u8]) {
        match (port, &mut *data) {
            (SERIAL..SERIAL_END, [byte]) => *byte = self.serial.read((port - SERIAL) as u8),
            (KEYBOARD | KEYBOARD_COMMAND, [byte]) => {
                *byte = self.keyboard.read((port - KEYBOARD) as u8)
            }
            (CONFIG_ADDRESS, [_, _, _, _]) => {
                data.copy_from_slice(&self.config_address.to_le_bytes());
            }
            (CONFIG_DATA..CONFIG_END, _) => {
                let at = self.config_offset(port);
                match self.config_address & FUNCTION {
                    HOST_BRIDGE => self.host_bridge.read(at, data),
                    DEVICE => self.device.config().read(at, data),
                    _ => data.fill(0xff),
                }
            }
            (POWER..POWER_END, _) => {
                let registers = self.power.iter().skip(usize::from(port - POWER));
                data.fill(0);
                data.iter_mut().zip(registers).for_each(|(to, from)| *to = *from);
            }
            _ => data.fill(0xff),
        }
    }

    /// Writes for a guest.
    pub(crate) fn write(&mut self, port: u16, data: &[u8]) {
        match (port, data) {
            // A console that is closed costs the guest nothing.
            (SERIAL..SERIAL_END, &[byte]) => _ = self.serial.write((port - SERIAL) as u8, byte),
            (KEYBOARD | KEYBOARD_COMMAND, &[byte]) => {
                _ = self.keyboard.write((port - KEYBOARD) as u8, byte);
            }
            (CONFIG_ADDRESS, &[a, b, c, d]) => {
                self.config_address = u32::from_le_bytes([a, b, c, d])
            }
            // The first two bytes are the status: nothing ever happens.
            (POWER_ENABLE..POWER_END, _) => {
                let registers = self.power.iter_mut().skip(usize::from(port - POWER));
                registers.zip(data).for_each(|(to, from)| *to = *from);
            }
            (CONFIG_DATA..CONFIG_END, _) => {
                let at = self.config_offset(port);
                match self.config_address & FUNCTION {
                    HOST_BRIDGE => self.host_bridge.write(at, data),
                    DEVICE => self.device.config().write(at, data),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn config_offset(&self, port: u16) -> usize {
        (self.config_address & 0xfc) as usize + usize::from(port - CONFIG_DATA)
    }
}

const SERIAL: u16 = 0x3f8;
const SERIAL_END: u16 = SERIAL + 8;
const SERIAL_PIN: u32 = 4;
const KEYBOARD: u16 = 0x60;
const KEYBOARD_COMMAND: u16 = 0x64;
const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const CONFIG_END: u16 = 0xd00;
const POWER_ENABLE: u16 = POWER + 2;
const POWER_END: u16 = POWER + POWER_LEN;
/// Enable, bus, device and function in the address.
const FUNCTION: u32 = 0x80ff_ff00;
const HOST_BRIDGE: u32 = 0x8000_0000;
const DEVICE: u32 = 0x8000_0800;
