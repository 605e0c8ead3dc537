//! A real virtual machine under a replay (K13): its devices are functions of the KVM backend, every
//! event is a write to an eventfd, and every interrupt is read from a local APIC. Its vCPUs never run.

mod arrival;
mod machine;

use super::backend::{Backend, DeliveryDifference, DeliveryOutcome};
use crate::report::{BackendReport, Ioctls};
use arrival::{Arrival, Wanted, compare, is_complete};
use machine::Machine;
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{Function, FunctionSetup, Irqchip, Platform, RouteOptions, Routes, probe};
use msix_backends::{Route, Unavailable};
use msix_core::operation::Operation;
use msix_core::spec::COMMAND_BUS_MASTER;
use msix_core::{BarIndex, Layout, Policy, Vector};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};
use vmm_sys_util::eventfd::EventFd;

/// The VM, its routes, and the devices on them.
#[derive(Debug)]
pub struct Kvm {
    // Functions let go of their irqfds before the VM goes.
    devices: Vec<Device>,
    routes: Arc<Routes>,
    machine: Machine,
    report: BackendReport,
    /// How long a message may take to arrive.
    patience: Duration,
    /// What may arrive a second time, and since when.
    repeats: BTreeMap<Arrival, Instant>,
}

/// Why there is no VM to replay on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// This machine has none.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// It has, but the system refused.
    #[error("the virtual machine cannot be made: {0}")]
    Refused(#[from] io::Error),
}

/// A function, as its device sees it.
#[derive(Debug)]
struct Device {
    function: Function<Memory>,
    /// As the log has it.
    bus_master: bool,
    /// The device's ends of the eventfds it has raised.
    eventfds: Vec<Option<Arc<EventFd>>>,
    /// Events of each vector since its last message.
    events: Vec<u64>,
}

/// The VMM around a function: it has no memory, but notes what would be written to it.
#[derive(Debug, Default)]
struct Memory(Vec<(u64, u32)>);

impl Platform for Memory {
    fn write_memory(&mut self, address: u64, data: u32) {
        self.0.push((address, data));
    }

    fn snoop(&mut self, _: Route) {} // only under a Xen policy
}

impl Kvm {
    /// A VM with the full in-kernel irqchip, one vCPU and no device. More vCPUs are made when a
    /// message is for them.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open() -> Result<Self, OpenError> {
        let facts = probe()?;
        let (machine, vm) = Machine::new()?;
        let mut options = RouteOptions::new(Irqchip::Full);
        options.limit = facts.routes;
        let routes = Routes::new(Box::new(vm), options, Loop::new()?);
        let report = BackendReport { name: "kvm", ..BackendReport::default() };
        Ok(Self {
            devices: Vec::new(),
            routes,
            machine,
            report,
            patience: PATIENCE,
            repeats: BTreeMap::new(),
        })
    }

    /// Gives one input to a function. Before that userspace does what is due by now, as the thread of
    /// a VMM would.
    fn give(&mut self, device: usize, operation: Operation) -> io::Result<()> {
        self.routes.run(Some(Duration::ZERO))?;
        let device = self.devices.get_mut(device).ok_or(io::ErrorKind::NotFound)?;
        match operation {
            Operation::WriteConfig { offset, len, value } => {
                device.function.write_msix(usize::from(offset), low(&value.to_le_bytes(), len));
            }
            Operation::WriteTable { offset, len, value } => {
                device.function.write_table(u64::from(offset), low(&value.to_le_bytes(), len));
            }
            Operation::Claim(vector) => {
                device.function.claim(vector).map_err(io::Error::other)?;
            }
            Operation::SetBusMaster(on) => device.set_bus_master(on),
            Operation::Reset => {
                device.function.reset();
                device.set_bus_master(device.bus_master); // the log tells when Command is reset
            }
            Operation::Notify(vector) => {
                self.report.raises += 1;
                device.fire(vector)?;
            }
            other => return Err(io::Error::other(format!("{other:?} is no input of a replay"))),
        }
        Ok(())
    }

    /// Waits until what is wanted has arrived, not for ever, and takes all that has. KVM delivers most
    /// of it before the write to the eventfd returns, and some of it from a work queue.
    fn arrivals(&mut self, device: usize, wanted: &[(u16, Wanted)]) -> io::Result<Arrivals> {
        let mut first = BTreeSet::new();
        if !wanted.is_empty() {
            first = self.wait_for(device, wanted)?;
            self.clear(&first)?;
        }
        // An IRR holds a vector once: what comes twice, by both ways, shows in a second look.
        self.routes.run(Some(Duration::ZERO))?;
        let again = self.look(device)?;
        self.clear(&again)?;
        Ok(Arrivals { first, again })
    }

    fn wait_for(
        &mut self,
        device: usize,
        wanted: &[(u16, Wanted)],
    ) -> io::Result<BTreeSet<Arrival>> {
        let give_up = Instant::now() + self.patience;
        let mut seen = self.look(device)?;
        while !is_complete(wanted, &seen) {
            if Instant::now() >= give_up {
                self.patience = LESS_PATIENCE;
                break;
            }
            // What is not armed is for userspace to deliver.
            self.routes.run(Some(Duration::ZERO))?;
            let more = self.look(device)?;
            if more.is_subset(&seen) {
                thread::sleep(Duration::from_micros(20));
            }
            seen.extend(more);
        }
        Ok(seen)
    }

    /// What `sent` led to may arrive once more where several events waited: some as the engine's
    /// pending bit and some in the eventfd, each of which is delivered in its own way (H20).
    fn allow_repeats(&mut self, device: usize, inputs: &[Operation], wanted: &[(u16, Wanted)]) {
        let Some(device) = self.devices.get_mut(device) else { return };
        for input in inputs {
            if let Operation::Notify(vector) = input
                && let Some(events) = device.events.get_mut(usize::from(vector.index()))
            {
                *events += 1;
            }
        }
        for (vector, wanted) in wanted {
            let Some(events) = device.events.get_mut(usize::from(*vector)) else { continue };
            if std::mem::take(events) > 1 {
                let now = Instant::now();
                self.repeats.extend(wanted.arrivals().iter().map(|&arrival| (arrival, now)));
            }
        }
    }

    /// Takes what may be there from `again`.
    fn take_repeats(&mut self, again: &mut BTreeSet<Arrival>) {
        again.retain(|arrival| {
            let since = self.repeats.remove(arrival);
            let allowed = since.is_some_and(|since| since.elapsed() < LATE);
            self.report.repeated += u64::from(allowed);
            !allowed
        });
    }

    /// Only when all is there: what arrives between the look and the clearing is lost.
    fn clear(&mut self, seen: &BTreeSet<Arrival>) -> io::Result<()> {
        let at = seen.iter().filter_map(|arrival| match arrival {
            Arrival::Interrupt { vcpu, .. } => Some(*vcpu),
            Arrival::Write { .. } => None,
        });
        self.machine.clear(&at.collect())
    }

    /// All that is there, without clearing the local APICs.
    fn look(&mut self, device: usize) -> io::Result<BTreeSet<Arrival>> {
        let mut seen = self.machine.requested()?;
        if let Some(device) = self.devices.get(device) {
            let written = device.function.platform(|memory| std::mem::take(&mut memory.0));
            seen.extend(
                written.into_iter().map(|(address, data)| Arrival::Write { address, data }),
            );
        }
        Ok(seen)
    }
}

/// What arrived for a step.
struct Arrivals {
    first: BTreeSet<Arrival>,
    /// After that was taken, or when nothing was wanted.
    again: BTreeSet<Arrival>,
}

impl Device {
    fn set_bus_master(&mut self, on: bool) {
        self.bus_master = on;
        self.function.write_command(0, &[if on { COMMAND_BUS_MASTER.to_le_bytes()[0] } else { 0 }]);
    }

    /// Writes the eventfd of `vector`. The device asks for it once, before its first event.
    fn fire(&mut self, vector: Vector) -> io::Result<()> {
        let index = usize::from(vector.index());
        let place = self.eventfds.get_mut(index).ok_or(io::ErrorKind::InvalidInput)?;
        let eventfd = match place {
            Some(eventfd) => eventfd,
            None => place.insert(self.function.eventfd(vector)?),
        };
        eventfd.write(1)
    }
}

impl Backend for Kvm {
    fn add(&mut self, vectors: u16, policy: Policy) -> io::Result<()> {
        let bar = BarIndex::new(0).map_err(io::Error::other)?;
        let layout = Layout::exclusive_bar(u32::from(vectors), bar).map_err(io::Error::other)?;
        let setup =
            FunctionSetup { msix: Some(layout), policy, ..FunctionSetup::new(Memory::default()) };
        let function = Function::new(&self.routes, setup).expect("no device id is needed");
        let eventfds = vec![None; usize::from(vectors)];
        let events = vec![0; usize::from(vectors)];
        let mut device = Device { function, bus_master: true, eventfds, events };
        device.set_bus_master(true); // unless the log tells otherwise
        self.devices.push(device);
        Ok(())
    }

    fn follow(
        &mut self,
        device: usize,
        inputs: &[Operation],
        sent: &[Route],
    ) -> io::Result<DeliveryOutcome> {
        for route in sent {
            self.machine.grow_for(route.message)?;
        }
        let vcpus = self.machine.vcpus();
        let wanted: Vec<(u16, Wanted)> =
            sent.iter().map(|r| (r.vector.index(), Wanted::of(r.message, vcpus))).collect();
        let signals = self.routes.stats().signals;
        for &input in inputs {
            self.give(device, input)?;
        }
        let raised = inputs.iter().any(|input| matches!(input, Operation::Notify(_)));
        self.report.held += u64::from(raised && sent.is_empty());
        let Arrivals { first, mut again } = self.arrivals(device, &wanted)?;
        // Another step's, which were late.
        let of_this =
            |arrival: &Arrival| wanted.iter().any(|(_, w)| w.arrivals().contains(arrival));
        let (mut first, mut others): (BTreeSet<Arrival>, BTreeSet<Arrival>) =
            first.into_iter().partition(of_this);
        self.take_repeats(&mut others);
        first.append(&mut others);
        self.allow_repeats(device, inputs, &wanted);
        self.take_repeats(&mut again);
        let mut outcome = compare(&wanted, &first);
        outcome.differences.extend(compare(&[], &again).differences);
        let signals = self.routes.stats().signals - signals;
        let writes =
            first.iter().filter(|arrival| matches!(arrival, Arrival::Write { .. })).count();
        self.report.to_memory += writes as u64;
        self.report.by_signal += signals;
        self.report.by_irqfd += outcome.delivered.saturating_sub(signals + writes as u64);
        Ok(outcome)
    }

    fn finish(&mut self) -> io::Result<(BackendReport, Vec<DeliveryDifference>)> {
        self.routes.flush();
        // Nothing tells that KVM's work queue is empty: what is late has had this long.
        thread::sleep(LAST);
        let mut late = self.machine.requested()?;
        self.take_repeats(&mut late);
        let late = compare(&[], &late).differences;
        let stats = self.routes.stats();
        let mut report = self.report.clone();
        report.vcpus = self.machine.vcpus().into();
        report.gsis = stats.gsis;
        report.ioctls = Ioctls {
            set_gsi_routing: stats.commits,
            irqfd_assign: stats.assigns,
            irqfd_deassign: stats.deassigns,
            signal_msi: stats.signals,
            failed: stats.failures,
            get_lapic: self.machine.looks,
            set_lapic: self.machine.clears,
        };
        Ok((report, late))
    }
}

/// The low `len` bytes.
fn low(bytes: &[u8; 8], len: u8) -> &[u8] {
    bytes.get(..usize::from(len)).unwrap_or(bytes)
}

/// How long a message may take to arrive. It takes microseconds; a busy machine takes longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same when one has been lost: the verdict is in, and a long log may lose many more.
const LESS_PATIENCE: Duration = Duration::from_millis(50);
/// How long after the first a repeated message may arrive.
const LATE: Duration = Duration::from_millis(100);
/// How long what nobody expects may take, at the end.
const LAST: Duration = Duration::from_millis(5);
