//! Calls to the VMM, which may use the functions that make them.

use super::{PATIENT, on_x86};
use crate::Route;
use crate::eventfd::{Loop, with};
use crate::kvm::{
    AssignedLine, Deferral, DeviceControl, FakeVm, Function, FunctionSetup, GuestPin, Irqchip,
    PassedThrough, PhysicalIntx, Platform, RouteOptions, Routes,
};
use crate::testing::in_time;
use msix_core::{BarIndex, Delivery, Layout, MsiCapability, Policy, Vector};
use std::io;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::EventFd;

/// Where the tables of the functions are, one after the other.
const TABLES: u64 = 0x1_0000;
/// The room of one.
const ROOM: u64 = 0x1_0000;

/// What a call does besides.
type Act = Box<dyn Fn(&Bus) + Send + Sync>;

/// The bus of a VMM: a write of memory that meets a table is one of the function.
#[derive(Clone, Default)]
struct Bus(Arc<BusState>);

#[derive(Default)]
struct BusState {
    functions: OnceLock<Vec<Function<Bus>>>,
    /// Data of writes to memory, in order.
    written: Mutex<Vec<u32>>,
    calls: AtomicUsize,
    act: OnceLock<Act>,
}

impl Bus {
    /// A bus with functions of as many vectors, all masked. Vector v of each sends 0x40 + v to memory.
    fn with(functions: usize, vectors: u16, deferral: Deferral) -> (Self, Arc<Routes>) {
        let (bus, routes) = (Self::default(), routes(deferral));
        let layout = Layout::exclusive_bar(vectors.into(), BarIndex::new(0).unwrap()).unwrap();
        let made = (0..functions).map(|_| {
            let setup = FunctionSetup { msix: Some(layout), ..on_x86(bus.clone()) };
            let function = Function::new(&routes, setup).unwrap();
            function.write_command(0, &[6, 0]);
            for vector in 0..vectors {
                function.claim(Vector::new(vector)).unwrap();
                let entry = u64::from(vector) * 16;
                function.write_table(entry + 8, &(0x40 + u32::from(vector)).to_le_bytes());
            }
            function.write_msix(3, &[0x80]);
            function
        });
        bus.0.functions.set(made.collect()).ok().unwrap();
        (bus, routes)
    }

    fn function(&self, number: usize) -> &Function<Self> {
        &self.0.functions.get().unwrap()[number]
    }

    fn act(&self, act: impl Fn(&Self) + Send + Sync + 'static) {
        self.0.act.set(Box::new(act)).ok().unwrap();
    }

    fn written(&self) -> Vec<u32> {
        std::mem::take(&mut self.0.written.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn calls(&self) -> usize {
        self.0.calls.swap(0, Ordering::SeqCst)
    }

    /// Makes vector `from` write `data` to the mask bit of vector `to` of another function.
    fn aim(&self, (function, from): (usize, u16), (at, to): (usize, u16), data: u32) {
        let address = TABLES + at as u64 * ROOM + u64::from(to) * 16 + 12;
        let entry = u64::from(from) * 16;
        self.function(function).write_table(entry, &address.to_le_bytes());
        self.function(function).write_table(entry + 8, &data.to_le_bytes());
    }

    fn called(&self) {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        if let Some(act) = self.0.act.get() {
            act(self);
        }
    }
}

impl Platform for Bus {
    fn write_memory(&mut self, address: u64, data: u32) {
        match address.checked_sub(TABLES) {
            Some(offset) => {
                let function = self.function(usize::try_from(offset / ROOM).unwrap());
                function.write_table(offset % ROOM, &data.to_le_bytes());
            }
            None => self.0.written.lock().unwrap_or_else(PoisonError::into_inner).push(data),
        }
        self.called();
    }
    fn snoop(&mut self, _: Route) {
        self.called();
    }
}

impl GuestPin for Bus {
    fn set_level(&mut self, _: bool) {
        self.called();
    }
}

impl DeviceControl for Bus {
    fn set_mappings(&mut self, _: bool) {
        self.called();
    }
    fn reset_device(&mut self) {
        self.called();
    }
}

/// The trigger of a line that fires when told to.
#[derive(Clone, Default)]
struct Line(Arc<Mutex<Option<EventFd>>>);

impl PhysicalIntx for Line {
    fn enable(&mut self, trigger: BorrowedFd<'_>) -> io::Result<()> {
        *self.0.lock().unwrap() = Some(with(trigger, EventFd::try_clone)?);
        Ok(())
    }
    fn unmask_by(&mut self, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }
    fn unmask(&mut self) {}
    fn disable(&mut self) {}
}

fn routes(deferral: Deferral) -> Arc<Routes> {
    let options = RouteOptions { deferral, ..RouteOptions::new(Irqchip::Full) };
    Routes::new(Box::new(FakeVm::new()), options, Loop::new().unwrap())
}

fn fire(function: &Function<Bus>, vector: u16) -> Delivery {
    function.notify(Vector::new(vector)).unwrap()
}

#[test]
fn a_message_may_unmask_the_next_vector_of_its_own_function_and_a_call_ends() {
    const VECTORS: u16 = 300;
    in_time(|| {
        let (bus, routes) = Bus::with(1, VECTORS, PATIENT);
        let function = bus.function(0);
        for vector in 0..VECTORS - 1 {
            bus.aim((0, vector), (0, vector + 1), 0);
        }
        for vector in 1..VECTORS {
            assert_eq!(fire(function, vector), Delivery::Pending);
        }
        function.write_table(12, &[0; 4]);
        assert_eq!((bus.calls(), bus.written()), (0, vec![]));
        assert_eq!(fire(function, 0), Delivery::Sent);
        let calls = bus.calls();
        assert!((2..100).contains(&calls), "{calls}: bounded");
        let mut rounds = 0;
        while bus.written().is_empty() {
            routes.flush(); // as the loop does, when it is due
            rounds += 1;
            assert!(rounds < 10);
        }
        assert_eq!(calls + bus.calls(), usize::from(VECTORS), "one message each");
    });
}

#[test]
fn a_message_may_unmask_itself_and_a_device_may_answer_its_own_message_for_ever() {
    in_time(|| {
        let (bus, routes) = Bus::with(1, 1, PATIENT);
        bus.aim((0, 0), (0, 0), 0);
        let function = bus.function(0);
        assert_eq!(fire(function, 0), Delivery::Pending);
        function.write_table(12, &[0; 4]);
        assert_eq!(bus.calls(), 1);
        bus.act(|bus| _ = fire(bus.function(0), 0));
        for _ in 0..3 {
            fire(function, 0);
            let calls = bus.calls();
            assert!((1..100).contains(&calls), "{calls}");
            routes.flush();
            assert!((1..100).contains(&bus.calls()), "it goes on when the loop comes by");
        }
    });
}

#[test]
fn messages_that_cause_each_other_for_ever_leave_the_loop_time() {
    in_time(|| {
        let (bus, routes) = Bus::with(1, 1, Deferral::NONE);
        mask_of(bus.function(0), 0, false);
        bus.act(|bus| _ = fire(bus.function(0), 0));
        fire(bus.function(0), 0);
        let begun = Instant::now();
        let before = bus.calls();
        (0..1000).for_each(|_| routes.run(Some(Duration::ZERO)).unwrap());
        let pauses =
            begun.elapsed().as_millis() / RouteOptions::new(Irqchip::Full).retry.as_millis();
        let calls = bus.calls();
        assert!(calls as u128 <= before as u128 * (pauses + 1), "{calls} in {pauses} pauses");
    });
}

#[test]
fn two_functions_may_point_at_each_other_in_any_number_of_threads() {
    in_time(|| {
        let (bus, routes) = Bus::with(2, 2, Deferral::NONE);
        for (here, there) in [(0, 1), (1, 0)] {
            // Vector 0 unmasks the other's vector 1, and that masks the other's vector 0 again.
            bus.aim((here, 0), (there, 1), 0);
            bus.aim((here, 1), (there, 0), 1);
        }
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let bus = &bus;
                scope.spawn(move || {
                    let function = bus.function(thread % 2);
                    for _ in 0..2_000 {
                        mask_of(function, 0, false);
                        fire(function, 0);
                        fire(function, 1);
                        mask_of(function, 1, true);
                    }
                });
            }
            scope.spawn(|| (0..200).for_each(|_| routes.flush()));
        });
        assert!(bus.calls() > 0);
        for number in 0..2 {
            (0..2).for_each(|vector| mask_of(bus.function(number), vector, false));
            assert!(bus.function(number).inspect(msix_core::Function::check));
        }
    });
}

fn mask_of(function: &Function<Bus>, vector: u16, masked: bool) {
    function.write_table(u64::from(vector) * 16 + 12, &u32::from(masked).to_le_bytes());
}

/// A passed-through function with everything that is called, and its routes.
fn whole(bus: &Bus, line: &Line) -> (Function<Bus>, Arc<Routes>) {
    let routes = routes(Deferral::NONE);
    let behind = PassedThrough {
        line: Some(AssignedLine::new(Box::new(line.clone())).unwrap()),
        ..PassedThrough::new(Box::new(bus.clone()))
    };
    let setup = FunctionSetup {
        msi: Some(MsiCapability::new(1).unwrap()),
        msix: Some(Layout::exclusive_bar(2, BarIndex::new(0).unwrap()).unwrap()),
        pin: Some(Box::new(bus.clone())),
        policy: Policy { snoop: true, ..Policy::SPEC },
        device: Some(behind),
        ..on_x86(bus.clone())
    };
    let function = Function::new(&routes, setup).unwrap();
    function.write_command(0, &[6, 0]);
    (function, routes)
}

#[test]
fn every_call_may_wait_for_another_thread_that_uses_the_function() {
    in_time(|| {
        let (bus, line) = (Bus::default(), Line::default());
        let (function, routes) = whole(&bus, &line);
        bus.0.functions.set(vec![function.clone()]).ok().unwrap();
        bus.act(|bus| {
            let function = bus.function(0).clone();
            let others = std::thread::spawn(move || {
                function.read_pba(0, &mut [0; 8]);
                function.write_table(12, &[1, 0, 0, 0]);
                function.write_command(0, &[6, 0]);
                function.eoi();
                function.read_msi(0, &mut [0; 2]);
                let _ = function.save();
                let _ = function.notify(Vector::new(1));
            });
            others.join().unwrap();
        });
        let step = |what: &str, act: &dyn Fn()| {
            act();
            assert!(bus.calls() > 0, "{what} called nobody");
        };
        // All of Snoop, memory, the pin, mappings, and the reset.
        step("an entry", &|| _ = function.write_table(8, &[9, 0, 0, 0]));
        step("a line", &|| {
            line.0.lock().unwrap().as_ref().unwrap().write(1).unwrap();
            routes.run(Some(Duration::ZERO)).unwrap();
        });
        step("an EOI", &|| function.bar_accessed());
        step("MSI to memory", &|| {
            function.write_msi(2, &[1]);
            let _ = function.notify(Vector::new(0));
        });
        step("a reset", &|| function.reset());
    });
}

#[test]
fn what_is_queued_by_a_call_is_called_after_it_in_order() {
    let (bus, _routes) = Bus::with(1, 4, Deferral::NONE);
    (0..4).for_each(|vector| mask_of(bus.function(0), vector, false));
    bus.act(|bus| {
        if bus.0.calls.load(Ordering::SeqCst) == 1 {
            [2, 1, 3].into_iter().for_each(|vector| _ = fire(bus.function(0), vector));
            assert_eq!(bus.0.written.lock().unwrap().len(), 1, "not inside this call");
        }
    });
    fire(bus.function(0), 0);
    assert_eq!(bus.written(), [0x40, 0x42, 0x41, 0x43]);
}

#[test]
fn h24_a_message_that_was_sent_before_its_vector_was_masked_arrives_and_no_other_does() {
    let (bus, _routes) = Bus::with(1, 2, Deferral::NONE);
    let function = bus.function(0);
    function.write_msix(3, &[0xc0]);
    for vector in [0, 1] {
        mask_of(function, vector, false);
        assert_eq!(fire(function, vector), Delivery::Pending);
    }
    bus.act(|bus| {
        if bus.0.calls.load(Ordering::SeqCst) == 1 {
            mask_of(bus.function(0), 1, true);
            assert_eq!(fire(bus.function(0), 1), Delivery::Pending);
        }
    });
    function.write_msix(3, &[0x80]);
    assert_eq!(bus.written(), [0x40, 0x41]);
    mask_of(function, 1, false);
    assert_eq!(bus.written(), [0x41]);
}

#[test]
fn of_four_messages_none_is_lost_when_the_first_one_panics() {
    let (bus, routes) = Bus::with(1, 4, Deferral::NONE);
    let function = bus.function(0);
    function.write_msix(3, &[0xc0]);
    for vector in 0..4 {
        mask_of(function, vector, false);
        fire(function, vector);
    }
    bus.act(|bus| assert_ne!(bus.0.calls.load(Ordering::SeqCst), 1, "a bug of the VMM"));
    assert!(catch_unwind(AssertUnwindSafe(|| function.write_msix(3, &[0x80]))).is_err());
    assert_eq!(bus.written(), [0x40, 0x41, 0x42, 0x43]);
    // Everything works as before.
    fire(function, 2);
    routes.flush();
    assert_eq!(bus.written(), [0x42]);
    assert!(function.inspect(msix_core::Function::check));
}

#[test]
fn the_vmms_part_is_not_used_from_inside_a_call_to_it() {
    in_time(|| {
        let (bus, _routes) = Bus::with(1, 1, Deferral::NONE);
        let function = bus.function(0);
        mask_of(function, 0, false);
        bus.act(|bus| {
            if bus.0.calls.load(Ordering::SeqCst) == 1 {
                bus.function(0).platform(|_| ());
            }
        });
        assert!(catch_unwind(AssertUnwindSafe(|| fire(function, 0))).is_err(), "no deadlock");
        function.platform(|bus| _ = fire(bus.function(0), 0));
        assert_eq!(bus.written(), [0x40; 2], "the second one after the closure");
    });
}

#[test]
fn ten_thousand_functions_that_came_and_went_leave_nothing_behind() {
    let routes = routes(PATIENT);
    for _ in 0..10_000 {
        let msi = Some(MsiCapability::new(1).unwrap());
        drop(Function::new(&routes, FunctionSetup { msi, ..on_x86(Bus::default()) }).unwrap());
    }
    assert_eq!((routes.joined(), routes.events().joined(), routes.stats().gsis), (0, 0, 0));
}
