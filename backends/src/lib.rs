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

pub mod assign;
#[cfg(feature = "eventfd")]
pub mod eventfd;
mod host;
#[cfg(feature = "kvm")]
pub mod kvm;
mod unavailable;
#[cfg(feature = "vfio")]
pub mod vfio;

pub use host::{Host, Route, carry_out};
pub use unavailable::Unavailable;
