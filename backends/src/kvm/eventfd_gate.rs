//! A device vector's eventfd, and the way past the lock to it.

#[cfg(test)]
mod model;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// KVM owns the eventfd.
const OWNED: u64 = 1;
/// The device claims the vector. MSI-X drops the events of unclaimed vectors (C24).
const CLAIMED: u64 = 2;
/// KVM owns the eventfd for MSI, which counts no claims.
const FOR_MSI: u64 = 4;
/// Others hold the eventfd, so that a write could wait (K14).
const SHARED: u64 = 8;
/// One writer that came in; the bits from here on count all that ever did.
const WRITER: u64 = 16;

/// A number of 64 bits: an atomic of the standard library, or of a model checker.
pub(super) trait AtomicNumber: Default {
    fn load(&self) -> u64;
    fn set(&self, bits: u64);
    fn clear(&self, bits: u64);
    /// Adds. Returns the number before.
    fn add(&self, more: u64) -> u64;
}

impl AtomicNumber for AtomicU64 {
    #[inline]
    fn load(&self) -> u64 {
        self.load(Ordering::SeqCst)
    }
    #[inline]
    fn set(&self, bits: u64) {
        self.fetch_or(bits, Ordering::SeqCst);
    }
    #[inline]
    fn clear(&self, bits: u64) {
        self.fetch_and(!bits, Ordering::SeqCst);
    }
    #[inline]
    fn add(&self, more: u64) -> u64 {
        self.fetch_add(more, Ordering::SeqCst)
    }
}

/// What became of an event that was fired without the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fired {
    /// KVM has it.
    Taken,
    /// The vector was disarmed meanwhile: the event may be in the eventfd, which nothing reads. The
    /// writer must collect it, with the lock.
    Collect,
    /// Nothing was written: the writer must report the event to the engine, with the lock.
    Tell,
}

/// Whether an event may go straight to the eventfd. Changed with the function's lock held, read
/// without.
///
/// The gate does not say for which mode KVM owns the eventfd, nor which message the event sends:
/// the GSI that the eventfd is assigned to at the time of the write decides both. So an event that
/// passes the gate while the guest switches modes is sent by the mode in force at the write.
#[derive(Debug, Default)]
pub(super) struct EventfdGate<A = AtomicU64> {
    /// Whether it is open, and the number of writers that came in.
    bits: A,
    /// Writers that went out, with an event that KVM has.
    taken: A,
    /// Those without one. Apart, so that one count on the way out is that of the events too.
    untaken: A,
}

impl<A: AtomicNumber> EventfdGate<A> {
    /// Opens the gate: KVM owns the eventfd. Call it before the first event may pass.
    pub(super) fn open(&self, for_msi: bool) {
        self.bits.set(if for_msi { OWNED | FOR_MSI } else { OWNED });
    }

    /// Closes the gate: KVM is about to lose the eventfd. The writer collects any event that it
    /// writes from now on.
    pub(super) fn close(&self) {
        self.bits.clear(OWNED | FOR_MSI);
    }

    pub(super) fn set_claimed(&self, claimed: bool) {
        if claimed {
            self.bits.set(CLAIMED);
        } else {
            self.bits.clear(CLAIMED);
        }
    }

    /// Closes the gate for good, because others are about to hold the eventfd. When this returns
    /// nobody writes it past the gate any more. `pause` is called while one still does, who never
    /// waits: nobody else has the eventfd yet.
    pub(super) fn share(&self, mut pause: impl FnMut()) {
        self.bits.set(SHARED);
        // Who came in is counted after who went out: when they are as many, nobody was inside in between,
        // and whoever comes in after that finds the gate closed.
        while self.taken().wrapping_add(self.untaken.load()) != self.bits.load() / WRITER {
            pause();
        }
    }

    /// Returns how many events KVM has taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load()
    }

    /// Fires: `write` writes the eventfd and returns whether it could.
    ///
    /// The last look is the one that prevents a loss. If it still finds the gate open, the event
    /// was written before the gate was closed, and so before KVM let go of the eventfd; or KVM has
    /// taken the eventfd again since, with its content (K7), for the same mode or another. It finds a gate
    /// closed whose closing came before KVM let go, if that came before the write: the kernel does both with
    /// the eventfd locked. The first look keeps those out for whom [`share`](Self::share) would wait without
    /// end.
    #[inline]
    pub(super) fn fire(&self, write: impl FnOnce() -> bool) -> Fired {
        if !is_open(self.bits.load()) {
            return Fired::Tell;
        }
        let written = is_open(self.bits.add(WRITER)) && write();
        let is_owned = self.bits.load() & OWNED != 0;
        if written && is_owned {
            self.taken.add(1);
            return Fired::Taken;
        }
        self.untaken.add(1);
        if written { Fired::Collect } else { Fired::Tell }
    }
}

/// Returns whether an event may pass.
const fn is_open(bits: u64) -> bool {
    bits & OWNED != 0 && bits & (CLAIMED | FOR_MSI) != 0 && bits & SHARED == 0
}

/// A device vector's own eventfd behind its gate, made when first needed. One that is connected is in the
/// function's lock, and closes the gate for good. It has a cache line of its own: who notifies one vector
/// does not wait for who masks another.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct GatedEventfd {
    pub(super) gate: EventfdGate,
    eventfd: OnceLock<Arc<EventFd>>,
}

impl GatedEventfd {
    /// Fires. The eventfd is written only while nobody else holds it, so this never waits.
    #[inline]
    pub(super) fn fire(&self) -> Fired {
        let Some(eventfd) = self.eventfd.get() else { return Fired::Tell };
        self.gate.fire(|| match eventfd.write(1) {
            Ok(()) => true,
            // The eventfd is full: it holds an event already, and one message stands for both
            // (A12).
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        })
    }

    /// Returns the eventfd, made when first needed, for others to hold.
    pub(super) fn share(&self) -> io::Result<&Arc<EventFd>> {
        let eventfd = self.get_or_make()?;
        self.gate.share(std::thread::yield_now);
        Ok(eventfd)
    }

    /// Returns the eventfd, and makes it when first needed.
    #[inline]
    pub(super) fn get_or_make(&self) -> io::Result<&Arc<EventFd>> {
        match self.eventfd.get() {
            Some(eventfd) => Ok(eventfd),
            None => self.make(),
        }
    }

    #[cold]
    fn make(&self) -> io::Result<&Arc<EventFd>> {
        let made = Arc::new(EventFd::new(EFD_NONBLOCK)?);
        Ok(self.eventfd.get_or_init(|| made))
    }

    /// Returns the eventfd, if it was made.
    pub(super) fn get(&self) -> Option<&Arc<EventFd>> {
        self.eventfd.get()
    }
}
