//! The second opinion: what the local APICs of a machine were asked for.

use super::PROCESSORS;
use crate::machine::Machine;
use msix_backends::kvm::KvmMessage;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The interrupts requested in the local APICs, since the last call, must be those that `messages`
/// ask for. An APIC remembers an interrupt once, so the messages are a set here; their order and
/// number is the record's to tell.
///
/// # Panics
/// When they are not.
pub(super) fn compare(machine: &Machine, messages: &[KvmMessage]) {
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

/// Forgets what was requested so far.
pub(super) fn clear(machine: &Machine) {
    taken(machine);
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
