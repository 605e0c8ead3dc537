//! The engine on this machine's KVM: local APICs are what tells which interrupts were requested.
//!
//! `KVM.md` beside this crate's manifest is the published column.

use crate::machine::Machine;
use msix_backends::kvm::{Format, Irqchip, KvmMessage, RouteEntry, Vm};
use msix_subjects::{KvmFunctionSubject, KvmSubject};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// MSI-X alone on this machine's KVM. Raises the process's limit of open descriptors as far as it may.
///
/// # Errors
/// What KVM refused; also that there is no /dev/kvm.
pub fn msix_on_kvm() -> Result<KvmSubject, String> {
    KvmSubject::new(machine, most())
}

/// The function on this machine's KVM, likewise.
///
/// # Errors
/// As [`msix_on_kvm`].
pub fn function_on_kvm() -> Result<KvmFunctionSubject, String> {
    KvmFunctionSubject::new(machine, most())
}

/// Processors: as many as the suite's messages go to.
const PROCESSORS: u8 = 4;
/// Descriptors that are no vector's, with much to spare.
const OTHERS: u64 = 256;

/// How many vectors there are descriptors for, when there are as many as the process may have.
fn most() -> u32 {
    let limit = getrlimit(Resource::Nofile);
    // Without more, fewer vectors are offered.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    limit.saturating_sub(OTHERS).try_into().unwrap_or(u32::MAX)
}

fn machine() -> Result<Box<dyn msix_subjects::Machine>, String> {
    Ok(Box::new(Machine::new(PROCESSORS)?))
}

impl msix_subjects::Machine for Machine {
    fn renew(&self) -> Result<(), String> {
        taken(self);
        let pic = (0..16).map(|gsi| RouteEntry::Pin { gsi, irqchip: gsi / 8, pin: gsi % 8 });
        let ioapic = (0..24).map(|gsi| RouteEntry::Pin { gsi, irqchip: 2, pin: gsi });
        let defaults: Vec<RouteEntry> = pic.chain(ioapic).collect();
        self.vm().set_routes(&defaults).map_err(|e| format!("KVM_SET_GSI_ROUTING: {e}"))
    }

    fn vm(&self) -> Box<dyn Vm> {
        Box::new(Arc::clone(self.vm()))
    }

    fn irqchip(&self) -> Irqchip {
        Irqchip::Full
    }

    fn format(&self) -> Format {
        Format::default()
    }

    fn compare(&self, messages: &[KvmMessage]) {
        compare(self, messages);
    }
}

fn compare(machine: &Machine, messages: &[KvmMessage]) {
    let asked: BTreeSet<Interrupt> = messages.iter().filter_map(interrupt).collect();
    let mut got = taken(machine);
    // An irqfd may hand a message to a worker of the kernel.
    let deadline = Instant::now() + PATIENCE;
    while !asked.is_subset(&got) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_micros(50));
        got.extend(taken(machine));
    }
    assert!(
        got == asked,
        "the local APICs were asked for {got:x?}, and the messages delivered since the last look \
         ask for {asked:x?} (vCPU, interrupt)",
    );
}

/// A vCPU and an interrupt vector.
type Interrupt = (u8, u8);

/// What a message asks for, if it is a fixed or lowest-priority interrupt to one of the machine's
/// vCPUs (K11). Others leave no trace in an IRR.
fn interrupt(msi: &KvmMessage) -> Option<Interrupt> {
    let [vector, mode, ..] = msi.data.to_le_bytes();
    let destination = (msi.address_lo >> 12) as u8;
    let physical = msi.address_lo >> 2 & 1 == 0;
    let regular = mode & 7 <= 1 && vector >= FIRST;
    (physical && regular && destination < PROCESSORS).then_some((destination, vector))
}

fn taken(machine: &Machine) -> BTreeSet<Interrupt> {
    let of = |vcpu| machine.take_irr(vcpu).into_iter().map(move |vector| (vcpu, vector));
    (0..PROCESSORS).flat_map(of).filter(|(_, vector)| *vector >= FIRST).collect()
}

/// Interrupt vectors below are exceptions, and no APIC should be asked for them.
const FIRST: u8 = 16;
/// The longest wait for a worker of the kernel.
const PATIENCE: Duration = Duration::from_secs(1);
