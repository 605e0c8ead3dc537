//! What stands around the function: the kernel, the device, and the guest's interrupt controller, behind
//! one lock, for one can write what another reads.

use crate::controller::Controller;
use crate::device::Device;
use crate::input::Call;
use crate::kernel::Kernel;
use msix_backends::Route;
use msix_backends::kvm::Platform;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vmm_sys_util::eventfd::EventFd;

/// Everything around the function.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    pub(crate) kernel: Kernel,
    pub(crate) device: Device,
    pub(crate) controller: Controller,
    /// Calls that told somebody something: all but those that take an eventfd back.
    pub(crate) calls: usize,
    /// The next call of this kind fails.
    pub(crate) failing: Option<Call>,
    /// Kinds of calls that failed since the loop last ran without one.
    pub(crate) failed: BTreeSet<Call>,
    /// Calls that failed.
    pub(crate) failures: usize,
    /// A message that could not be sent.
    pub(crate) unsent: Option<(u64, u32)>,
    /// Rules that a call broke.
    pub(crate) broken: Vec<String>,
}

impl Outside {
    /// Counts a call; whether it fails.
    pub(crate) fn call(&mut self, call: Call) -> io::Result<()> {
        self.run();
        self.calls += usize::from(call != Call::Deassign);
        if self.failing == Some(call) {
            self.failing = None;
            self.failures += 1;
            self.failed.insert(call);
            return Err(io::Error::from_raw_os_error(12));
        }
        Ok(())
    }

    /// Counts a call that cannot fail.
    pub(crate) fn call_that_works(&mut self) -> io::Result<()> {
        self.run();
        self.calls += 1;
        Ok(())
    }

    /// What kernel and device do by themselves, until nothing moves.
    pub(crate) fn run(&mut self) {
        self.device.run();
        if self.kernel.take_line() {
            self.controller.line = true;
        }
        self.kernel.pump(&mut self.controller.sent);
    }

    pub(crate) fn broke(&mut self, rule: impl Into<String>) {
        self.broken.push(rule.into());
    }
}

/// A handle.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Outside>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Outside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Platform for Shared {
    fn write_memory(&mut self, address: u64, data: u32) {
        let mut outside = self.lock();
        outside.calls += 1;
        outside.controller.sent.push((address, data));
    }

    fn snoop(&mut self, _: Route) {
        self.lock().broke("G2: an entry was snooped, and no policy asked for it");
    }
}

/// Whether an eventfd holds something.
pub(crate) fn is_readable(eventfd: &EventFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::os::fd::{AsRawFd, BorrowedFd};
    let fd = eventfd.as_raw_fd();
    #[expect(unsafe_code, reason = "`EventFd` shows a raw descriptor only")]
    // SAFETY: it is that of `eventfd`, which lives as long as this.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}
