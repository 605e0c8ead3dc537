//! A bound on what must not wait, and a peer that makes it.

use rustix::fs::{OFlags, fcntl_setfl};
use std::cell::UnsafeCell;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;
use vmm_sys_util::eventfd::EventFd;

/// Runs `what` in a thread of its own, and fails when it does not end. The thread is then left
/// behind, until the process ends.
pub(crate) fn in_time<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, ended) = channel();
    let thread = thread::spawn(move || {
        let result = what();
        let _ = done.send(());
        result
    });
    match ended.recv_timeout(Duration::from_secs(60)) {
        Err(RecvTimeoutError::Timeout) => panic!("it waits"),
        // A panic closes the channel.
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }
    }
}

/// Does what every holder of an eventfd can: makes it blocking, for all holders.
#[expect(unsafe_code, reason = "`EventFd` shows a raw descriptor only")]
pub(crate) fn make_blocking(eventfd: &EventFd) {
    // SAFETY: it is that of `eventfd`, which lives longer than this call.
    let descriptor = unsafe { BorrowedFd::borrow_raw(eventfd.as_raw_fd()) };
    fcntl_setfl(descriptor, OFlags::empty()).unwrap();
}

/// A number that threads write without any lock.
struct Unprotected(UnsafeCell<u64>);

#[expect(unsafe_code, reason = "the race that ThreadSanitizer must find")]
// SAFETY: none; it is used by the test below alone, which an ordinary run ignores.
unsafe impl Sync for Unprotected {}

impl Unprotected {
    #[expect(unsafe_code, reason = "the race that ThreadSanitizer must find")]
    fn add(&self) {
        // SAFETY: none, as above.
        unsafe { *self.0.get() += 1 }
    }
}

#[test]
#[ignore = "a race, for ThreadSanitizer to report: see tests/run"]
fn a_seeded_race() {
    let number = Unprotected(UnsafeCell::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..1000).for_each(|_| number.add()));
        }
    });
    assert!(number.0.into_inner() > 0);
}
