//! MSI-X through KVM: a route table, irqfds, and KVM_SIGNAL_MSI for what has neither.
//!
//! [`Routes`] is the one owner of a VM's route table (C1): made once a VM, shared by all devices.
//! [`Function`] is one PCI function on it: the engine and its backend behind a lock, with a way past
//! the lock for events that KVM delivers by itself. [`KvmHost`] is the backend alone, for a VMM with
//! locks of its own. The system calls are behind [`Vm`].
//!
//! A vector that the guest unmasks goes through three stages, and is delivered exactly once in each:
//! through KVM_SIGNAL_MSI at once; when enough has changed, or a deadline passes, its route is
//! committed; then its eventfd is an irqfd and userspace is out of the way. See [`Deferral`].

mod function;
mod host;
mod line;
mod message;
mod pace;
mod probe;
mod routes;
mod table;
#[cfg(test)]
mod tests;
mod vm;

pub use function::Function;
pub use host::{KvmHost, Platform};
pub use message::{Format, Msi};
pub use pace::Deferral;
pub use probe::{Facts, probe};
pub use routes::{Options, Routes, RoutesError, Stats};
pub use table::{Entry, Irqchip, KeepError, OutOfRoutes};
pub use vm::Vm;
