//! A guest on real KVM that switches between MSI-X and MSI, and allocates other numbers of vectors,
//! while its devices fire.
#![cfg(all(feature = "kvm", target_arch = "x86_64"))]

use msix_backends::kvm::{Deferral, Function, FunctionSetup, Irqchip, RouteOptions};
use msix_core::{BarIndex, Function as Engine, Layout, MsiCapability, Vector};
use msix_tests::functions::{Userspace, Vmm, mask, routes};
use msix_tests::machine::{Guest, Machine, Program, Step, counter, open_or_skip};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::EventFd;

const VECTORS: u16 = 8;
const EACH: u32 = 4000;
/// The devices' vectors, and as which interrupts their events may arrive: with four MSI vectors, 5 goes
/// out as 1.
const DEVICES: [(u16, &[u8]); 4] = [(0, &[0x40]), (2, &[0x42]), (3, &[0x43]), (5, &[0x45, 0x41])];

/// A function whose vector v sends interrupt 0x40 + v by MSI-X and, if it is allocated, by MSI.
fn function(routes: &Arc<msix_backends::kvm::Routes>) -> Function<Vmm> {
    let bar = BarIndex::new(0).expect("a BAR");
    let setup = FunctionSetup {
        msi: Some(MsiCapability::new(VECTORS.into()).expect("a power of two").with_masks()),
        msix: Some(Layout::exclusive_bar(VECTORS.into(), bar).expect("a layout")),
        ..FunctionSetup::new(Vmm)
    };
    let function = Function::new(routes, setup).expect("no device id is needed");
    function.write_command(0, &[6]);
    function.write_msi(4, &0xfee0_0000_u32.to_le_bytes());
    function.write_msi(8, &[0x40, 0]);
    for vector in 0..VECTORS {
        function.claim(Vector::new(vector)).expect("a vector of the table");
        function.write_table(u64::from(vector) * 16, &0xfee0_0000_u64.to_le_bytes());
        let data = 0x40 + u32::from(vector);
        function.write_table(u64::from(vector) * 16 + 8, &data.to_le_bytes());
        mask(&function, vector, false);
    }
    function.write_msix(3, &[0x80]);
    function
}

fn taken(machine: &Machine, interrupts: &[u8]) -> u32 {
    interrupts.iter().map(|interrupt| machine.read_u32(counter(*interrupt))).sum()
}

/// Fires a vector again and again, each time when the guest has taken the one before.
fn device(
    function: &Function<Vmm>,
    machine: &Machine,
    (vector, interrupts): (u16, &[u8]),
    outside: Option<&EventFd>,
) {
    for count in 1..=EACH {
        match outside {
            Some(eventfd) => eventfd.write(1).expect("room for one"),
            None => _ = function.notify(Vector::new(vector)).expect("a vector of both modes"),
        }
        let late = Instant::now() + Duration::from_secs(20);
        while taken(machine, interrupts) < count {
            assert!(Instant::now() < late, "event {count} of vector {vector} is lost");
            std::thread::yield_now();
        }
    }
}

/// What a guest may do between two events, and back to a mode that delivers.
fn switch(function: &Function<Vmm>, random: &mut fastrand::Rng) {
    let allocate = |log: u8| function.write_msi(2, &[log << 4 | 1]);
    let log = random.u8(2..4); // four or eight
    match random.u8(0..8) {
        0 => allocate(log), // beside MSI-X, or live
        1 => {
            allocate(log);
            function.write_msix(3, &[0]);
        }
        2 => {
            function.write_msix(3, &[0]);
            allocate(log);
        }
        3 => function.write_msi(2, &[0]),
        4 => {
            function.write_msi(12, &[random.u8(..)]);
            function.write_msi(12, &[0]);
        }
        5 => {
            let vector = random.u16(0..VECTORS);
            mask(function, vector, true);
            mask(function, vector, false);
        }
        6 => function.flush(),
        _ => function.write_msix(3, &[0x80]),
    }
}

fn switches(machine: &Machine, deferral: Deferral, are_outside: bool) {
    let mut options = RouteOptions::new(Irqchip::Full);
    options.deferral = deferral;
    let routes = routes(machine, options);
    let function = function(&routes);
    let _userspace = Userspace::run(&routes);
    let program = Program::new(&[Step::Sti, Step::Halt]);
    let guest = Guest::start(machine, &program, |access| panic!("{access:?}"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let devices: Vec<_> = DEVICES
            .into_iter()
            .map(|which| {
                let eventfd = || function.eventfd(Vector::new(which.0)).expect("an eventfd");
                let outside = are_outside.then(eventfd);
                let function = &function;
                scope.spawn(move || device(function, machine, which, outside.as_deref()))
            })
            .collect();
        scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(5);
            while !done.load(Ordering::Relaxed) {
                switch(&function, &mut random);
                std::thread::yield_now();
            }
        });
        let results: Vec<_> = devices.into_iter().map(|device| device.join()).collect();
        done.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.expect("no event was lost"));
    });
    routes.flush();
    for (vector, interrupts) in DEVICES {
        let count: u32 = interrupts.iter().map(|interrupt| guest.count(*interrupt)).sum();
        assert_eq!(count, EACH, "vector {vector}: each once");
    }
    guest.stop();
    assert!(function.inspect(Engine::check));
    drop(function);
    let stats = routes.stats();
    assert_eq!((stats.gsis, stats.assigns), (0, stats.deassigns), "{stats:?}");
    assert_eq!(stats.failures, 0, "{stats:?}");
    println!("{deferral:?}, from outside {are_outside}: {stats:?}");
}

#[test]
fn nothing_is_lost_or_doubled_when_a_guest_switches_its_mode_while_devices_fire() {
    let name = "nothing_is_lost_or_doubled_when_a_guest_switches_its_mode_while_devices_fire";
    let Some(machine) = open_or_skip(name, 1) else { return };
    for deferral in [Deferral::NONE, Deferral::default()] {
        for are_outside in [false, true] {
            switches(&machine, deferral, are_outside);
        }
    }
}
