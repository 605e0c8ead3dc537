//! The VMM around the device.

use msix_backends::Route;
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{
    GuestPin, Irqchip, KvmMessage, Platform, RouteEntry, RouteOptions, Routes, Vm,
};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// What the device needs of the VMM around it. A handle: every part of the device has one.
pub trait Board: Clone + Send + Sync + 'static {
    /// Writes a message of the device to guest memory.
    fn write_memory(&self, address: u64, data: u32);
    /// Asserts the device's INTx line, or not. Called with locks of the device held.
    fn set_intx(&self, asserted: bool);
}

/// A board as the function of the KVM backend wants it.
#[derive(Debug)]
pub(super) struct BoardPlatform<B>(pub(super) B);

impl<B: Board> Platform for BoardPlatform<B> {
    fn write_memory(&mut self, address: u64, data: u32) {
        self.0.write_memory(address, data);
    }
    fn snoop(&mut self, _: Route) {} // the device's policy does not ask for it
}

impl<B: Board> GuestPin for BoardPlatform<B> {
    fn set_level(&mut self, asserted: bool) {
        self.0.set_intx(asserted);
    }
}

/// Creates the route table of a machine without KVM. It holds no routes: userspace reads the eventfds,
/// and interrupts are messages to `board` like all others.
///
/// # Errors
/// Of `epoll_create1`.
pub fn routes_without_vm<B: Board>(board: B) -> io::Result<Arc<Routes>> {
    let mut options = RouteOptions::new(Irqchip::Split);
    options.limit = 0;
    Ok(Routes::new(Box::new(NoVm(board)), options, Loop::new()?))
}

/// The [`Vm`] of a machine without KVM.
struct NoVm<B>(B);

impl<B: Board> Vm for NoVm<B> {
    fn set_routes(&self, _: &[RouteEntry]) -> io::Result<()> {
        Ok(())
    }

    fn assign(&self, _: BorrowedFd<'_>, _: u32) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn deassign(&self, _: BorrowedFd<'_>, _: u32) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn signal(&self, msi: KvmMessage) -> io::Result<bool> {
        let address = u64::from(msi.address_hi) << 32 | u64::from(msi.address_lo);
        self.0.write_memory(address, msi.data);
        Ok(true)
    }
}
