//! Events that device threads leave to the thread of the loop.

use crate::eventfd::take;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// What became of an event before it was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueuedEvent {
    /// Nothing was written for it.
    Unwritten,
    /// It may be in the vector's eventfd.
    Written,
}

/// Events by vector, and a bell that wakes the loop. Adding one makes one system call at most: a write
/// of an eventfd that nobody else has, which never waits.
#[derive(Debug)]
pub(super) struct EventQueue {
    unwritten: Box<[AtomicU64]>,
    written: Box<[AtomicU64]>,
    /// Whether there may be events, and the bell was rung for them.
    filled: AtomicBool,
    /// Whether the function is gone.
    closed: AtomicBool,
    bell: EventFd,
}

impl EventQueue {
    pub(super) fn new(vectors: usize) -> io::Result<Self> {
        let words = || (0..vectors.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Self {
            unwritten: words(),
            written: words(),
            filled: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            bell: EventFd::new(EFD_NONBLOCK)?,
        })
    }

    /// Adds an event of a vector, below the number of them. One that is there already stands for both
    /// (A12). Returns whether anybody will take it: `false` after [`close`](Self::close).
    pub(super) fn push(&self, vector: u16, event: QueuedEvent) -> bool {
        if self.closed.load(Ordering::SeqCst) {
            return false;
        }
        let words = match event {
            QueuedEvent::Unwritten => &self.unwritten,
            QueuedEvent::Written => &self.written,
        };
        if let Some(word) = words.get(usize::from(vector / 64)) {
            word.fetch_or(1 << (vector % 64), Ordering::SeqCst);
        }
        // After the event, which whoever empties the queue looks for after it cleared this.
        if !self.filled.swap(true, Ordering::SeqCst) {
            // A full eventfd wakes the loop too.
            let _ = self.bell.write(1);
        }
        true
    }

    /// Returns whether there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        !self.filled.load(Ordering::SeqCst)
    }

    /// Takes all events, in the order of their vectors.
    pub(super) fn take(&self) -> Vec<(u16, QueuedEvent)> {
        if self.is_empty() {
            return Vec::new();
        }
        self.filled.store(false, Ordering::SeqCst);
        let mut events = Vec::new();
        for (words, event) in
            [(&self.written, QueuedEvent::Written), (&self.unwritten, QueuedEvent::Unwritten)]
        {
            for (base, word) in (0..).step_by(64).zip(words) {
                let mut left = word.swap(0, Ordering::SeqCst);
                while left != 0 {
                    // Below 64.
                    events.push((base + left.trailing_zeros() as u16, event));
                    left &= left - 1;
                }
            }
        }
        events
    }

    /// Silences the bell, before the events are taken.
    pub(super) fn silence(&self) {
        take(&self.bell);
    }

    /// Refuses all events from now on.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}

impl AsRawFd for EventQueue {
    fn as_raw_fd(&self) -> RawFd {
        self.bell.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_taken_once_and_the_bell_is_rung_once_for_all_of_them() {
        let queue = EventQueue::new(70).unwrap();
        assert_eq!(queue.take(), []);
        for vector in [69, 3, 69, 0] {
            assert!(queue.push(vector, QueuedEvent::Unwritten));
        }
        assert!(queue.push(3, QueuedEvent::Written));
        assert_eq!(queue.bell.read().unwrap(), 1);
        let (unwritten, written) = (QueuedEvent::Unwritten, QueuedEvent::Written);
        assert_eq!(queue.take(), [(3, written), (0, unwritten), (3, unwritten), (69, unwritten)]);
        assert_eq!(queue.take(), []);
        assert!(queue.push(1, QueuedEvent::Unwritten));
        assert_eq!(queue.bell.read().unwrap(), 1, "it is rung again");
        queue.close();
        assert!(!queue.push(2, QueuedEvent::Unwritten));
    }

    #[test]
    fn events_that_are_pushed_while_others_are_taken_are_found_or_rung_for() {
        const EACH: u32 = 20_000;
        let queue = EventQueue::new(4).unwrap();
        let taken = std::thread::scope(|scope| {
            let pushers: Vec<_> = (0..4)
                .map(|vector| {
                    let queue = &queue;
                    scope.spawn(move || {
                        (0..EACH).for_each(|_| _ = queue.push(vector, QueuedEvent::Unwritten));
                    })
                })
                .collect();
            let mut taken = [0_u32; 4];
            let mut empty = |rung: bool| {
                if rung {
                    queue.take().iter().for_each(|(vector, _)| taken[usize::from(*vector)] += 1);
                }
            };
            while !pushers.iter().all(|pusher| pusher.is_finished()) {
                empty(take(&queue.bell));
            }
            empty(take(&queue.bell));
            taken
        });
        assert!(taken.iter().all(|taken| (1..=EACH).contains(taken)), "{taken:?}");
        assert!(queue.take().is_empty(), "what nobody rang for would wait for ever");
    }
}
