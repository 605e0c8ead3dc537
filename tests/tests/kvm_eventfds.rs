//! Who takes an event that others write to a vector's eventfd: KVM, and nobody else, while it owns the
//! eventfd; afterwards whoever waits for it. On real KVM.
#![cfg(all(feature = "kvm", target_arch = "x86_64"))]

use msix_backends::kvm::{Deferral, Irqchip, RouteOptions};
use msix_core::Vector;
use msix_tests::functions::{mask, pending, programmed, routes};
use msix_tests::machine::{Machine, eventually, open_or_skip};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const GSI: u32 = 40;
const INTERRUPT: u8 = 0x41;
const NONE: [u8; 0] = [];
/// What the loop waits for.
const EDGE: EventSet = EventSet::IN.union(EventSet::EDGE_TRIGGERED);

/// An epoll instance that waits for `eventfd`.
fn waits_for(eventfd: &EventFd, what: EventSet) -> Epoll {
    let epoll = Epoll::new().expect("an epoll instance");
    epoll
        .ctl(ControlOperation::Add, eventfd.as_raw_fd(), EpollEvent::new(what, 0))
        .expect("epoll takes an eventfd");
    epoll
}

/// Whether the eventfd is found within so many milliseconds.
fn finds(epoll: &Epoll, milliseconds: i32) -> bool {
    let mut events = [EpollEvent::default()];
    epoll.wait(milliseconds, &mut events).expect("epoll waits") > 0
}

/// Waits for these interrupts, which the processor then has no more.
fn arrive(machine: &Machine, interrupts: &[u8]) {
    eventually("the interrupts", || machine.pending_irr(0).len() == interrupts.len());
    assert_eq!(machine.take_irr(0), interrupts);
}

fn is_empty(eventfd: &EventFd) -> bool {
    eventfd.read().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn k8_epoll_hears_of_no_event_while_kvm_owns_the_eventfd_and_of_each_afterwards() {
    let name = "k8_epoll_hears_of_no_event_while_kvm_owns_the_eventfd_and_of_each_afterwards";
    let Some(machine) = open_or_skip(name, 1) else { return };
    machine.route(GSI, INTERRUPT.into());
    let eventfd = EventFd::new(EFD_NONBLOCK).unwrap();
    let before = waits_for(&eventfd, EDGE);
    machine.vm().register_irqfd(&eventfd, GSI).unwrap();
    let after = [EDGE, EventSet::IN].map(|what| waits_for(&eventfd, what));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asleep = scope.spawn(|| (finds(&before, 10_000), is_over.load(Ordering::SeqCst)));
        for _ in 0..2000 {
            eventfd.write(1).unwrap();
            assert!(is_empty(&eventfd), "KVM has it when the write returns");
            assert!(after.iter().all(|epoll| !finds(epoll, 0)));
            arrive(&machine, &[INTERRUPT]);
        }
        machine.vm().unregister_irqfd(&eventfd, GSI).unwrap();
        is_over.store(true, Ordering::SeqCst);
        eventfd.write(1).unwrap();
        assert!(after.iter().all(|epoll| finds(epoll, 1000)));
        assert_eq!(asleep.join().unwrap(), (true, true), "not before");
    });
    assert_eq!(eventfd.read().unwrap(), 1);
    assert_eq!(machine.take_irr(0), NONE);
}

#[test]
fn k7_epoll_finds_what_was_in_the_eventfd_before_although_kvm_has_sent_it() {
    let name = "k7_epoll_finds_what_was_in_the_eventfd_before_although_kvm_has_sent_it";
    let Some(machine) = open_or_skip(name, 1) else { return };
    machine.route(GSI, INTERRUPT.into());
    let eventfd = EventFd::new(EFD_NONBLOCK).unwrap();
    let epoll = waits_for(&eventfd, EDGE);
    eventfd.write(1).unwrap();
    machine.vm().register_irqfd(&eventfd, GSI).unwrap();
    arrive(&machine, &[INTERRUPT]);
    assert!(finds(&epoll, 0));
    eventfd.write(1).unwrap();
    arrive(&machine, &[INTERRUPT]);
    assert!(is_empty(&eventfd) && !finds(&epoll, 0));
}

const VECTORS: u16 = 4;

#[test]
fn the_loop_sleeps_while_kvm_delivers_and_takes_nothing_that_is_kvms() {
    let name = "the_loop_sleeps_while_kvm_delivers_and_takes_nothing_that_is_kvms";
    let Some(machine) = open_or_skip(name, 1) else { return };
    let mut options = RouteOptions::new(Irqchip::Full);
    options.deferral = Deferral::NONE;
    let routes = routes(&machine, options);
    let function = programmed(&routes, VECTORS, 0x40);
    let hand_out = || (0..VECTORS).map(|v| function.eventfd(Vector::new(v)).unwrap()).collect();
    let eventfds: Vec<Arc<EventFd>> = hand_out();
    let found = || routes.events().run(Some(Duration::ZERO)).unwrap();
    let write_all = || eventfds.iter().for_each(|eventfd| eventfd.write(1).unwrap());
    (0..VECTORS).for_each(|vector| mask(&function, vector, false));
    for _ in 0..500 {
        write_all();
        assert_eq!(found(), 0);
        arrive(&machine, &[0x40, 0x41, 0x42, 0x43]);
    }
    for round in 0..50 {
        (0..VECTORS).for_each(|vector| mask(&function, vector, true));
        write_all();
        if round % 2 == 0 {
            assert_eq!(found(), usize::from(VECTORS), "it lets go of them");
            assert_eq!(found(), 0, "once");
        }
        (0..VECTORS).for_each(|vector| mask(&function, vector, false));
        arrive(&machine, &[0x40, 0x41, 0x42, 0x43]);
        // What KVM has sent and left in them (K7) is found, where they are in the loop.
        assert_eq!(found(), if round % 2 == 0 { 0 } else { usize::from(VECTORS) });
        write_all();
        assert_eq!(found(), 0);
        arrive(&machine, &[0x40, 0x41, 0x42, 0x43]);
        let _: Vec<_> = hand_out(); // into the loop again
        assert_eq!(found(), 0);
    }
    assert_eq!(machine.take_irr(0), NONE, "none twice");
    let stats = routes.stats();
    assert_eq!((stats.signals, stats.failures), (0, 0), "all were KVM's");
    assert!(function.vector_counters().iter().all(|counters| counters.taken == 0));
    // And nobody has those of a masked vector, or of a function that is gone.
    (0..VECTORS).for_each(|vector| mask(&function, vector, true));
    write_all();
    assert_eq!(pending(&function), 0b1111);
    drop(function);
    write_all();
    assert_eq!((found(), machine.take_irr(0)), (0, NONE.to_vec()));
}
