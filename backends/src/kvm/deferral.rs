//! Decides when a commit of the route table is worth its cost. Pure.

use std::time::{Duration, Instant};

/// How long changed routes may wait to be committed together. A commit costs time for every route
/// in the table (K3), and Linux unmasks vectors one by one, so N commits for N vectors would cost N
/// * N. A vector with a waiting route is delivered through KVM_SIGNAL_MSI: no event waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deferral {
    /// A commit is worth it when it multiplies the number of routes that KVM knows by this much: N
    /// vectors then take log N commits. With 1 every change is committed at once.
    pub growth: u32,
    /// The time without a change after which the rest is committed.
    pub quiet: Duration,
    /// The time after which the rest is committed even if changes go on.
    pub longest: Duration,
}

impl Deferral {
    /// Commits every change at once. What was refused is tried again later all the same
    /// ([`RouteOptions::retry`](super::RouteOptions::retry)).
    pub const NONE: Self = Self { growth: 1, quiet: Duration::ZERO, longest: Duration::ZERO };

    /// Returns the same with a quiet time that is not longer than the longest wait.
    pub(super) fn bounded(self) -> Self {
        Self { quiet: self.quiet.min(self.longest), ..self }
    }

    /// Returns whether `stale` changed routes, beside `clean` ones, are worth a commit. A `batch`
    /// of several vectors is a whole function coming up, which always is.
    pub(super) const fn is_worth_it(self, stale: usize, clean: usize, batch: usize) -> bool {
        let more = self.growth.saturating_sub(1) as usize;
        stale > 0 && (batch > 1 || stale >= more.saturating_mul(clean))
    }
}

impl Default for Deferral {
    /// Returns eightfold growth, 10 ms of quiet, at most 100 ms.
    fn default() -> Self {
        Self { growth: 8, quiet: Duration::from_millis(10), longest: Duration::from_millis(100) }
    }
}

/// Why something waits for the next flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// A route is to be committed.
    Commit,
    /// Something was refused, or put off, and is tried again: not at once, or a guest could keep a thread
    /// busy with what is refused each time.
    Retry,
}

/// The times when something began to wait.
#[derive(Debug, Default)]
pub(super) struct CommitPace {
    /// When a route began to wait, and when the last one did.
    commit: Option<(Instant, Instant)>,
    /// When something was first refused.
    retry: Option<Instant>,
}

impl CommitPace {
    /// Notes that something waits since `now`. Returns whether it is the first of its kind.
    pub(super) fn note(&mut self, now: Instant, why: Wait) -> bool {
        let is_first = !self.has(why);
        match (why, &mut self.commit) {
            (Wait::Commit, Some((_since, last))) => *last = now,
            (Wait::Commit, none) => *none = Some((now, now)),
            (Wait::Retry, _) => _ = self.retry.get_or_insert(now),
        }
        is_first
    }

    /// Returns whether something of this kind waits.
    pub(super) const fn has(&self, why: Wait) -> bool {
        match why {
            Wait::Commit => self.commit.is_some(),
            Wait::Retry => self.retry.is_some(),
        }
    }

    /// Notes that nothing waits any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns when the wait ends; `None` when nothing waits. What was refused waits for `pause`.
    pub(super) fn deadline(&self, deferral: Deferral, pause: Duration) -> Option<Instant> {
        let commit =
            self.commit.map(|(since, last)| [(last, deferral.quiet), (since, deferral.longest)]);
        let retry = self.retry.map(|since| (since, pause));
        // A time that never comes is none.
        let ends = |(from, wait): (Instant, Duration)| from.checked_add(wait);
        commit.into_iter().flatten().chain(retry).filter_map(ends).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bringing_up_vectors_one_by_one_takes_a_logarithm_of_commits() {
        let deferral = Deferral::default();
        for (vectors, most) in [(1, 1), (64, 3), (256, 3), (1024, 4), (2048, 4)] {
            let (mut clean, mut commits) = (0, 0);
            for total in 1..=vectors {
                if deferral.is_worth_it(total - clean, clean, 1) {
                    (clean, commits) = (total, commits + 1);
                }
            }
            assert!(commits <= most, "{commits} for {vectors}");
        }
        assert!(deferral.is_worth_it(1, 0, 1));
        assert!(!deferral.is_worth_it(1, 1, 1));
        assert!(deferral.is_worth_it(2, 2000, 2), "a whole function");
        assert!(!deferral.is_worth_it(0, 0, 9), "nothing to tell");
        assert!(Deferral::NONE.is_worth_it(1, 4000, 1));
    }

    const PAUSE: Duration = Duration::from_millis(7);

    #[test]
    fn what_waits_ends_its_wait_after_a_quiet_time_or_the_longest() {
        let deferral = Deferral::default();
        let mut pace = CommitPace::default();
        let deadline = |pace: &CommitPace| pace.deadline(deferral, PAUSE);
        assert_eq!(deadline(&pace), None);
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        assert!(pace.note(start, Wait::Commit));
        assert_eq!(deadline(&pace), Some(after(10)));
        assert!(!pace.note(after(9), Wait::Commit));
        assert_eq!(deadline(&pace), Some(after(19)));
        assert!(!pace.note(after(99), Wait::Commit));
        assert_eq!(deadline(&pace), Some(after(100)));
        pace.clear();
        assert_eq!(deadline(&pace), None);
    }

    #[test]
    fn what_was_refused_waits_for_its_own_pause_however_soon_routes_are_committed() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let hour = Duration::from_secs(3600);
        let patient = Deferral { growth: 8, quiet: hour, longest: hour };
        for deferral in [Deferral::NONE, Deferral::default(), patient] {
            let mut pace = CommitPace::default();
            assert!(pace.note(start, Wait::Retry));
            assert!(!pace.note(after(5), Wait::Retry), "the pause is not begun again");
            assert_eq!(pace.deadline(deferral, PAUSE), Some(after(7)));
            assert!(pace.note(after(6), Wait::Commit), "the first of its kind");
            let commit = after(6) + deferral.quiet;
            assert_eq!(pace.deadline(deferral, PAUSE), Some(commit.min(after(7))));
        }
        let never = Deferral { growth: 8, quiet: Duration::MAX, longest: Duration::MAX };
        let mut pace = CommitPace::default();
        pace.note(start, Wait::Commit);
        pace.note(start, Wait::Retry);
        assert_eq!(pace.deadline(never, Duration::MAX), None);
    }
}
