//! Turns the set of vectors that should be bound into the fewest VFIO_DEVICE_SET_IRQS calls. Pure.

use crate::kvm::IndexState;
use std::collections::BTreeSet;
use std::ops::Range;

/// One VFIO_DEVICE_SET_IRQS call on the MSI-X index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IrqCall {
    /// Binds or unbinds the vectors from `start` on (DATA_EVENTFD and ACTION_TRIGGER): `true` binds
    /// a vector to its eventfd, `false` passes -1 and unbinds it (D3, D4). On an idle index, it
    /// enables the index.
    Set {
        /// The first vector.
        start: u32,
        /// The states of the first vector and those after it.
        bound: Vec<bool>,
    },
    /// Unbinds a range of vectors, where -1 cannot be passed (D14).
    Unset {
        /// The vectors.
        vectors: Range<u32>,
    },
    /// Disables the index (DATA_NONE and ACTION_TRIGGER with count 0, D5).
    Disable,
}

/// The properties of an MSI-X index, from the kernel and its transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IrqIndex {
    /// Vectors of the device (`vfio_irq_info.count`).
    pub count: u32,
    /// VFIO_IRQ_INFO_NORESIZE: binding more vectors than were enabled takes a disable and a full
    /// enable (D6).
    pub noresize: bool,
    /// Whether a call may leave vectors out with -1. Every kernel takes that; a vfio-user server
    /// does not (D14).
    pub holes: bool,
}

/// The plan of one device's MSI-X index: what is wanted, and what the kernel has.
#[derive(Debug, Clone)]
pub struct IrqPlan {
    index: IrqIndex,
    /// The guest's MSI-X Enable, which the physical one follows at once (D7).
    enabled: bool,
    wanted: BTreeSet<u32>,
    told: IndexState,
}

impl IrqPlan {
    /// Makes a plan for an index that is idle.
    #[must_use]
    pub const fn new(index: IrqIndex) -> Self {
        Self { index, enabled: false, wanted: BTreeSet::new(), told: IndexState::Idle }
    }

    /// Makes a plan for an index that another process left like this. What is bound is wanted.
    #[must_use]
    pub fn taken_over(index: IrqIndex, state: IndexState) -> Self {
        let wanted = match &state {
            IndexState::Active { bound, .. } => bound.clone(),
            IndexState::Idle | IndexState::Unknown => BTreeSet::new(),
        };
        Self { index, enabled: false, wanted, told: state }
    }

    /// Returns the state of the index in the kernel.
    #[must_use]
    pub const fn state(&self) -> &IndexState {
        &self.told
    }

    /// Returns the properties of the index.
    #[must_use]
    pub const fn index(&self) -> IrqIndex {
        self.index
    }

    /// Sets whether the index should be enabled; if not, nothing is bound.
    pub const fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    /// Sets whether a vector should be bound to its eventfd. Returns whether the device has the
    /// vector: past its vectors there is nothing to bind (D1).
    pub fn set_bound(&mut self, vector: u32, bound: bool) -> bool {
        if vector >= self.index.count {
            return false;
        }
        if bound {
            self.wanted.insert(vector);
        } else {
            self.wanted.remove(&vector);
        }
        true
    }

    /// Returns the vectors that should be bound.
    pub fn wanted(&self) -> impl Iterator<Item = u32> {
        self.wanted.iter().copied()
    }

    /// Returns the first vector behind those that should be bound.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.wanted.last().map_or(0, |last| last + 1)
    }

    /// Returns whether `vector` should be bound.
    #[must_use]
    pub fn wants(&self, vector: u32) -> bool {
        self.wanted.contains(&vector)
    }

    /// Returns whether the kernel has `vector` bound.
    #[must_use]
    pub fn is_bound(&self, vector: u32) -> bool {
        matches!(&self.told, IndexState::Active { bound, .. } if bound.contains(&vector))
    }

    /// Returns the calls that bring the kernel to what is wanted. After each call, report that it
    /// is [`done`](Self::done); when one [`failed`](Self::failed), report that and plan anew.
    #[must_use]
    pub fn calls(&self) -> Vec<IrqCall> {
        match (&self.told, self.enabled) {
            (IndexState::Idle, false) => Vec::new(),
            (_, false) => vec![IrqCall::Disable],
            (IndexState::Idle, true) => self.enable(),
            (IndexState::Unknown, true) => self.enable_anew(),
            (IndexState::Active { allocated, bound }, true) => {
                let end = self.end();
                if self.index.noresize && end > *allocated {
                    return self.enable_anew();
                }
                self.changes(bound)
            }
        }
    }

    /// Notes that a call was carried out.
    pub fn done(&mut self, call: &IrqCall) {
        match call {
            IrqCall::Disable => self.told = IndexState::Idle,
            IrqCall::Set { start, bound: states } => {
                let end = start.saturating_add(len(states));
                if self.told == IndexState::Idle {
                    self.told = IndexState::Active { allocated: end, bound: BTreeSet::new() };
                }
                if let IndexState::Active { allocated, bound } = &mut self.told {
                    *allocated = (*allocated).max(end);
                    for (vector, state) in (*start..).zip(states) {
                        if *state {
                            bound.insert(vector);
                        } else {
                            bound.remove(&vector);
                        }
                    }
                }
            }
            IrqCall::Unset { vectors } => {
                if let IndexState::Active { bound, .. } = &mut self.told {
                    bound.retain(|vector| !vectors.contains(vector));
                }
            }
        }
    }

    /// Notes that a call failed. One on an enabled index has unbound the vectors that it named,
    /// including those that were bound before, and no others (D4): the next plan binds again those
    /// that are wanted, and leaves the others alone, because a disable would drop what they have in
    /// flight (D8). After any other call the index may be in any state, and the next plan applies
    /// everything anew.
    pub fn failed(&mut self, call: &IrqCall) {
        let named = match call {
            IrqCall::Set { start, bound } => *start..start.saturating_add(len(bound)),
            IrqCall::Unset { vectors } => vectors.clone(),
            IrqCall::Disable => 0..u32::MAX,
        };
        match &mut self.told {
            IndexState::Active { bound, .. } if *call != IrqCall::Disable => {
                bound.retain(|vector| !named.contains(vector));
            }
            told => *told = IndexState::Unknown,
        }
    }

    fn enable_anew(&self) -> Vec<IrqCall> {
        let mut calls = vec![IrqCall::Disable];
        calls.extend(self.enable());
        calls
    }

    /// Enables an idle index, in one call where holes may be passed.
    fn enable(&self) -> Vec<IrqCall> {
        let end = self.end();
        if self.index.holes {
            let bound = (0..end.max(1)).map(|vector| self.wants(vector)).collect();
            return vec![IrqCall::Set { start: 0, bound }]; // D7 when nothing is wanted
        }
        runs(self.wanted.iter().copied())
            .map(|run| IrqCall::Set { start: run.start, bound: vec![true; run.len()] })
            .collect()
    }

    /// The calls for what changed. A vector that stays bound must not be named: binding it again
    /// would disturb it. One that stays unbound may be, as a hole.
    fn changes(&self, bound: &BTreeSet<u32>) -> Vec<IrqCall> {
        let fresh = self.wanted.difference(bound).copied();
        let gone = bound.difference(&self.wanted).copied();
        if !self.index.holes {
            let gone = runs(gone).map(|vectors| IrqCall::Unset { vectors });
            let set =
                |run: Range<u32>| IrqCall::Set { start: run.start, bound: vec![true; run.len()] };
            return gone.chain(runs(fresh).map(set)).collect();
        }
        let changed: BTreeSet<u32> = fresh.chain(gone).collect();
        let mut calls: Vec<IrqCall> = Vec::new();
        let mut last = None;
        for &vector in &changed {
            let wanted = self.wants(vector);
            let bridged = last.is_some_and(|last| bound.range(last + 1..vector).next().is_none());
            match calls.last_mut() {
                Some(IrqCall::Set { start, bound: states }) if bridged => {
                    states.resize((vector - *start) as usize, false);
                    states.push(wanted);
                }
                _ => calls.push(IrqCall::Set { start: vector, bound: vec![wanted] }),
            }
            last = Some(vector);
        }
        calls
    }
}

fn len(states: &[bool]) -> u32 {
    u32::try_from(states.len()).unwrap_or(u32::MAX)
}

/// Splits ascending numbers into ranges without gaps.
fn runs(numbers: impl Iterator<Item = u32>) -> impl Iterator<Item = Range<u32>> {
    let mut numbers = numbers.peekable();
    std::iter::from_fn(move || {
        let start = numbers.next()?;
        let mut end = start + 1;
        while numbers.next_if_eq(&end).is_some() {
            end += 1;
        }
        Some(start..end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DYNAMIC: IrqIndex = IrqIndex { count: 64, noresize: false, holes: true };
    const NORESIZE: IrqIndex = IrqIndex { noresize: true, ..DYNAMIC };
    const USER: IrqIndex = IrqIndex { holes: false, ..DYNAMIC };

    fn set(start: u32, states: &str) -> IrqCall {
        IrqCall::Set { start, bound: states.chars().map(|state| state == 'x').collect() }
    }

    /// Wants exactly these, and carries the calls out.
    fn go(plan: &mut IrqPlan, wanted: &[u32]) -> Vec<IrqCall> {
        (0..plan.index.count)
            .for_each(|vector| _ = plan.set_bound(vector, wanted.contains(&vector)));
        let calls = plan.calls();
        calls.iter().for_each(|call| plan.done(call));
        assert_eq!(plan.calls(), [], "nothing is left to do");
        assert!((0..plan.index.count).all(|v| plan.is_bound(v) == wanted.contains(&v)));
        calls
    }

    fn enabled(index: IrqIndex) -> IrqPlan {
        let mut plan = IrqPlan::new(index);
        assert_eq!(plan.calls(), []);
        plan.set_enabled(true);
        plan
    }

    #[test]
    fn d7_the_index_is_enabled_with_no_vector_as_soon_as_the_guest_enables() {
        for index in [DYNAMIC, NORESIZE] {
            let mut plan = enabled(index);
            assert_eq!(go(&mut plan, &[]), [set(0, ".")]);
            plan.set_enabled(false);
            assert_eq!(plan.calls(), [IrqCall::Disable]);
            plan.done(&IrqCall::Disable);
            assert_eq!(plan.calls(), []);
        }
    }

    #[test]
    fn d6_growth_is_sparse_where_the_kernel_allows_and_anew_where_not() {
        let mut plan = enabled(DYNAMIC);
        assert_eq!(go(&mut plan, &[1]), [set(0, ".x")]);
        assert_eq!(go(&mut plan, &[1, 5, 7]), [set(5, "x.x")]);
        assert_eq!(go(&mut plan, &[0, 1, 7]), [set(0, "x"), set(5, ".")], "1 stays undisturbed");
        assert_eq!(go(&mut plan, &[]), [set(0, "........")], "nothing between them is bound");

        let mut plan = enabled(NORESIZE);
        assert_eq!(go(&mut plan, &[1]), [set(0, ".x")]);
        assert_eq!(go(&mut plan, &[0, 1]), [set(0, "x")], "what was allocated can be used");
        assert_eq!(go(&mut plan, &[0, 1, 3]), [IrqCall::Disable, set(0, "xx.x")]);
        assert_eq!(go(&mut plan, &[3]), [set(0, "..")]);
        assert_eq!(go(&mut plan, &[2, 3]), [set(2, "x")]);
    }

    #[test]
    fn d4_after_an_error_what_was_named_is_bound_again_and_nothing_else_disturbed() {
        for index in [DYNAMIC, NORESIZE, USER] {
            let mut plan = enabled(index);
            go(&mut plan, &[0, 1, 2, 5]);
            go(&mut plan, &[0, 5]);
            let calls = {
                plan.set_bound(1, true);
                plan.calls()
            };
            assert_eq!(calls, [set(1, "x")]);
            plan.failed(&calls[0]);
            assert_eq!((plan.is_bound(0), plan.is_bound(1)), (true, false));
            assert_eq!(plan.calls(), calls);
            // One that named a bound one has unbound it.
            plan.failed(&set(0, "xx"));
            assert!(!plan.is_bound(0));
            assert_eq!(plan.calls(), [set(0, "xx")]);
        }
    }

    #[test]
    fn d3_after_an_error_of_an_enable_or_a_disable_everything_is_applied_anew() {
        for index in [DYNAMIC, NORESIZE, USER] {
            let mut plan = enabled(index);
            assert!(plan.set_bound(0, true));
            let calls = plan.calls();
            plan.failed(&calls[0]);
            assert_eq!(plan.calls(), [IrqCall::Disable, set(0, "x")]);
            let mut plan = enabled(index);
            go(&mut plan, &[0, 1]);
            plan.set_enabled(false);
            plan.failed(&IrqCall::Disable);
            assert!(!plan.is_bound(0));
            assert_eq!(plan.calls(), [IrqCall::Disable]);
            plan.set_enabled(true);
            assert_eq!(plan.calls(), [IrqCall::Disable, set(0, "xx")]);
        }
    }

    #[test]
    fn d1_nothing_past_the_devices_vectors_is_asked_for() {
        let mut plan = enabled(DYNAMIC);
        assert!(!plan.set_bound(64, true));
        assert!(plan.set_bound(63, true));
        assert_eq!(plan.wanted().collect::<Vec<_>>(), [63]);
    }

    #[test]
    fn d14_without_holes_sets_are_split_and_unbound_ranges_are_named() {
        let mut plan = enabled(USER);
        assert_eq!(go(&mut plan, &[]), []);
        assert_eq!(go(&mut plan, &[1, 2, 5]), [set(1, "xx"), set(5, "x")]);
        let calls = go(&mut plan, &[2, 6]);
        assert_eq!(
            calls,
            [IrqCall::Unset { vectors: 1..2 }, IrqCall::Unset { vectors: 5..6 }, set(6, "x")]
        );
    }

    #[test]
    fn any_history_ends_with_what_is_wanted_and_disturbs_nothing_that_stays() {
        let mut random = fastrand::Rng::with_seed(5);
        for index in [DYNAMIC, NORESIZE, USER] {
            let mut plan = enabled(index);
            let mut before: BTreeSet<u32> = BTreeSet::new();
            for _ in 0..500 {
                let wanted: Vec<u32> = (0..12).filter(|_| random.bool()).collect();
                let stays: Vec<u32> =
                    wanted.iter().copied().filter(|v| before.contains(v)).collect();
                let calls = go(&mut plan, &wanted);
                let anew = calls.contains(&IrqCall::Disable);
                assert!(!anew || index.noresize);
                for call in &calls {
                    if let (IrqCall::Set { start, bound }, false) = (call, anew) {
                        let named = *start..*start + bound.len() as u32;
                        assert!(!stays.iter().any(|v| named.contains(v)), "{calls:?} {stays:?}");
                    }
                }
                before = wanted.into_iter().collect();
            }
        }
    }
}
