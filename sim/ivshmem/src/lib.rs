#![cfg_attr(docsrs, feature(doc_cfg))]
//! The inter-VM shared memory device on the engine, complete (section E of the rules): a worked
//! example of embedding `msix-core` and `msix-backends`, its server, and a client of any server.
//!
//! `IvshmemDevice` (with feature `kvm`) is what a VMM puts on its PCI bus: configuration space,
//! registers with a doorbell (BAR0), MSI-X through the engine (BAR1), shared memory (BAR2). [`Server`]
//! introduces the devices to each other. A device checks everything that the server sends: see
//! [`ProtocolViolation`] and [`SessionError`].
//!
//! # Who is trusted
//!
//! Clients trust each other, and the server: that is the protocol's (E11). Every client holds the eventfds
//! of all others, and writes the shared memory. It can ring anybody, and it can take anybody's events.
//! Connect only what may do that to all others, and keep the rest out with the permissions of the
//! socket's folder.
//!
//! Neither a device nor the server relies on that trust for itself:
//!
//! | who | can do | and cannot |
//! |---|---|---|
//! | guest | write any register, its own configuration space, the shared memory, and ring any vector | make the device fail |
//! | server | end the connection, withhold or repeat peers, send anything | take all descriptors of the process (`DeviceOptions::most_peers`); have what is no eventfd written, or no memory taken for the BAR |
//! | peer | ring the device, take its events, shrink the shared memory | make the device fail, or touch memory that is gone |
//! | client of the server | take a place, leave its messages unread | keep the server from serving the others (E9): see [`Server`] |
//!
//! The VMM is trusted: `Board` and `Routes` are its own.
//!
//! # Example
//!
#![cfg_attr(feature = "kvm", doc = "```")]
#![cfg_attr(not(feature = "kvm"), doc = "```ignore")]
//! use msix_ivshmem::{
//!     Board, DeviceOptions, IvshmemDevice, Server, ServerOptions, routes_without_vm,
//! };
//! use std::os::unix::net::UnixStream;
//!
//! #[derive(Clone)]
//! struct Vmm; // the VMM around the device
//! impl Board for Vmm {
//!     fn write_memory(&self, address: u64, data: u32) {
//!         println!("message {data:#x} to {address:#x}");
//!     }
//!     fn set_intx(&self, _asserted: bool) {}
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let socket = folder.path().join("ivshmem");
//! let mut server = Server::bind(&socket, ServerOptions::new(2, 1 << 20))?;
//! let stream = UnixStream::connect(&socket)?;
//! server.turn(None)?; // a program of its own, otherwise
//!
//! // Without a VM: no route, so userspace reads the eventfds and sends the messages.
//! let routes = routes_without_vm(Vmm)?;
//! let mut device = IvshmemDevice::doorbell(stream, DeviceOptions::new(2), &routes, Vmm, None)?;
//! device.serve()?; // whenever the server's socket is readable
//!
//! // From a processor's thread, at its accesses to configuration space:
//! device.write_config(0x10, &0xe000_0000_u32.to_le_bytes()); // BAR0
//! device.write_config(0x04, &[0x06, 0x00]); // memory space, bus master
//! let (bar, offset) = device.decode(0xe000_000c).unwrap();
//! // And to what the device answers: ring vector 1 of peer 0, which is the device itself.
//! device.write_bar(bar, offset, &1_u32.to_le_bytes());
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "kvm")]
mod access;
#[cfg(feature = "kvm")]
mod bar_access;
mod client;
#[cfg(feature = "kvm")]
mod config;
mod connection;
mod descriptors;
#[cfg(feature = "kvm")]
mod device;
mod hub;
#[cfg(feature = "kvm")]
mod interrupt_registers;
mod memory;
#[cfg(feature = "kvm")]
mod peers;
#[cfg(feature = "kvm")]
mod platform;
mod server;
mod session;
#[cfg(feature = "kvm")]
mod snapshot;
mod socket;
#[cfg(all(test, feature = "kvm"))]
mod tests;
#[cfg(feature = "kvm")]
mod unconnected;
mod wire;

#[cfg(feature = "kvm")]
pub use access::Width;
pub use client::{Client, ClientEvent, ProtocolViolation};
pub use descriptors::raise_descriptor_limit;
#[cfg(feature = "kvm")]
pub use device::{DeviceError, DeviceOptions, Interrupt, IvshmemDevice, Revision};
pub use memory::{SharedMemory, SharedMemoryError};
#[cfg(feature = "kvm")]
pub use platform::{Board, routes_without_vm};
pub use server::{Server, ServerError, ServerIncident, ServerOptions};
pub use session::{Session, SessionError};
#[cfg(feature = "kvm")]
pub use snapshot::{DeviceLoadError, DeviceSaveError};
#[cfg(feature = "kvm")]
pub use unconnected::{ConnectError, Unconnected};
pub use wire::{OutOfDescriptors, ReceiveError, Receiver, ServerMessage, send_whole};
