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
    /// Commits every change at once.
    pub const NONE: Self = Self { growth: 1, quiet: Duration::ZERO, longest: Duration::ZERO };

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

/// The times when something began to wait and when it was last added to.
#[derive(Debug, Default)]
pub(super) struct CommitPace {
    waiting: Option<(Instant, Instant)>,
}

impl CommitPace {
    /// Notes that something waits since `now`. Returns whether it is the first.
    pub(super) fn note(&mut self, now: Instant) -> bool {
        let before = self.waiting;
        self.waiting = Some((before.map_or(now, |(since, _)| since), now));
        before.is_none()
    }

    /// Returns whether something waits.
    pub(super) const fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Notes that nothing waits any more.
    pub(super) const fn clear(&mut self) {
        self.waiting = None;
    }

    /// Returns when the wait ends; `None` when nothing waits.
    pub(super) fn deadline(&self, deferral: Deferral) -> Option<Instant> {
        let (since, last) = self.waiting?;
        Some((last + deferral.quiet).min(since + deferral.longest))
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

    #[test]
    fn what_waits_ends_its_wait_after_a_quiet_time_or_the_longest() {
        let deferral = Deferral::default();
        let mut pace = CommitPace::default();
        assert_eq!(pace.deadline(deferral), None);
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        assert!(pace.note(start));
        assert_eq!(pace.deadline(deferral), Some(after(10)));
        assert!(!pace.note(after(9)));
        assert_eq!(pace.deadline(deferral), Some(after(19)));
        assert!(!pace.note(after(99)));
        assert_eq!(pace.deadline(deferral), Some(after(100)));
        pace.clear();
        assert_eq!(pace.deadline(deferral), None);
    }
}
