//! Interrupts of a passed-through device, through VFIO.
//!
//! The guest sees the engine's capability, table and PBA; VFIO keeps the device's own. The device's
//! interrupts arrive at eventfds, the same that KVM takes as irqfds. [`DeviceMsix`], [`DeviceMsi`]
//! and [`LineIrqs`] are the device behind a [`kvm::Function`](crate::kvm::Function), as its
//! [`PassedThrough`](crate::kvm::PassedThrough) part: the device's interrupt indices follow the
//! guest's registers, one at a time (D2), and that of MSI-X with few calls ([`IrqPlan`]).
//!
//! For a live update of the VMM the device goes on in another process, its interrupts bound:
//! [`Function::hand_over`](crate::kvm::Function::hand_over).

mod irqs;
mod msi;
mod msix;
mod plan;
mod probe;
#[cfg(test)]
mod tests;

pub use irqs::{Irqs, LineIrqs, VectorIrqs};
pub use msi::DeviceMsi;
pub use msix::{DeviceMsix, WhileMasked};
pub use plan::{IrqCall, IrqIndex, IrqPlan};
pub use probe::{VfioFacts, probe};
