//! One eventfd for a device vector, under MSI-X, MSI and the pin; and the way past the lock.

use super::{PATIENT, Vmm, delivered, on_x86};
use crate::Route;
use crate::eventfd::Loop;
use crate::kvm::{
    Deferral, EventfdOrigin, FakeVm, Function, FunctionSetup, GuestPin, Irqchip, RouteOptions,
    Routes, VmCall,
};
use msix_core::{
    BarIndex, Delivery, Layout, Message, Mode, MsiCapability, Policy, Vector, Vectors,
};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// The levels that the pin was set to.
#[derive(Debug, Clone, Default)]
struct Pin(Arc<Mutex<Vec<bool>>>);

impl GuestPin for Pin {
    fn set_level(&mut self, asserted: bool) {
        self.0.lock().unwrap().push(asserted);
    }
}

/// An emulated function with four vectors of MSI-X, eight of MSI and a pin. MSI-X vector v sends 0x40
/// + v, MSI vector v 0x50 + v. Nothing is masked, nothing enabled.
pub(super) struct World {
    pub(super) fake: FakeVm,
    pub(super) routes: Arc<Routes>,
    pub(super) function: Function<Vmm>,
    pin: Pin,
}

const MSIX: u16 = 4;
pub(super) const MSI: u16 = 8;

impl World {
    pub(super) fn new() -> Self {
        Self::with(EventfdOrigin::Own, Policy::SPEC, RouteOptions::new(Irqchip::Full))
    }

    pub(super) fn with(eventfds: EventfdOrigin, policy: Policy, options: RouteOptions) -> Self {
        let (fake, pin) = (FakeVm::new(), Pin::default());
        let deferral = Deferral::NONE;
        let options = RouteOptions { deferral, ..options };
        let routes = Routes::new(Box::new(fake.clone()), options, Loop::new().unwrap());
        let layout = Layout::exclusive_bar(MSIX.into(), BarIndex::new(0).unwrap()).unwrap();
        let setup = FunctionSetup {
            msi: Some(MsiCapability::new(MSI.into()).unwrap().with_masks()),
            msix: Some(layout),
            pin: Some(Box::new(pin.clone())),
            policy,
            eventfds,
            ..on_x86(Vmm::default())
        };
        let function = Function::new(&routes, setup).unwrap();
        function.write_command(0, &[6, 0]);
        function.write_msi(4, &0xfee0_0000_u32.to_le_bytes());
        function.write_msi(8, &0x50_u16.to_le_bytes());
        for vector in 0..MSIX {
            function.claim(Vector::new(vector)).unwrap();
            function.write_table(u64::from(vector) * 16, &0xfee0_0000_u64.to_le_bytes());
            let data = 0x40 + u64::from(vector); // and unmasked
            function.write_table(u64::from(vector) * 16 + 8, &data.to_le_bytes());
        }
        Self { fake, routes, function, pin }
    }

    /// Enables MSI with 2 to the power of `log` vectors.
    pub(super) fn msi(&self, log: u8) {
        self.function.write_msi(2, &[log << 4 | 1]);
    }

    pub(super) fn msi_off(&self) {
        self.function.write_msi(2, &[0]);
    }

    pub(super) fn msix(&self, on: bool) {
        self.function.write_msix(3, &[if on { 0x80 } else { 0 }]);
    }

    pub(super) fn fire(&self, vector: u16) -> Delivery {
        self.function.notify(Vector::new(vector)).unwrap()
    }

    /// Events of the first `vectors` vectors, each of which KVM takes.
    fn fire_all(&self, vectors: u16) {
        (0..vectors).for_each(|vector| assert_eq!(self.fire(vector), Delivery::Sent));
    }

    pub(super) fn eventfd(&self, vector: u16) -> Arc<EventFd> {
        self.function.eventfd(Vector::new(vector)).unwrap()
    }

    pub(super) fn delivered(&self) -> Vec<u32> {
        self.routes.run(Some(Duration::ZERO)).unwrap();
        delivered(&self.fake)
    }

    fn pending(&self, mode: Mode) -> u64 {
        self.function.inspect(|engine| match mode {
            Mode::MsiX => engine.msix().unwrap().pending().next().map_or(0, Vectors::bits),
            _ => engine.msi().unwrap().pending().bits(),
        })
    }

    /// How often the lock is taken meanwhile, and calls of the VM.
    fn cost(&self, what: impl FnOnce()) -> (usize, usize) {
        let locks = || self.function.shared.locks.load(Ordering::Relaxed);
        let before = (locks(), self.fake.calls().len());
        what();
        (locks() - before.0, self.fake.calls().len() - before.1)
    }
}

#[test]
fn an_event_of_an_armed_vector_takes_no_lock_and_no_call_in_either_mode() {
    let world = World::new();
    world.msix(true);
    assert_eq!(world.cost(|| world.fire_all(MSIX)), (0, 0));
    assert_eq!(world.delivered(), [0x40, 0x41, 0x42, 0x43]);
    world.msi(3);
    world.msix(false);
    assert_eq!(world.cost(|| world.fire_all(MSI)), (0, 0));
    assert_eq!(world.delivered(), (0x50..0x58).collect::<Vec<_>>());
    // One vector for all of them: the first event of each takes the long way.
    world.msi(0);
    assert_eq!(world.fake.armed(), 8, "their eventfds are there");
    assert_eq!(world.cost(|| world.fire_all(MSI)), (0, 0));
    assert_eq!(world.delivered(), [0x50; 8]);
}

#[test]
fn a_vector_that_the_guest_did_not_allocate_takes_the_long_way_once() {
    let world = World::new();
    world.msi(1);
    assert_eq!(world.fake.armed(), 2);
    for vector in 0..MSI {
        let (locks, calls) = world.cost(|| assert_eq!(world.fire(vector), Delivery::Sent));
        // Signalled, then assigned.
        let expected = if vector < 2 { (0, 0) } else { (1, 2) };
        assert_eq!((locks, calls), expected, "vector {vector}");
        assert_eq!(world.delivered(), [0x50 + u32::from(vector % 2)]);
        assert_eq!(world.cost(|| _ = world.fire(vector)), (0, 0));
        assert_eq!(world.delivered(), [0x50 + u32::from(vector % 2)]);
    }
    assert_eq!((world.fake.armed(), world.routes.stats().gsis), (8, 2), "eight, on two GSIs");
}

#[test]
fn an_eventfd_reaches_the_guest_by_the_mode_and_the_allocation_that_it_meets() {
    let world = World::new();
    let eventfds: Vec<_> = (0..MSI).map(|vector| world.eventfd(vector)).collect();
    let all = |expected: &[u32]| {
        for (eventfd, expected) in eventfds.iter().zip(expected) {
            eventfd.write(1).unwrap();
            assert_eq!(world.delivered(), [*expected]);
        }
    };
    world.msi(0);
    all(&[0x50; 8]);
    world.msi(2); // live, which no driver does
    all(&[0x50, 0x51, 0x52, 0x53, 0x50, 0x51, 0x52, 0x53]);
    world.msi(3);
    all(&[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57]);
    world.msi(1);
    all(&[0x50, 0x51, 0x50, 0x51, 0x50, 0x51, 0x50, 0x51]);
    world.msix(true);
    all(&[0x40, 0x41, 0x42, 0x43]);
    eventfds[5].write(1).unwrap();
    assert!(world.delivered().is_empty(), "MSI-X has no such vector");
    world.msix(false);
    assert_eq!(world.delivered(), [0x51], "it waited for the mode that has it");
    let assigns = world.fake.count(|call| matches!(call, VmCall::Assign(_)));
    let deassigns = world.fake.count(|call| matches!(call, VmCall::Deassign(_)));
    assert_eq!(assigns - deassigns, world.fake.armed(), "balanced");
}

#[test]
fn a_masked_msi_vector_holds_back_every_device_vector_that_goes_out_as_it() {
    let world = World::new();
    world.msi(1);
    let [one, three] = [1, 3].map(|vector| world.eventfd(vector));
    world.function.write_msi(12, &[0b10]);
    three.write(1).unwrap();
    assert_eq!(world.fire(5), Delivery::Pending);
    assert!(world.delivered().is_empty());
    let mut pending = [0; 4];
    world.function.read_msi(16, &mut pending);
    assert_eq!(pending, [0b10, 0, 0, 0], "the eventfd and the event, as one vector");
    one.write(1).unwrap();
    world.function.write_msi(12, &[0]);
    assert_eq!(world.delivered(), [0x51; 2], "the pending ones as one, and the held one");
    three.write(1).unwrap();
    assert_eq!(world.delivered(), [0x51]);
}

#[test]
fn events_over_a_switch_are_delivered_pending_or_left_to_the_pin() {
    let world = World::new();
    let eventfd = world.eventfd(2);
    // By the pin: the device is notified.
    assert_eq!(world.fire(2), Delivery::Intx);
    eventfd.write(1).unwrap();
    assert!(world.delivered().is_empty());
    world.msi(3);
    assert_eq!(world.delivered(), [0x52], "it was in the eventfd");
    world.function.write_msi(12, &[0b100]);
    eventfd.write(1).unwrap();
    world.msix(true);
    assert!(world.delivered().is_empty());
    assert_eq!(world.pending(Mode::Msi), 0b100, "collected when MSI was left (H13)");
    eventfd.write(1).unwrap();
    assert_eq!(world.delivered(), [0x42]);
    world.msix(false);
    world.function.write_msi(12, &[0]);
    assert_eq!(world.delivered(), [0x52]);
}

#[test]
fn where_nothing_is_collected_a_held_event_goes_out_by_the_next_mode() {
    let world = World::with(EventfdOrigin::Own, Policy::QEMU, RouteOptions::new(Irqchip::Full));
    let eventfd = world.eventfd(2);
    world.msi(3);
    world.function.write_msi(12, &[0b100]);
    eventfd.write(1).unwrap();
    world.msix(true);
    assert_eq!((world.delivered(), world.pending(Mode::Msi)), (vec![0x42], 0));
}

#[test]
fn what_the_eventfds_hold_is_asked_for_by_the_mode_that_entered_last() {
    let world = World::new();
    let eventfd = world.eventfd(1);
    world.msix(true);
    world.function.write_table(16 + 12, &1_u32.to_le_bytes());
    eventfd.write(1).unwrap();
    let mut pending = [0; 4];
    world.function.read_msi(16, &mut pending);
    assert_eq!((pending, world.pending(Mode::Msi)), ([0; 4], 0), "it is MSI-X's");
    let mut pba = [0; 8];
    world.function.read_pba(0, &mut pba);
    assert_eq!(pba[0], 0b10);
    world.function.write_table(16 + 12, &0_u32.to_le_bytes());
    assert_eq!(world.delivered(), [0x41]);
}

#[test]
fn claims_count_for_msi_x_and_not_for_msi() {
    let world = World::new();
    world.function.unclaim(Vector::new(1)).unwrap();
    world.msix(true);
    world.fire(1);
    assert!(world.delivered().is_empty());
    world.msi(3);
    world.msix(false);
    assert_eq!(world.cost(|| _ = world.fire(1)), (0, 0));
    assert_eq!(world.delivered(), [0x51]);
    world.msix(true);
    world.fire(1);
    assert!(world.delivered().is_empty());
}

#[test]
fn a_connected_eventfd_serves_both_modes_whenever_it_comes() {
    for limit in [4096, 0] {
        let options = RouteOptions { limit, ..RouteOptions::new(Irqchip::Full) };
        let world = World::with(EventfdOrigin::Connected, Policy::SPEC, options);
        let ours: Vec<EventFd> = (0..MSI).map(|_| EventFd::new(EFD_NONBLOCK).unwrap()).collect();
        let connect = |vector: u16| {
            let theirs = ours[usize::from(vector)].try_clone().unwrap();
            world.function.connect(Vector::new(vector), theirs).unwrap();
        };
        connect(0);
        world.msi(0);
        // Others come while MSI is live with one vector; what they hold is delivered.
        for vector in 1..MSI {
            ours[usize::from(vector)].write(1).unwrap();
            assert!(world.delivered().is_empty());
            connect(vector);
            assert_eq!(world.delivered(), [0x50], "limit {limit}, vector {vector}");
        }
        for (vector, eventfd) in ours.iter().enumerate() {
            eventfd.write(1).unwrap();
            assert_eq!(world.delivered(), [0x50], "limit {limit}, vector {vector}");
        }
        world.msix(true);
        for (eventfd, data) in ours.iter().zip(0x40..0x44) {
            eventfd.write(1).unwrap();
            assert_eq!(world.delivered(), [data], "limit {limit}");
        }
        assert_eq!(world.fake.armed(), if limit == 0 { 0 } else { 4 });
        assert_eq!(world.routes.stats().failures, 0);
        let World { fake, routes, function, .. } = world;
        drop(function);
        assert_eq!((fake.armed(), routes.stats().gsis), (0, 0));
    }
}

#[test]
fn without_routes_an_event_by_an_eventfd_is_pending_while_the_pin_interrupts() {
    let options = RouteOptions { limit: 0, ..RouteOptions::new(Irqchip::Full) };
    let world = World::with(EventfdOrigin::Own, Policy::SPEC, options);
    let eventfds = [1, 6].map(|vector| world.eventfd(vector));
    for eventfd in &eventfds {
        eventfd.write(1).unwrap();
    }
    assert!(world.delivered().is_empty());
    assert_eq!((world.pending(Mode::MsiX), world.pending(Mode::Msi)), (0b10, 0b1));
    world.msi(3);
    assert_eq!(world.delivered(), [0x56]);
    world.msix(true);
    assert_eq!(world.delivered(), [0x41]);
}

#[test]
fn an_eventfd_that_kvm_does_not_let_go_of_is_tried_again_for_the_next_mode() {
    let world = World::new();
    let eventfd = world.eventfd(1);
    world.msix(true);
    world.fake.fail(|_, call| matches!(call, VmCall::Deassign(_)));
    world.msi(3);
    world.msix(false);
    assert_eq!(world.fire(1), Delivery::Sent);
    assert_eq!(world.delivered(), [0x51], "an event of the device itself reaches MSI");
    world.fake.heal();
    world.routes.flush();
    eventfd.write(1).unwrap();
    assert_eq!(world.delivered(), [0x51]);
    world.msi_off();
    let World { fake, routes, function, .. } = world;
    drop(function);
    assert_eq!((fake.armed(), routes.stats().gsis), (0, 0));
}

#[test]
fn a_switch_of_the_allocation_waits_for_its_route_where_commits_wait() {
    let options = RouteOptions { deferral: PATIENT, ..RouteOptions::new(Irqchip::Full) };
    let fake = FakeVm::new();
    let routes = Routes::new(Box::new(fake.clone()), options, Loop::new().unwrap());
    let setup =
        FunctionSetup { msi: Some(MsiCapability::new(4).unwrap()), ..on_x86(Vmm::default()) };
    let function = Function::new(&routes, setup).unwrap();
    function.write_command(0, &[6, 0]);
    function.write_msi(4, &0xfee0_0000_u32.to_le_bytes());
    function.write_msi(8, &0x50_u16.to_le_bytes());
    let eventfds = [0, 1, 2, 3].map(|v| function.eventfd(Vector::new(v)).unwrap());
    let all = |expected: [u32; 4]| {
        for (eventfd, data) in eventfds.iter().zip(expected) {
            eventfd.write(1).unwrap();
            routes.run(Some(Duration::ZERO)).unwrap();
            assert_eq!(delivered(&fake), [data]);
        }
    };
    function.write_msi(2, &[1]);
    all([0x50; 4]);
    function.write_msi(2, &[0x11]);
    all([0x50, 0x51, 0x50, 0x51]);
    routes.flush();
    assert_eq!(fake.armed(), 4);
    all([0x50, 0x51, 0x50, 0x51]);
}

#[test]
fn the_pin_is_driven_while_neither_mode_is_enabled() {
    let world = World::new();
    world.function.set_level(true);
    world.msi(0);
    world.msi_off();
    world.function.set_level(false);
    assert_eq!(*world.pin.0.lock().unwrap(), [true, false, true, false]);
}

/// A pin that panics as often as configured.
struct Panicking(Arc<Mutex<u32>>);

impl GuestPin for Panicking {
    fn set_level(&mut self, _: bool) {
        let mut left = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *left > 0 {
            *left -= 1;
            panic!("a bug of the VMM");
        }
    }
}

#[test]
fn a_panic_of_the_vmm_leaves_nothing_out() {
    let panics = Arc::new(Mutex::new(0));
    let routes = World::new().routes;
    let setup = FunctionSetup {
        msi: Some(MsiCapability::new(1).unwrap()),
        pin: Some(Box::new(Panicking(Arc::clone(&panics)))),
        ..on_x86(Vmm::default())
    };
    let function = Function::new(&routes, setup).unwrap();
    function.write_command(0, &[6, 0]);
    function.write_msi(4, &0xfee0_0000_u32.to_le_bytes());
    function.set_level(true);
    *panics.lock().unwrap() = 1;
    // Deassert, at which the pin panics; Disarm; Arm of MSI.
    let enable = std::panic::AssertUnwindSafe(|| function.write_msi(2, &[1]));
    assert!(std::panic::catch_unwind(enable).is_err());
    assert_eq!(routes.stats().assigns, 1, "MSI is armed");
    function.read_msi(0, &mut [0; 2]);
    assert_eq!(routes.stats().assigns, 1, "once");
    assert!(function.inspect(msix_core::Function::check));
}

#[test]
fn g2_a_written_entry_is_shown_to_who_asks_for_it() {
    let policy = Policy { snoop: true, ..Policy::SPEC };
    let world = World::with(EventfdOrigin::Own, policy, RouteOptions::new(Irqchip::Full));
    world.function.platform(|vmm| vmm.snooped.clear());
    world.function.write_table(16 + 8, &0x99_u32.to_le_bytes());
    let message = Message { address: 0xfee0_0000, data: 0x99 };
    let route = Route { vector: Vector::new(1), message };
    assert_eq!(world.function.platform(|vmm| vmm.snooped.clone()), [route]);
}
