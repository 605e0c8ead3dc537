//! What is asked of the kernel, and when.

use super::{PATIENT, Vmm, World, is_fallback, mask, on_x86, program, start};
use crate::eventfd::Loop;
use crate::kvm::{
    Deferral, FakeVm, Function, FunctionSetup, Irqchip, RouteEntry, RouteOptions, Routes,
    RoutesError, VmCall,
};
use msix_core::{
    Access, BarIndex, Delivery, DropReason, Layout, Mode, Policy, Vector, VectorError,
};
use std::os::fd::AsRawFd;

#[test]
fn c6_c29_an_unmasked_vector_is_routed_then_armed_once() {
    let world = World::new(2, Deferral::NONE);
    assert_eq!(world.fake.calls(), [], "C29: nothing while masked");
    world.mask(0, false);
    assert_eq!(world.fake.calls(), [VmCall::SetRoutes, VmCall::Assign(24)]);
    world.mask(0, false);
    world.fire(0);
    assert_eq!(world.delivered(), [0x40]);
    world.mask(0, true);
    world.mask(0, false);
    let calls = [VmCall::SetRoutes, VmCall::Assign(24), VmCall::Deassign(24), VmCall::Assign(24)];
    assert_eq!(world.fake.calls(), calls, "C34: no commit without a new message");
}

#[test]
fn the_capability_points_where_the_vmm_says() {
    let world = World::new(2, Deferral::NONE);
    world.function.set_next_capability(Mode::MsiX, 0x62);
    let mut head = [0; 2];
    world.function.read_msix(0, &mut head);
    assert_eq!(head, [0x11, 0x60], "bits 1:0 are reserved");
}

#[test]
fn c34_a_change_of_affinity_is_one_commit_and_none_back_to_back_with_the_same_message() {
    let world = World::new(2, Deferral::NONE);
    world.mask(0, false);
    let move_to = |data| {
        world.mask(0, true);
        program(&world.function, 0, data);
        world.mask(0, false);
    };
    move_to(0x99);
    assert_eq!(world.routes.stats().commits, 2);
    move_to(0x99);
    assert_eq!(world.routes.stats().commits, 2);
    world.fire(0);
    assert_eq!(world.delivered(), [0x99]);
}

#[test]
fn c35_c42_an_event_in_the_eventfd_of_a_masked_vector_is_seen_saved_and_delivered_once() {
    let world = World::new(2, Deferral::NONE);
    let eventfd = world.function.eventfd(Vector::new(0)).unwrap();
    world.mask(0, false);
    world.mask(0, true);
    eventfd.write(1).unwrap();
    assert!(world.delivered().is_empty(), "K8: it stays in the eventfd");
    assert_eq!(world.pba(), 1);
    world.mask(0, false);
    assert_eq!((world.delivered(), world.pba()), (vec![0x40], 0));

    world.mask(0, true);
    eventfd.write(3).unwrap();
    let saved = world.function.save();
    let other = World::new(2, Deferral::NONE);
    other.function.load(&saved).unwrap();
    other.function.resume();
    assert_eq!((other.pba(), other.delivered()), (1, vec![]));
    mask(&other.function, 0, false);
    assert_eq!(other.delivered(), [0x40]);
}

#[test]
fn c7_an_eventfd_that_was_written_before_it_is_armed_is_delivered_once() {
    for deferral in [Deferral::NONE, PATIENT] {
        let world = World::new(4, deferral);
        world.mask(3, false); // so that vector 0 has to wait, if waiting is allowed
        let eventfd = world.function.eventfd(Vector::new(0)).unwrap();
        eventfd.write(1).unwrap();
        world.mask(0, false);
        assert_eq!(world.delivered(), [0x40], "{deferral:?}");
        world.routes.flush();
        assert!(world.delivered().is_empty());
        eventfd.write(1).unwrap();
        assert_eq!(world.delivered(), [0x40]);
    }
}

#[test]
fn bringing_up_vectors_one_by_one_takes_a_logarithm_of_commits_and_loses_nothing() {
    let world = World::new(2048, PATIENT);
    let outside = world.function.eventfd(Vector::new(2000)).unwrap();
    for vector in 0..2048 {
        world.mask(vector, false);
        world.fire(vector);
        assert_eq!(world.delivered(), [0x40 + u32::from(vector)]);
    }
    assert_eq!(world.routes.stats().commits, 4, "at 1, 8, 64 and 512");
    outside.write(1).unwrap();
    assert_eq!(world.delivered(), [0x40 + 2000], "from userspace");
    assert!(world.routes.deadline().is_some());
    world.routes.flush();
    assert_eq!((world.routes.stats().commits, world.fake.armed()), (5, 2048));
    assert_eq!(world.routes.deadline(), None);
    outside.write(1).unwrap();
    world.fire(2001);
    assert_eq!(world.delivered(), [0x40 + 2000, 0x40 + 2001]);
}

#[test]
fn c38_a_function_mask_of_many_live_vectors_takes_no_commit_and_its_first_unmask_one() {
    let world = World::new(200, PATIENT);
    world.function.write_msix(3, &[0xc0]);
    (0..200).for_each(|vector| world.mask(vector, false));
    world.function.write_msix(3, &[0x80]);
    assert_eq!((world.routes.stats().commits, world.fake.armed()), (1, 200));
    for _ in 0..3 {
        world.function.write_msix(3, &[0xc0]);
        assert_eq!(world.fake.armed(), 0);
        (0..200).for_each(|vector| world.fire(vector));
        assert!(world.delivered().is_empty());
        world.function.write_msix(3, &[0x80]);
        assert_eq!(world.delivered().len(), 200);
    }
    assert_eq!(world.routes.stats().commits, 1);
}

#[test]
fn a_resumed_snapshot_takes_one_commit() {
    let world = World::new(100, Deferral::NONE);
    (0..100).for_each(|vector| world.mask(vector, false));
    let saved = world.function.save();
    let other = World::new(100, Deferral::NONE);
    other.function.load(&saved).unwrap();
    assert_eq!(other.fake.calls(), []);
    other.function.resume();
    assert_eq!((other.routes.stats().commits, other.fake.armed()), (1, 100));
}

#[test]
fn c40_everything_is_given_back_once() {
    let world = World::new(8, Deferral::NONE);
    (0..8).for_each(|vector| world.mask(vector, false));
    assert_eq!(world.routes.stats().gsis, 8);
    world.function.detach();
    assert_eq!((world.routes.stats().gsis, world.fake.armed()), (0, 0));
    world.fire(3);
    assert_eq!(world.delivered(), [0x43], "from userspace");
    world.function.attach();
    assert_eq!((world.routes.stats().gsis, world.fake.armed()), (8, 8));
    let World { fake, routes, function } = world;
    drop(function);
    assert_eq!((routes.stats().gsis, fake.armed()), (0, 0));
    let assigns = fake.count(|call| matches!(call, VmCall::Assign(_)));
    assert_eq!(fake.count(|call| matches!(call, VmCall::Deassign(_))), assigns);
}

#[test]
fn one_functions_commit_arms_what_another_one_waits_for() {
    let world = World::new(1, PATIENT);
    world.mask(0, false);
    let second = World::add(&world.routes, 20);
    mask(&second, 0, false);
    assert_eq!((world.routes.stats().commits, world.fake.armed()), (1, 1));
    second.write_msix(3, &[0xc0]);
    mask(&second, 1, false);
    second.write_msix(3, &[0x80]);
    assert_eq!((world.routes.stats().commits, world.fake.armed()), (2, 3));
    world.routes.flush();
    assert_eq!(world.routes.stats().commits, 2, "nothing was left to tell");
}

#[test]
fn c11_a_message_that_is_no_interrupt_is_a_write_to_memory() {
    let world = World::new(1, Deferral::NONE);
    let aim = |address: u64| {
        world.function.write_table(0, &address.to_le_bytes());
        world.function.write_table(8, &0x40_u32.to_le_bytes());
    };
    aim(0x1000);
    world.mask(0, false);
    world.fire(0);
    assert_eq!(world.function.platform(|vmm| vmm.writes.clone()), [(0x1000, 0x40)]);
    assert_eq!(world.fake.calls(), []);
    assert!(is_fallback(&world.function, 0));
    // Rewritten while live (H4): the vector stays in userspace, now with an interrupt's address.
    aim(0xfee0_0000);
    world.fire(0);
    assert_eq!(world.delivered(), [0x40]);
    world.mask(0, true);
    world.mask(0, false);
    assert_eq!(world.fake.armed(), 1);
    aim(0x2000);
    assert_eq!(world.fake.armed(), 0, "the old message is not the guest's wish");
    world.fire(0);
    assert_eq!(world.function.platform(|vmm| vmm.writes.len()), 2);
}

#[test]
fn h4_a_live_rewrite_changes_the_route_in_place() {
    let world = World::new(2, Deferral::NONE);
    world.mask(0, false);
    program(&world.function, 0, 0x77);
    let calls = world.fake.calls();
    assert_eq!(calls, [VmCall::SetRoutes, VmCall::Assign(24), VmCall::SetRoutes]);
    world.fire(0);
    assert_eq!(world.delivered(), [0x77]);
}

#[test]
fn h4_a_write_of_any_shape_takes_from_kvm_what_it_leaves_half_written_and_nothing_else() {
    // Offset and words of a write of live entries, and the GSIs that it takes from KVM.
    for (offset, words, taken) in [
        (0x10, &[0xfee0_1000][..], &[25][..]),
        (0x08, &[0x77, 0], &[24]),
        (0x0c, &[0, 0xfee0_1000], &[25]),
        (0x1c, &[0, 0xfee0_1000], &[26]),
        (0x0c, &[0], &[]),
        (0x10, &[0xfee0_0000, 0], &[]),
    ] {
        let fake = FakeVm::new();
        let options = RouteOptions { deferral: Deferral::NONE, ..RouteOptions::new(Irqchip::Full) };
        let routes = Routes::new(Box::new(fake.clone()), options, Loop::new().unwrap());
        let layout = Layout::exclusive_bar(3, BarIndex::new(0).unwrap()).unwrap();
        let policy = Policy::QEMU; // which carries out all of these
        let setup = FunctionSetup { msix: Some(layout), policy, ..on_x86(Vmm::default()) };
        let function = start(Function::new(&routes, setup).unwrap());
        (0..3).for_each(|vector| mask(&function, vector, false));
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        assert_eq!(function.write_table(offset, &bytes), Access::Done);
        let deassigned = fake.calls().into_iter().filter_map(|call| match call {
            VmCall::Deassign(gsi) => Some(gsi),
            _ => None,
        });
        assert_eq!(deassigned.collect::<Vec<_>>(), taken, "{offset:#x} {words:x?}");
    }
}

#[test]
fn a_vector_without_a_claim_stays_silent_on_every_way() {
    let world = World::new(2, Deferral::NONE);
    world.mask(0, false);
    let lost = Ok(Delivery::Dropped(DropReason::Unclaimed));
    world.function.unclaim(Vector::new(0)).unwrap();
    assert_eq!(world.function.notify(Vector::new(0)), lost);
    assert!(world.delivered().is_empty());
    world.function.claim(Vector::new(0)).unwrap();
    world.fire(0);
    assert_eq!(world.delivered(), [0x40]);
    world.function.unclaim_all();
    assert_eq!(world.function.notify(Vector::new(0)), lost);
    world.function.claim_all();
    world.function.claim_all(); // adds nothing to a vector that has a claim
    world.fire(0);
    assert_eq!(world.delivered(), [0x40]);
    world.function.unclaim(Vector::new(0)).unwrap();
    assert_eq!(world.function.notify(Vector::new(0)), lost);
    let outside = Vector::new(2);
    assert!(matches!(world.function.notify(outside), Err(VectorError::OutOfRange { .. })));
    let error = world.function.eventfd(outside).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn the_routes_of_an_io_apic_in_the_vmm_share_the_table() {
    let world = World::new(1, Deferral::NONE);
    world.mask(0, false);
    let pins: Vec<RouteEntry> =
        (0..40).map(|n| RouteEntry::Pin { gsi: n % 24, irqchip: 2, pin: n % 24 }).collect();
    world.routes.keep(pins.clone()).unwrap();
    assert_eq!(world.routes.stats().commits, 2);
    world.fire(0);
    assert_eq!(world.delivered(), [0x40]);
    world.fake.fail(|_, call| call == VmCall::SetRoutes);
    assert!(matches!(world.routes.keep(pins[..3].to_vec()), Err(RoutesError::Commit(_))));
    world.fake.heal();
    assert_eq!(world.fake.routes()[..40], pins);
    world.mask(0, true);
    program(&world.function, 0, 0x51);
    world.mask(0, false);
    assert!(world.routes.keep(vec![RouteEntry::Pin { gsi: 24, irqchip: 2, pin: 0 }]).is_err());
}

#[test]
fn the_loop_can_be_watched_by_another_loop() {
    let world = World::new(2, PATIENT);
    world.mask(1, false);
    let eventfd = world.function.eventfd(Vector::new(0)).unwrap();
    world.mask(0, false); // waits
    let outer = Loop::new().unwrap();
    struct Outer(std::sync::atomic::AtomicUsize);
    impl crate::eventfd::EventSource for Outer {
        fn readable(&self, _: Vector) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let counter = std::sync::Arc::new(Outer(Default::default()));
    let weak = std::sync::Arc::downgrade(&counter);
    let id = outer.join(weak);
    let inner = world.routes.events();
    outer.watch(id, Vector::new(0), &**inner).unwrap();
    eventfd.write(1).unwrap();
    outer.run(Some(std::time::Duration::from_secs(10))).unwrap();
    assert_eq!(counter.0.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert!(inner.as_raw_fd() >= 0);
    assert_eq!(world.delivered(), [0x40]);
}

#[test]
fn a_loop_that_sleeps_learns_of_a_deadline() {
    let quiet = std::time::Duration::from_millis(20);
    let world = World::new(2, Deferral { quiet, ..PATIENT });
    world.mask(0, false);
    let routes = std::sync::Arc::clone(&world.routes);
    let sleeper = std::thread::spawn(move || {
        while routes.stats().commits < 2 {
            routes.run(None).unwrap();
        }
    });
    std::thread::sleep(quiet); // so that it sleeps by now, most of the time
    world.mask(1, false);
    let start = std::time::Instant::now();
    while !sleeper.is_finished() {
        assert!(start.elapsed().as_secs() < 10, "it was not woken up");
        std::thread::yield_now();
    }
    assert_eq!(world.fake.armed(), 2);
}

#[test]
fn a_function_can_go_from_thread_to_thread() {
    fn check<T: Send + Sync + Clone>() {}
    check::<Function<Vmm>>();
}

#[test]
fn a_resume_that_emits_nothing_ends_the_load_although_an_event_was_taken_in_before() {
    let world = World::new(2, PATIENT);
    let eventfd = world.function.eventfd(Vector::new(0)).unwrap();
    world.function.load(&world.function.save()).unwrap();
    eventfd.write(1).unwrap();
    world.function.resume();
    assert_eq!(world.pba(), 1);
    (0..2).for_each(|vector| world.mask(vector, false));
    world.routes.flush();
    assert_eq!((world.delivered(), world.fake.armed()), (vec![0x40], 2));
}

#[test]
fn k6_a_message_that_kvm_did_not_take_is_asked_for_again_at_the_next_unmask() {
    let world = World::new(1, Deferral::NONE);
    world.mask(0, false);
    // Replaced while live; the kernel refuses the table.
    world.fake.fail(|_, call| call == VmCall::SetRoutes);
    program(&world.function, 0, 0x99);
    world.fake.heal();
    world.mask(0, true);
    world.mask(0, false);
    world.fire(0);
    assert_eq!((world.delivered(), world.fake.armed()), (vec![0x99], 1));
    // A message to memory has no route, although the vector had one.
    for _ in 0..2 {
        world.mask(0, true);
        world.function.write_table(0, &0x1000_u32.to_le_bytes());
        world.mask(0, false);
        assert_eq!((world.fake.armed(), is_fallback(&world.function, 0)), (0, true));
        world.fire(0);
        assert!(world.delivered().is_empty());
    }
}

#[test]
fn what_waits_is_armed_with_the_next_unmask_once_another_functions_commit_has_its_route() {
    let world = World::new(2, PATIENT);
    let other = World::add(&world.routes, 8);
    (0..2).for_each(|vector| world.mask(vector, false));
    assert_eq!(world.fake.armed(), 1, "the second waits");
    other.write_msix(3, &[0xc0]);
    (0..8).for_each(|vector| mask(&other, vector, false));
    other.write_msix(3, &[0x80]);
    assert_eq!(world.fake.armed(), 9, "all at once is worth a commit");
    world.mask(0, true);
    world.mask(0, false);
    assert_eq!(world.fake.armed(), 10);
}
