//! The ivshmem devices behind the qtest protocol, for harnesses that drive QEMU's: the same script sees
//! the same of both.
//!
//! [`Front::from_arguments`] reads QEMU's own command line, and [`run`] connects to the sockets of the
//! harness as QEMU does: first to the ivshmem servers, then to qtest, then to QMP. The machine has no
//! processors, interrupt controllers, timers or firmware: RAM at 0 with the hole of a PC below 1 MiB, a
//! host bridge and the devices on PCI bus 0, messages that land in RAM. Of the other ports only the
//! three that reset a PC do anything. Every command sees what the servers and the peers did before it
//! was sent. Devices cannot come or go while it runs: that is a part of QEMU and of its other buses, not
//! of these devices.

mod bridge;
mod command;
mod front;
mod keyed;
mod lines;
mod machine;
mod memory_map;
mod options;
mod ports;
mod qmp;
mod setup;
#[cfg(test)]
mod tests;

pub use front::{FrontError, player, run};
pub use options::OptionError;
pub use setup::{Backing, DeviceKind, Front, MachineKind, SeatedDevice};
