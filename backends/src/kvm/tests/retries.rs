//! What was refused is tried again at a pace that no guest sets, however soon routes are committed.

use super::{PATIENT, World};
use crate::eventfd::Loop;
use crate::kvm::{Deferral, FakeVm, Irqchip, RouteOptions, Routes, VmCall};
use crate::testing::in_time;
use msix_core::Vector;
use rustix::event::{PollFd, PollFlags, poll};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(3600);

fn world(deferral: Deferral, retry: Duration) -> World {
    let fake = FakeVm::new();
    let options = RouteOptions { deferral, retry, ..RouteOptions::new(Irqchip::Full) };
    let routes = Routes::new(Box::new(fake.clone()), options, Loop::new().unwrap());
    let function = World::add(&routes, 2);
    World { fake, routes, function }
}

/// What is refused from now on, and tried once; the calls of the VM in each attempt; and the end of that.
struct Refused {
    what: &'static str,
    begin: fn(&World),
    calls: usize,
    end: fn(&World),
}

const REFUSED: &[Refused] = &[
    Refused {
        what: "a message",
        begin: |world| {
            world.fake.fail(|_, call| !matches!(call, VmCall::Deassign(_)));
            world.mask(0, false);
            world.fire(0);
        },
        calls: 1,
        end: |world| world.fake.heal(),
    },
    Refused {
        what: "a deassign",
        begin: |world| {
            world.mask(0, false);
            world.routes.flush();
            world.fake.fail(|_, call| matches!(call, VmCall::Deassign(_)));
            world.mask(0, true);
        },
        calls: 1,
        end: |world| world.fake.heal(),
    },
    Refused {
        what: "a place in the loop",
        begin: |world| {
            let eventfd = world.function.eventfd(Vector::new(0)).unwrap();
            // The loop finds it in vain and lets go of it.
            eventfd.write(1).unwrap();
            world.routes.run(Some(Duration::ZERO)).unwrap();
            eventfd.read().unwrap();
            // It has a place now, and epoll gives it no second one.
            world.routes.events().watch(0xffff, Vector::new(0), &*eventfd).unwrap();
            world.fake.fail(|_, call| matches!(call, VmCall::Assign(_)));
            world.mask(0, false);
            world.routes.flush();
        },
        calls: 0, // of the loop instead
        end: |world| {
            let eventfd = world.function.eventfd(Vector::new(0)).unwrap();
            world.routes.events().unwatch(&*eventfd).unwrap();
        },
    },
];

#[test]
fn what_is_refused_each_time_does_not_keep_the_loop_busy() {
    for deferral in [Deferral::NONE, PATIENT] {
        for refused in REFUSED {
            let what = format!("{}, {deferral:?}", refused.what);
            let world = world(deferral, PAUSE);
            let mut begun = Instant::now();
            (refused.begin)(&world);
            for _ in 0..3 {
                let calls = world.fake.calls().len();
                // As a runner does: each round flushes if that is due.
                (0..50).for_each(|_| world.routes.run(Some(Duration::ZERO)).unwrap());
                assert_eq!(world.fake.calls().len(), calls, "{what}");
                let deadline = world.routes.deadline();
                assert!(deadline.is_some_and(|at| at >= begun + PAUSE), "{what}: {deadline:?}");
                begun = Instant::now();
                world.routes.flush();
                assert_eq!(world.fake.calls().len(), calls + refused.calls, "{what}");
            }
            (refused.end)(&world);
            world.routes.flush();
            assert_eq!(world.routes.deadline(), None, "{what}: nothing waits");
        }
    }
}

#[test]
fn a_route_is_committed_at_once_while_something_is_refused() {
    let world = world(Deferral::NONE, PAUSE);
    world.mask(0, false);
    world.mask(1, false);
    world.fake.fail(|_, call| call == VmCall::Deassign(24));
    world.mask(0, true); // refused
    // In two writes, and back: KVM may have it again.
    world.function.write_table(16, &0xfee0_1000_u32.to_le_bytes());
    world.function.write_table(16, &0xfee0_0000_u32.to_le_bytes());
    assert!(world.routes.deadline().is_some_and(|at| at <= Instant::now()));
    world.routes.run(Some(Duration::ZERO)).unwrap();
    assert_eq!(world.fake.armed(), 2, "what was not let go of, and the other vector");
}

#[test]
fn no_pause_is_too_short() {
    let world = world(Deferral::NONE, Duration::ZERO);
    let before = Instant::now();
    (REFUSED[0].begin)(&world);
    let deadline = world.routes.deadline();
    assert!(deadline.is_some_and(|at| at >= before + Duration::from_millis(1)), "{deadline:?}");
}

#[test]
fn the_loop_wakes_up_for_the_sooner_of_a_route_and_what_was_refused_whichever_came_first() {
    in_time(|| {
        let soon = Duration::from_millis(20);
        let is_armed_again = |world: &World| world.fake.armed() == 2;
        let is_let_go = |world: &World| world.fake.count(|c| **c == VmCall::Deassign(24)) == 2;
        let until = |world: &World, is_done: fn(&World) -> bool| {
            while !is_done(world) {
                poll(&mut [PollFd::new(&**world.routes.events(), PollFlags::IN)], None).unwrap();
                world.routes.run(Some(Duration::ZERO)).unwrap();
            }
        };
        let refuse = |world: &World| {
            world.fake.fail(|_, call| call == VmCall::Deassign(24));
            world.mask(0, true);
        };

        let sooner = world(Deferral { growth: 100, quiet: soon, longest: PAUSE }, PAUSE);
        sooner.mask(0, false);
        refuse(&sooner);
        sooner.mask(1, false); // waits
        until(&sooner, is_armed_again);

        let later = world(PATIENT, soon);
        later.mask(0, false);
        later.mask(1, false); // waits
        refuse(&later);
        until(&later, is_let_go);
    });
}
