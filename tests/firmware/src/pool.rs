//! Static memory for devices, which is given out and given back.

#![expect(unsafe_code, reason = "static memory that is written to")]

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Rooms for `N` devices. A case has no more at once.
pub(crate) struct Pool<T, const N: usize>([Room<T>; N]);

struct Room<T> {
    contents: UnsafeCell<T>,
    is_taken: AtomicBool,
}

/// What a room holds before its first use; all zeros, so that the image need not hold it.
pub(crate) trait Empty {
    const EMPTY: Self;
}

// SAFETY: a room is taken by one until it is given back, and there is one processor.
unsafe impl<T, const N: usize> Sync for Pool<T, N> {}

impl<T: Empty, const N: usize> Pool<T, N> {
    pub(crate) const fn new() -> Self {
        Self(
            [const { Room { contents: UnsafeCell::new(T::EMPTY), is_taken: AtomicBool::new(false) } };
                N],
        )
    }

    /// Takes a room, as its last user left it.
    ///
    /// # Safety
    /// The contents are not looked at after the key was dropped.
    #[expect(clippy::mut_from_ref, reason = "a room has one user")]
    pub(crate) unsafe fn take(&'static self) -> Option<(&'static mut T, Key)> {
        let room = self.0.iter().find(|room| !room.is_taken.swap(true, Relaxed))?;
        // SAFETY: it was free, so its last user looks at it no more.
        Some((unsafe { &mut *room.contents.get() }, Key(&room.is_taken)))
    }
}

/// Gives a room back when it is dropped.
pub(crate) struct Key(&'static AtomicBool);

impl Drop for Key {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}
