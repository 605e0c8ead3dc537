//! The engine on the real KVM backend, as a subject.
//!
//! Every device is alone on a real virtual machine: its [`KvmHost`] has route table, irqfds and
//! KVM_SIGNAL_MSI to itself, and no vCPU runs. Between backend and kernel stands a [`Vm`](msix_backends::kvm::Vm)
//! that passes every call on and remembers it (`record.rs`); events are written to the eventfds that
//! KVM was given. A message counts as delivered when KVM took the eventfd's event, or
//! KVM_SIGNAL_MSI took the message, and at every look what was remembered must be what the interrupt
//! controllers say ([`Machine::compare`]): a difference is a panic, and so a failure of the case.

mod fault;
mod function;
mod machine;
mod record;

pub use fault::Fault;
pub use function::KvmFunctionSubject;
pub use machine::Machine;

use super::engine::{EngineSubject, device_on};
use super::model_host::EventPath;
use super::suite_host::SuiteHost;
use machine::{Machines, RoutedMachine};
use msix_backends::kvm::KvmHost;
use msix_backends::{Host, Route};
use msix_conformance::{
    BackendCall, BackendLog, Choices, Device, HostCall, IntxCall, Layouts, Message, NoDevice,
    Subject,
};
use msix_core::{Policy, Vector, Vectors};
use record::Memory;
use std::collections::BTreeSet;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// The engine under [`Policy::SPEC`], on KVM.
#[derive(Debug, Clone)]
pub struct KvmSubject {
    /// For what does not depend on a host.
    engine: EngineSubject,
    machines: Machines,
    most: u32,
    backend: Option<Fault>,
    kernel: Option<Fault>,
}

impl KvmSubject {
    /// On such machines, with this many vectors at most.
    ///
    /// # Errors
    /// No machine could be made.
    pub fn new(make: fn() -> Result<Box<dyn Machine>, String>, most: u32) -> Result<Self, String> {
        let machines = Machines::new(make);
        drop(machines.lease()?);
        let engine = EngineSubject::new(Policy::SPEC, EventPath::Irqfd);
        Ok(Self { engine, machines, most, backend: None, kernel: None })
    }

    /// The same with another backend: what it asks for goes wrong before it is remembered.
    #[must_use]
    pub fn with_backend(self, fault: Fault) -> Self {
        Self { backend: Some(fault), ..self }
    }

    /// The same on another kernel: what was asked for goes wrong after it was remembered.
    #[must_use]
    pub fn with_kernel(self, fault: Fault) -> Self {
        Self { kernel: Some(fault), ..self }
    }

    /// Whether so many vectors are offered.
    fn provided(&self, vectors: u32) -> Result<(), NoDevice> {
        if (self.most + 1..=2048).contains(&vectors) {
            let most = self.most;
            return Err(NoDevice::NotOffered(format!("more than the {most} vectors of this run")));
        }
        Ok(())
    }

    /// A machine for one device.
    fn machine(&self) -> Result<RoutedMachine, NoDevice> {
        RoutedMachine::new(&self.machines, self.backend, self.kernel)
    }

    fn host(&self, vectors: u16) -> Result<KvmSuiteHost, NoDevice> {
        let machine = self.machine()?;
        let memory = Memory(machine.record.clone());
        Ok(KvmSuiteHost {
            host: KvmHost::new(&machine.routes, vectors, machine.format(), memory)
                .expect("the format has the device id, if one is needed"),
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
