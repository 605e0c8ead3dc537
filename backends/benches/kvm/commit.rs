//! What a commit of one changed message costs beside the call of the kernel, with a table as large as KVM
//! takes.

use crate::measure::{Asked, Outcome, Report, Side, Turn, timed};
use crate::vm::{ADDRESS, Floor, Ours, machine_with_split_irqchip};
use kvm_ioctls::VmFd;
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{
    EventfdOrigin, Irqchip, KvmMessage, RouteEntry, RouteOptions, Routes, Vm,
};
use std::cell::RefCell;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The vectors of both functions: all GSIs from 24 to 4095.
const VECTORS: [u16; 2] = [2048, 2024];

/// A VM, and the nanoseconds that its calls have taken.
struct Clocked(Arc<VmFd>, Arc<AtomicU64>);

impl Vm for Clocked {
    fn set_routes(&self, routes: &[RouteEntry]) -> io::Result<()> {
        let start = Instant::now();
        let result = self.0.set_routes(routes);
        self.1.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        result
    }
    fn assign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        self.0.assign(eventfd, gsi)
    }
    fn deassign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        self.0.deassign(eventfd, gsi)
    }
    fn signal(&self, msi: KvmMessage) -> io::Result<bool> {
        self.0.signal(msi)
    }
}

/// A VM with all the vectors that it can have, and no eventfds: a commit is all that a flush does then. 4072
/// irqfds would take as many descriptors, and more of the kernel's time, not of ours.
struct Full {
    functions: [Ours; 2],
    routes: Arc<Routes>,
    inside: Arc<AtomicU64>,
    address: u32,
}

impl Full {
    fn new(vm: Arc<VmFd>) -> Outcome<Self> {
        let inside = Arc::new(AtomicU64::new(0));
        let clocked = Clocked(vm, Arc::clone(&inside));
        let options = RouteOptions::new(Irqchip::Split);
        let routes = Routes::new(Box::new(clocked), options, Loop::new()?);
        let function =
            |vectors| Ours::with_eventfds(Arc::clone(&routes), vectors, EventfdOrigin::Connected);
        let functions = [function(VECTORS[0])?, function(VECTORS[1])?];
        functions.iter().for_each(Ours::bring_up);
        Ok(Self { functions, routes, inside, address: ADDRESS })
    }

    /// Changes a message and flushes. Returns the time of the flush, and of the VM's call in it.
    fn flush(&mut self) -> Outcome<(Duration, Duration)> {
        self.address ^= 0x1000;
        self.functions[0].retarget(self.address);
        self.inside.store(0, Ordering::Relaxed);
        let before = self.routes.stats();
        let start = Instant::now();
        self.routes.flush();
        let whole = start.elapsed();
        assert_eq!(Asked::between(before, self.routes.stats()).commits, 1);
        Ok((whole, Duration::from_nanos(self.inside.load(Ordering::Relaxed))))
    }
}

/// Both sides are on one VM.
pub(crate) fn scenarios(report: &mut Report) -> Outcome<()> {
    let all: u16 = VECTORS.iter().sum();
    let scenario = format!("commit of one message of {all}");
    if !report.wants(&scenario) {
        return Ok(());
    }
    let vm = machine_with_split_irqchip()?;
    let mut floor = Floor::new(Arc::clone(&vm), all);
    floor.make_table([])?;
    let full = RefCell::new(Full::new(vm)?);
    let part = |part: fn((Duration, Duration)) -> Duration| {
        let full = &full;
        move || Ok(Turn::of(part(full.borrow_mut().flush()?)))
    };
    let sides = vec![
        Side::new("floor: the ioctl, its table ready", 0, || timed(|| floor.commit())),
        Side::new("flush", 0, part(|(whole, _)| whole)),
        Side::new("in it, the VM's call", 0, part(|(_, inside)| inside)),
        Side::new("in it, all but the VM's call", 0, part(|(whole, inside)| whole - inside)),
    ];
    report.compare(&scenario, 200, sides)
}
