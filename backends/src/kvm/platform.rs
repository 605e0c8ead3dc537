//! What a function needs of the VMM around it, in the parts that a VMM may have.

use crate::Route;

/// What every function needs of its VMM. Called with the function's lock held.
pub trait Platform: Send {
    /// Writes `data` to guest memory, as a bus master would: the message's address is no interrupt's
    /// (K11).
    fn write_memory(&mut self, address: u64, data: u32);
    /// Looks at an entry that the guest wrote. Only under a policy that asks for it
    /// ([`Policy::snoop`](msix_core::Policy::snoop), Xen's): elsewhere this is not called (G2).
    fn snoop(&mut self, route: Route);
}

/// What a VMM does about INTx that uses [`KvmHost`](super::KvmHost) with an engine of MSI-X alone,
/// and so keeps the pin itself.
pub trait IntxPlatform: Platform {
    /// Lowers the INTx line: MSI-X was enabled (A10).
    fn intx_deassert(&mut self);
    /// Drives the INTx line as the device's status says: MSI-X was disabled (A10, H17).
    fn intx_reevaluate(&mut self);
}

/// A function's pin at the guest's interrupt controller.
pub trait GuestPin: Send {
    /// Drives the pin, unless KVM does. Called with the function's lock held. May be repeated after an
    /// EOI while the level is high.
    fn set_level(&mut self, asserted: bool);
}

/// What a passed-through function needs of its VMM, beside its interrupts. Called with the function's
/// lock held.
pub trait DeviceControl: Send {
    /// Lets the guest reach the function's BARs without the VMM, or not. While they are not mapped,
    /// every access comes to the VMM, which reports it by
    /// [`bar_accessed`](super::Function::bar_accessed).
    fn set_mappings(&mut self, mapped: bool);
    /// Resets the device if it can be reset, and sets its Command register to 0. Nothing is bound to
    /// it now.
    fn reset_device(&mut self);
}
