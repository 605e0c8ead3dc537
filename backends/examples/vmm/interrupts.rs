//! The interrupts of the device: all that this VMM has to do with `msix-backends`, and what a VMM copies.
//!
//! The accesses of the guest reach the function from [`pci`](crate::pci) (Command and the MSI-X
//! capability) and [`virtio`](crate::virtio) (table and PBA in the BAR). The device's thread calls
//! `notify`; a worker that stands for another process writes the eventfd of a vector.

use crate::Outcome;
use kvm_ioctls::VmFd;
use msix_backends::Route;
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{
    Function, FunctionSetup, Irqchip, Platform, RouteOptions, Routes, Runner, probe,
};
use msix_core::Layout;
use std::sync::Arc;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

/// The function that all threads share.
pub(crate) type Interrupts = Function<BusMaster>;

/// What a function needs of this VMM.
pub(crate) struct BusMaster(GuestMemoryMmap);

impl Platform for BusMaster {
    fn write_memory(&mut self, address: u64, data: u32) {
        // The guest chose the address: where there is no memory, the write goes nowhere, as on a bus.
        let _ = self.0.write_obj(data.to_le(), GuestAddress(address));
    }

    fn snoop(&mut self, _: Route) {} // only Xen wants to
}

/// Makes the owner of the VM's route table, and the thread that delivers what KVM does not.
pub(crate) fn routes(vm: &Arc<VmFd>) -> Outcome<(Arc<Routes>, Runner)> {
    let mut options = RouteOptions::new(Irqchip::Full);
    options.limit = options.limit.min(probe()?.routes);
    let routes = Routes::new(Box::new(Arc::clone(vm)), options, Loop::new()?);
    // A VMM with a sandbox enters it here, in the new thread.
    let runner = Runner::start(&routes, "interrupts", || Ok(()))?;
    Ok((routes, runner))
}

/// Makes the function of a device that raises every vector of `layout`, and has no pin.
pub(crate) fn function(
    routes: &Arc<Routes>,
    layout: Layout,
    memory: GuestMemoryMmap,
) -> Outcome<Interrupts> {
    let setup = FunctionSetup { msix: Some(layout), ..FunctionSetup::new(BusMaster(memory)) };
    let interrupts = Function::new(routes, setup)?;
    interrupts.claim_all(); // events of a vector that nobody claimed are dropped
    Ok(interrupts)
}
