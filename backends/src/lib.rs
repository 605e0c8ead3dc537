#![cfg_attr(docsrs, feature(doc_cfg))]
//! Carries out the effects of the MSI-X engine on a host.
//!
//! A backend is anything that implements [`Host`]. [`carry_out`] carries out an input's list of
//! effects on it, in order, and reports the host's answers to the engine until nothing is left.
//!
//! Features: `kvm` delivers through KVM, `eventfd` is the userspace loop under it, and
//! `vfio` drives the interrupts of a passed-through device and probes `/dev/vfio/vfio`. Without
//! any, [`assign`] computes which bytes of a passed-through function's config space are emulated
//! and which parts of its BARs may be mapped.
//!
//! # Who is trusted
//!
//! The VMM is: its implementations of the traits here, its layouts and its policies. Each trait says
//! what may be called from it. A part of the VMM that panics costs no other effect; one that never
//! returns keeps the thread that called it.
//!
//! Nobody else is:
//!
//! - The guest may make any access in any order. Its messages reach an interrupt controller, or the
//!   address that it wrote, through the VMM's own writes of memory.
//! - A snapshot, and the configuration space and tables of a real device, are checked before they are
//!   used: an error with the reason, and everything as it was.
//! - The kernel may refuse any call: the failure is counted, and the event goes a slower way or stays
//!   pending.
//! - Who else holds an eventfd may clear its flags, fill it and empty it. Nothing here waits for it,
//!   on kernels from 5.8 on; the events that it takes are gone.
//!
//! The work for an access is bounded by the vectors of the table, what a message causes in turn by a
//! fixed number of calls, and memory, GSIs and descriptors by the vectors that were used.

pub mod assign;
#[cfg(feature = "eventfd")]
pub mod eventfd;
mod host;
#[cfg(feature = "kvm")]
pub mod kvm;
mod panics;
#[cfg(all(test, feature = "eventfd"))]
mod testing;
mod unavailable;
#[cfg(feature = "vfio")]
pub mod vfio;

pub use host::{Host, Route, carry_out};
pub use unavailable::Unavailable;
