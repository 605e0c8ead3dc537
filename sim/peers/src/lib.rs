#![cfg_attr(docsrs, feature(doc_cfg))]
//! The other side of a comparison: a real QEMU, and what it leaves behind.
//!
//! [`Qemu`] runs one, stopped, and drives it through qtest and QMP; a [`Player`] other than QEMU can
//! take its place. [`trace`] reads its trace logs, [`find_msix_field`] its migration streams.
//! [`kernel_trace`] reads what the kernel traces of KVM, for guests of any VMM.

pub mod kernel_trace;
mod migration;
mod qemu;
#[cfg(test)]
mod testing;
pub mod trace;

pub use migration::{SavedMsix, find_msix_field};
pub use qemu::{
    Extras, LoneServer, Player, Qemu, QemuClient, QemuError, QemuFunction, Setup, Sockets, StandIn,
};
