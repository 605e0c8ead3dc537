#![cfg_attr(docsrs, feature(doc_cfg))]
//! Carries out the effects of the MSI-X engine on a host.
//!
//! A backend is anything that implements [`Host`]. [`carry_out`] carries out an input's list of
//! effects on it, in order, and reports the host's answers to the engine until nothing is left.
//!
//! Features: `kvm` delivers through KVM. It is `irqfd`, the routes and the function on any VM that
//! implements `kvm::Vm`, and that trait for the `VmFd` of kvm-ioctls. `eventfd` is the userspace loop
//! under both. `vfio` drives the interrupts of a passed-through device and probes `/dev/vfio/vfio`.
//! `testing` is a VM that pretends. `tracing` tells what happens. Without any, [`assign`] computes which bytes of a passed-through
//! function's config space are emulated and which parts of its BARs may be mapped.
//!
//! # Seen from outside
//! Feature `tracing` emits events of that crate, with the target `msix_backends`: `debug` for a commit of
//! routes, `warn` for a system call that failed, for a vector that fell back to userspace and for a
//! snapshot that was refused, `info` for one that was loaded and for the resume after it. `function` in
//! them is `kvm::Function::number`. The subscriber is called with locks of this crate held, in the
//! thread of whoever made the call, which may be a processor's: it must not use a function or the
//! routes, and its system calls come on top of `kvm::system_calls`. A panic in it costs the event and
//! nothing else. Nothing is emitted for a single interrupt: `kvm::Function::vector_counters` counts
//! those, as far as userspace sees them.
//!
//! # Types of other crates
//! Public signatures have `EventFd` of vmm-sys-util 0.15 (feature `eventfd`) and, with `kvm` only, `VmFd`
//! of kvm-ioctls 0.25. Both crates are exported here, so that an embedder cannot get another version
//! by accident. Traits that others implement take descriptors as [`BorrowedFd`](std::os::fd::BorrowedFd).
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
#[cfg(feature = "irqfd")]
mod happening;
mod host;
#[cfg(feature = "irqfd")]
pub mod kvm;
mod panics;
#[cfg(all(test, feature = "eventfd"))]
mod testing;
mod unavailable;
#[cfg(feature = "vfio")]
pub mod vfio;

pub use host::{Host, Route, carry_out};
#[cfg(feature = "kvm")]
pub use kvm_ioctls;
pub use unavailable::Unavailable;
#[cfg(feature = "eventfd")]
pub use vmm_sys_util;
