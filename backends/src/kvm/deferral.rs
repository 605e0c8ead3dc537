//! When a commit of the route table is worth it. Pure.

use std::time::{Duration, Instant};

/// How long changed routes may wait for each other. A commit costs time for every route in the table
/// (K3), and Linux unmasks vectors one by one: N commits for N vectors are N * N. A vector whose
/// route waits is delivered through KVM_SIGNAL_MSI, so what waits is the cheaper way, never an
/// event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deferral {
    /// A commit is worth it when it multiplies the routes that KVM knows by this much: N vectors
    /// cost a logarithm of N commits. 1 commits at once, always.
    pub growth: u32,
    /// The time without another change after which the rest is committed.
    pub quiet: Duration,
    /// The time after which it is committed although changes go on.
    pub longest: Duration,
}

impl Deferral {
    /// A commit for every change.
    pub const NONE: Self = Self { growth: 1, quiet: Duration::ZERO, longest: Duration::ZERO };

    /// Whether `stale` changed routes, with `clean` ones beside them, are worth a commit. A batch of
    /// several vectors is a whole function coming up, and always is.
    pub(super) const fn is_worth_it(self, stale: usize, clean: usize, batch: usize) -> bool {
        let more = self.growth.saturating_sub(1) as usize;
        stale > 0 && (batch > 1 || stale >= more.saturating_mul(clean))
    }
}

impl Default for Deferral {
    /// Eightfold growth, 10 ms of quiet, at most 100 ms.
    fn default() -> Self {
        Self { growth: 8, quiet: Duration::from_millis(10), longest: Duration::from_millis(100) }
    }
}

/// When something began to wait, and when it was last added to.
#[derive(Debug, Default)]
pub(super) struct CommitPace {
    waiting: Option<(Instant, Instant)>,
}

impl CommitPace {
    /// Something waits since now. Whether it is the first.
    pub(super) fn note(&mut self, now: Instant) -> bool {
        let before = self.waiting;
        self.waiting = Some((before.map_or(now, |(since, _)| since), now));
        before.is_none()
    }

    /// Nothing waits any more.
    pub(super) const fn clear(&mut self) {
        self.waiting = None;
    }

    /// When the wait ends; `None` when nothing waits.
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
