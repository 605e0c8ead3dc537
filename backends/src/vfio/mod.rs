//! Interrupts of a passed-through device, through VFIO.
//!
//! The guest sees the engine's capability, table and PBA; the device's own stay VFIO's. Its interrupts
//! arrive at eventfds, the same that KVM takes as irqfds: [`DeviceMsix`] stands behind a
//! [`kvm::Function`](crate::kvm::Function) that was made with
//! [`Function::passed_through`](crate::kvm::Function::passed_through), and keeps the device's MSI-X index
//! as the guest's registers say, with few calls ([`Plan`]). A whole function, with MSI and INTx
//! ([`DeviceMsi`], [`LineIrqs`]), is a [`kvm::PciFunction`](crate::kvm::PciFunction).

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
pub use plan::{Call, Index, Plan};
pub use probe::{Facts, probe};
