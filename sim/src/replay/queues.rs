//! Which queue of a virtio device raises which vector, and what that says of messages.
//!
//! `virtio_notify` and `virtio_notify_irqfd` name a queue and no vector. A queue whose event stood right
//! before a message of one vector twice, and never before another's, is taken to raise that vector. An
//! event of such a queue, while the vector is live, without a message of the vector after it, is a hint
//! that a message was lost. It is no more than a hint: an irqfd may stand for several events, and
//! the message comes from another thread.

use super::WINDOW;
use crate::timeline::Moment;
use std::collections::{HashMap, VecDeque};

/// A vector of a device.
pub(super) type Place = (usize, u16);

/// What is known of queues.
#[derive(Debug, Default)]
pub(super) struct Queues {
    queues: HashMap<u64, Seen>,
    /// The queue of the line before, and that line.
    last: Option<(u64, u64)>,
    /// Events without their message so far, oldest first; at most one of a vector.
    awaited: VecDeque<(Place, Moment)>,
}

/// What was seen of a queue.
#[derive(Debug)]
struct Seen {
    place: Place,
    /// How often a message of the place came right after it.
    times: u32,
}

impl Queues {
    /// A queue's event. Returns the vector that it raises, if that is known.
    pub(super) fn notified(&mut self, queue: u64, line: u64) -> Option<Place> {
        self.last = Some((queue, line));
        let seen = self.queues.get(&queue)?;
        (seen.times >= ENOUGH).then_some(seen.place)
    }

    /// A message of the vector is due.
    pub(super) fn expect(&mut self, place: Place, now: Moment) {
        if !self.awaited.iter().any(|(awaited, _)| *awaited == place) {
            self.awaited.push_back((place, now));
        }
    }

    /// A message of the vector came.
    pub(super) fn message(&mut self, place: Place, line: u64) {
        self.awaited.retain(|(awaited, _)| *awaited != place);
        let Some((queue, before)) = self.last.take() else { return };
        if line != before + 1 {
            return;
        }
        if self.queues.len() >= MOST_QUEUES && !self.queues.contains_key(&queue) {
            return;
        }
        let seen = self.queues.entry(queue).or_insert(Seen { place, times: 0 });
        let times = if seen.place == place { seen.times.saturating_add(1) } else { 1 };
        *seen = Seen { place, times };
    }

    /// The guest changed something of the device's interrupts: what is due may be pending now.
    pub(super) fn disturbed(&mut self, device: usize) {
        self.awaited.retain(|((awaited, _), _)| *awaited != device);
    }

    /// The control bits of the device were written.
    pub(super) fn control(&mut self, device: usize, enabled: bool) {
        if enabled { self.disturbed(device) } else { self.forget(device) }
    }

    /// The device may use its queues and vectors in another way from now on.
    pub(super) fn forget(&mut self, device: usize) {
        self.disturbed(device);
        self.queues.retain(|_, seen| seen.place.0 != device);
    }

    /// Takes the oldest event that had time for its message, and no message.
    pub(super) fn overdue(&mut self, line: u64) -> Option<(Place, Moment)> {
        let (_, since) = self.awaited.front()?;
        if line.saturating_sub(since.line) > WINDOW { self.awaited.pop_front() } else { None }
    }
}

/// How often is often enough to know a queue's vector.
const ENOUGH: u32 = 2;
/// Most queues that are remembered: a log may name any number.
const MOST_QUEUES: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(line: u64) -> Moment {
        Moment { line, at: line }
    }

    #[test]
    fn a_queue_is_known_after_two_messages_right_behind_it() {
        let mut queues = Queues::default();
        for (line, known) in [(1, None), (11, None), (21, Some((0, 1)))] {
            assert_eq!(queues.notified(7, line), known);
            queues.message((0, 1), line + 1);
        }
        // Another vector's message: it may be another's now.
        assert_eq!(queues.notified(7, 31), Some((0, 1)));
        queues.message((0, 2), 32);
        assert_eq!(queues.notified(7, 41), None);
        queues.message((0, 2), 44); // too late to tell
        assert_eq!(queues.notified(7, 51), None);
        queues.message((0, 2), 52);
        assert_eq!(queues.notified(7, 61), Some((0, 2)));
        queues.forget(0);
        assert_eq!(queues.notified(7, 71), None);
    }

    #[test]
    fn what_has_no_message_is_overdue_unless_the_guest_changed_something() {
        let mut queues = Queues::default();
        queues.expect((0, 1), at(10));
        queues.expect((0, 1), at(12)); // one message for both
        queues.expect((1, 1), at(13));
        assert!(queues.overdue(10 + WINDOW).is_none());
        queues.disturbed(1);
        let overdue = queues.overdue(11 + WINDOW).map(|(place, when)| (place, when.line));
        assert_eq!(overdue, Some(((0, 1), 10)));
        queues.expect((0, 1), at(200));
        queues.message((0, 1), 205);
        assert!(queues.overdue(1000).is_none());
    }
}
