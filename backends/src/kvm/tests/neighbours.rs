//! What another holder of a vector's eventfd can do to the function: nothing that makes it wait (K14).

use super::{PATIENT, Vmm, World, mask, on_x86, start};
use crate::kvm::{Deferral, EventfdOrigin, Function, FunctionSetup};
use crate::testing::{in_time, make_blocking};
use msix_core::{Delivery, Vector};
use std::io::ErrorKind;
use std::sync::Arc;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EFD_SEMAPHORE, EventFd};

const V0: Vector = Vector::new(0);
const FULL: u64 = u64::MAX - 1;

/// What a function is asked to do.
type Act = fn(&World);

/// Everything that reads or writes the eventfd of vector 0.
const ACTS: [(&str, Act); 13] = [
    ("mask", |world| world.mask(0, true)),
    ("unmask", |world| world.mask(0, false)),
    ("read of the PBA", |world| _ = world.pba()),
    ("disable", |world| world.function.write_msix(3, &[0])),
    ("function mask", |world| world.function.write_msix(3, &[0xc0])),
    ("bus master off", |world| world.function.write_command(0, &[2, 0])),
    ("reset", |world| world.function.reset()),
    ("save", |world| _ = world.function.save()),
    ("detach", |world| world.function.detach()),
    ("unclaim", |world| world.function.unclaim_all()),
    ("notify", |world| _ = world.function.notify(V0)),
    ("half a message", |world| {
        world.function.write_table(8, &[7, 0, 0, 0]);
        world.function.write_table(0, &[0, 0]);
        world.pba();
    }),
    ("load", |world| {
        let saved = world.function.save();
        world.function.load(&saved).unwrap();
        world.pba();
        world.function.resume();
    }),
];

/// A function with an eventfd of vector 0 that `peer` holds, either made by the function or connected.
fn shared(limit: u32, connected: bool) -> (World, EventFd) {
    let mut world = World::with_limit(2, Deferral::NONE, limit);
    if !connected {
        let peer = world.function.eventfd(V0).unwrap().try_clone().unwrap();
        return (world, peer);
    }
    let layout = world.function.inspect(|engine| *engine.msix().unwrap().layout());
    let eventfds = EventfdOrigin::Connected;
    let setup = FunctionSetup { msix: Some(layout), eventfds, ..on_x86(Vmm::default()) };
    world.function = start(Function::new(&world.routes, setup).unwrap());
    let peer = EventFd::new(EFD_NONBLOCK).unwrap();
    world.function.connect(V0, peer.try_clone().unwrap()).unwrap();
    (world, peer)
}

#[test]
fn k14_no_act_waits_for_a_peer_whether_its_eventfd_is_empty_or_full() {
    for ((name, act), limit) in ACTS.iter().flat_map(|act| [(act, 4096), (act, 0)]) {
        for (connected, masked, full) in combinations() {
            println!("{name}, limit {limit}, connected {connected}, masked {masked}, full {full}");
            in_time(move || {
                let (world, peer) = shared(limit, connected);
                world.mask(0, masked);
                if full {
                    peer.write(FULL).unwrap();
                }
                make_blocking(&peer);
                act(&world);
                // The loop reads too, and dropping the function.
                let _ = world.delivered();
            });
        }
    }
}

fn combinations() -> impl Iterator<Item = (bool, bool, bool)> {
    (0..8).map(|bits| (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0))
}

#[test]
fn k14_the_way_past_the_lock_is_closed_once_others_hold_the_eventfd() {
    in_time(|| {
        let world = World::new(2, Deferral::NONE);
        world.mask(0, false);
        world.fire(0);
        assert_eq!((world.delivered(), world.routes.stats().signals), (vec![0x40], 0), "past it");
        let peer = world.function.eventfd(V0).unwrap();
        peer.write(FULL).unwrap();
        make_blocking(&peer);
        assert_eq!(world.function.notify(V0), Ok(Delivery::Sent));
        assert_eq!(world.routes.stats().signals, 1, "one call, as before");
        assert_eq!(world.delivered().len(), 2, "the peer's events, and this one");
    });
}

#[test]
fn k14_threads_that_notify_while_an_eventfd_is_handed_out_do_not_wait_for_who_gets_it() {
    in_time(|| {
        for _ in 0..50 {
            let world = Arc::new(World::new(1, Deferral::NONE));
            world.mask(0, false);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| (0..200).for_each(|_| world.fire(0)));
                }
                let peer = world.function.eventfd(V0).unwrap();
                world.mask(0, true); // KVM empties it no more
                let _ = peer.write(FULL);
                make_blocking(&peer);
            });
            assert_eq!(world.pba(), 1);
        }
    });
}

#[test]
fn an_eventfd_that_keeps_events_behind_is_refused() {
    let (world, _peer) = shared(4096, true);
    let semaphore = || EventFd::new(EFD_NONBLOCK | EFD_SEMAPHORE).unwrap();
    let refused = world.function.connect(Vector::new(1), semaphore()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
    let plain = EventFd::new(EFD_NONBLOCK).unwrap();
    world.function.connect(Vector::new(1), plain).unwrap();
}

#[test]
fn what_waits_for_a_commit_waits_for_no_peer() {
    in_time(|| {
        let world = World::new(2, PATIENT);
        world.mask(1, false);
        world.routes.flush();
        let peer = world.function.eventfd(V0).unwrap();
        make_blocking(&peer);
        world.mask(0, false); // its route waits: the loop reads it
        peer.write(1).unwrap();
        assert_eq!(world.delivered(), [0x40]);
        mask(&world.function, 0, true);
        assert_eq!(world.pba(), 0);
    });
}
