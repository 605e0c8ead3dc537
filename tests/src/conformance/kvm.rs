//! The engine on the real KVM backend, as a subject.
//!
//! Every device is alone on a real virtual machine: its [`KvmHost`] has route table, irqfds and
//! KVM_SIGNAL_MSI to itself, and no vCPU runs. Between backend and kernel stands a [`Vm`] that
//! passes every call on and remembers it (`record.rs`); events are written to the eventfds that
//! KVM was given. A message counts as delivered when KVM took the eventfd's event, or
//! KVM_SIGNAL_MSI took the message, and at every look what was remembered must be what the local
//! APICs say (`apics.rs`): a difference is a panic, and so a failure of the case.
//!
//! `KVM.md` beside this crate's manifest is the published column.

mod apics;
mod function;
mod record;

pub use function::KvmFunctionSubject;

use super::engine::{EngineSubject, device_on};
use super::model_host::EventPath;
use super::suite_host::SuiteHost;
use crate::machine::Machine;
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{
    Deferral, Format, Irqchip, KvmHost, RouteEntry, RouteOptions, Routes, Vm,
};
use msix_backends::{Host, Route};
use msix_conformance::{
    BackendCall, BackendLog, Choices, Device, HostCall, IntxCall, Layouts, Message, NoDevice,
    Subject,
};
use msix_core::{Policy, Vector, Vectors};
use record::{Memory, Recorder, Shared};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use vmm_sys_util::eventfd::EventFd;

/// Something to stand between two that talk through [`Vm`].
type Between = fn(Box<dyn Vm>) -> Box<dyn Vm>;

/// The engine under [`Policy::SPEC`], on KVM.
#[derive(Debug, Clone)]
pub struct KvmSubject {
    /// For what does not depend on a host.
    engine: EngineSubject,
    machines: Machines,
    most: u32,
    backend: Between,
    kernel: Between,
}

impl KvmSubject {
    /// On this machine's KVM. Raises the process's limit of open descriptors as far as it may.
    ///
    /// # Errors
    /// What KVM refused; also that there is no /dev/kvm.
    pub fn open() -> Result<Self, String> {
        let machines = Machines::default();
        drop(machines.lease()?);
        Ok(Self {
            engine: EngineSubject::new(Policy::SPEC, EventPath::Irqfd),
            machines,
            most: raised_limit().saturating_sub(OTHERS).try_into().unwrap_or(u32::MAX),
            backend: |vm| vm,
            kernel: |vm| vm,
        })
    }

    /// The same with another backend: what it asks for goes through `backend` before it is
    /// remembered.
    #[must_use]
    pub fn with_backend(self, backend: fn(Box<dyn Vm>) -> Box<dyn Vm>) -> Self {
        Self { backend, ..self }
    }

    /// The same on another kernel: what was asked for goes through `kernel` after it was
    /// remembered.
    #[must_use]
    pub fn with_kernel(self, kernel: fn(Box<dyn Vm>) -> Box<dyn Vm>) -> Self {
        Self { kernel, ..self }
    }

    /// Whether there are descriptors for so many vectors.
    fn provided(&self, vectors: u32) -> Result<(), NoDevice> {
        if (self.most + 1..=2048).contains(&vectors) {
            let most = self.most;
            return Err(NoDevice::NotOffered(format!("more than descriptors for {most} vectors")));
        }
        Ok(())
    }

    /// A machine for one device.
    fn machine(&self) -> Result<RoutedMachine, NoDevice> {
        let lease = self.machines.lease().map_err(NoDevice::NotOffered)?;
        let events = Loop::new().map_err(|why| NoDevice::NotOffered(why.to_string()))?;
        let record = Shared::default();
        let kernel = (self.kernel)(Box::new(Arc::clone(lease.machine().vm())));
        let recorder = Recorder { kernel, record: record.clone() };
        let mut options = RouteOptions::new(Irqchip::Full);
        // Every change is committed at once, so that a look after an input sees all of it.
        options.deferral = Deferral::NONE;
        let routes = Routes::new((self.backend)(Box::new(recorder)), options, events);
        Ok(RoutedMachine { routes, record, lease })
    }

    fn host(&self, vectors: u16) -> Result<KvmSuiteHost, NoDevice> {
        let machine = self.machine()?;
        let memory = Memory(machine.record.clone());
        Ok(KvmSuiteHost {
            host: KvmHost::new(&machine.routes, vectors, Format::default(), memory)
                .expect("no device id is needed"),
            calls: Vec::new(),
            written: BTreeSet::new(),
            machine,
        })
    }
}

impl Subject for KvmSubject {
    fn name(&self) -> String {
        "engine, SPEC, KVM".into()
    }

    fn choices(&self) -> Choices {
        self.engine.choices()
    }

    fn device(&self, vectors: u32) -> Result<Box<dyn Device>, NoDevice> {
        self.provided(vectors)?;
        device_on(vectors, Policy::SPEC, EventPath::Irqfd, |vectors| self.host(vectors))
    }

    fn layouts(&self) -> Option<&dyn Layouts> {
        self.engine.layouts()
    }
}

/// Processors: as many as the suite's messages go to.
const PROCESSORS: u8 = 4;
/// Descriptors that are no vector's, with much to spare.
const OTHERS: u64 = 256;

/// The limit of open descriptors, raised to the most that is allowed.
fn raised_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // Without more, fewer vectors are offered.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Virtual machines, which take longer to make than a device lives.
#[derive(Debug, Clone, Default)]
struct Machines(Arc<Mutex<Vec<Machine>>>);

impl Machines {
    /// One that nobody uses, as new.
    fn lease(&self) -> Result<Lease, String> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let machine = spare.map_or_else(|| Machine::new(PROCESSORS), Ok)?;
        apics::clear(&machine);
        let pic = (0..16).map(|gsi| RouteEntry::Pin { gsi, irqchip: gsi / 8, pin: gsi % 8 });
        let ioapic = (0..24).map(|gsi| RouteEntry::Pin { gsi, irqchip: 2, pin: gsi });
        let defaults: Vec<RouteEntry> = pic.chain(ioapic).collect();
        machine.vm().set_routes(&defaults).map_err(|e| format!("KVM_SET_GSI_ROUTING: {e}"))?;
        Ok(Lease { machine: Some(machine), owner: self.clone() })
    }
}

/// A machine for one device.
#[derive(Debug)]
struct Lease {
    /// There until this is dropped.
    machine: Option<Machine>,
    owner: Machines,
}

impl Lease {
    fn machine(&self) -> &Machine {
        self.machine.as_ref().expect("it is not dropped yet")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.owner.0.lock().unwrap_or_else(PoisonError::into_inner).extend(self.machine.take());
    }
}

/// A machine with the backend's routes on it, and the record of what they ask for.
struct RoutedMachine {
    routes: Arc<Routes>,
    record: Shared,
    lease: Lease,
}

impl RoutedMachine {
    /// The record hears whose eventfd that is.
    fn introduce(&self, eventfd: &EventFd, vector: u16) {
        self.record.lock().introduce(eventfd, vector);
    }

    /// Writes an eventfd, as a device does.
    fn signal(&self, eventfd: &EventFd) {
        eventfd.write(1).expect("a counter of a few events is not full");
        self.record.lock().written(eventfd);
    }

    /// What was delivered by now must be what the local APICs say.
    fn compare(&self) {
        let requested = self.record.lock().take_requested();
        apics::compare(self.lease.machine(), &requested);
    }

    /// The messages since the last call.
    fn messages(&self) -> Vec<Message> {
        self.compare();
        self.record.lock().take_messages()
    }

    /// The device gave back what it had. The table is this device's alone: with no GSI given out, each of
    /// its own is back.
    fn detached(&self) {
        if self.routes.stats().gsis == 0 {
            self.record.lock().given_back();
        }
    }
}

/// The backend, and what was seen of it.
struct KvmSuiteHost {
    // Before the machine, so that it has let go of it when that is the next one's.
    host: KvmHost<Memory>,
    calls: Vec<HostCall>,
    /// Vectors whose eventfds were written, and may hold something.
    written: BTreeSet<u16>,
    machine: RoutedMachine,
}

impl KvmSuiteHost {
    /// The eventfd of a vector, which the record hears of.
    fn eventfd(&mut self, vector: u16) -> Arc<EventFd> {
        let eventfd =
            self.host.eventfd(Vector::new(vector)).expect("descriptors were provided for");
        self.machine.introduce(&eventfd, vector);
        eventfd
    }
}

impl Host for KvmSuiteHost {
    fn arm(&mut self, routes: &[Route]) -> Vec<Vector> {
        for &Route { vector, message } in routes {
            self.calls.push(HostCall::Arm { vector: vector.index(), message });
            self.eventfd(vector.index());
        }
        self.host.arm(routes)
    }

    fn disarm(&mut self, vectors: &[Vectors]) {
        self.calls.extend(each(vectors).map(|vector| HostCall::Disarm { vector }));
        self.host.disarm(vectors);
    }

    fn reroute(&mut self, routes: &[Route]) -> Vec<Vector> {
        let logged = |route: &Route| HostCall::Reroute {
            vector: route.vector.index(),
            message: route.message,
        };
        self.calls.extend(routes.iter().map(logged));
        self.host.reroute(routes)
    }

    fn send(&mut self, route: Route) {
        self.calls.push(HostCall::Send { vector: route.vector.index(), message: route.message });
        self.host.send(route);
    }

    fn poll(&mut self, vectors: &[Vectors]) -> Vec<Vectors> {
        self.calls.extend(each(vectors).map(|vector| HostCall::Poll { vector }));
        self.host.poll(vectors)
    }

    fn drain(&mut self, vectors: &[Vectors]) {
        self.calls.extend(each(vectors).map(|vector| HostCall::Drain { vector }));
        self.host.drain(vectors);
    }

    fn snoop(&mut self, route: Route) {
        self.host.snoop(route);
    }

    fn intx_deassert(&mut self) {
        self.host.intx_deassert();
    }

    fn intx_reevaluate(&mut self) {
        self.host.intx_reevaluate();
    }
}

fn each(sets: &[Vectors]) -> impl Iterator<Item = u16> {
    sets.iter().flat_map(|set| set.iter()).map(Vector::index)
}

impl SuiteHost for KvmSuiteHost {
    fn calls(&mut self) -> Vec<HostCall> {
        self.machine.compare();
        std::mem::take(&mut self.calls)
    }

    fn intx(&mut self) -> Vec<IntxCall> {
        self.machine.record.lock().take_intx()
    }

    fn messages(&mut self) -> Vec<Message> {
        self.machine.messages()
    }

    fn fail_arm(&mut self, vector: u16, fail: bool) {
        let eventfd = self.eventfd(vector);
        self.machine.record.lock().fail_assigns(&eventfd, fail);
    }

    fn signal(&mut self, vector: u16) {
        let eventfd = self.eventfd(vector);
        self.machine.signal(&eventfd);
        self.written.insert(vector);
    }

    fn take_held(&mut self, wanted: &dyn Fn(u16) -> bool) -> Vec<u16> {
        let host = &mut self.host;
        let take = |vector: &u16| wanted(*vector) && host.take(Vector::new(*vector));
        self.written.iter().copied().filter(take).collect()
    }

    fn backend_log(&mut self) -> Option<&mut dyn BackendLog> {
        Some(self)
    }

    fn detached(&mut self) {
        self.host.give_back();
        self.machine.detached();
    }
}

impl BackendLog for KvmSuiteHost {
    fn calls(&mut self) -> Vec<BackendCall> {
        self.machine.record.lock().take_calls()
    }
}
