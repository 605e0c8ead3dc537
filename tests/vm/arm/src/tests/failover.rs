//! A kernel that refuses: events arrive all the same.

use super::Test;
use crate::machine::TRANSLATER;
use crate::rig::Rig;
use crate::{Outcome, same};
use kvm_ioctls::Kvm;
use msix_backends::kvm::{Deferral, KvmMessage, RouteEntry, Vm};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) const TESTS: &[(&str, Test)] =
    &[("a kernel that refuses routes or irqfds for a while", refuses)];

/// A VM that refuses these calls while it is told to.
struct Refusing {
    vm: Box<dyn Vm>,
    routes: Arc<AtomicBool>,
    irqfds: Arc<AtomicBool>,
}

fn unless(refused: &AtomicBool) -> io::Result<()> {
    if refused.load(Ordering::SeqCst) { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(()) }
}

impl Vm for Refusing {
    fn set_routes(&self, routes: &[RouteEntry]) -> io::Result<()> {
        unless(&self.routes)?;
        self.vm.set_routes(routes)
    }
    fn assign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        unless(&self.irqfds)?;
        self.vm.assign(eventfd, gsi)
    }
    fn deassign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        self.vm.deassign(eventfd, gsi)
    }
    fn signal(&self, msi: KvmMessage) -> io::Result<bool> {
        self.vm.signal(msi)
    }
    fn needs_device_ids(&self) -> bool {
        self.vm.needs_device_ids()
    }
}

fn refuses(kvm: &Kvm) -> Outcome {
    for which in 0..2 {
        let flags = [Arc::new(AtomicBool::new(which == 0)), Arc::new(AtomicBool::new(which == 1))];
        let [routes, irqfds] = flags.clone();
        let between = |vm| Box::new(Refusing { vm, routes, irqfds }) as Box<dyn Vm>;
        let mut rig = Rig::with_its_behind(kvm, Deferral::NONE, between)?;
        for vector in 0..2 {
            rig.program(0, vector, TRANSLATER, vector.into())?;
        }
        for _ in 0..3 {
            rig.notify(0, 0)?;
            rig.expect("refused", 8192, [1, 0])?;
            rig.notify(0, 1)?;
            rig.expect("refused", 8193, [1, 0])?;
        }
        let refused = rig.routes.stats();
        same("sent meanwhile", refused.signals, 6)?;
        flags.iter().for_each(|flag| flag.store(false, Ordering::SeqCst));
        rig.program(0, 0, TRANSLATER, 0)?; // the guest arms it again
        for _ in 0..3 {
            rig.notify(0, 0)?;
            rig.expect("by an irqfd", 8192, [1, 0])?;
        }
        same("sent afterwards", rig.routes.stats().signals, refused.signals)?;
        rig.notify(0, 1)?;
        rig.expect("the other one", 8193, [1, 0])?;
    }
    Ok(())
}
