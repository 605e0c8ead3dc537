//! The thread that runs the userspace path of a VM.

use super::routes::Routes;
use crate::eventfd::Loop;
use crate::panics::Panics;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::{fmt, io};

/// Owns the thread that runs the userspace path of a VM's [`Routes`]: it flushes when that is due, and
/// delivers what the eventfds hold that KVM does not read. It keeps no routes, functions or VM alive: the
/// thread ends by itself when the routes are gone. Dropping a runner stops the thread and waits for it,
/// except in that thread itself. Do not drop it with a lock held that the VMM's calls need.
///
/// ```no_run
/// # use msix_backends::kvm::{Routes, Runner};
/// # use std::sync::Arc;
/// # fn apply_seccomp_filter() -> std::io::Result<()> { Ok(()) }
/// # fn run(routes: &Arc<Routes>) -> std::io::Result<()> {
/// let runner = Runner::start(routes, "msix", || apply_seccomp_filter())?;
/// // ... the life of the VM ...
/// runner.stop()
/// # }
/// ```
#[must_use = "the thread stops when this is dropped"]
pub struct Runner {
    events: Arc<Loop>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<(io::Result<()>, Panics)>>,
}

impl Runner {
    /// Starts the thread, with a name of at most 15 bytes (longer ones are cut by the kernel). Calls
    /// `prepare` in it first, for the VMM's own sandbox, signal mask, priority or affinity.
    ///
    /// # Errors
    /// Those of starting a thread, which refuses a name with a NUL, and those of `prepare`, after which
    /// there is no thread.
    pub fn start(
        routes: &Arc<Routes>,
        name: &str,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        if name.contains('\0') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name has a NUL"));
        }
        let events = Arc::clone(routes.events());
        let stopping = Arc::new(AtomicBool::new(false));
        let round = Rounds {
            events: Arc::clone(&events),
            routes: Arc::downgrade(routes),
            stopping: Arc::clone(&stopping),
        };
        let (prepared, is_prepared) = sync_channel(1);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut panics = Panics::default();
            let result = panics.catch(prepare);
            let go_on = matches!(result, Some(Ok(())));
            // The other end waits for it.
            let _ = prepared.send(result.transpose());
            let result = if go_on { round.run(&mut panics) } else { Ok(()) };
            (result, panics)
        })?;
        let runner = Self { events, stopping, thread: Some(thread) };
        match is_prepared.recv() {
            Ok(Ok(Some(()))) => Ok(runner),
            Ok(Err(error)) => Err(error),
            // It panicked, which goes on here.
            Ok(Ok(None)) | Err(_) => {
                runner.stop().and(Err(io::Error::other("the thread ended before it was prepared")))
            }
        }
    }

    /// Returns whether the thread runs: not after an error, and not after the routes are gone.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Stops the thread and waits for it. In the thread itself it only asks it to stop.
    ///
    /// # Errors
    /// Of `epoll_wait`, which ended the thread.
    ///
    /// # Panics
    /// When a part of the VMM panicked in the thread. That did not stop it.
    pub fn stop(mut self) -> io::Result<()> {
        match self.join() {
            None => Ok(()),
            Some((result, panics)) => {
                panics.resume();
                result
            }
        }
    }

    fn join(&mut self) -> Option<(io::Result<()>, Panics)> {
        self.stopping.store(true, Ordering::SeqCst);
        // A full eventfd wakes the loop too, and nothing else can fail.
        let _ = self.events.wake();
        let thread = self.thread.take()?;
        if thread.thread().id() == thread::current().id() {
            return None;
        }
        // Its panics are caught.
        thread.join().ok()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.join();
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("is_running", &self.is_running()).finish_non_exhaustive()
    }
}

/// What the thread does.
struct Rounds {
    events: Arc<Loop>,
    routes: Weak<Routes>,
    stopping: Arc<AtomicBool>,
}

impl Rounds {
    /// Runs until it is stopped, the routes are gone, or epoll fails. A panic of the VMM's parts has been
    /// reported by its hook; other devices need the thread all the same.
    fn run(&self, panics: &mut Panics) -> io::Result<()> {
        while !self.stopping.load(Ordering::SeqCst) {
            panics.catch(|| self.events.run(None)).unwrap_or(Ok(0))?;
            let Some(routes) = self.routes.upgrade() else { break };
            panics.catch(|| routes.flush_due());
        }
        Ok(())
    }
}
