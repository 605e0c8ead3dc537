//! Many functions that come up together, and a VM that goes.

use super::{Vmm, World, delivered, mask, program};
use crate::eventfd::Loop;
use crate::kvm::deferral::Wait;
use crate::kvm::waiters::Waiter;
use crate::kvm::{Deferral, FakeVm, Function, Irqchip, RouteOptions, Routes, VmCall};
use msix_core::Vector;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

const FUNCTIONS: usize = 6;
const VECTORS: u16 = 8;

fn routes(deferral: Deferral) -> (FakeVm, Arc<Routes>) {
    let fake = FakeVm::new();
    let options = RouteOptions { deferral, ..RouteOptions::new(Irqchip::Full) };
    let routes = Routes::new(Box::new(fake.clone()), options, Loop::new().unwrap());
    (fake, routes)
}

/// Functions that were loaded with all vectors unmasked, before their resume.
fn loaded(routes: &Arc<Routes>) -> Vec<Function<Vmm>> {
    let saved = {
        let (_fake, elsewhere) = routes_of_another_vm();
        let function = World::add(&elsewhere, VECTORS);
        (0..VECTORS).for_each(|vector| mask(&function, vector, false));
        function.save()
    };
    let load = |_| {
        let function = World::add(routes, VECTORS);
        function.load(&saved).unwrap();
        function
    };
    (0..FUNCTIONS).map(load).collect()
}

fn commits_of(fake: &FakeVm) -> usize {
    fake.count(|call| **call == VmCall::SetRoutes)
}

fn routes_of_another_vm() -> (FakeVm, Arc<Routes>) {
    routes(Deferral::NONE)
}

fn fire_all(functions: &[Function<Vmm>]) {
    for function in functions {
        (0..VECTORS).for_each(|vector| _ = function.notify(Vector::new(vector)).unwrap());
    }
}

#[test]
fn a_restore_of_many_functions_takes_one_commit() {
    let all = FUNCTIONS * usize::from(VECTORS);
    for (holds, commits) in [(false, FUNCTIONS), (true, 1)] {
        let (fake, routes) = routes(Deferral::default());
        let functions = loaded(&routes);
        let hold = holds.then(|| routes.hold());
        functions.iter().for_each(Function::resume);
        fire_all(&functions);
        assert_eq!(fake.delivered().len(), all, "no event waits for the commit");
        drop(hold);
        assert_eq!((commits_of(&fake), fake.armed()), (commits, all), "held: {holds}");
        fire_all(&functions);
        assert_eq!(fake.delivered().len(), all);
        assert_eq!(routes.deadline(), None);
    }
}

#[test]
fn functions_that_are_plugged_in_together_take_one_commit_when_the_last_hold_ends() {
    let (fake, routes) = routes(Deferral::NONE);
    let (outer, inner) = (routes.hold(), routes.hold());
    let functions: Vec<_> = (0..FUNCTIONS).map(|_| World::add(&routes, VECTORS)).collect();
    for function in &functions {
        (0..VECTORS).for_each(|vector| mask(function, vector, false));
    }
    drop(inner);
    // What is due meanwhile does not end the hold.
    routes.flush();
    functions[0].flush();
    routes.run(Some(Duration::ZERO)).unwrap();
    assert_eq!((commits_of(&fake), fake.armed()), (0, 0));
    drop(outer);
    assert_eq!((commits_of(&fake), fake.armed()), (1, FUNCTIONS * usize::from(VECTORS)));
    mask(&functions[0], 0, true);
    let late = World::add(&routes, 1);
    mask(&late, 0, false);
    assert_eq!(commits_of(&fake), 2, "as ever, after the hold");
}

#[test]
fn h4_a_live_message_is_replaced_at_once_while_commits_are_held() {
    let (fake, routes) = routes(Deferral::NONE);
    let function = World::add(&routes, 1);
    mask(&function, 0, false);
    let _hold = routes.hold();
    program(&function, 0, 0x99);
    function.notify(Vector::new(0)).unwrap();
    assert_eq!(delivered(&fake), [0x99]);
}

#[test]
fn a_hold_with_a_commit_that_kvm_refuses_leaves_the_vectors_to_userspace() {
    let (fake, routes) = routes(Deferral::NONE);
    let functions = loaded(&routes);
    let hold = routes.hold();
    functions.iter().for_each(Function::resume);
    fake.fail(|_, call| call == VmCall::SetRoutes);
    drop(hold);
    assert_eq!(fake.armed(), 0);
    fire_all(&functions);
    assert_eq!(fake.delivered().len(), FUNCTIONS * usize::from(VECTORS));
}

#[test]
fn a_dying_vm_goes_without_a_call_for_each_vector() {
    let (fake, routes) = routes(Deferral::NONE);
    let functions = loaded(&routes);
    functions.iter().for_each(Function::resume);
    let calls = fake.calls().len();
    routes.close();
    let stats = routes.stats();
    mask(&functions[0], 0, true);
    mask(&functions[0], 0, false);
    functions[1].notify(Vector::new(0)).unwrap();
    functions[2].reset();
    routes.flush();
    drop(functions);
    assert_eq!(fake.calls().len(), calls);
    assert_eq!((routes.stats().gsis, routes.joined()), (0, 0));
    assert_eq!(
        (routes.stats().failures, routes.stats().deassigns),
        (stats.failures, stats.deassigns)
    );
}

#[derive(Default)]
struct CountedFlushes(AtomicUsize);

impl Waiter for CountedFlushes {
    fn flush(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_flush_looks_at_none_that_does_not_wait_and_whoever_says_so_late_gets_a_deadline() {
    let (_fake, routes) = routes(Deferral::default());
    let functions: Vec<Arc<CountedFlushes>> = (0..100).map(|_| Arc::default()).collect();
    let ids: Vec<u64> = functions
        .iter()
        .map(|function| routes.join(Arc::downgrade(function) as Weak<dyn Waiter>))
        .collect();
    let flushed = || -> Vec<usize> {
        functions.iter().map(|function| function.0.swap(0, Ordering::Relaxed)).collect()
    };
    let only = |one: usize| -> Vec<usize> { (0..100).map(|n| usize::from(n == one)).collect() };
    routes.flush();
    assert_eq!((flushed().iter().sum::<usize>(), routes.deadline()), (0, None));
    // Between what waits and its note, the flush above may have taken the deadline away.
    routes.waits(ids[7], Wait::Commit);
    assert!(routes.deadline().is_some());
    routes.flush();
    assert_eq!((flushed(), routes.deadline()), (only(7), None));
    let hold = routes.hold();
    routes.waits(ids[9], Wait::Commit);
    assert_eq!(routes.deadline(), None, "the end of the hold flushes");
    drop(hold);
    assert_eq!(flushed(), only(9));
    routes.waits(ids[3], Wait::Commit);
    routes.leave(ids[3]);
    routes.waits(ids[3], Wait::Commit);
    routes.flush();
    assert_eq!(flushed().iter().sum::<usize>(), 0, "it is gone");
}

#[test]
fn what_waits_again_after_a_flush_is_armed_by_the_next_one() {
    let (fake, routes) = routes(super::PATIENT);
    let function = World::add(&routes, 2);
    mask(&function, 0, false);
    for data in [0x51, 0x52, 0x53] {
        mask(&function, 1, true);
        program(&function, 1, data);
        mask(&function, 1, false);
        assert_eq!(fake.armed(), 1, "{data:#x} waits");
        routes.flush();
        assert_eq!(fake.armed(), 2, "{data:#x} is armed");
    }
}
