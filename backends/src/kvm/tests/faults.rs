//! Every system call fails in turn, once and for good, at every position of a history that uses them
//! all; and what runs out, runs out.

use super::{Bug, PATIENT, World, attempt, is_fallback, mask, program};
use crate::eventfd::Loop;
use crate::kvm::gsis::GsiAllocator;
use crate::kvm::{Deferral, FakeVm, GsiRange, Irqchip, RouteOptions, Routes, VmCall};
use msix_core::{Function as Engine, Vector};
use std::collections::BTreeMap;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// What a history was owed and got, by data.
#[derive(Debug, Default)]
struct Ledger {
    fired: BTreeMap<u32, usize>,
    got: BTreeMap<u32, usize>,
}

impl Ledger {
    fn take(&mut self, world: &World) {
        for data in world.delivered() {
            *self.got.entry(data).or_default() += 1;
        }
    }

    /// Fires, and gives whoever delivers the time to.
    fn fire(&mut self, world: &World, vector: u16, data: u32, outside: bool) {
        if outside {
            let write = |eventfd: Arc<EventFd>| eventfd.write(1).unwrap();
            attempt(|| write(world.function.eventfd(Vector::new(vector)).unwrap()));
        } else {
            attempt(|| world.fire(vector));
        }
        *self.fired.entry(data).or_default() += 1;
        self.take(world);
        attempt(|| world.routes.flush()); // the deadline comes: what failed once is tried again
        self.take(world);
    }
}

impl World {
    /// Whether nothing is owed, although a vector is masked.
    fn delivered_early(&self, ledger: &mut Ledger) -> bool {
        ledger.take(self);
        ledger.fired == ledger.got
    }
}

/// One event a step, each of which is delivered before the next of that vector.
fn history(world: &World) -> Ledger {
    let mut ledger = Ledger::default();
    for vector in 0..4 {
        attempt(|| world.mask(vector, false));
        ledger.fire(world, vector, 0x40 + u32::from(vector), vector == 3);
    }
    // Masked, fired, read, unmasked.
    for vector in [0, 3] {
        attempt(|| world.mask(vector, true));
        ledger.fire(world, vector, 0x40 + u32::from(vector), vector == 3);
        let pending = world.pba() & 1 << vector != 0;
        // Where KVM would not let go of the eventfd, it has delivered what others wrote to it.
        let stuck = vector == 3 && world.delivered_early(&mut ledger);
        assert_ne!(pending, stuck, "v{vector} is pending, or was delivered");
        attempt(|| world.mask(vector, false));
        attempt(|| world.routes.flush());
        ledger.take(world);
    }
    // Another affinity, with an event in between.
    attempt(|| world.mask(1, true));
    attempt(|| program(&world.function, 1, 0x61));
    ledger.fire(world, 1, 0x61, false);
    attempt(|| world.mask(1, false));
    ledger.take(world);
    ledger.fire(world, 1, 0x61, false);
    // A live rewrite.
    attempt(|| program(&world.function, 2, 0x62));
    ledger.fire(world, 2, 0x62, false);
    // The function masked, an event, unmasked.
    attempt(|| world.function.write_msix(3, &[0xc0]));
    ledger.fire(world, 2, 0x62, false);
    attempt(|| world.function.write_msix(3, &[0x80]));
    ledger.take(world);
    // Disabled, enabled.
    attempt(|| world.function.write_msix(3, &[0]));
    attempt(|| world.function.write_msix(3, &[0x80]));
    ledger.fire(world, 0, 0x40, false);
    ledger.fire(world, 3, 0x43, true);
    ledger
}

fn leaves_nothing(world: World, what: &str) {
    let World { fake, routes, function } = world;
    drop(function);
    assert_eq!((routes.stats().gsis, fake.armed()), (0, 0), "{what}");
}

#[test]
fn every_call_may_fail_once_at_every_position() {
    for deferral in [Deferral::NONE, PATIENT] {
        let world = World::new(4, deferral);
        let ledger = history(&world);
        assert_eq!(ledger.fired, ledger.got);
        let calls = world.fake.calls();
        assert!(calls.len() > 20);
        leaves_nothing(world, "no failure");
        for (position, call) in calls.iter().enumerate() {
            let what = format!("call {position}, {call:?}, {deferral:?}");
            let world = World::new(4, deferral);
            world.fake.fail(move |number, _| number == position);
            let ledger = history(&world);
            assert!(world.function.inspect(Engine::check), "{what}");
            assert_eq!(ledger.fired, ledger.got, "{what}");
            leaves_nothing(world, &what);
        }
    }
}

#[test]
fn every_call_may_panic_once_at_every_position() {
    for deferral in [Deferral::NONE, PATIENT] {
        let world = World::new(4, deferral);
        history(&world);
        for (position, call) in world.fake.calls().into_iter().enumerate() {
            let what = format!("call {position}, {call:?}, {deferral:?}");
            let world = World::new(4, deferral);
            let bug = Bug::default();
            let its = bug.clone();
            world.fake.fail(move |number, _| number == position && its.panic());
            let ledger = history(&world);
            assert!(world.function.inspect(Engine::check), "{what}");
            assert_eq!(ledger.fired, ledger.got, "{what}");
            assert_eq!(bug.reached(), 1, "{what}: it goes on in the caller");
            leaves_nothing(world, &what);
        }
    }
}

/// An allocator of GSIs that panics in one of its calls.
struct BuggyAllocator {
    gsis: Box<dyn GsiAllocator>,
    until: usize,
    bug: Bug,
}

impl BuggyAllocator {
    fn call(&mut self) {
        self.until = self.until.wrapping_sub(1);
        if self.until == usize::MAX {
            self.bug.panic();
        }
    }
}

impl GsiAllocator for BuggyAllocator {
    fn allocate(&mut self) -> Option<u32> {
        self.call();
        self.gsis.allocate()
    }
    fn free(&mut self, gsi: u32) {
        self.gsis.free(gsi);
        self.call();
    }
}

#[test]
fn an_allocator_that_panics_once_costs_neither_an_event_nor_a_gsi() {
    for deferral in [Deferral::NONE, PATIENT] {
        for position in 0..8 {
            let bug = Bug::default();
            let gsis = Box::new(GsiRange::default().allocator());
            let gsis = BuggyAllocator { gsis, until: position, bug: bug.clone() };
            let fake = FakeVm::new();
            let options = RouteOptions { deferral, ..RouteOptions::new(Irqchip::Full) };
            let vm = Box::new(fake.clone());
            let routes = Routes::with_gsis(vm, options, Loop::new().unwrap(), Box::new(gsis));
            let function = World::add(&routes, 4);
            let world = World { fake, routes, function };
            // All of them come up together.
            world.function.write_msix(3, &[0xc0]);
            let eventfd = |vector| world.function.eventfd(Vector::new(vector)).unwrap();
            let eventfds = [0, 1, 2, 3].map(eventfd);
            (0..4).for_each(|vector| world.mask(vector, false));
            attempt(|| world.function.write_msix(3, &[0x80]));
            for eventfd in &eventfds {
                eventfd.write(1).unwrap();
            }
            let mut delivered = world.delivered();
            delivered.sort_unstable();
            assert_eq!(delivered, [0x40, 0x41, 0x42, 0x43], "call {position}, {deferral:?}");
            let World { fake, routes, function } = world;
            attempt(|| drop(function));
            assert_eq!((routes.stats().gsis, fake.armed()), (0, 0), "call {position}");
            assert_eq!(bug.reached(), 1);
        }
    }
}

#[test]
fn without_routes_or_irqfds_everything_goes_through_userspace() {
    type Broken = fn(VmCall) -> bool;
    let broken: [Broken; 3] = [
        |call| call == VmCall::SetRoutes,
        |call| matches!(call, VmCall::Assign(_)),
        |call| matches!(call, VmCall::SetRoutes | VmCall::Assign(_)),
    ];
    for (number, broken) in broken.into_iter().enumerate() {
        for deferral in [Deferral::NONE, PATIENT] {
            let world = World::new(4, deferral);
            world.fake.fail(move |_, call| broken(call));
            let ledger = history(&world);
            assert_eq!(ledger.fired, ledger.got, "{number} {deferral:?}");
            world.fake.heal();
            world.mask(0, true);
            world.mask(0, false);
            world.routes.flush();
            assert_eq!(world.fake.armed(), 1, "C39: tried again at the next unmask");
            leaves_nothing(world, "broken");
        }
    }
}

#[test]
fn what_cannot_be_sent_is_sent_later_or_shown_as_pending() {
    let world = World::new(1, PATIENT);
    world.fake.fail(|_, call| call != VmCall::SetRoutes);
    world.mask(0, false);
    world.fire(0);
    assert!(world.delivered().is_empty());
    assert!(world.routes.deadline().is_some(), "it is tried again");
    world.fake.heal();
    world.routes.flush();
    assert_eq!(world.delivered(), [0x40]);

    world.fake.fail(|_, call| matches!(call, VmCall::Signal(_)));
    world.fire(0);
    world.mask(0, true);
    world.fake.heal();
    world.routes.flush();
    assert_eq!((world.delivered(), world.pba()), (vec![], 1), "it is masked by now");
    world.mask(0, false);
    assert_eq!(world.delivered(), [0x40]);
}

#[test]
fn c2_c39_a_vector_too_many_falls_back_alone() {
    // 40 pins and one vector.
    let world = World::with_limit(2, Deferral::NONE, 41);
    world.mask(0, false);
    world.mask(1, false);
    assert!(is_fallback(&world.function, 1));
    for vector in [0, 1] {
        world.fire(vector);
        assert_eq!(world.delivered(), [0x40 + u32::from(vector)]);
    }
    assert_eq!(world.fake.armed(), 1);
    // Another function goes; at its next unmask the vector finds a route.
    let other = World::add(&world.routes, 1);
    world.function.detach();
    mask(&other, 0, false);
    assert_eq!(world.fake.armed(), 1);
    drop(other);
    world.function.attach();
    assert_eq!(world.fake.armed(), 1);
    leaves_nothing(world, "limit");
}
