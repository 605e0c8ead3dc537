//! Panics of the embedder's code, which must not take along what is due after it.

use std::any::Any;
#[cfg(feature = "irqfd")]
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The first panic of several calls, which goes on once all of them were made.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Panics(Option<Box<dyn Any + Send>>);

impl Panics {
    /// Calls `call`. Returns its result, or `None` after a panic.
    #[inline]
    pub(crate) fn catch<T>(&mut self, call: impl FnOnce() -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(result) => Some(result),
            Err(panic) => {
                self.0.get_or_insert(panic);
                None
            }
        }
    }

    /// Does the same for a call that may fail: a panic of it is a failure.
    #[cfg(feature = "irqfd")]
    #[inline]
    pub(crate) fn attempt<T>(&mut self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.catch(call).unwrap_or_else(|| Err(io::Error::other("a part of the VMM panicked")))
    }

    /// Takes over the panic of `others`, if this has none.
    #[cfg(feature = "irqfd")]
    #[inline]
    pub(crate) fn add(&mut self, others: Self) {
        if let Some(panic) = others.0 {
            self.add_one(panic);
        }
    }

    // Apart: the drop of one that is not kept needs room.
    #[cfg(feature = "irqfd")]
    #[cold]
    fn add_one(&mut self, panic: Box<dyn Any + Send>) {
        self.0.get_or_insert(panic);
    }

    /// Returns whether no call panicked.
    #[cfg(feature = "irqfd")]
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Panics, if a call did; otherwise returns the result of one.
    #[cfg(feature = "irqfd")]
    #[inline]
    pub(crate) fn finish<T>(self, result: Option<T>) -> T {
        self.resume();
        result.unwrap_or_else(|| unreachable!("a call without a result panicked"))
    }

    /// Panics, if a call did.
    #[inline]
    pub(crate) fn resume(self) {
        if let Some(panic) = self.0 {
            resume_unwind(panic);
        }
    }

    /// Does the same in a drop, where a second panic would end the process.
    #[cfg(feature = "irqfd")]
    pub(crate) fn resume_in_drop(self) {
        if !std::thread::panicking() {
            self.resume();
        }
    }
}
