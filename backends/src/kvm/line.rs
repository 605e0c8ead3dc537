//! One vector's eventfd, and the way past the lock.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// KVM owns the eventfd.
const ASSIGNED: u8 = 1;
/// The device uses the vector; what is fired without a use is dropped (C24).
const USED: u8 = 2;

/// Where a gate's bits are: an atomic of the standard library, or of a model checker.
pub(super) trait Bits {
    fn load(&self) -> u8;
    fn set(&self, bits: u8);
    fn clear(&self, bits: u8);
}

impl Bits for AtomicU8 {
    fn load(&self) -> u8 {
        self.load(Ordering::SeqCst)
    }
    fn set(&self, bits: u8) {
        self.fetch_or(bits, Ordering::SeqCst);
    }
    fn clear(&self, bits: u8) {
        self.fetch_and(!bits, Ordering::SeqCst);
    }
}

/// What became of an event that was fired without the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fired {
    /// It is KVM's.
    Taken,
    /// The vector was released meanwhile: the event may be in the eventfd, where nobody looks.
    /// Whoever fired it must collect it, with the lock.
    Collect,
    /// Nothing was written: the engine must hear of it, with the lock.
    Tell,
}

/// Whether an event may go straight to the eventfd. Changed with the function's lock held, read
/// without.
#[derive(Debug, Default)]
pub(super) struct Gate<B = AtomicU8>(B);

impl<B: Bits> Gate<B> {
    /// KVM owns the eventfd: before the first event may take the short way.
    pub(super) fn open(&self) {
        self.0.set(ASSIGNED);
    }

    /// KVM is about to lose the eventfd. An event written from now on is collected by its writer.
    pub(super) fn close(&self) {
        self.0.clear(ASSIGNED);
    }

    pub(super) fn set_used(&self, used: bool) {
        if used {
            self.0.set(USED);
        } else {
            self.0.clear(USED);
        }
    }

    /// Fires: `write` writes the eventfd, and says whether it could.
    ///
    /// The second look is what loses nothing. When it still finds the gate open, the event was
    /// written before the gate was closed, and so before KVM was told to let go; or KVM took the
    /// eventfd up again since, with what was in it (K7).
    pub(super) fn fire(&self, write: impl FnOnce() -> bool) -> Fired {
        if self.0.load() != ASSIGNED | USED || !write() {
            return Fired::Tell;
        }
        if self.0.load() & ASSIGNED != 0 { Fired::Taken } else { Fired::Collect }
    }
}

/// A vector as its device sees it.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) gate: Gate,
    eventfd: OnceLock<Arc<EventFd>>,
}

impl Line {
    pub(super) fn fire(&self) -> Fired {
        let Some(eventfd) = self.eventfd.get() else { return Fired::Tell };
        self.gate.fire(|| match eventfd.write(1) {
            Ok(()) => true,
            // It is full: an event is in it already, and one message stands for both (A12).
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        })
    }

    /// The eventfd, made at the first need.
    pub(super) fn eventfd(&self) -> io::Result<&Arc<EventFd>> {
        if let Some(eventfd) = self.eventfd.get() {
            return Ok(eventfd);
        }
        let made = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        Ok(self.eventfd.get_or_init(|| made))
    }

    /// Takes over an eventfd that somebody else made.
    pub(super) fn connect(&self, eventfd: EventFd) -> io::Result<()> {
        self.eventfd.set(Arc::new(eventfd)).map_err(|_| io::ErrorKind::AlreadyExists.into())
    }

    /// The eventfd, if there was a need, or if it was connected.
    pub(super) fn made(&self) -> Option<&Arc<EventFd>> {
        self.eventfd.get()
    }

    /// Takes what the eventfd holds: whether there was an event. Not while KVM owns it (K7).
    pub(super) fn take(&self) -> bool {
        self.eventfd.get().is_some_and(|eventfd| eventfd.read().is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loom::sync::atomic as checked;
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    impl Bits for checked::AtomicU8 {
        fn load(&self) -> u8 {
            self.load(Ordering::SeqCst)
        }
        fn set(&self, bits: u8) {
            self.fetch_or(bits, Ordering::SeqCst);
        }
        fn clear(&self, bits: u8) {
            self.fetch_and(!bits, Ordering::SeqCst);
        }
    }

    /// An eventfd and KVM at the other end, which is one object: a write is taken or kept at once.
    #[derive(Default)]
    struct Kernel {
        assigned: bool,
        held: bool,
        injected: usize,
    }

    /// What the function's lock protects.
    #[derive(Default)]
    struct Engine {
        masked: bool,
        pending: bool,
        sent: usize,
    }

    impl Engine {
        fn notify(&mut self) {
            if self.masked {
                self.pending = true;
            } else {
                self.sent += 1;
            }
        }
    }

    struct World {
        gate: Gate<checked::AtomicU8>,
        kernel: Mutex<Kernel>,
        engine: Mutex<Engine>,
    }

    impl World {
        /// As `Function::notify`; without the second look, if so asked.
        fn notify(&self, look_again: bool) {
            let fired = self.gate.fire(|| {
                let mut kernel = self.kernel.lock().unwrap();
                if kernel.assigned {
                    kernel.injected += 1;
                } else {
                    kernel.held = true;
                }
                true
            });
            match fired {
                Fired::Taken => {}
                Fired::Collect if !look_again => {}
                Fired::Collect => {
                    let mut engine = self.engine.lock().unwrap();
                    let mut kernel = self.kernel.lock().unwrap();
                    if !kernel.assigned && std::mem::take(&mut kernel.held) {
                        engine.notify();
                    }
                }
                Fired::Tell => self.engine.lock().unwrap().notify(),
            }
        }

        /// As the effects of a mask: Disarm.
        fn mask(&self) {
            let mut engine = self.engine.lock().unwrap();
            engine.masked = true;
            self.gate.close();
            self.kernel.lock().unwrap().assigned = false;
        }

        /// As the effects of an unmask: Arm, by an irqfd or not, then Send.
        fn unmask(&self, by_irqfd: bool) {
            let mut engine = self.engine.lock().unwrap();
            engine.masked = false;
            if by_irqfd {
                let mut kernel = self.kernel.lock().unwrap();
                kernel.assigned = true;
                kernel.injected += usize::from(std::mem::take(&mut kernel.held));
                drop(kernel);
                self.gate.open();
            }
            engine.sent += usize::from(std::mem::take(&mut engine.pending));
        }
    }

    /// Whether an event got lost or doubled in any interleaving of a device with a guest that masks
    /// and unmasks.
    fn explore(look_again: bool, by_irqfd: bool) {
        loom::model(move || {
            let world = Arc::new(World {
                gate: Gate(checked::AtomicU8::new(0)),
                kernel: Mutex::default(),
                engine: Mutex::default(),
            });
            world.gate.set_used(true);
            world.unmask(true);
            let its = Arc::clone(&world);
            let device = thread::spawn(move || its.notify(look_again));
            world.mask();
            world.unmask(by_irqfd);
            device.join().unwrap();
            let (kernel, engine) = (world.kernel.lock().unwrap(), world.engine.lock().unwrap());
            assert_eq!(kernel.injected + engine.sent, 1, "delivered once");
            assert!(!kernel.held && !engine.pending, "nothing is left");
        });
    }

    #[test]
    fn no_event_is_lost_or_doubled_between_a_device_and_a_guest_that_masks() {
        explore(true, true);
        explore(true, false);
    }

    #[test]
    #[should_panic(expected = "delivered once")]
    fn without_the_second_look_one_is_lost() {
        explore(false, false);
    }

    #[test]
    fn the_gate_is_open_only_for_used_vectors() {
        let gate = Gate::<AtomicU8>::default();
        assert_eq!(gate.fire(|| unreachable!()), Fired::Tell);
        gate.open();
        assert_eq!(gate.fire(|| unreachable!()), Fired::Tell);
        gate.set_used(true);
        assert_eq!(gate.fire(|| true), Fired::Taken);
        assert_eq!(gate.fire(|| false), Fired::Tell);
        let closed_meanwhile = gate.fire(|| {
            gate.close();
            true
        });
        assert_eq!(closed_meanwhile, Fired::Collect);
        assert_eq!(gate.fire(|| unreachable!()), Fired::Tell);
    }
}
