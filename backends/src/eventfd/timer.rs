//! A timer that ends the loop's wait, so that a loop inside another one wakes up in time.

use parking_lot::Mutex;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// A timer descriptor, and what it is set to.
#[derive(Debug)]
pub(super) struct Timer {
    descriptor: OwnedFd,
    set_to: Mutex<Option<Instant>>,
}

impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { descriptor, set_to: Mutex::new(None) })
    }

    /// Has the timer fire at `at`, unless it is about to fire before that.
    #[inline]
    pub(super) fn set(&self, at: Instant) -> io::Result<()> {
        let mut set_to = self.set_to.lock();
        match *set_to {
            Some(earlier) if earlier <= at => Ok(()),
            _ => self.set_earlier(&mut set_to, at),
        }
    }

    #[cold]
    fn set_earlier(&self, set_to: &mut Option<Instant>, at: Instant) -> io::Result<()> {
        // A time of 0 would stop it.
        let after = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let seconds = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
        let value = Timespec { tv_sec: seconds, tv_nsec: after.subsec_nanos().into() };
        let once = Itimerspec { it_interval: never, it_value: value };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once)?;
        *set_to = Some(at);
        Ok(())
    }

    /// Notes that the timer fired.
    pub(super) fn fired(&self) {
        *self.set_to.lock() = None;
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}
