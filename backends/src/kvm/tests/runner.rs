//! The thread that runs the userspace path, and loops inside others.

use super::{PATIENT, Vmm, World, mask, on_x86, program, start};
use crate::eventfd::Loop;
use crate::kvm::deferral::Wait;
use crate::kvm::waiters::Waiter;
use crate::kvm::{
    Deferral, FakeVm, Function, FunctionSetup, Irqchip, RouteOptions, Routes, Runner, VmCall,
};
use crate::testing::in_time;
use msix_core::{BarIndex, Layout, Vector};
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

const SOON: Deferral =
    Deferral { growth: 8, quiet: Duration::from_millis(1), longest: Duration::from_millis(3) };

fn until(mut what: impl FnMut() -> bool) {
    while !what() {
        thread::yield_now();
    }
}

#[test]
fn a_runner_commits_what_waits_and_reads_what_kvm_does_not() {
    in_time(|| {
        let world = World::new(2, SOON);
        let (named, name) = channel();
        let runner = Runner::start(&world.routes, "msix-loop", move || {
            let _ = named.send(thread::current().name().map(str::to_owned));
            Ok(())
        })
        .unwrap();
        assert_eq!(name.recv().unwrap().as_deref(), Some("msix-loop"));
        let held = world.function.eventfd(Vector::new(1)).unwrap();
        world.mask(0, false); // at once, the first one
        world.mask(1, false); // waits
        held.write(1).unwrap();
        until(|| world.fake.delivered().iter().any(|message| message.data == 0x41));
        until(|| world.fake.armed() == 2);
        assert!(runner.is_running());
        runner.stop().unwrap();
    });
}

#[test]
fn a_runner_keeps_nothing_alive_and_ends_with_the_routes() {
    in_time(|| {
        let world = World::new(1, PATIENT);
        let runner = Runner::start(&world.routes, "msix", || Ok(())).unwrap();
        let World { routes, function, .. } = world;
        drop(function);
        let left = Arc::downgrade(&routes);
        drop(routes);
        until(|| left.upgrade().is_none());
        until(|| !runner.is_running());
        runner.stop().unwrap();
    });
}

#[test]
fn a_runner_that_is_dropped_has_ended_its_thread() {
    in_time(|| {
        let world = World::new(1, PATIENT);
        let alive = Arc::new(());
        let inside = Arc::clone(&alive);
        struct Ends(#[expect(dead_code, reason = "it is counted")] Arc<()>);
        thread_local!(static HERE: std::cell::RefCell<Option<Ends>> = const { std::cell::RefCell::new(None) });
        let runner = Runner::start(&world.routes, "msix", move || {
            HERE.set(Some(Ends(inside)));
            Ok(())
        })
        .unwrap();
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(runner);
        assert_eq!(Arc::strong_count(&alive), 1);
    });
}

#[test]
fn what_keeps_a_runner_from_starting_is_an_error() {
    in_time(|| {
        let world = World::new(1, PATIENT);
        let refused = || Err(io::Error::from(ErrorKind::PermissionDenied));
        let error = Runner::start(&world.routes, "msix", refused).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let error = Runner::start(&world.routes, "a\0b", || Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let start = || Runner::start(&world.routes, "msix", || panic!("a bug of the VMM"));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(start));
        assert!(panicked.is_err());
    });
}

/// Panics in the first call of it.
struct Panicky(Arc<AtomicUsize>);

/// A function of two live vectors with messages to memory, for a VMM that panics in the first of `calls`.
fn panicky(routes: &Arc<Routes>, calls: &Arc<AtomicUsize>) -> Function<Panicky> {
    let layout = Layout::exclusive_bar(2, BarIndex::new(0).unwrap()).unwrap();
    let setup = FunctionSetup { msix: Some(layout), ..on_x86(Panicky(Arc::clone(calls))) };
    let function = Function::new(routes, setup).unwrap();
    function.write_command(0, &[6, 0]);
    function.write_msix(3, &[0x80]);
    for vector in 0..2 {
        function.claim(Vector::new(vector)).unwrap();
        function.write_table(16 * u64::from(vector), &0x1000_u64.to_le_bytes());
        function.write_table(16 * u64::from(vector) + 12, &[0; 4]);
    }
    function
}

impl crate::kvm::Platform for Panicky {
    fn write_memory(&mut self, _: u64, _: u32) {
        let calls = self.0.fetch_add(1, Ordering::SeqCst);
        assert_ne!(calls, 0, "a bug of the VMM");
    }
    fn snoop(&mut self, _: crate::Route) {}
}

#[test]
fn a_panic_of_the_vmm_stops_no_runner_and_is_told_in_the_end() {
    in_time(|| {
        let world = World::new(1, PATIENT);
        let calls = Arc::new(AtomicUsize::new(0));
        let function = panicky(&world.routes, &calls);
        let held = function.eventfd(Vector::new(0)).unwrap();
        let runner = Runner::start(&world.routes, "msix", || Ok(())).unwrap();
        for call in 1..=3 {
            held.write(1).unwrap();
            until(|| calls.load(Ordering::SeqCst) == call);
        }
        let stop = std::panic::AssertUnwindSafe(|| runner.stop());
        assert!(std::panic::catch_unwind(stop).is_err());
    });
}

#[test]
fn a_panic_of_the_vmm_loses_no_event_that_the_loop_found_with_it() {
    let world = World::new(1, PATIENT);
    let calls = Arc::new(AtomicUsize::new(0));
    let function = panicky(&world.routes, &calls);
    for vector in 0..2 {
        function.eventfd(Vector::new(vector)).unwrap().write(1).unwrap();
    }
    let round = std::panic::AssertUnwindSafe(|| world.routes.run(Some(Duration::ZERO)));
    assert!(std::panic::catch_unwind(round).is_err(), "it goes on in the caller");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn a_panic_of_the_vmm_loses_no_flush_that_is_due_with_it() {
    let world = World::new(2, SOON);
    let function = panicky(&world.routes, &Arc::default());
    let held = function.eventfd(Vector::new(0)).unwrap();
    world.mask(0, false);
    world.mask(1, false);
    thread::sleep(Duration::from_millis(10));
    assert_eq!(world.fake.armed(), 1, "the other waits");
    held.write(1).unwrap();
    let round = std::panic::AssertUnwindSafe(|| world.routes.run(Some(Duration::ZERO)));
    assert!(std::panic::catch_unwind(round).is_err(), "it goes on in the caller");
    assert_eq!(world.fake.armed(), 2);
}

/// One who waits for a commit, and panics in the first flush.
struct Waiting(Arc<AtomicUsize>);

impl Waiter for Waiting {
    fn flush(&self) {
        assert_ne!(self.0.fetch_add(1, Ordering::SeqCst), 0, "a bug of the VMM");
    }
}

#[test]
fn a_panic_of_the_vmm_in_a_flush_keeps_no_other_function_from_its_own() {
    let world = World::new(1, PATIENT);
    let flushed = Arc::new(AtomicUsize::new(0));
    let all = [(); 3].map(|()| Arc::new(Waiting(Arc::clone(&flushed))));
    for waiting in &all {
        let id = world.routes.join(Arc::downgrade(waiting) as Weak<dyn Waiter>);
        world.routes.waits(id, Wait::Commit);
    }
    let flush = std::panic::AssertUnwindSafe(|| world.routes.flush());
    assert!(std::panic::catch_unwind(flush).is_err(), "it goes on in the caller");
    assert_eq!(flushed.load(Ordering::SeqCst), 3);
}

#[test]
fn a_loop_inside_another_becomes_readable_at_the_deadline_even_when_that_is_put_off() {
    in_time(|| {
        let deferral = Deferral {
            growth: 100,
            quiet: Duration::from_millis(30),
            longest: Duration::from_secs(3600),
        };
        let world = World::new(4, deferral);
        world.mask(0, false);
        world.mask(1, false); // waits
        thread::sleep(Duration::from_millis(15));
        world.mask(2, false); // puts it off
        let events = Arc::clone(world.routes.events());
        let mut rounds = 0;
        while world.fake.armed() < 3 {
            poll(&mut [PollFd::new(&*events, PollFlags::IN)], None).unwrap();
            world.routes.run(Some(Duration::ZERO)).unwrap();
            rounds += 1;
            assert!(rounds < 10, "it wakes up for a deadline, and does not spin");
        }
        assert_eq!(world.fake.count(|call| **call == VmCall::SetRoutes), 2);
        assert_eq!(world.routes.deadline(), None);
    });
}

#[test]
fn two_vms_in_one_loop_both_wake_up_in_time() {
    in_time(|| {
        let events = Loop::new().unwrap();
        let vm = |quiet| {
            let fake = FakeVm::new();
            let wait = Duration::from_millis(quiet);
            let deferral = Deferral { growth: 100, quiet: wait, longest: wait };
            let options = RouteOptions { deferral, ..RouteOptions::new(Irqchip::Full) };
            let routes = Routes::new(Box::new(fake.clone()), options, Arc::clone(&events));
            let layout = Layout::exclusive_bar(2, BarIndex::new(0).unwrap()).unwrap();
            let setup = FunctionSetup { msix: Some(layout), ..on_x86(Vmm::default()) };
            let function = start(Function::new(&routes, setup).unwrap());
            mask(&function, 0, false);
            program(&function, 1, 0x77);
            mask(&function, 1, false);
            (fake, routes, function)
        };
        let all = [vm(40), vm(20), vm(60)];
        while all.iter().any(|(fake, ..)| fake.armed() < 2) {
            poll(&mut [PollFd::new(&*events, PollFlags::IN)], None).unwrap();
            all.iter().for_each(|(_, routes, _)| routes.run(Some(Duration::ZERO)).unwrap());
        }
    });
}
