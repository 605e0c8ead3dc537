//! What a function needs from the VMM around it, split by the parts that a function may have.

use crate::Route;

/// What every function needs from its VMM. Called with the function's lock held.
pub trait Platform: Send {
    /// Writes `data` to guest memory, as a bus master would: the message's address is not that of
    /// an interrupt (K11).
    fn write_memory(&mut self, address: u64, data: u32);
    /// Inspects an entry that the guest wrote (G2). Called only under a policy that asks for it
    /// ([`Policy::snoop`](msix_core::Policy::snoop), for Xen).
    fn snoop(&mut self, route: Route);
}

/// Drives INTx, for a VMM that uses [`KvmHost`](super::KvmHost) with an engine of MSI-X alone and
/// so keeps the pin itself.
pub trait IntxPlatform: Platform {
    /// Lowers the INTx line: MSI-X was enabled (A10).
    fn intx_deassert(&mut self);
    /// Drives the INTx line as the device's status says: MSI-X was disabled (A10, H17).
    fn intx_reevaluate(&mut self);
}

/// A function's pin at the guest's interrupt controller.
pub trait GuestPin: Send {
    /// Drives the pin, unless KVM does. Called with the function's lock held. May be repeated after
    /// an EOI while the level is high, and at a resume; idempotent.
    fn set_level(&mut self, asserted: bool);
}

/// What a passed-through function needs from its VMM besides its interrupts. Called with the
/// function's lock held.
pub trait DeviceControl: Send {
    /// Maps the function's BARs into the guest, or unmaps them. While they are unmapped, every
    /// access comes to the VMM, which reports it by
    /// [`bar_accessed`](super::Function::bar_accessed).
    fn set_mappings(&mut self, mapped: bool);
    /// Resets the device, if possible, and sets its Command register to 0. No interrupt is bound at
    /// this time.
    fn reset_device(&mut self);
}
