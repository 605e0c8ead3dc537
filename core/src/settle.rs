//! The one place that emits effects: compares what should hold with what the host was told.

use crate::counters;
use crate::effect::{Effect, EffectSink};
use crate::msix::Msix;
use crate::policy::UnusedPending;
use crate::storage::Storage;
use crate::vectors::{Vector, Vectors};
use core::ops::Range;

/// Consecutive vectors.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Span {
    first: u16,
    end: u16,
}

impl Span {
    pub(crate) const EMPTY: Self = Self { first: 0, end: 0 };

    /// Vectors `first` to `end - 1`.
    pub(crate) const fn new(first: u16, end: u16) -> Self {
        Self { first, end }
    }

    pub(crate) const fn one(vector: Vector) -> Self {
        Self { first: vector.index(), end: vector.index().wrapping_add(1) }
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.first >= self.end
    }

    fn words(self) -> Range<u16> {
        if self.first < self.end { self.first >> 6..self.end.wrapping_add(63) >> 6 } else { 0..0 }
    }

    /// Its members in word `word`, which it touches.
    pub(crate) fn bits(self, word: u16) -> u64 {
        let base = word.wrapping_shl(6);
        let skipped = u32::from(self.first.saturating_sub(base).min(63));
        let after = u32::from(self.end.saturating_sub(base).clamp(1, 64));
        u64::MAX.wrapping_shl(skipped) & u64::MAX.wrapping_shr(64_u32.wrapping_sub(after))
    }
}

/// What an input asks for, besides telling the host what changed in the vectors it touched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// Vectors whose registers or facts the input changed.
    pub(crate) touched: Span,
    /// Vectors whose host-held events are wanted.
    pub(crate) poll: Span,
    /// Vectors whose host-held events must go.
    pub(crate) drain: Span,
    /// A vector whose message is complete with this input (H4).
    pub(crate) completed: Option<Vector>,
    /// Vectors whose entries were written, if anybody wants to know (G2).
    pub(crate) snoop: Span,
    /// The INTx effect of the input (H17).
    pub(crate) intx: Option<Effect>,
    /// Tell the host everything anew, not only the difference (H15).
    pub(crate) again: bool,
}

impl Request {
    pub(crate) const fn touching(touched: Span) -> Self {
        Self {
            touched,
            poll: Span::EMPTY,
            drain: Span::EMPTY,
            completed: None,
            snoop: Span::EMPTY,
            intx: None,
            again: false,
        }
    }
}

/// A sink that, in debug builds, holds every list to its order (I5) and its bound (I6).
struct Out<'a, K> {
    sink: &'a mut K,
    bound: usize,
    rank: u8,
}

impl<K: EffectSink> Out<'_, K> {
    fn push(&mut self, effect: Effect) {
        debug_assert!(effect.rank() >= self.rank, "I5: {effect:?} is out of order");
        debug_assert!(self.bound > 0, "I6: {effect:?} is one too many");
        if cfg!(debug_assertions) {
            self.rank = effect.rank();
            self.bound = self.bound.saturating_sub(1);
        }
        self.sink.push(effect);
    }

    fn push_set(&mut self, kind: fn(Vectors) -> Effect, word: u16, bits: u64) {
        if bits != 0 {
            self.push(kind(Vectors::new(word, bits)));
        }
    }
}

impl<S: Storage> Msix<S> {
    /// All vectors of the function.
    pub(crate) const fn all(&self) -> Span {
        Span::new(0, self.vectors())
    }

    /// Restores I1 and I2 for the vectors that `request` touched, and emits what that takes and
    /// what it asks for, in the order of [`Effect`].
    #[inline]
    pub(crate) fn settle<K: EffectSink>(&mut self, request: Request, fx: &mut K) {
        let mut out = Out { sink: fx, bound: S::MAX_EFFECTS, rank: 0 };
        let touched = request.touched.words();
        if let Some(Effect::IntxDeassert) = request.intx {
            out.push(Effect::IntxDeassert);
        }
        self.each_held(request.poll, Effect::Poll, &mut out);
        for word in touched.clone() {
            self.release(word, request.again, &mut out);
        }
        self.each_held(request.drain, Effect::Drain, &mut out);
        for word in touched.clone() {
            self.use_wanted(word, &mut out);
        }
        if let Some(vector) = request.completed {
            self.reroute(vector, &mut out);
        }
        for word in request.snoop.words() {
            out.push_set(Effect::Snoop, word, request.snoop.bits(word));
        }
        for word in touched.clone() {
            self.deliver(word, &mut out);
        }
        if let Some(Effect::IntxReevaluate) = request.intx {
            out.push(Effect::IntxReevaluate);
        }
        debug_assert_eq!(self.check_words(touched), Ok(()));
    }

    /// What the host should be using of a word (I1). Between load and resume it keeps what it has.
    pub(crate) fn wanted(&self, index: usize) -> u64 {
        match self.storage.memory().words.get(index) {
            Some(word) if self.attached && self.loading => word.live.get(),
            Some(word) if self.attached => self.deliverable(index, word),
            _ => 0,
        }
    }

    fn release<K: EffectSink>(&mut self, index: u16, again: bool, out: &mut Out<'_, K>) {
        let wanted = if again { 0 } else { self.wanted(usize::from(index)) };
        let Some(word) = self.storage.memory_mut().words.get_mut(usize::from(index)) else {
            return;
        };
        let release = word.live.get() & !wanted;
        if release != 0 {
            word.live.remove(release);
            word.fallback.remove(release);
            counters::add(&mut self.counters.releases, release);
            out.push_set(Effect::Release, index, release);
        }
    }

    fn use_wanted<K: EffectSink>(&mut self, index: u16, out: &mut Out<'_, K>) {
        let wanted = self.wanted(usize::from(index));
        let memory = self.storage.memory_mut();
        let Some(word) = memory.words.get_mut(usize::from(index)) else { return };
        let fresh = wanted & !word.live.get();
        if fresh != 0 {
            word.live.insert(fresh);
            counters::add(&mut self.counters.uses, fresh);
            out.push_set(Effect::Use, index, fresh);
            if self.stale_entries != 0 {
                for vector in Vectors::new(index, fresh).iter() {
                    self.mark_stale(vector, false);
                }
            }
        }
    }

    /// Tells the host a message it does not know yet (H4).
    fn reroute<K: EffectSink>(&mut self, vector: Vector, out: &mut Out<'_, K>) {
        let entry = self.storage.memory().entries.get(vector.slot());
        if entry.is_some_and(|entry| entry.is_stale()) && self.is_live(vector) == Some(true) {
            self.mark_stale(vector, false);
            self.counters.reroutes = self.counters.reroutes.wrapping_add(1);
            out.push(Effect::Reroute(Vectors::one(vector)));
        }
    }

    /// Notes whether `vector` has a message that the host was not told.
    pub(crate) fn mark_stale(&mut self, vector: Vector, stale: bool) {
        let entries = self.storage.memory_mut().entries;
        let Some(entry) = entries.get_mut(vector.slot()) else { return };
        if entry.is_stale() != stale {
            entry.set_stale(stale);
            self.stale_entries = if stale {
                self.stale_entries.wrapping_add(1)
            } else {
                self.stale_entries.wrapping_sub(1)
            };
        }
    }

    /// Sends what is pending and deliverable (I2).
    fn deliver<K: EffectSink>(&mut self, index: u16, out: &mut Out<'_, K>) {
        let memory = self.storage.memory();
        let Some(word) = memory.words.get(usize::from(index)) else { return };
        let ready = word.pending.get() & self.deliverable(usize::from(index), word);
        if ready == 0 {
            return;
        }
        let used = self.used_among(Vectors::new(index, ready));
        let lost = match self.policy.unused_pending {
            UnusedPending::Keep => 0,
            UnusedPending::Lose => ready & !used, // H9
        };
        let memory = self.storage.memory_mut();
        let Some(word) = memory.words.get_mut(usize::from(index)) else { return };
        word.pending.remove(used | lost);
        counters::add(&mut self.counters.dropped_unused, lost);
        if self.bus_master {
            counters::add(&mut self.counters.sent, used);
            out.push_set(Effect::Send, index, used);
        } else {
            counters::add(&mut self.counters.dropped_bus_master, used); // H16
        }
    }

    /// Those of `set` that have a use.
    pub(crate) fn used_among(&self, set: Vectors) -> u64 {
        let first = usize::from(set.word()).wrapping_mul(64);
        let uses = self.storage.memory().uses.get(first..).unwrap_or_default();
        // A function that uses all its vectors, as most do, is answered without a look at each.
        if set.len() > 8 && uses.iter().take(64).fold(true, |all, &count| all & (count != 0)) {
            return set.bits();
        }
        let mut used = set.bits();
        let mut rest = set.bits();
        while rest != 0 {
            let lowest = rest & rest.wrapping_neg();
            rest ^= lowest;
            let slot = usize::try_from(lowest.trailing_zeros()).unwrap_or(0);
            if uses.get(slot).is_none_or(|&count| count == 0) {
                used ^= lowest;
            }
        }
        used
    }

    /// Emits `kind` for those of `span` whose events the host holds.
    fn each_held<K: EffectSink>(
        &mut self,
        span: Span,
        kind: fn(Vectors) -> Effect,
        out: &mut Out<'_, K>,
    ) {
        if !self.attached {
            return; // nobody holds anything
        }
        for index in span.words() {
            if let Some(word) = self.storage.memory().words.get(usize::from(index)) {
                out.push_set(kind, index, word.held_by_host() & span.bits(index));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_split_into_words_without_losing_a_vector() {
        for (first, end) in [(0, 1), (63, 64), (63, 65), (0, 2048), (64, 128), (31, 97), (5, 5)] {
            let span = Span::new(first, end);
            let vectors: std::vec::Vec<u16> = span
                .words()
                .flat_map(|word| Vectors::new(word, span.bits(word)).iter())
                .map(Vector::index)
                .collect();
            assert_eq!(vectors, (first..end).collect::<std::vec::Vec<_>>());
        }
    }
}
