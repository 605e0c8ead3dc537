//! The allocator of the cases, which collect what they see. A block of static memory that is used from
//! its start on, and again once nothing of it is in use any more.
//!
//! It is shut while the engine or its backend runs: an allocation there ends the image with a failure.

#![expect(unsafe_code, reason = "an allocator")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

#[global_allocator]
static ARENA: Arena = Arena {
    memory: UnsafeCell::new([0; SIZE]),
    used: AtomicUsize::new(0),
    blocks: AtomicUsize::new(0),
    most: AtomicUsize::new(0),
    is_shut: AtomicBool::new(false),
};

const SIZE: usize = 64 << 20;

struct Arena {
    memory: UnsafeCell<[u8; SIZE]>,
    used: AtomicUsize,
    blocks: AtomicUsize,
    most: AtomicUsize,
    is_shut: AtomicBool,
}

// SAFETY: there is one processor, and no interrupt is ever on.
unsafe impl Sync for Arena {}

// SAFETY: every block is inside the memory, aligned, and beside all others that are in use.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        assert!(!self.is_shut.load(Relaxed), "the engine or its backend allocates {layout:?}");
        let base = self.memory.get().cast::<u8>();
        let free = base.wrapping_add(self.used.load(Relaxed));
        let start = self.used.load(Relaxed) + free.align_offset(layout.align());
        let end = start.saturating_add(layout.size());
        if end > SIZE {
            return core::ptr::null_mut();
        }
        self.used.store(end, Relaxed);
        self.most.fetch_max(end, Relaxed);
        self.blocks.fetch_add(1, Relaxed);
        base.wrapping_add(start)
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {
        if self.blocks.fetch_sub(1, Relaxed) == 1 {
            self.used.store(0, Relaxed);
        }
    }
}

/// Runs with the allocator shut.
pub(crate) fn shut<T>(run: impl FnOnce() -> T) -> T {
    ARENA.is_shut.store(true, Relaxed);
    let answer = run();
    ARENA.is_shut.store(false, Relaxed);
    answer
}

/// Lets a panic be said.
pub(crate) fn open() {
    ARENA.is_shut.store(false, Relaxed);
}

/// Returns the most bytes that were in use at once.
pub(crate) fn most() -> usize {
    ARENA.most.load(Relaxed)
}
