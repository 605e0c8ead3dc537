//! Everything at once on real KVM: devices fire, processors write registers, somebody saves.
#![cfg(all(feature = "kvm", target_arch = "x86_64"))]

use msix_backends::kvm::{Deferral, Function, Irqchip, RouteOptions, Routes};
use msix_core::{Function as Engine, Vector};
use msix_tests::functions::{Userspace, Vmm, mask, pending, programmed, routes};
use msix_tests::machine::{Guest, Machine, Program, Step, eventually, open_or_skip};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::EventFd;

const VECTORS: u16 = 6;
const EACH: u32 = 10_000;

fn interrupt(vector: u16) -> u8 {
    0x40 + vector.to_le_bytes()[0]
}

/// Fires a vector again and again, each time when the guest has taken the one before; by the device
/// itself or, for odd vectors, from outside.
fn device(function: &Function<Vmm>, machine: &Machine, vector: u16, outside: Option<&EventFd>) {
    let counter = msix_tests::machine::counter(interrupt(vector));
    for count in 1..=EACH {
        match outside {
            Some(eventfd) => eventfd.write(1).expect("room for one"),
            None => _ = function.notify(Vector::new(vector)).expect("a vector of the table"),
        }
        let late = Instant::now() + Duration::from_secs(20);
        while machine.read_u32(counter) < count {
            assert!(Instant::now() < late, "event {count} of vector {vector} is lost");
            std::thread::yield_now();
        }
    }
}

fn at_once(machine: &Machine, deferral: Deferral) {
    let mut options = RouteOptions::new(Irqchip::Full);
    options.deferral = deferral;
    let routes = routes(machine, options);
    let function = programmed(&routes, VECTORS, 0x40);
    let outside: Vec<Option<Arc<EventFd>>> = (0..VECTORS)
        .map(|v| (v % 2 == 1).then(|| function.eventfd(Vector::new(v)).expect("an eventfd")))
        .collect();
    let _userspace = Userspace::run(&routes);
    let program = Program::new(&[Step::Sti, Step::Halt]);
    let guest = Guest::start(machine, &program, |access| panic!("{access:?}"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let devices: Vec<_> = outside
            .iter()
            .zip(0..)
            .map(|(outside, vector)| {
                let function = &function;
                scope.spawn(move || device(function, machine, vector, outside.as_deref()))
            })
            .collect();
        scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(7);
            while !done.load(Ordering::Relaxed) {
                match random.u8(0..20) {
                    0 => function.write_msix(3, &[0xc0]),
                    1 => function.write_msix(3, &[0]),
                    2 => function.write_command(0, &[2]),
                    3 => function.detach(),
                    4 => function.flush(),
                    5 => _ = pending(&function),
                    _ => mask(&function, random.u16(0..VECTORS), random.bool()),
                }
                function.attach();
                function.write_command(0, &[6]);
                function.write_msix(3, &[0x80]);
                mask(&function, random.u16(0..VECTORS), false);
                std::thread::yield_now();
            }
            (0..VECTORS).for_each(|vector| mask(&function, vector, false));
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(function.save().len() > 16 * usize::from(VECTORS));
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let results: Vec<_> = devices.into_iter().map(|device| device.join()).collect();
        done.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.expect("no event was lost"));
    });
    routes.flush();
    for vector in 0..VECTORS {
        assert_eq!(guest.count(interrupt(vector)), EACH, "vector {vector}: each once");
    }
    guest.stop();
    assert!(function.inspect(Engine::check));
    assert_eq!(pending(&function), 0);
    drop(function);
    gone(&routes);
    let stats = routes.stats();
    assert_eq!((stats.gsis, stats.assigns), (0, stats.deassigns), "{stats:?}");
    assert_eq!(stats.failures, 0, "{stats:?}");
    println!("{deferral:?}: {stats:?}");
}

#[test]
fn nothing_is_lost_or_doubled_when_everything_happens_at_once() {
    let name = "nothing_is_lost_or_doubled_when_everything_happens_at_once";
    let Some(machine) = open_or_skip(name, 1) else { return };
    for deferral in [Deferral::NONE, Deferral::default()] {
        at_once(&machine, deferral);
    }
}

/// Waits until the functions are gone: the loop's thread may be the last to hold one, while it flushes.
fn gone(routes: &Routes) {
    eventually("every GSI is given back", || routes.stats().gsis == 0);
}

/// One function's life beside others': vectors move to other messages and back, all the time.
fn moves(function: &Function<Vmm>, machine: &Machine, first: u8) {
    let mut random = fastrand::Rng::with_seed(first.into());
    let mut counts = [0; 256];
    for _ in 0..400 {
        let vector = random.u16(0..16);
        mask(function, vector, true);
        let interrupt = first + random.u8(0..32);
        function.write_table(u64::from(vector) * 16 + 8, &u32::from(interrupt).to_le_bytes());
        mask(function, vector, false);
        function.notify(Vector::new(vector)).expect("a vector of the table");
        counts[usize::from(interrupt)] += 1;
        let counter = msix_tests::machine::counter(interrupt);
        let late = Instant::now() + Duration::from_secs(20);
        while machine.read_u32(counter) < counts[usize::from(interrupt)] {
            assert!(Instant::now() < late, "an event of interrupt {interrupt:#x} is lost");
            std::thread::yield_now();
        }
    }
    for (interrupt, count) in (first..first + 32).map(|i| (i, counts[usize::from(i)])) {
        let taken = machine.read_u32(msix_tests::machine::counter(interrupt));
        assert_eq!(taken, count, "interrupt {interrupt:#x}: each once");
    }
}

#[test]
fn functions_share_the_route_table_from_several_threads() {
    let name = "functions_share_the_route_table_from_several_threads";
    let Some(machine) = open_or_skip(name, 1) else { return };
    for deferral in [Deferral::NONE, Deferral::default()] {
        let mut options = RouteOptions::new(Irqchip::Full);
        options.deferral = deferral;
        let routes = routes(&machine, options);
        let _userspace = Userspace::run(&routes);
        let program = Program::new(&[Step::Sti, Step::Halt]);
        let guest = Guest::start(&machine, &program, |access| panic!("{access:?}"));
        std::thread::scope(|scope| {
            for first in [0x40, 0x60, 0x80, 0xa0] {
                let (routes, machine) = (&routes, &machine);
                scope.spawn(move || {
                    for _ in 0..2 {
                        // It comes and goes: its GSIs are another's next.
                        let function = programmed(routes, 16, first);
                        if first == 0x40 {
                            moves(&function, machine, first);
                            return;
                        }
                        mask(&function, 3, false);
                    }
                    moves(&programmed(routes, 16, first), machine, first);
                });
            }
        });
        guest.stop();
        gone(&routes);
        let stats = routes.stats();
        assert_eq!(
            (stats.gsis, stats.assigns, stats.failures),
            (0, stats.deassigns, 0),
            "{stats:?}"
        );
    }
}
