//! Messages that are due, and raises whose device is not decided yet.

use super::device::Sent;
use crate::timeline::Moment;
use msix_core::Message;
use msix_peers::trace::RaiseEvent;
use std::collections::VecDeque;

/// A message the engine sent and the log has not shown yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) device: usize,
    pub(crate) sent: Sent,
    /// What caused it.
    pub(crate) when: Moment,
    pub(crate) cause: Cause,
    /// Place among the messages of that line, from 0.
    nth: u64,
}

/// Why a message is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The raise on the line.
    Raise,
    /// The write on the line made a pending vector deliverable.
    Release,
}

/// A named raise that the message after it may decide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deferred {
    pub(crate) event: &'static RaiseEvent,
    pub(crate) vector: u16,
    pub(crate) line: u64,
    /// The only device it can be, if there is only one.
    pub(crate) device: Option<usize>,
}

/// What waits for its message.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    expected: VecDeque<Expected>,
    deferred: VecDeque<Deferred>,
}

impl Ledger {
    pub(crate) fn expect(&mut self, device: usize, sent: Sent, when: Moment, cause: Cause) {
        let same = self.expected.iter().rev().take_while(|before| before.when.line == when.line);
        let nth = same.count() as u64;
        self.expected.push_back(Expected { device, sent, when, cause, nth });
    }

    pub(crate) fn defer(&mut self, deferred: Deferred) {
        self.deferred.push_back(deferred);
    }

    /// Takes the newest expectation of this message. A message follows its cause at once, so that
    /// when one is lost, it is the older one that stays.
    pub(crate) fn meet(&mut self, message: Message) -> Option<Expected> {
        let at = self.expected.iter().rposition(|expected| expected.sent.message == message)?;
        self.expected.remove(at)
    }

    /// Takes the oldest undecided raise for which `decide` names a device.
    pub(crate) fn decide<T>(
        &mut self,
        decide: impl Fn(&Deferred) -> Option<T>,
    ) -> Option<(Deferred, T)> {
        let found = self.deferred.iter().map(decide).enumerate();
        let (at, decision) = found.filter_map(|(at, found)| Some((at, found?))).next()?;
        Some((self.deferred.remove(at)?, decision))
    }

    /// Takes what should have been met before `line`: a message follows its cause at once, after
    /// the messages that the same cause put before it, and lines of other threads.
    ///
    /// `patience` is how much later at least, on the axis of [`Moment::at`].
    pub(crate) fn overdue(&mut self, now: Moment, patience: u64) -> (Vec<Expected>, Vec<Deferred>) {
        let late = |since: u64, nth: u64| now.line.saturating_sub(since) > super::WINDOW + nth;
        let late_at = |since: Moment, nth: u64| {
            late(since.line, nth) && now.at.saturating_sub(since.at) >= patience
        };
        if self.expected.is_empty() && self.deferred.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let (overdue, waiting) =
            std::mem::take(&mut self.expected).into_iter().partition(|e| late_at(e.when, e.nth));
        self.expected = waiting;
        let overdue: VecDeque<Expected> = overdue;
        let (undecided, waiting) =
            std::mem::take(&mut self.deferred).into_iter().partition(|d| late(d.line, 0));
        self.deferred = waiting;
        let undecided: VecDeque<Deferred> = undecided;
        (overdue.into(), undecided.into())
    }
}

impl Expected {
    /// Whether a log whose last whole line is `last` had room for the message.
    pub(crate) const fn had_room(&self, last: Moment, patience: u64) -> bool {
        let time = last.at.saturating_sub(self.when.at) >= patience;
        last.line.saturating_sub(self.when.line) > self.nth && time
    }
}
