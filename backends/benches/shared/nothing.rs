//! A VM that does nothing.

use msix_backends::kvm::{KvmMessage, RouteEntry, Vm};
use std::io;
use std::os::fd::BorrowedFd;

/// A VM whose calls do nothing.
pub(crate) struct Nothing;

impl Vm for Nothing {
    fn set_routes(&self, _: &[RouteEntry]) -> io::Result<()> {
        Ok(())
    }
    fn assign(&self, _: BorrowedFd<'_>, _: u32) -> io::Result<()> {
        Ok(())
    }
    fn deassign(&self, _: BorrowedFd<'_>, _: u32) -> io::Result<()> {
        Ok(())
    }
    fn signal(&self, _: KvmMessage) -> io::Result<bool> {
        Ok(true)
    }
}
