//! What a backend asked of KVM, and what the guest got of it.

use msix_backends::Route;
use msix_backends::eventfd::with;
use msix_backends::kvm::{IntxPlatform, KvmMessage, Platform, RouteEntry, Vm};
use msix_conformance::{BackendCall, IntxCall, Message};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vmm_sys_util::eventfd::EventFd;

/// A record that several write to.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Record>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kernel, with a record of what it was asked for.
pub(super) struct Recorder {
    pub(super) kernel: Box<dyn Vm>,
    pub(super) record: Shared,
}

impl Vm for Recorder {
    fn set_routes(&self, routes: &[RouteEntry]) -> io::Result<()> {
        self.kernel.set_routes(routes)?;
        self.record.lock().committed(routes);
        Ok(())
    }

    fn assign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        self.record.lock().may_assign(eventfd, gsi)?;
        let held = with(eventfd, holds);
        self.kernel.assign(eventfd, gsi)?;
        self.record.lock().assigned(eventfd, gsi, held);
        Ok(())
    }

    fn deassign(&self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        self.kernel.deassign(eventfd, gsi)?;
        self.record.lock().deassigned(eventfd, gsi);
        Ok(())
    }

    fn signal(&self, msi: KvmMessage) -> io::Result<bool> {
        let taken = self.kernel.signal(msi)?;
        self.record.lock().delivered(msi);
        Ok(taken)
    }

    fn needs_device_ids(&self) -> bool {
        self.kernel.needs_device_ids()
    }
}

/// Whether an eventfd holds an event, which it goes on holding.
fn holds(eventfd: &EventFd) -> bool {
    eventfd.read().is_ok_and(|count| eventfd.write(count).is_ok())
}

/// A guest's memory, and the device's INTx line.
#[derive(Debug)]
pub(super) struct Memory(pub(super) Shared);

impl Platform for Memory {
    fn write_memory(&mut self, address: u64, data: u32) {
        self.0.lock().messages.push(Message { address, data });
    }

    fn snoop(&mut self, _: Route) {} // the suite has no policy that asks for it
}

impl IntxPlatform for Memory {
    fn intx_deassert(&mut self) {
        self.0.lock().intx.push(IntxCall::Deassert);
    }

    fn intx_reevaluate(&mut self) {
        self.0.lock().intx.push(IntxCall::Reevaluate);
    }
}

/// The record.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Messages since they were taken.
    messages: Vec<Message>,
    /// Those of them all that KVM had, since they were compared.
    requested: Vec<KvmMessage>,
    /// INTx calls since they were taken.
    intx: Vec<IntxCall>,
    /// The routes that KVM has, by GSI.
    routes: BTreeMap<u32, KvmMessage>,
    /// Those of them that the log has not told to be gone.
    told: BTreeMap<u32, KvmMessage>,
    /// Whose eventfd that is.
    vectors: BTreeMap<RawFd, u16>,
    /// The eventfds that are KVM's, and their GSIs.
    irqfds: BTreeMap<RawFd, u32>,
    /// Eventfds that it shall not take.
    failing: BTreeSet<RawFd>,
    log: Log,
}

impl Record {
    /// From now on that eventfd is that vector's.
    pub(super) fn introduce(&mut self, eventfd: &EventFd, vector: u16) {
        self.vectors.insert(eventfd.as_raw_fd(), vector);
    }

    pub(super) fn fail_assigns(&mut self, eventfd: &EventFd, fail: bool) {
        if fail {
            self.failing.insert(eventfd.as_raw_fd());
        } else {
            self.failing.remove(&eventfd.as_raw_fd());
        }
    }

    /// An eventfd was written, and KVM had it taken at once if it is an irqfd (K8). What it did not
    /// take is left, and was not delivered.
    pub(super) fn written(&mut self, eventfd: &EventFd) {
        if let Some(&gsi) = self.irqfds.get(&eventfd.as_raw_fd())
            && !holds(eventfd)
        {
            self.injected(gsi);
        }
    }

    /// All GSIs are given back: the routes leave the table with the next commit (K6).
    pub(super) fn given_back(&mut self) {
        for gsi in std::mem::take(&mut self.told).into_keys() {
            self.log.push(Asked::Unroute, gsi);
        }
        self.log.forget_vectors();
    }

    pub(super) fn take_messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.messages)
    }

    pub(super) fn take_requested(&mut self) -> Vec<KvmMessage> {
        std::mem::take(&mut self.requested)
    }

    pub(super) fn take_intx(&mut self) -> Vec<IntxCall> {
        std::mem::take(&mut self.intx)
    }

    pub(super) fn take_calls(&mut self) -> Vec<BackendCall> {
        self.log.take()
    }

    fn committed(&mut self, routes: &[RouteEntry]) {
        let msi = |entry: &RouteEntry| match *entry {
            RouteEntry::Msi { gsi, msi } => Some((gsi, msi)),
            RouteEntry::Pin { .. } => None,
        };
        self.routes = routes.iter().filter_map(msi).collect();
        for (gsi, msi) in &self.routes {
            if self.told.get(gsi) != Some(msi) {
                self.log.push(Asked::Route, *gsi);
            }
        }
        for gsi in self.told.keys().filter(|gsi| !self.routes.contains_key(gsi)) {
            self.log.push(Asked::Unroute, *gsi);
        }
        self.told.clone_from(&self.routes);
        self.log.calls.push((Asked::Commit, None));
    }

    /// Whether the kernel may be asked; whose GSI that is is known from now on.
    fn may_assign(&mut self, eventfd: BorrowedFd<'_>, gsi: u32) -> io::Result<()> {
        let eventfd = eventfd.as_raw_fd();
        if let Some(&vector) = self.vectors.get(&eventfd) {
            self.log.meet(gsi, vector);
        }
        if self.failing.contains(&eventfd) { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
    }

    fn assigned(&mut self, eventfd: BorrowedFd<'_>, gsi: u32, held: bool) {
        self.irqfds.insert(eventfd.as_raw_fd(), gsi);
        self.log.push(Asked::Arm, gsi);
        if held {
            self.injected(gsi); // K7
        }
    }

    fn deassigned(&mut self, eventfd: BorrowedFd<'_>, gsi: u32) {
        self.irqfds.remove(&eventfd.as_raw_fd());
        self.log.push(Asked::Disarm, gsi);
    }

    /// KVM took an event for a GSI. Without a route it is lost (K5).
    fn injected(&mut self, gsi: u32) {
        if let Some(msi) = self.routes.get(&gsi) {
            self.delivered(*msi);
        }
    }

    fn delivered(&mut self, msi: KvmMessage) {
        let address = u64::from(msi.address_hi) << 32 | u64::from(msi.address_lo);
        self.messages.push(Message { address, data: msi.data });
        self.requested.push(msi);
    }
}

/// What was asked, of a GSI or not.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Route,
    Unroute,
    Commit,
    Arm,
    Disarm,
}

/// The calls, in order. KVM's routes know GSIs; whose they are shows when an eventfd is assigned.
#[derive(Debug, Default)]
struct Log {
    calls: Vec<(Asked, Option<u16>)>,
    vectors: BTreeMap<u32, u16>,
    /// Calls about GSIs whose vector is not known yet.
    unknown: BTreeMap<u32, Vec<usize>>,
}

impl Log {
    fn push(&mut self, asked: Asked, gsi: u32) {
        let vector = self.vectors.get(&gsi).copied();
        if vector.is_none() {
            self.unknown.entry(gsi).or_default().push(self.calls.len());
        }
        self.calls.push((asked, vector));
    }

    fn meet(&mut self, gsi: u32, vector: u16) {
        self.vectors.insert(gsi, vector);
        for call in self.unknown.remove(&gsi).unwrap_or_default() {
            self.calls[call].1 = Some(vector);
        }
    }

    /// GSIs are anybody's from now on.
    fn forget_vectors(&mut self) {
        self.vectors.clear();
        self.unknown.clear();
    }

    /// Without those about GSIs that never met a vector.
    fn take(&mut self) -> Vec<BackendCall> {
        self.unknown.clear();
        let call = |(asked, vector): (Asked, Option<u16>)| {
            Some(match asked {
                Asked::Commit => BackendCall::Commit,
                Asked::Route => BackendCall::Route { vector: vector? },
                Asked::Unroute => BackendCall::Unroute { vector: vector? },
                Asked::Arm => BackendCall::Arm { vector: vector? },
                Asked::Disarm => BackendCall::Disarm { vector: vector? },
            })
        };
        self.calls.drain(..).filter_map(call).collect()
    }
}
