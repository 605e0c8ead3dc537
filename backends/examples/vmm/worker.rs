//! A thread that serves an eventfd.

use crate::Outcome;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use vmm_sys_util::eventfd::EventFd;

/// A thread that sleeps until its eventfd is written. It ends when this goes.
pub(crate) struct Worker {
    wake: Arc<EventFd>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread that calls `serve` with what was written.
    pub(crate) fn start(
        name: &str,
        wake: &Arc<EventFd>,
        mut serve: impl FnMut(u64) + Send + 'static,
    ) -> Outcome<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name(name.to_owned()).spawn({
            let (wake, stop) = (Arc::clone(wake), Arc::clone(&stop));
            move || {
                while let Ok(written) = wake.read()
                    && !stop.load(Ordering::Acquire)
                {
                    serve(written);
                }
            }
        })?;
        Ok(Self { wake: Arc::clone(wake), stop, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let (Ok(()), Some(thread)) = (self.wake.write(1), self.thread.take()) {
            let _ = thread.join(); // a panic was reported
        }
    }
}
