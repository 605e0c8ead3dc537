//! GSIs for the routes of vectors.

/// GSIs from `first` on, before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GsiRange {
    /// The first one.
    pub first: u32,
    /// The one after the last.
    pub end: u32,
}

impl GsiRange {
    pub(super) const fn contains(self, gsi: u32) -> bool {
        self.first <= gsi && gsi < self.end
    }

    /// Gives out the GSIs of the range.
    pub(super) const fn allocator(self) -> impl GsiAllocator {
        InRange { next: self.first, end: self.end, free: Vec::new() }
    }
}

impl Default for GsiRange {
    /// Returns all GSIs from 24 on: those below are the pins of an I/O APIC.
    fn default() -> Self {
        Self { first: 24, end: 4096 }
    }
}

/// Gives out the GSIs of vectors, for a VMM that has other users of them. It is called under the lock of
/// the [`Routes`](super::Routes): it must not use them or a function, nor wait for a thread that does. A panic
/// of [`allocate`](Self::allocate) counts as `None`, and goes on in the input.
pub trait GsiAllocator: Send {
    /// Returns a GSI below 4096 that nobody uses (K2); `None` when there is none, and the vector is
    /// then delivered from userspace.
    fn allocate(&mut self) -> Option<u32>;
    /// Takes a GSI back. KVM may know its old route until the next commit.
    fn free(&mut self, gsi: u32);
}

/// Why a source cannot have the GSIs that it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("GSI {0} is another's, or one that vectors are given, or above 4095")]
pub struct GsiTaken(pub u32);

struct InRange {
    next: u32,
    end: u32,
    /// Those given back.
    free: Vec<u32>,
}

impl GsiAllocator for InRange {
    fn allocate(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let gsi = self.next;
            let is_left = gsi < self.end;
            self.next += u32::from(is_left);
            is_left.then_some(gsi)
        })
    }

    fn free(&mut self, gsi: u32) {
        self.free.push(gsi);
    }
}
