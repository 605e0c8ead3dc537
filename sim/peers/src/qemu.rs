//! A real QEMU, started stopped and driven through its qtest protocol; or a program of this process
//! that is driven the same way.
//!
//! [`Qemu::start`] runs one with a number of ivshmem-doorbell devices whose server this program
//! plays: an eventfd written here is an event of the device. [`Qemu`] reads and writes ports and
//! memory, [`QemuFunction`] is one of its devices with its capability found and its BARs placed.
//! Everything is bounded in time; the process and its files go when [`Qemu`] is dropped. The process also
//! goes when this one is killed, if util-linux's `setpriv` is there.

mod client;
mod error;
mod function;
mod lone_server;
mod machine;
mod process;
mod running;
mod tied_child;

pub use client::QemuClient;
pub use error::QemuError;
pub use function::QemuFunction;
pub use lone_server::LoneServer;
pub use machine::{Extras, Player, Setup, Sockets, StandIn};
pub use process::Qemu;
