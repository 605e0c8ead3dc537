//! Carries out the effects of the MSI-X engine on a host.
//!
//! A backend is anything that implements [`Host`]; [`carry_out`] takes an input's list of effects
//! to it, in order, and feeds what the host answers back into the engine until nothing is left.
//!
//! Features: `kvm` delivers through KVM ([`kvm`]), `eventfd` is the userspace loop under it,
//! `vfio` asks `/dev/vfio/vfio` what it can do for MSI-X. Without any, [`assign`] says of a
//! passed-through function which bytes of config space are emulated and which parts of its BARs may be
//! mapped.

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
