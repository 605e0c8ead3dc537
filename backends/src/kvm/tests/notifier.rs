//! The side of a function that a device's thread uses without owning it.

use super::{PATIENT, Vmm, World, mask, on_x86, start};
use crate::Route;
use crate::eventfd::take;
use crate::kvm::{
    Deferral, Function, FunctionSetup, GuestPin, Notified, Notifier, NotifyError, Platform,
    SendingThread, VmCall,
};
use crate::testing::{in_time, make_blocking};
use msix_core::{BarIndex, Delivery, DropReason, Layout, Vector, VectorError};
use std::io::ErrorKind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const V0: Vector = Vector::new(0);
const SENT: Result<Notified, NotifyError> = Ok(Notified::Taken(Delivery::Sent));

/// A world and a notifier of its function, by which `sender` sends.
fn world(sender: SendingThread, deferral: Deferral) -> (World, Notifier) {
    let mut world = World::new(1, deferral);
    let layout = Layout::exclusive_bar(4, BarIndex::new(0).unwrap()).unwrap();
    let setup = FunctionSetup { msix: Some(layout), sender, ..on_x86(Vmm::default()) };
    world.function = start(Function::new(&world.routes, setup).unwrap());
    let notifier = world.function.notifier().unwrap();
    (world, notifier)
}

#[test]
fn a_notifier_answers_as_the_function_does() {
    let (world, notifier) = world(SendingThread::Caller, Deferral::NONE);
    let answer = |vector| notifier.notify(Vector::new(vector));
    assert_eq!(answer(0), Ok(Notified::Taken(Delivery::Pending)));
    assert_eq!(answer(0), Ok(Notified::Taken(Delivery::Coalesced)));
    world.function.unclaim(Vector::new(1)).unwrap();
    let dropped = Delivery::Dropped(DropReason::Unclaimed);
    assert_eq!(answer(1), Ok(Notified::Taken(dropped)));
    let past = VectorError::OutOfRange { vector: Vector::new(4), vectors: 4 };
    assert_eq!(answer(4), Err(NotifyError::Vector(past)));
    world.mask(0, false);
    assert_eq!(world.delivered(), [0x40]);
    assert_eq!(answer(0), SENT);
    assert_eq!(world.delivered(), [0x40]);
}

#[test]
fn with_the_loop_as_sender_the_callers_thread_only_writes_and_nothing_is_lost() {
    let (world, notifier) = world(SendingThread::Loop, PATIENT);
    let answer = |vector| notifier.notify(Vector::new(vector));
    let past = VectorError::OutOfRange { vector: Vector::new(4), vectors: 4 };
    assert_eq!(answer(4), Err(NotifyError::Vector(past)));
    // Masked.
    assert_eq!((answer(0), answer(0)), (Ok(Notified::Queued), Ok(Notified::Queued)));
    assert_eq!(world.pba(), 1, "whoever uses the function takes it first");
    world.mask(0, false);
    assert_eq!(world.delivered(), [0x40]);
    // By KVM.
    assert_eq!(answer(0), SENT);
    assert_eq!(world.delivered(), [0x40]);
    // While the route waits.
    world.mask(1, false);
    let signals = world.routes.stats().signals;
    assert_eq!(answer(1), Ok(Notified::Queued));
    assert_eq!(world.routes.stats().signals, signals, "not in this thread");
    assert_eq!(world.delivered(), [0x41]);
    // While others hold the eventfd, and one of them made it full and blocking.
    let held = world.function.eventfd(V0).unwrap();
    make_blocking(&held);
    let sent = || world.function.inspect(|engine| engine.msix().unwrap().counters().sent);
    let before = sent();
    in_time({
        let notifier = notifier.clone();
        move || assert_eq!(notifier.notify(V0), Ok(Notified::Queued))
    });
    assert_eq!(world.delivered(), [0x40]);
    assert_eq!(sent(), before + 1, "by the engine");
}

#[test]
fn what_is_queued_is_saved() {
    let (world, notifier) = world(SendingThread::Loop, Deferral::NONE);
    notifier.notify(Vector::new(2)).unwrap();
    let saved = world.function.save();
    let other = World::add(&world.routes, 4);
    other.load(&saved).unwrap();
    other.resume();
    mask(&other, 2, false);
    assert_eq!(world.delivered(), [0x42]);
}

#[test]
fn a_notifier_of_a_function_that_is_gone_says_so_and_has_nothing_to_give_back() {
    for sender in [SendingThread::Caller, SendingThread::Loop] {
        let (world, notifier) = world(sender, Deferral::NONE);
        (0..4).for_each(|vector| world.mask(vector, false));
        assert_eq!(notifier.notify(V0), SENT);
        let World { fake, routes, function } = world;
        drop(function);
        let calls = fake.calls().len();
        assert_eq!((fake.armed(), routes.stats().gsis, routes.joined()), (0, 0, 0));
        assert_eq!(routes.events().joined(), 0);
        thread::spawn(move || {
            assert_eq!(notifier.notify(V0), Err(NotifyError::Gone));
            assert_eq!(notifier.eventfd(V0).unwrap_err().kind(), ErrorKind::NotConnected);
            drop(notifier);
        })
        .join()
        .unwrap();
        assert_eq!(fake.calls().len(), calls, "{sender:?}");
    }
}

/// A platform and a pin that wait in each call until they are let go on.
struct Slow {
    entered: Sender<()>,
    leave: Receiver<()>,
    dropped: Arc<Mutex<Vec<&'static str>>>,
}

impl Platform for Slow {
    fn write_memory(&mut self, _: u64, _: u32) {
        self.entered.send(()).unwrap();
        self.leave.recv().unwrap();
    }
    fn snoop(&mut self, _: Route) {}
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.dropped.lock().unwrap().push("platform");
    }
}

struct Pin(Arc<Mutex<Vec<&'static str>>>);

impl GuestPin for Pin {
    fn set_level(&mut self, asserted: bool) {
        self.0.lock().unwrap().push(if asserted { "high" } else { "low" });
    }
}

#[test]
fn the_thread_that_drops_the_last_handle_closes_the_function_while_a_device_notifies() {
    in_time(|| {
        let world = World::new(1, Deferral::NONE);
        let calls = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&calls);
        world.fake.fail(move |_, call| {
            seen.lock().unwrap().push((call, thread::current().id()));
            false
        });
        let (entered, has_entered) = channel();
        let (go_on, leave) = channel();
        let dropped = Arc::default();
        let slow = Slow { entered, leave, dropped: Arc::clone(&dropped) };
        let layout = Layout::exclusive_bar(2, BarIndex::new(0).unwrap()).unwrap();
        let function = Function::new(
            &world.routes,
            FunctionSetup {
                msix: Some(layout),
                pin: Some(Box::new(Pin(Arc::clone(&dropped)))),
                ..on_x86(slow)
            },
        )
        .unwrap();
        function.write_command(0, &[6, 0]);
        function.claim(V0).unwrap();
        function.claim(Vector::new(1)).unwrap();
        function.write_table(0, &0x1000_u64.to_le_bytes()); // memory
        function.write_table(16, &0xfee0_0000_u64.to_le_bytes());
        function.write_msix(3, &[0x80]);
        function.write_table(12, &[0; 4]);
        function.write_table(28, &[0; 4]);
        assert_eq!(world.fake.armed(), 1);
        let notifier = function.notifier().unwrap();
        let device = thread::spawn(move || {
            assert_eq!(notifier.notify(V0), SENT);
            thread::current().id()
        });
        has_entered.recv().unwrap();
        drop(function.clone());
        assert_eq!(world.fake.armed(), 1, "not the last handle");
        drop(function);
        assert_eq!(world.fake.armed(), 0);
        assert!(dropped.lock().unwrap().is_empty(), "it is in use");
        go_on.send(()).unwrap();
        let device = device.join().unwrap();
        assert_eq!(dropped.lock().unwrap()[..], ["low", "platform"]);
        let calls = calls.lock().unwrap();
        let is_deassign = |call: &VmCall| matches!(call, VmCall::Deassign(_));
        let deassigned = calls.iter().filter(|(call, _)| is_deassign(call));
        let by: Vec<_> = deassigned.map(|(_, caller)| *caller).collect();
        assert_eq!(by, [thread::current().id()]);
        assert!(calls.iter().all(|(_, caller)| *caller != device));
    });
}

#[test]
fn events_of_many_threads_are_delivered_or_pending_while_the_guest_masks_and_unmasks() {
    in_time(|| {
        let (world, notifier) = world(SendingThread::Loop, Deferral::NONE);
        thread::scope(|scope| {
            for _ in 0..2 {
                let notifier = notifier.clone();
                scope.spawn(move || (0..2_000).for_each(|_| _ = notifier.notify(V0).unwrap()));
            }
            for round in 0..500 {
                world.mask(0, round % 2 == 0);
                world.routes.run(Some(Duration::ZERO)).unwrap();
            }
        });
        world.mask(0, true);
        world.delivered();
        world.mask(0, false);
        world.delivered();
        assert_eq!(notifier.notify(V0), SENT);
        assert_eq!(world.delivered(), [0x40]);
        assert_eq!(world.pba(), 0);
        let held = world.function.eventfd(V0).unwrap();
        world.mask(0, true);
        assert!(!take(&held), "none is left over");
    });
}
