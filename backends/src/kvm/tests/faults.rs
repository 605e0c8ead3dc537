//! Every system call fails in turn, once and for good, at every position of a history that uses them
//! all; and what runs out, runs out.

use super::{PATIENT, World, is_fallback, mask, program};
use crate::kvm::{Deferral, VmCall};
use msix_core::{Function as Engine, Vector};
use std::collections::BTreeMap;

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
            world.function.eventfd(Vector::new(vector)).unwrap().write(1).unwrap();
        } else {
            world.fire(vector);
        }
        *self.fired.entry(data).or_default() += 1;
        self.take(world);
        world.routes.flush(); // the deadline comes: what failed once is tried again
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
        world.mask(vector, false);
        ledger.fire(world, vector, 0x40 + u32::from(vector), vector == 3);
    }
    // Masked, fired, read, unmasked.
    for vector in [0, 3] {
        world.mask(vector, true);
        ledger.fire(world, vector, 0x40 + u32::from(vector), vector == 3);
        let pending = world.pba() & 1 << vector != 0;
        // Where KVM would not let go of the eventfd, it has delivered what others wrote to it.
        let stuck = vector == 3 && world.delivered_early(&mut ledger);
        assert_ne!(pending, stuck, "v{vector} is pending, or was delivered");
        world.mask(vector, false);
        world.routes.flush();
        ledger.take(world);
    }
    // Another affinity, with an event in between.
    world.mask(1, true);
    program(&world.function, 1, 0x61);
    ledger.fire(world, 1, 0x61, false);
    world.mask(1, false);
    ledger.take(world);
    ledger.fire(world, 1, 0x61, false);
    // A live rewrite.
    program(&world.function, 2, 0x62);
    ledger.fire(world, 2, 0x62, false);
    // The function masked, an event, unmasked.
    world.function.write_msix(3, &[0xc0]);
    ledger.fire(world, 2, 0x62, false);
    world.function.write_msix(3, &[0x80]);
    ledger.take(world);
    // Disabled, enabled.
    world.function.write_msix(3, &[0]);
    world.function.write_msix(3, &[0x80]);
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
