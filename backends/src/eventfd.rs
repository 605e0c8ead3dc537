//! Eventfds that userspace reads: an epoll loop that a VMM runs in a thread, or from its own loop,
//! and reads and writes of eventfds that other processes hold.
//!
//! Whoever holds an eventfd can do with it what its owner can: write it at any rate, empty it, fill
//! it, and change the flags of the open file, O_NONBLOCK among them. So a holder can lose or invent
//! events of this one eventfd, and no more: [`take`] and [`ring`] never wait for it.

mod shared;
mod timer;

#[cfg(feature = "irqfd")]
pub(crate) use shared::{borrow, refuse_semaphore};
pub use shared::{import, ring, take, with};

use crate::panics::Panics;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use msix_core::Vector;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use std::{fmt, io};
use timer::Timer;

/// The token of the waker; no source has it.
const AWAKE: Token = Token(usize::MAX);
/// That of the timer.
const TIMER: Token = Token(usize::MAX - 1);

/// Receives the events of a [`Loop`], in the thread that runs it and without any lock: it may use the
/// loop, functions and routes.
pub trait EventSource: Send + Sync {
    /// Handles that the eventfd of `vector` can be read.
    fn readable(&self, vector: Vector);
}

/// The loop. Its descriptor ([`AsRawFd`]) is readable when an eventfd is and when its timer fires, so
/// another epoll instance can watch it and call [`run`](Self::run) without waiting.
///
/// ```
/// use msix_backends::eventfd::{EventSource, Loop};
/// use msix_core::Vector;
/// use std::sync::{Arc, Mutex, Weak};
/// use std::time::Duration;
/// use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
///
/// struct Device(EventFd, Mutex<Vec<Vector>>);
///
/// impl EventSource for Device {
///     fn readable(&self, vector: Vector) {
///         if self.0.read().is_ok() {
///             self.1.lock().unwrap().push(vector);
///         }
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let events = Loop::new()?;
/// let device = Arc::new(Device(EventFd::new(EFD_NONBLOCK)?, Mutex::default()));
/// let source = Arc::downgrade(&device) as Weak<dyn EventSource>; // the loop keeps nothing alive
/// let id = events.join(source);
/// events.watch(id, Vector::new(3), &device.0)?;
/// device.0.write(1)?;
/// events.run(Some(Duration::from_secs(1)))?;
/// assert_eq!(*device.1.lock().unwrap(), [Vector::new(3)]);
/// # Ok(())
/// # }
/// ```
pub struct Loop {
    poll: Mutex<(Poll, Events)>,
    registry: Registry,
    waker: Waker,
    timer: Timer,
    descriptor: RawFd,
    sources: Mutex<Sources>,
    /// Calls of `epoll_ctl` for sources.
    #[cfg(test)]
    pub(crate) changes: std::sync::atomic::AtomicUsize,
}

#[derive(Default)]
struct Sources {
    by_id: BTreeMap<usize, Weak<dyn EventSource>>,
    next: usize,
}

impl Loop {
    /// Makes a loop without sources.
    ///
    /// # Errors
    /// Those of `epoll_create1`, `eventfd2` and `timerfd_create`.
    pub fn new() -> io::Result<Arc<Self>> {
        let poll = Poll::new()?;
        let timer = Timer::new()?;
        let descriptor = timer.as_raw_fd();
        let its = &mut SourceFd(&descriptor);
        poll.registry().register(its, TIMER, Interest::READABLE)?;
        Ok(Arc::new(Self {
            registry: poll.registry().try_clone()?,
            waker: Waker::new(poll.registry(), AWAKE)?,
            timer,
            descriptor: poll.as_raw_fd(),
            poll: Mutex::new((poll, Events::with_capacity(256))),
            sources: Mutex::default(),
            #[cfg(test)]
            changes: std::sync::atomic::AtomicUsize::new(0),
        }))
    }

    /// Adds a source. Returns its number, which [`watch`](Self::watch) takes.
    pub fn join(&self, source: Weak<dyn EventSource>) -> usize {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let id = sources.next;
        sources.next += 1;
        sources.by_id.insert(id, source);
        id
    }

    /// Removes a source. Its eventfds must not be watched any more.
    pub fn leave(&self, id: usize) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).by_id.remove(&id);
    }

    /// Returns how many sources there are.
    #[cfg(all(test, feature = "irqfd"))]
    pub(crate) fn joined(&self) -> usize {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).by_id.len()
    }

    /// Watches `eventfd`: calls source `id` with `vector` whenever it is written, and once if it
    /// holds an event already.
    ///
    /// # Errors
    /// Of `epoll_ctl`.
    pub fn watch(&self, id: usize, vector: Vector, eventfd: &impl AsRawFd) -> io::Result<()> {
        let token = Token(id << 16 | usize::from(vector.index()));
        #[cfg(test)]
        self.changes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.registry.register(&mut SourceFd(&eventfd.as_raw_fd()), token, Interest::READABLE)
    }

    /// Stops watching `eventfd`. One event may still be on its way, so a source must check before
    /// it reads.
    ///
    /// # Errors
    /// Of `epoll_ctl`.
    pub fn unwatch(&self, eventfd: &impl AsRawFd) -> io::Result<()> {
        #[cfg(test)]
        self.changes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.registry.deregister(&mut SourceFd(&eventfd.as_raw_fd()))
    }

    /// Ends the present wait, or the next one.
    ///
    /// # Errors
    /// Those of the eventfd behind it.
    pub fn wake(&self) -> io::Result<()> {
        self.waker.wake()
    }

    /// Ends a wait at this time, or earlier if this was called with an earlier time before.
    ///
    /// # Errors
    /// Those of `timerfd_settime`.
    #[inline]
    pub fn wake_at(&self, at: Instant) -> io::Result<()> {
        self.timer.set(at)
    }

    /// Waits for events, for `timeout` at most (`None`: until there is one), and calls their
    /// sources. Returns the number of events; with 256 there may be more. A signal ends the wait.
    ///
    /// # Errors
    /// Those of `epoll_wait`.
    ///
    /// # Panics
    /// When a source panics, after the others were called.
    pub fn run(&self, timeout: Option<Duration>) -> io::Result<usize> {
        let tokens: Vec<Token> = {
            let mut poll = self.poll.lock().unwrap_or_else(PoisonError::into_inner);
            let (poll, events) = &mut *poll;
            match poll.poll(events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(0),
                waited => waited?,
            }
            let tokens = events.iter().map(|event| event.token());
            tokens.filter(|token| *token != AWAKE).collect()
        };
        let (timers, tokens): (Vec<_>, Vec<_>) =
            tokens.into_iter().partition(|token| *token == TIMER);
        if !timers.is_empty() {
            self.timer.fired();
        }
        let count = tokens.len();
        let mut panics = Panics::default();
        for Token(token) in tokens {
            let source = {
                let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
                sources.by_id.get(&(token >> 16)).and_then(Weak::upgrade)
            };
            if let Some(source) = source {
                // epoll does not tell of the others again.
                panics.catch(|| source.readable(Vector::new((token & 0xffff) as u16)));
            }
        }
        panics.resume();
        Ok(count)
    }
}

impl AsRawFd for Loop {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor
    }
}

impl AsFd for Loop {
    #[expect(unsafe_code, reason = "`Poll` shows a raw descriptor only")]
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: it is that of `poll`, which lives as long as this.
        unsafe { BorrowedFd::borrow_raw(self.descriptor) }
    }
}

impl fmt::Debug for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loop").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}
