//! The ivshmem device behind the qtest protocol, for harnesses that drive QEMU's: the same script sees
//! the same of both.
//!
//! [`run`] connects to the sockets of the harness as QEMU does: first to the ivshmem server, then to
//! qtest, then to QMP. The machine is a stopped one, without processors or interrupt controllers: 64
//! MiB of RAM at 0, a host bridge and the device on PCI bus 0, messages that land in RAM. Every command
//! sees what the server and the peers did before it was sent.

mod command;
mod front;
mod machine;
mod qmp;
#[cfg(test)]
mod tests;

pub use front::{Front, FrontError, player, run};
