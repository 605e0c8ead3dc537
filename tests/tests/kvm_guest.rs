//! A guest that programs the table by trapped accesses, takes its interrupts in its own handlers, and
//! reads the PBA: on real KVM, by every way an event can take.
#![cfg(all(feature = "kvm", target_arch = "x86_64"))]

use msix_backends::kvm::{Deferral, Function, Irqchip, RouteOptions};
use msix_core::{BarIndex, Region, Vector};
use msix_tests::functions::{Userspace, Vmm, fresh, routes};
use msix_tests::machine::{
    FREE_RAM, Guest, GuestAccess, MMIO, Machine, Program, Step, open_or_skip, open_split_or_skip,
};
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

const VECTORS: u16 = 4;
const EACH: u32 = 250;
/// The guest writes Message Control here.
const CONTROL: u16 = 0x510;
const PBA: u32 = MMIO + 0x800;
/// Where the guest says how far it is, and where it waits for the host.
const PHASE: u32 = FREE_RAM;
const GO: u32 = FREE_RAM + 4;
/// Where the guest puts what it read of the PBA.
const SEEN: u32 = FREE_RAM + 8;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// Every vector has a route and an irqfd at once.
    Irqfd,
    /// No route is to be had: KVM_SIGNAL_MSI.
    Userspace,
    /// From the one to the other when it is worth it.
    Deferred,
}

fn interrupt(vector: u16) -> u8 {
    0x40 + vector.to_le_bytes()[0]
}

fn entry(vector: u16, dword: u32) -> u32 {
    MMIO + u32::from(vector) * 16 + dword * 4
}

/// Reads the PBA into the word for phase `phase`, and says so.
fn read_pba(phase: u32) -> [Step; 2] {
    [Step::Read32 { from: PBA, to: SEEN + 4 * phase }, Step::Write32(PHASE, phase)]
}

fn program() -> Program {
    let mut steps = Vec::new();
    for vector in 0..VECTORS {
        steps.push(Step::Write64(entry(vector, 0), 0xfee0_0000));
        steps.push(Step::Write32(entry(vector, 2), interrupt(vector).into()));
    }
    steps.push(Step::Out(CONTROL, 0x8000));
    steps.extend((0..VECTORS).map(|vector| Step::Write32(entry(vector, 3), 0)));
    steps.extend([Step::Sti, Step::Write32(PHASE, 1)]);
    steps.extend((0..VECTORS).map(|vector| Step::HaltUntilCount(interrupt(vector), EACH)));
    // One vector masked: the host fires it, and says so.
    steps.extend([Step::Write32(entry(1, 3), 1), Step::Write32(PHASE, 2), Step::WaitWord(GO, 2)]);
    steps.extend(read_pba(3));
    steps.extend([Step::WaitWord(GO, 3), Step::Write32(entry(1, 3), 0)]);
    steps.push(Step::HaltUntilCount(interrupt(1), EACH + 1));
    steps.extend(read_pba(4));
    // The function masked.
    steps.extend([Step::Out(CONTROL, 0xc000), Step::Write32(PHASE, 5), Step::WaitWord(GO, 5)]);
    steps.extend(read_pba(6));
    steps.extend([Step::WaitWord(GO, 6), Step::Out(CONTROL, 0x8000)]);
    let counts = [EACH + 1, EACH + 2, EACH + 1, EACH + 1];
    let all = (0..VECTORS).zip(counts);
    steps.extend(all.map(|(vector, count)| Step::HaltUntilCount(interrupt(vector), count)));
    steps.extend(read_pba(7));
    steps.push(Step::Stop);
    Program::new(&steps)
}

/// What the guest does reaches the function.
fn access(function: &Function<Vmm>, access: GuestAccess<'_>) {
    let layout = function.inspect(|engine| *engine.msix().unwrap().layout());
    let bar = BarIndex::new(0).unwrap();
    let place = |address: u64| layout.locate(bar, address - u64::from(MMIO));
    match access {
        GuestAccess::Write { address, data } => match place(address) {
            Some((Region::Table, offset)) => _ = function.write_table(offset, data),
            other => panic!("a write to {other:?}"),
        },
        GuestAccess::Read { address, data } => match place(address) {
            Some((Region::Pba, offset)) => _ = function.read_pba(offset, data),
            other => panic!("a read of {other:?}"),
        },
        GuestAccess::Out { port: CONTROL, value } => {
            function.write_msix(2, &value.to_le_bytes()[..2]);
        }
        GuestAccess::Out { port, value } => panic!("{value:#x} to port {port:#x}"),
    }
}

fn takes_every_interrupt_once(machine: &Machine, irqchip: Irqchip, way: Way, outside: bool) {
    let what =
        format!("{irqchip:?}, {way:?}, {}", if outside { "from outside" } else { "from a device" });
    let mut options = RouteOptions::new(irqchip);
    match way {
        Way::Irqfd => options.deferral = Deferral::NONE,
        // GSIs below 24 are not for vectors.
        Way::Userspace => options.limit = 24,
        Way::Deferred => {}
    }
    let routes = routes(machine, options);
    let function = fresh(&routes, VECTORS);
    let eventfds: Vec<Arc<EventFd>> = (0..VECTORS)
        .filter(|_| outside)
        .map(|vector| function.eventfd(Vector::new(vector)).unwrap())
        .collect();
    let fire = |vector: u16| match eventfds.get(usize::from(vector)) {
        Some(eventfd) => eventfd.write(1).unwrap(),
        None => _ = function.notify(Vector::new(vector)).unwrap(),
    };
    let _userspace = Userspace::run(&routes);
    for word in 0..16 {
        machine.write_u32(PHASE + 4 * word, 0);
    }
    let its = function.clone();
    let mut guest = Guest::start(machine, &program(), move |a| access(&its, a));
    guest.wait_word(PHASE, 1);
    for count in 1..=EACH {
        for vector in 0..VECTORS {
            fire(vector);
            guest.wait_count(interrupt(vector), count);
        }
    }
    guest.wait_word(PHASE, 2);
    fire(1);
    machine.write_u32(GO, 2);
    guest.wait_word(PHASE, 3);
    assert_eq!(machine.read_u32(SEEN + 12), 0b10, "{what}: pending while masked");
    assert_eq!(guest.count(interrupt(1)), EACH, "{what}: not taken while masked");
    machine.write_u32(GO, 3);
    guest.wait_word(PHASE, 5);
    assert_eq!(machine.read_u32(SEEN + 16), 0, "{what}: taken, so not pending");
    (0..VECTORS).for_each(fire);
    machine.write_u32(GO, 5);
    guest.wait_word(PHASE, 6);
    assert_eq!(machine.read_u32(SEEN + 24), 0b1111, "{what}: the function is masked");
    machine.write_u32(GO, 6);
    guest.wait_word(PHASE, 7);
    assert_eq!(machine.read_u32(SEEN + 28), 0, "{what}");
    let counts = (0..VECTORS).map(|vector| guest.count(interrupt(vector))).collect::<Vec<_>>();
    assert_eq!(counts, [EACH + 1, EACH + 2, EACH + 1, EACH + 1], "{what}: each once");
    guest.finish();

    let stats = routes.stats();
    assert_eq!(stats.failures, 0, "{what}: {stats:?}");
    let (commits, signals) = match way {
        // The pending ones are sent from userspace (H20).
        Way::Irqfd => (4..=4, 0..=5),
        Way::Userspace => (0..=0, 1005..=1005),
        Way::Deferred => (2..=4, 0..=1005),
    };
    assert!(commits.contains(&stats.commits), "{what}: {stats:?}");
    assert!(signals.contains(&stats.signals), "{what}: {stats:?}");
    drop(function);
    let stats = routes.stats();
    assert_eq!((stats.gsis, stats.assigns), (0, stats.deassigns), "{what}");
}

#[test]
fn a_guest_takes_every_interrupt_once_by_every_way() {
    let Some(machine) = open_or_skip("a_guest_takes_every_interrupt_once_by_every_way", 1) else {
        return;
    };
    for way in [Way::Irqfd, Way::Userspace, Way::Deferred] {
        for outside in [false, true] {
            takes_every_interrupt_once(&machine, Irqchip::Full, way, outside);
        }
    }
}

#[test]
fn a_guest_without_an_io_apic_in_the_kernel_does_too() {
    let Some(machine) = open_split_or_skip("a_guest_without_an_io_apic_in_the_kernel_does_too", 1)
    else {
        return;
    };
    for way in [Way::Irqfd, Way::Userspace, Way::Deferred] {
        takes_every_interrupt_once(&machine, Irqchip::Split, way, true);
    }
}
