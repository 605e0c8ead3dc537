//! The backend on real KVM when the kernel says no.
#![cfg(all(feature = "kvm", target_arch = "x86_64"))]

use msix_backends::kvm::{Deferral, Function, Irqchip, RouteOptions};
use msix_core::{Function as Engine, Vector};
use msix_tests::functions::{Vmm, is_fallback, mask, pending, programmed, routes};
use msix_tests::machine::open_or_skip;
use msix_tests::peers::skipped;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Mutex;

fn at_once() -> RouteOptions {
    let mut options = RouteOptions::new(Irqchip::Full);
    options.deferral = Deferral::NONE;
    options
}

/// The descriptors are the process's, so one test at a time.
static ONE: Mutex<()> = Mutex::new(());

fn fire(function: &Function<Vmm>, vector: u16) {
    function.notify(Vector::new(vector)).expect("a vector of the table");
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

#[test]
fn c39_without_another_descriptor_a_vector_is_delivered_from_userspace() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let name = "c39_without_another_descriptor_a_vector_is_delivered_from_userspace";
    let Some(machine) = open_or_skip(name, 1) else { return };
    let routes = routes(&machine, at_once());
    let function = programmed(&routes, 8, 0x40);
    let before = getrlimit(Resource::Nofile);
    let low = Rlimit { current: Some(descriptors() as u64 + 2), ..before };
    setrlimit(Resource::Nofile, low).expect("a lower limit is always allowed");
    let mut taken = Vec::new();
    for vector in 0..8 {
        mask(&function, vector, false);
        fire(&function, vector);
        taken.push(machine.take_irr(0));
    }
    let refused = function.eventfd(Vector::new(7)).map(drop).map_err(|error| error.raw_os_error());
    setrlimit(Resource::Nofile, before).expect("back to what it was");
    assert_eq!(taken, (0x40..0x48).map(|interrupt| vec![interrupt]).collect::<Vec<_>>());
    assert_eq!(refused, Err(Some(rustix::io::Errno::MFILE.raw_os_error())));
    let fallen = (0..8).filter(|&vector| is_fallback(&function, vector)).count();
    assert!((4..8).contains(&fallen), "{fallen} of 8 found no descriptor");
    for vector in 0..8 {
        mask(&function, vector, true);
        mask(&function, vector, false);
        assert!(!is_fallback(&function, vector), "tried again");
        fire(&function, vector);
        assert_eq!(machine.take_irr(0), [0x40 + vector.to_le_bytes()[0]]);
    }
    let open = descriptors();
    drop(function);
    assert_eq!(descriptors(), open - 8, "every eventfd is closed");
    let stats = routes.stats();
    assert_eq!((stats.gsis, stats.assigns), (0, stats.deassigns));
}

#[test]
fn c2_c39_routes_that_another_function_has_are_done_without() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let name = "c2_c39_routes_that_another_function_has_are_done_without";
    let Some(machine) = open_or_skip(name, 1) else { return };
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|most| most < 6000) {
        return skipped(name, "6000 descriptors", "raise the hard limit with `ulimit -Hn`");
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("to the most");
    let routes = routes(&machine, at_once());
    // All that KVM takes beside the 40 pins: the kernel itself is at its limit (K2).
    let greedy = [(2048, 0x40), (2008, 0x80)].map(|(vectors, first)| {
        let function = programmed(&routes, vectors, first);
        function.write_msix(3, &[0xc0]);
        (0..vectors).for_each(|vector| mask(&function, vector, false));
        function.write_msix(3, &[0x80]);
        function
    });
    let stats = routes.stats();
    assert_eq!((stats.gsis, stats.commits, stats.failures), (4056, 2, 0));
    let late = programmed(&routes, 1, 0x30);
    mask(&late, 0, false);
    assert!(is_fallback(&late, 0));
    fire(&late, 0);
    assert_eq!(machine.take_irr(0), [0x30], "from userspace");
    fire(&greedy[1], 2007);
    assert_eq!(machine.take_irr(0), [0x80 + 23], "the others are as they were");
    assert_eq!(routes.stats().signals, 1);
    drop(greedy);
    assert_eq!(routes.stats().gsis, 0);
    mask(&late, 0, true);
    mask(&late, 0, false);
    assert!(!is_fallback(&late, 0));
    fire(&late, 0);
    assert_eq!(machine.take_irr(0), [0x30]);
    assert_eq!(routes.stats().signals, 1);
}

#[test]
fn c4_an_eventfd_that_is_anothers_is_done_without() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let name = "c4_an_eventfd_that_is_anothers_is_done_without";
    let Some(machine) = open_or_skip(name, 1) else { return };
    let routes = routes(&machine, at_once());
    let function = programmed(&routes, 2, 0x40);
    let eventfd = function.eventfd(Vector::new(0)).expect("an eventfd");
    machine.vm().register_irqfd(&eventfd, 23).expect("somebody else's irqfd");
    for vector in [0, 1] {
        mask(&function, vector, false);
    }
    assert_eq!((is_fallback(&function, 0), is_fallback(&function, 1)), (true, false));
    for vector in [0, 1] {
        fire(&function, vector);
        assert_eq!(machine.take_irr(0), [0x40 + vector.to_le_bytes()[0]]);
    }
    machine.vm().unregister_irqfd(&eventfd, 23).expect("it was registered");
    mask(&function, 0, true);
    mask(&function, 0, false);
    assert!(!is_fallback(&function, 0));
    eventfd.write(1).expect("room for one");
    assert_eq!(machine.take_irr(0), [0x40]);
}

#[test]
fn a_vm_that_is_gone_loses_nothing_that_the_guest_could_see() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let name = "a_vm_that_is_gone_loses_nothing_that_the_guest_could_see";
    let Some(machine) = open_or_skip(name, 1) else { return };
    let routes = routes(&machine, at_once());
    let function = programmed(&routes, 4, 0x40);
    mask(&function, 0, false);
    fire(&function, 0);
    assert_eq!(machine.take_irr(0), [0x40]);

    // Another file takes the place of the VM's descriptor: every ioctl fails.
    let null = std::fs::File::open("/dev/null").expect("/dev/null");
    #[expect(unsafe_code, reason = "the descriptor is owned elsewhere")]
    // SAFETY: the descriptor is open, and is not closed here.
    let vm = unsafe { OwnedFd::from_raw_fd(machine.vm().as_raw_fd()) };
    rustix::io::dup2(&null, &mut ManuallyDrop::new(vm)).expect("an open descriptor");

    mask(&function, 1, false);
    assert!(is_fallback(&function, 1));
    fire(&function, 1);
    assert!(machine.take_irr(0).is_empty());
    mask(&function, 1, true);
    assert_eq!(pending(&function), 0b10, "what could not be sent is pending");
    mask(&function, 0, true);
    fire(&function, 0);
    assert_eq!(pending(&function), 0b11);
    function.reset();
    routes.flush();
    assert!(function.inspect(Engine::check));
    assert!(routes.stats().failures >= 4);
    let open = descriptors();
    drop(function);
    assert_eq!(descriptors(), open - 1, "the one eventfd is closed");
}
