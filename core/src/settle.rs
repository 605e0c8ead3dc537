//! The one place that emits effects: compares what should hold with what the host was told.

use crate::counters;
use crate::effect::{Effect, EffectSink};
use crate::entry::Entry;
use crate::events::{Delivery, DropReason};
use crate::gate::{ATTACHED, BUS_MASTER, Gate, LOADING};
use crate::msix::Msix;
use crate::policy::UnclaimedPending;
use crate::span::Span;
use crate::storage::Storage;
use crate::vectors::{Vector, Vectors, WORDS, per_word};

/// Most effects that an input about one vector emits (I6).
const ONE_VECTOR: usize = 4;

/// What an input asks for, besides telling the host what changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// Vectors whose host-held events are wanted.
    pub(crate) poll: Span,
    /// Vectors whose host-held events must go.
    pub(crate) drain: Span,
    /// The INTx effect of the input (H17).
    pub(crate) intx: Option<Effect>,
    /// Vectors whose entries were written, where somebody wants to know (G2).
    pub(crate) snoop: Span,
}

impl Request {
    /// Only the difference.
    pub(crate) const DIFFERENCE: Self =
        Self { poll: Span::EMPTY, drain: Span::EMPTY, intx: None, snoop: Span::EMPTY };
}

/// What an input about one vector did to its entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    /// A guest wrote it (G2).
    pub(crate) written: bool,
    /// Its message is complete with this input (H4).
    pub(crate) complete: bool,
}

impl Change {
    pub(crate) const NONE: Self = Self { written: false, complete: false };
}

/// A sink that, in debug builds, holds every list to its order (I5) and its bound (I6).
pub(crate) struct Out<'a, K> {
    sink: &'a mut K,
    bound: usize,
    rank: u8,
}

impl<'a, K: EffectSink> Out<'a, K> {
    pub(crate) fn new(sink: &'a mut K, bound: usize) -> Self {
        Self { sink, bound, rank: 0 }
    }

    #[inline]
    pub(crate) fn push(&mut self, effect: Effect) {
        debug_assert!(effect.rank() >= self.rank, "I5: {effect:?} is out of order");
        debug_assert!(self.bound > 0, "I6: {effect:?} is one too many");
        if cfg!(debug_assertions) {
            self.rank = effect.rank();
            self.bound = self.bound.saturating_sub(1);
        }
        self.sink.push(effect);
    }
}

impl<S: Storage> Msix<S> {
    /// All vectors of the function.
    pub(crate) const fn all(&self) -> Span {
        Span::new(0, self.vectors())
    }

    /// Restores I1 and I2 for all vectors, and emits what that takes and what `request` asks for,
    /// in the order of [`Effect`].
    pub(crate) fn settle<K: EffectSink>(&mut self, request: Request, fx: &mut K) {
        let mut out = Out::new(fx, S::MAX_EFFECTS);
        if let Some(Effect::IntxDeassert) = request.intx {
            out.push(Effect::IntxDeassert);
        }
        if !request.poll.is_empty() {
            self.each_held(request.poll, Effect::Poll, &mut out);
        }
        let (some_fresh, some_ready) = self.release_unwanted(&mut out);
        if !request.drain.is_empty() {
            self.each_held(request.drain, Effect::Drain, &mut out);
        }
        if some_fresh {
            self.use_wanted(&mut out);
        }
        for index in request.snoop.words() {
            out.push(Effect::Snoop(Vectors::new(index, request.snoop.bits(index))));
        }
        if some_ready {
            self.send_ready(&mut out);
        }
        if let Some(Effect::IntxReevaluate) = request.intx {
            out.push(Effect::IntxReevaluate);
        }
        debug_assert_eq!(self.check(), Ok(()));
    }

    /// Releases what is live and not wanted. Whether a wanted vector is not live, and whether a
    /// deliverable one is pending.
    fn release_unwanted<K: EffectSink>(&mut self, out: &mut Out<'_, K>) -> (bool, bool) {
        let gate = Gate::new(self.facts, &self.policy);
        let memory = self.storage.memory_mut();
        let (mut fresh, mut ready, mut released) = (0, 0, 0);
        for (index, word) in WORDS.zip(memory.words.iter_mut()) {
            let deliverable = gate.deliverable(memory.entries, index, word);
            let (wanted, live) = (gate.wanted(deliverable, word), word.live.get());
            ready |= deliverable & word.pending.get();
            fresh |= wanted & !live;
            if live & !wanted != 0 {
                word.live.keep(wanted);
                word.fallback.keep(wanted);
                counters::add(&mut released, live & !wanted);
                out.push(Effect::Disarm(Vectors::new(index, live & !wanted)));
            }
        }
        self.counters.disarms = self.counters.disarms.wrapping_add(released);
        (fresh != 0, ready != 0)
    }

    /// Uses what is wanted and not live.
    #[inline(never)]
    fn use_wanted<K: EffectSink>(&mut self, out: &mut Out<'_, K>) {
        let gate = Gate::new(self.facts, &self.policy);
        let memory = self.storage.memory_mut();
        let mut used = 0;
        for (index, word) in WORDS.zip(memory.words.iter_mut()) {
            let deliverable = gate.deliverable(memory.entries, index, word);
            let fresh = gate.wanted(deliverable, word) & !word.live.get();
            if fresh != 0 {
                word.live.insert(fresh);
                counters::add(&mut used, fresh);
                out.push(Effect::Arm(Vectors::new(index, fresh)));
                if self.stale_entries != 0 {
                    let told = |v| _ = told(memory.entries, v, &mut self.stale_entries);
                    Vectors::new(index, fresh).iter().for_each(told);
                }
            }
        }
        self.counters.arms = self.counters.arms.wrapping_add(used);
    }

    /// Sends what is pending and deliverable (I2).
    #[inline(never)]
    fn send_ready<K: EffectSink>(&mut self, out: &mut Out<'_, K>) {
        let gate = Gate::new(self.facts, &self.policy);
        let memory = self.storage.memory_mut();
        let bus_master = self.facts.has(BUS_MASTER);
        let lose = self.policy.unclaimed_pending == UnclaimedPending::Lose;
        let (mut sent, mut lost) = (0, 0);
        let words = memory.words.iter_mut().zip(per_word(memory.claims));
        for (index, (word, uses)) in WORDS.zip(words) {
            let ready = word.pending.get() & gate.deliverable(memory.entries, index, word);
            if ready == 0 {
                continue;
            }
            let used = used_among(uses, ready);
            word.pending.remove(used);
            if used != ready && lose {
                word.pending.remove(ready);
                counters::add(&mut lost, ready & !used); // H9
            }
            if used != 0 {
                counters::add(&mut sent, used);
                if bus_master {
                    out.push(Effect::Send(Vectors::new(index, used)));
                }
            }
        }
        let counters = &mut self.counters;
        let total = if bus_master { &mut counters.sent } else { &mut counters.dropped_bus_master }; // H16
        *total = total.wrapping_add(sent);
        counters.dropped_unclaimed = counters.dropped_unclaimed.wrapping_add(lost);
    }

    /// As [`settle`](Self::settle), when the input changed nothing but registers and uses of
    /// `vector`.
    #[inline]
    pub(crate) fn settle_vector<K: EffectSink>(
        &mut self,
        vector: Vector,
        change: Change,
        fx: &mut K,
    ) {
        if self.policy.never_masked.is_none() {
            self.settle_one(vector, false, change, fx);
        } else {
            self.settle_exempt(vector, change, fx);
        }
    }

    #[cold]
    #[inline(never)]
    fn settle_exempt<K: EffectSink>(&mut self, vector: Vector, change: Change, fx: &mut K) {
        let exempt = self.facts.open() && self.is_never_masked(vector);
        self.settle_one(vector, exempt, change, fx);
    }

    /// `exempt`: it may send, whatever its masks say (H25).
    #[inline]
    fn settle_one<K: EffectSink>(
        &mut self,
        vector: Vector,
        exempt: bool,
        change: Change,
        fx: &mut K,
    ) {
        let mut out = Out::new(fx, ONE_VECTOR);
        let (set, bit) = (Vectors::one(vector), vector.bit());
        let memory = self.storage.memory_mut();
        let Some(word) = memory.words.get_mut(vector.word()) else { return };
        let deliverable = exempt || self.facts.unmasked() && word.masked.get() & bit == 0;
        let was_live = word.live.get() & bit != 0;
        let live =
            if self.facts.settled() { deliverable } else { was_live && self.facts.has(ATTACHED) };
        if was_live && !live {
            word.live.remove(bit);
            word.fallback.remove(bit);
            counters::one(&mut self.counters.disarms);
            out.push(Effect::Disarm(set));
        }
        if live && !was_live {
            word.live.insert(bit);
            counters::one(&mut self.counters.arms);
            out.push(Effect::Arm(set));
        }
        let ready = deliverable && word.pending.get() & bit != 0;
        if ready || self.stale_entries != 0 || self.policy.snoop {
            self.settle_rest(vector, (was_live, live), ready, change, &mut out);
        }
        debug_assert_eq!(self.check_words(set.word()..set.word().wrapping_add(1)), Ok(()));
    }

    /// What few inputs about one vector need, after its Disarm or Arm.
    #[inline(never)]
    fn settle_rest<K: EffectSink>(
        &mut self,
        vector: Vector,
        (was_live, live): (bool, bool),
        ready: bool,
        change: Change,
        out: &mut Out<'_, K>,
    ) {
        // Between load and resume the host keeps what it has; the resume tells it all (H15).
        let tells = !self.facts.has(LOADING) && (change.complete || !was_live);
        if live && tells {
            let entries = self.storage.memory_mut().entries;
            if told(entries, vector, &mut self.stale_entries) && was_live {
                counters::one(&mut self.counters.reroutes);
                out.push(Effect::Reroute(Vectors::one(vector))); // H4
            }
        }
        if self.policy.snoop && change.written {
            out.push(Effect::Snoop(Vectors::one(vector))); // G2
        }
        if ready {
            self.send_pending(vector, out);
        }
    }

    /// Sends the message of a deliverable vector that is pending, if it has a use (I2).
    fn send_pending<K: EffectSink>(&mut self, vector: Vector, out: &mut Out<'_, K>) {
        let used = self.claims(vector).is_some_and(|count| count != 0);
        if !used && self.policy.unclaimed_pending == UnclaimedPending::Keep {
            return;
        }
        if let Some(word) = self.storage.memory_mut().words.get_mut(vector.word()) {
            word.pending.remove(vector.bit());
        }
        if !used {
            counters::one(&mut self.counters.dropped_unclaimed); // H9
        } else if self.facts.has(BUS_MASTER) {
            counters::one(&mut self.counters.sent);
            out.push(Effect::Send(Vectors::one(vector)));
        } else {
            counters::one(&mut self.counters.dropped_bus_master); // H16
        }
    }

    /// Sends the message of a used, deliverable vector at once (A7). By I2 it is not pending.
    #[inline]
    pub(crate) fn send_event<K: EffectSink>(&mut self, vector: Vector, fx: &mut K) -> Delivery {
        debug_assert_eq!(self.is_deliverable(vector), Some(true), "I3");
        debug_assert_ne!(self.claims(vector), Some(0), "I3");
        debug_assert_eq!(self.is_pending(vector), Some(false), "I2");
        if !self.facts.has(BUS_MASTER) {
            counters::one(&mut self.counters.dropped_bus_master); // H16
            return Delivery::Dropped(DropReason::BusMaster);
        }
        counters::one(&mut self.counters.sent);
        fx.push(Effect::Send(Vectors::one(vector)));
        Delivery::Sent
    }

    /// Leaves an event to INTx (H3).
    pub(crate) fn leave_to_intx<K: EffectSink>(&mut self, fx: &mut K) -> Delivery {
        counters::one(&mut self.counters.to_intx);
        fx.push(Effect::IntxReevaluate);
        Delivery::Intx
    }

    /// Emits `kind` (Poll or Drain) for those of `span` whose events the host holds.
    pub(crate) fn ask_host<K: EffectSink>(
        &mut self,
        kind: fn(Vectors) -> Effect,
        span: Span,
        fx: &mut K,
    ) {
        self.each_held(span, kind, &mut Out::new(fx, S::MAX_EFFECTS));
    }

    fn each_held<K: EffectSink>(
        &mut self,
        span: Span,
        kind: fn(Vectors) -> Effect,
        out: &mut Out<'_, K>,
    ) {
        if !self.facts.has(ATTACHED) {
            return; // nobody holds anything
        }
        for index in span.words() {
            if let Some(word) = self.storage.memory().words.get(usize::from(index)) {
                let held = word.held_by_host() & span.bits(index);
                if held != 0 {
                    out.push(kind(Vectors::new(index, held)));
                }
            }
        }
    }

    /// Notes that `vector` has a message that the host was not told.
    pub(crate) fn mark_stale(&mut self, vector: Vector) {
        let entry = self.storage.memory_mut().entries.get_mut(vector.slot());
        if let Some(entry) = entry.filter(|entry| !entry.is_stale()) {
            entry.set_stale(true);
            self.stale_entries = self.stale_entries.wrapping_add(1);
        }
    }
}

/// The host knows the message of `vector` now; whether it did not before.
#[cold]
#[inline(never)]
fn told(entries: &mut [Entry], vector: Vector, stale_entries: &mut u16) -> bool {
    let entry = entries.get_mut(vector.slot());
    let Some(entry) = entry.filter(|entry| entry.is_stale()) else { return false };
    entry.set_stale(false);
    *stale_entries = stale_entries.wrapping_sub(1);
    true
}

/// Those vectors of a word that have a use; `uses` are the counts of the word's vectors.
#[inline]
pub(crate) fn used_among(uses: &[u16], bits: u64) -> u64 {
    // A function that uses all its vectors, as most do, is answered without a look at each.
    if let (u64::MAX, Some(all)) = (bits, uses.first_chunk::<64>())
        && all.iter().fold(0, |unused, &count| unused | u16::from(count == 0)) == 0
    {
        return bits;
    }
    each_used(uses, bits)
}

#[inline(never)]
fn each_used(uses: &[u16], bits: u64) -> u64 {
    let mut used = 0;
    let mut rest = bits;
    while rest != 0 {
        let slot = usize::try_from(rest.trailing_zeros()).unwrap_or(0);
        let lowest = rest & rest.wrapping_neg();
        rest ^= lowest;
        if uses.get(slot).is_some_and(|&count| count != 0) {
            used |= lowest;
        }
    }
    used
}
