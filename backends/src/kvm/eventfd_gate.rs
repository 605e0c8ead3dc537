//! A device vector's eventfd, and the way past the lock to it.

#[cfg(test)]
mod model;

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// KVM owns the eventfd.
const OWNED: u32 = 1;
/// The device claims the vector. MSI-X drops the events of unclaimed vectors (C24).
const CLAIMED: u32 = 2;
/// KVM owns the eventfd for MSI, which counts no claims.
const FOR_MSI: u32 = 4;
/// Others hold the eventfd, so that a write could wait (K14).
const SHARED: u32 = 8;
/// One writer between its two looks at the gate; the bits from here on count them.
const WRITER: u32 = 16;

/// The storage of a gate's bits: an atomic of the standard library, or of a model checker.
pub(super) trait GateBits {
    fn load(&self) -> u32;
    fn set(&self, bits: u32);
    fn clear(&self, bits: u32);
    /// Counts a writer. Returns the bits.
    fn enter(&self) -> u32;
    /// Counts a writer no more. Returns the bits.
    fn leave(&self) -> u32;
}

impl GateBits for AtomicU32 {
    #[inline]
    fn load(&self) -> u32 {
        self.load(Ordering::SeqCst)
    }
    #[inline]
    fn set(&self, bits: u32) {
        self.fetch_or(bits, Ordering::SeqCst);
    }
    #[inline]
    fn clear(&self, bits: u32) {
        self.fetch_and(!bits, Ordering::SeqCst);
    }
    #[inline]
    fn enter(&self) -> u32 {
        self.fetch_add(WRITER, Ordering::SeqCst)
    }
    #[inline]
    fn leave(&self) -> u32 {
        self.fetch_sub(WRITER, Ordering::SeqCst)
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
pub(super) struct EventfdGate<B = AtomicU32>(B);

impl<B: GateBits> EventfdGate<B> {
    /// Opens the gate: KVM owns the eventfd. Call it before the first event may pass.
    pub(super) fn open(&self, for_msi: bool) {
        self.0.set(if for_msi { OWNED | FOR_MSI } else { OWNED });
    }

    /// Closes the gate: KVM is about to lose the eventfd. The writer collects any event that it
    /// writes from now on.
    pub(super) fn close(&self) {
        self.0.clear(OWNED | FOR_MSI);
    }

    pub(super) fn set_claimed(&self, claimed: bool) {
        if claimed {
            self.0.set(CLAIMED);
        } else {
            self.0.clear(CLAIMED);
        }
    }

    /// Closes the gate for good, because others are about to hold the eventfd. When this returns
    /// nobody writes it past the gate any more. `pause` is called while one still does, who never
    /// waits: nobody else has the eventfd yet.
    pub(super) fn share(&self, mut pause: impl FnMut()) {
        self.0.set(SHARED);
        while self.0.load() >= WRITER {
            pause();
        }
    }

    /// Fires: `write` writes the eventfd and returns whether it could.
    ///
    /// The last look is the one that prevents a loss. If it still finds the gate open, the event
    /// was written before the gate was closed, and so before KVM let go of the eventfd; or KVM has
    /// taken the eventfd again since, with its content (K7), for the same mode or another. The first
    /// look keeps those out for whom [`share`](Self::share) would wait without end.
    #[inline]
    pub(super) fn fire(&self, write: impl FnOnce() -> bool) -> Fired {
        if !is_open(self.0.load()) {
            return Fired::Tell;
        }
        let written = is_open(self.0.enter()) && write();
        let is_owned = self.0.leave() & OWNED != 0;
        match (written, is_owned) {
            (false, _) => Fired::Tell,
            (true, true) => Fired::Taken,
            (true, false) => Fired::Collect,
        }
    }
}

/// Returns whether an event may pass.
const fn is_open(bits: u32) -> bool {
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
    /// Events that were fired and taken.
    given: AtomicU64,
}

impl GatedEventfd {
    /// Fires. The eventfd is written only while nobody else holds it, so this never waits.
    #[inline]
    pub(super) fn fire(&self) -> Fired {
        let Some(eventfd) = self.eventfd.get() else { return Fired::Tell };
        let fired = self.gate.fire(|| match eventfd.write(1) {
            Ok(()) => true,
            // The eventfd is full: it holds an event already, and one message stands for both
            // (A12).
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        });
        if fired == Fired::Taken {
            self.given.fetch_add(1, Ordering::Relaxed);
        }
        fired
    }

    /// Returns how many events were fired and taken.
    pub(super) fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
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
