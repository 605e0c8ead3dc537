//! Eventfds that others write stay in the loop, and what they hold is found all the same.

use super::{PATIENT, Vmm, World, delivered, mask, program};
use crate::eventfd::EventSource;
use crate::kvm::Function;
use msix_core::Vector;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// The routes of the first 8 are committed when all are unmasked, and the others wait.
const VECTORS: u16 = 60;

/// Hands the eventfds of all vectors out.
fn hand_out(world: &World) -> Vec<Arc<EventFd>> {
    (0..VECTORS).map(|v| world.function.eventfd(Vector::new(v)).unwrap()).collect()
}

/// Returns the number of calls of epoll_ctl so far.
fn changes(world: &World) -> usize {
    world.routes.events().changes.load(Ordering::Relaxed)
}

/// Runs the loop without waiting. Returns how many eventfds it found readable.
fn found(world: &World) -> usize {
    world.routes.events().run(Some(Duration::ZERO)).unwrap()
}

fn mask_all(world: &World, masked: bool) {
    (0..VECTORS).for_each(|vector| world.mask(vector, masked));
}

#[test]
fn an_eventfd_enters_the_loop_when_it_is_handed_out_and_stays() {
    let world = World::new(VECTORS, PATIENT);
    let eventfds = hand_out(&world);
    assert_eq!(changes(&world), 60);
    for _ in 0..2 {
        mask_all(&world, false);
        world.routes.flush();
        assert_eq!(world.fake.armed(), 60);
        mask_all(&world, true);
    }
    drop(hand_out(&world));
    assert_eq!(changes(&world), 60, "one epoll_ctl for each eventfd, and no more");
    let World { routes, function, .. } = world;
    drop(function);
    assert_eq!(routes.events().changes.load(Ordering::Relaxed), 120, "and one at the end");
    eventfds[0].write(1).unwrap();
    assert_eq!(routes.events().run(Some(Duration::ZERO)).unwrap(), 0);
}

#[test]
fn an_event_from_before_the_unmask_is_delivered_once_though_the_route_waits() {
    let world = World::new(VECTORS, PATIENT);
    let eventfds = hand_out(&world);
    mask_all(&world, false);
    mask_all(&world, true);
    // The loop has still to find this one.
    eventfds[59].write(1).unwrap();
    world.mask(59, false);
    assert_eq!(world.delivered(), [0x7b]);
    // One that it found while it was masked is out of the loop, which has it back at the unmask.
    eventfds[58].write(1).unwrap();
    assert!(world.delivered().is_empty());
    world.mask(58, false);
    assert_eq!(world.delivered(), [0x7a]);
    assert!(world.delivered().is_empty(), "once");
    let counters = world.function.vector_counters();
    assert_eq!((counters[58].taken, counters[59].taken), (1, 1));
}

/// Another device of the loop, in whose event the guest writes Vector Control.
struct Meanwhile(Function<Vmm>, &'static [bool]);

impl EventSource for Meanwhile {
    fn readable(&self, vector: Vector) {
        self.1.iter().for_each(|masked| mask(&self.0, vector.index(), *masked));
    }
}

#[test]
fn an_event_that_the_loop_found_is_not_lost_when_the_guest_comes_before_it_is_read() {
    // The loop finds both in one round, and this is what happens between it and the second one.
    for (meanwhile, at_once) in [(&[false][..], true), (&[false, true][..], false)] {
        let world = World::new(VECTORS, PATIENT);
        let eventfds = hand_out(&world);
        mask_all(&world, false);
        mask_all(&world, true);
        let other = Arc::new(Meanwhile(world.function.clone(), meanwhile));
        let events = world.routes.events();
        let id = events.join(Arc::downgrade(&other) as Weak<dyn EventSource>);
        let before = EventFd::new(EFD_NONBLOCK).unwrap();
        events.watch(id, Vector::new(40), &before).unwrap();
        before.write(1).unwrap();
        eventfds[40].write(1).unwrap();
        assert_eq!(found(&world), 2);
        let expected: &[u32] = if at_once { &[0x68] } else { &[] };
        assert_eq!(delivered(&world.fake), expected, "{meanwhile:?}");
        assert_eq!(world.pba(), if at_once { 0 } else { 1 << 40 });
        world.mask(40, false);
        assert_eq!(world.delivered().len(), usize::from(!at_once), "{meanwhile:?}");
    }
}

#[test]
fn an_eventfd_is_not_read_between_a_load_and_its_resume_and_wakes_the_loop_once() {
    let world = World::new(VECTORS, PATIENT);
    let eventfds = hand_out(&world);
    mask_all(&world, false);
    world.function.load(&world.function.save()).unwrap();
    eventfds[59].write(1).unwrap();
    assert_eq!(found(&world), 1);
    eventfds[59].write(1).unwrap();
    assert_eq!(found(&world), 0);
    assert_eq!(eventfds[59].read().unwrap(), 2, "both are in it");
    eventfds[59].write(1).unwrap();
    world.function.resume();
    assert_eq!(world.delivered(), [0x7b]);
}

#[test]
fn a_writer_that_goes_on_while_the_function_is_detached_wakes_the_loop_once() {
    let world = World::new(VECTORS, PATIENT);
    let eventfds = hand_out(&world);
    mask_all(&world, false);
    world.function.detach();
    eventfds[59].write(1).unwrap();
    assert_eq!(found(&world), 1);
    for _ in 0..3 {
        eventfds[59].write(1).unwrap();
        assert_eq!(found(&world), 0);
    }
    world.function.attach();
    assert_eq!(world.delivered(), [0x7b]);
}

/// The fake KVM takes an event after epoll has seen it, as a kernel would where KVM does not come first.
#[test]
fn where_the_loop_hears_of_what_is_kvms_it_lets_go_and_takes_none() {
    let world = World::new(VECTORS, PATIENT);
    let eventfds = hand_out(&world);
    mask_all(&world, false);
    world.routes.flush();
    assert_eq!(world.fake.armed(), 60);
    for rounds in 1..4 {
        eventfds[5].write(1).unwrap();
        assert_eq!(found(&world), 1);
        assert_eq!(changes(&world), 59 + 2 * rounds, "out of the loop");
        assert_eq!(delivered(&world.fake), [0x45], "by KVM");
        eventfds[5].write(1).unwrap();
        assert_eq!((found(&world), delivered(&world.fake)), (0, vec![0x45]));
        drop(hand_out(&world)); // into it again
    }
    // And once more, for a vector that waits afterwards: it is in the loop again then.
    eventfds[5].write(1).unwrap();
    assert_eq!(world.delivered(), [0x45]);
    world.mask(5, true);
    program(&world.function, 5, 0x99);
    world.mask(5, false);
    eventfds[5].write(1).unwrap();
    assert_eq!(world.delivered(), [0x99]);
    assert_eq!(world.function.vector_counters()[5].taken, 1, "the last one, and no other");
}

#[test]
fn a_writer_that_goes_on_while_its_vector_is_masked_wakes_the_loop_once() {
    let world = World::new(VECTORS, PATIENT);
    let eventfds = hand_out(&world);
    for rounds in 1..4 {
        eventfds[5].write(1).unwrap();
        assert_eq!(found(&world), 1);
        for _ in 0..3 {
            eventfds[5].write(1).unwrap();
            assert_eq!(found(&world), 0);
        }
        assert_eq!(world.pba(), 1 << 5, "K8: the eventfd holds it");
        world.mask(5, false);
        assert_eq!(delivered(&world.fake), [0x45]);
        assert_eq!(changes(&world), 59 + 2 * rounds, "out of the loop");
        world.routes.flush();
        world.mask(5, true);
        drop(hand_out(&world)); // into it again
    }
}

#[test]
fn an_event_of_a_vector_that_waits_reaches_the_loop_at_any_time() {
    let world = World::new(VECTORS, PATIENT);
    let eventfds = hand_out(&world);
    mask_all(&world, false);
    assert_eq!(world.fake.armed(), 8);
    for round in 0..3 {
        for vector in [20, 40, 59] {
            eventfds[vector].write(1).unwrap();
        }
        let mut all = world.delivered();
        all.sort_unstable();
        assert_eq!(all, [0x54, 0x68, 0x7b], "round {round}");
    }
    world.routes.flush();
    eventfds[20].write(1).unwrap();
    assert_eq!(world.delivered(), [0x54], "now by KVM");
}
