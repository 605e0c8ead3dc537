//! The gate under a model checker: a device that fires while its guest masks, unmasks, and switches
//! between MSI-X, MSI and the pin.

use super::*;
use loom::sync::atomic as checked;
use loom::sync::{Arc, Mutex};
use loom::thread;

impl AtomicNumber for checked::AtomicU64 {
    fn load(&self) -> u64 {
        self.load(Ordering::SeqCst)
    }
    fn set(&self, bits: u64) {
        self.fetch_or(bits, Ordering::SeqCst);
    }
    fn clear(&self, bits: u64) {
        self.fetch_and(!bits, Ordering::SeqCst);
    }
    fn add(&self, more: u64) -> u64 {
        self.fetch_add(more, Ordering::SeqCst)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    MsiX,
    /// As this vector of those that the guest allocated.
    Msi(u8),
}

/// An eventfd and KVM at the other end, which is one object: a write is taken or kept at once.
#[derive(Default)]
struct Kernel {
    /// The message that the eventfd is assigned to.
    assigned: Option<By>,
    held: bool,
    injected: Vec<By>,
}

/// What the function's lock protects.
#[derive(Default)]
struct Engine {
    mode: Option<By>,
    masked: bool,
    pending: usize,
    sent: Vec<By>,
    left_to_the_pin: usize,
}

impl Engine {
    fn notify(&mut self) {
        match self.mode {
            None => self.left_to_the_pin += 1,
            Some(_) if self.masked => self.pending += 1,
            Some(mode) => self.sent.push(mode),
        }
    }
}

struct World {
    gate: EventfdGate<checked::AtomicU64>,
    kernel: Mutex<Kernel>,
    engine: Mutex<Engine>,
}

impl World {
    /// As `Function::notify`; without the second look, if so asked.
    fn notify(&self, look_again: bool) {
        let fired = self.gate.fire(|| {
            let mut kernel = self.kernel.lock().unwrap();
            match kernel.assigned {
                Some(by) => kernel.injected.push(by),
                None => kernel.held = true,
            }
            true
        });
        match fired {
            Fired::Taken => {}
            Fired::Collect if !look_again => {}
            Fired::Collect => {
                let mut engine = self.engine.lock().unwrap();
                let mut kernel = self.kernel.lock().unwrap();
                if kernel.assigned.is_none() && std::mem::take(&mut kernel.held) {
                    engine.notify();
                }
            }
            Fired::Tell => self.engine.lock().unwrap().notify(),
        }
    }

    /// As the effects of Disarm.
    fn disarm(&self) {
        self.gate.close();
        self.kernel.lock().unwrap().assigned = None;
    }

    /// As the effects of Arm, by an irqfd or not, then Send.
    fn arm(&self, engine: &mut Engine, by_irqfd: bool) {
        if let Some(by) = engine.mode
            && by_irqfd
        {
            let mut kernel = self.kernel.lock().unwrap();
            kernel.assigned = Some(by);
            if std::mem::take(&mut kernel.held) {
                kernel.injected.push(by);
            }
            drop(kernel);
            self.gate.open(by != By::MsiX);
        }
        for _ in 0..std::mem::take(&mut engine.pending) {
            let by = engine.mode.expect("a mode is armed");
            engine.sent.push(by);
        }
    }

    fn mask(&self) {
        let mut engine = self.engine.lock().unwrap();
        engine.masked = true;
        self.disarm();
    }

    fn unmask(&self, by_irqfd: bool) {
        let mut engine = self.engine.lock().unwrap();
        engine.masked = false;
        self.arm(&mut engine, by_irqfd);
    }

    /// The guest leaves the mode it is in and enters another in one write, as it does when it disables
    /// MSI-X beside MSI.
    fn switch(&self, mode: Option<By>, by_irqfd: bool) {
        let mut engine = self.engine.lock().unwrap();
        self.disarm();
        engine.mode = mode;
        if mode.is_some() {
            self.arm(&mut engine, by_irqfd);
        }
    }
}

/// Whether an event got lost or doubled in any interleaving of a device with what a guest does that
/// interrupts by MSI-X.
fn explore(look_again: bool, guest: impl Fn(&World) + Send + Sync + Copy + 'static) {
    loom::model(move || {
        let world = Arc::new(World {
            gate: EventfdGate::<checked::AtomicU64>::default(),
            kernel: Mutex::default(),
            engine: Mutex::default(),
        });
        world.gate.set_claimed(true);
        world.switch(Some(By::MsiX), true);
        let its = Arc::clone(&world);
        let device = thread::spawn(move || its.notify(look_again));
        guest(&world);
        device.join().unwrap();
        let (kernel, engine) = (world.kernel.lock().unwrap(), world.engine.lock().unwrap());
        let arrived = kernel.injected.len() + engine.sent.len();
        assert_eq!(arrived + engine.left_to_the_pin, 1, "delivered or counted once");
        assert!(!kernel.held && engine.pending == 0, "nothing is left");
    });
}

#[test]
fn no_event_is_lost_or_doubled_between_a_device_and_a_guest_that_masks() {
    for by_irqfd in [true, false] {
        explore(true, move |world| {
            world.mask();
            world.unmask(by_irqfd);
        });
    }
}

#[test]
fn no_event_is_lost_or_doubled_when_the_guest_switches_to_msi_and_back() {
    for by_irqfd in [true, false] {
        explore(true, move |world| world.switch(Some(By::Msi(3)), by_irqfd));
        explore(true, move |world| {
            world.switch(Some(By::Msi(3)), by_irqfd);
            world.switch(Some(By::MsiX), true);
        });
    }
}

#[test]
fn no_event_is_lost_or_doubled_when_the_guest_allocates_another_number_of_msi_vectors() {
    explore(true, |world| {
        world.switch(Some(By::Msi(1)), true);
        world.switch(Some(By::Msi(3)), true);
    });
}

#[test]
fn no_event_is_lost_or_doubled_when_the_guest_switches_to_its_pin() {
    explore(true, |world| world.switch(None, false));
    explore(true, |world| {
        world.switch(None, false);
        world.switch(Some(By::Msi(3)), true);
    });
}

#[test]
#[should_panic(expected = "counted once")]
fn without_the_second_look_one_is_lost() {
    explore(false, |world| {
        world.mask();
        world.unmask(false);
    });
}

#[test]
#[should_panic(expected = "counted once")]
fn without_the_second_look_one_is_lost_in_a_switch_of_modes_too() {
    explore(false, |world| world.switch(Some(By::Msi(3)), false));
}

/// Whether one of `N` devices ever writes an eventfd that others hold already, while it is handed out.
/// `preemptions` limits how often a thread is interrupted.
fn explore_sharing<const N: usize>(counted: bool, preemptions: Option<usize>) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions;
    model.check(move || {
        let gate = Arc::new(EventfdGate::<checked::AtomicU64>::default());
        gate.set_claimed(true);
        gate.open(false);
        let held_by_others = Arc::new(checked::AtomicBool::new(false));
        let devices = [(); N].map(|()| {
            let (its, held) = (Arc::clone(&gate), Arc::clone(&held_by_others));
            thread::spawn(move || {
                let write = || {
                    assert!(!held.load(Ordering::SeqCst), "a write that may wait");
                    true
                };
                its.fire(write);
            })
        });
        if counted {
            gate.share(thread::yield_now);
        } else {
            gate.bits.set(SHARED);
        }
        held_by_others.store(true, Ordering::SeqCst);
        assert_eq!(gate.fire(|| unreachable!()), Fired::Tell);
        devices.into_iter().for_each(|device| device.join().unwrap());
    });
}

#[test]
fn k14_no_device_writes_past_the_lock_what_others_hold() {
    explore_sharing::<1>(true, None);
    // One of two comes in and out while the other is inside. All interleavings take minutes.
    explore_sharing::<2>(true, Some(3));
}

#[test]
#[should_panic(expected = "a write that may wait")]
fn without_the_count_of_writers_one_does() {
    explore_sharing::<1>(false, None);
}

#[test]
fn the_gate_is_open_only_for_claimed_vectors_or_for_msi() {
    let gate = EventfdGate::<AtomicU64>::default();
    assert_eq!(gate.fire(|| unreachable!()), Fired::Tell);
    gate.open(false);
    assert_eq!(gate.fire(|| unreachable!()), Fired::Tell);
    gate.set_claimed(true);
    assert_eq!(gate.fire(|| true), Fired::Taken);
    assert_eq!(gate.fire(|| false), Fired::Tell);
    let closed_meanwhile = gate.fire(|| {
        gate.close();
        true
    });
    assert_eq!(closed_meanwhile, Fired::Collect);
    assert_eq!(gate.fire(|| unreachable!()), Fired::Tell);
    gate.set_claimed(false);
    gate.open(true);
    assert_eq!(gate.fire(|| true), Fired::Taken, "MSI counts no claims");
    gate.close();
    gate.open(false);
    assert_eq!(gate.fire(|| unreachable!()), Fired::Tell, "the next mode's claims count again");
    gate.open(true);
    gate.share(|| unreachable!());
    assert_eq!(gate.fire(|| unreachable!()), Fired::Tell, "others hold it");
}
