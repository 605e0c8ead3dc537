//! Ends every input: asks the kernel what follows from the registers, and emits it in order.

use super::Msix;
use super::entry::Entry;
use crate::counters::{self, Counters};
use crate::effects::{Effect, EffectSink, Ordered};
use crate::facts::{Fact, ones};
use crate::kernel::{self, Registers, Step, Switches, Told};
use crate::storage::{Storage, sealed::MemoryMut};
use crate::switch::Switch;
use crate::vector_range::VectorRange;
use crate::vectors::{Vector, Vectors, Word, numbered};

/// The most effects that an input about one vector emits (I6).
const ONE_VECTOR: usize = 4;

/// The requests of an input about all vectors, besides what follows from the registers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// Poll all held events.
    pub(crate) poll: bool,
    /// Drain all held events.
    pub(crate) drain: bool,
    /// The INTx effect of the input (H17).
    pub(crate) intx: Option<Effect>,
    /// Vectors with entries that a guest wrote. Their masks may have changed.
    pub(crate) written: VectorRange,
}

impl Request {
    /// Requests nothing beyond what follows from the function's own facts.
    pub(crate) const FACTS: Self =
        Self { poll: false, drain: false, intx: None, written: VectorRange::EMPTY };

    /// Returns the request of a switch of Enable, or of a reset.
    pub(crate) const fn switch(switch: Switch) -> Self {
        let Switch { poll, drain, intx, .. } = switch;
        Self { poll, drain, intx, written: VectorRange::EMPTY }
    }
}

/// What an input about one vector did to its entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    /// A guest wrote it (G2).
    pub(crate) written: bool,
    /// The input completes its message (H4).
    pub(crate) complete: bool,
}

impl Change {
    pub(crate) const NONE: Self = Self { written: false, complete: false };
}

impl<S: Storage> Msix<S> {
    /// Returns all vectors of the function.
    pub(crate) const fn all(&self) -> VectorRange {
        VectorRange::new(0, self.vectors())
    }

    /// Ends an input about one vector: emits Disarm, or Arm; then Reroute, Snoop and Send.
    #[inline(never)]
    pub(crate) fn settle_vector<K: EffectSink>(
        &mut self,
        vector: Vector,
        change: Change,
        fx: &mut K,
    ) {
        let mut out = Ordered::new(fx, ONE_VECTOR);
        let bit = vector.bit();
        let exempt = self.facts.has(Fact::EXEMPTS) && self.is_exempt(vector);
        let switches = self.facts.switches(|all| all);
        let memory = self.storage.memory_mut();
        let Some(entry) = memory.entries.get_mut(vector.slot()) else { return };
        let Some(word) = memory.words.get_mut(vector.word()) else { return };
        let stale = entry.is_stale();
        let registers = one_registers(word, bit, exempt);
        let step = kernel::step(one_told(word, bit, stale), registers, switches, change.complete);
        if stale && !step.told.stale {
            entry.set_stale(false);
            self.facts.one_stale_entry_less();
        }
        tell(word, vector, step, &mut self.counters, &mut out);
        if step.reroute {
            counters::one(&mut self.counters.reroutes);
            out.push(Effect::Reroute(Vectors::one(vector))); // H4
        }
        if change.written && self.facts.has(Fact::SNOOPS) {
            out.push(Effect::Snoop(Vectors::one(vector))); // G2
        }
        if kernel::ready(registers, switches) {
            self.send_vector(vector, fx);
        }
        self.check_vector(vector);
    }

    /// Sets or clears the mask bit of a vector of `word`, and does what
    /// [`settle_vector`](Self::settle_vector) does, while the function is plainly sending: the case of
    /// most mask writes. Returns whether the vector is ready to send.
    #[inline(always)]
    pub(crate) fn settle_mask<K: EffectSink>(
        word: &mut Word,
        vector: Vector,
        masked: bool,
        counters: &mut Counters,
        fx: &mut K,
    ) -> bool {
        if masked == (word.masked.get() & vector.bit() != 0) {
            return false;
        }
        word.masked.toggle(vector.bit());
        let pending = word.pending.get() & vector.bit() != 0;
        let registers = Registers { masked, exempt: false, pending, claimed: false };
        let told = one_told(word, vector.bit(), false);
        let step = kernel::step(told, registers, Switches::SENDING, false);
        tell(word, vector, step, counters, &mut Ordered::new(fx, ONE_VECTOR));
        kernel::ready(registers, Switches::SENDING)
    }

    pub(crate) fn check_vector(&self, vector: Vector) {
        let word = Vectors::one(vector).word();
        debug_assert_eq!(self.check_words(word..word.wrapping_add(1)), Ok(()));
    }

    /// Sends the message of a vector that is ready, if the device claims it (I2).
    #[cold]
    #[inline(never)]
    pub(crate) fn send_vector<K: EffectSink>(&mut self, vector: Vector, fx: &mut K) {
        let claimed = self.claims(vector).is_some_and(|count| count != 0);
        let Switches { bus_master, lossy, .. } = self.facts.switches(|all| all);
        let switches = Switches { bus_master, lossy, ..Switches::SENDING };
        let ready = Registers { masked: false, exempt: false, pending: true, claimed };
        let untold = Told { live: false, fallback: false, stale: false };
        let step = kernel::step(untold, ready, switches, false);
        if !step.pending
            && let Some(word) = self.storage.memory_mut().words.get_mut(vector.word())
        {
            word.pending.remove(vector.bit());
        }
        if step.send {
            counters::one(&mut self.counters.sent);
            fx.push(Effect::Send(Vectors::one(vector)));
        }
        self.counters.drop_messages(u64::from(step.dropped), u64::from(step.lost));
    }

    /// Ends an input about all vectors: emits what follows from the registers and what `request` asks
    /// for, in the order of [`Effect`].
    pub(crate) fn settle<K: EffectSink>(&mut self, request: Request, fx: &mut K) {
        let mut out = Ordered::new(fx, S::MAX_EFFECTS);
        if let Some(Effect::IntxDeassert) = request.intx {
            out.push(Effect::IntxDeassert);
        }
        if request.poll {
            self.each_held(self.all(), Effect::Poll, &mut out);
        }
        // While the function may send, nothing is disarmed (I1), unless masks changed.
        if !self.facts.unmasked() || !self.facts.attached() || !request.written.is_empty() {
            self.disarm_unwanted(&mut out);
        }
        if request.drain {
            self.each_held(self.all(), Effect::Drain, &mut out);
        }
        // With Function Mask set, only exempt messages are sent.
        let exempts = self.facts.has(Fact::EXEMPTS);
        let may_send = self.facts.unmasked() || exempts && self.facts.open();
        let some_ready = may_send && self.arm_wanted(&mut out);
        if self.facts.has(Fact::SNOOPS) {
            for (index, _) in numbered(self.storage.memory().words) {
                let written = request.written.bits(index);
                if written != 0 {
                    out.push(Effect::Snoop(Vectors::new(index, written)));
                }
            }
        }
        if some_ready {
            self.send_ready(&mut out);
        }
        if let Some(Effect::IntxReevaluate) = request.intx {
            out.push(Effect::IntxReevaluate);
        }
        debug_assert_eq!(self.check(), Ok(()));
    }

    /// Disarms what is live and not wanted.
    #[inline(never)]
    fn disarm_unwanted<K: EffectSink>(&mut self, out: &mut Ordered<'_, K>) {
        let switches = self.facts.switches(ones);
        let exempting = self.exempting();
        let memory = self.storage.memory_mut();
        let mut disarmed = 0;
        for (index, word) in numbered(memory.words.iter_mut()) {
            let step = step(word, exempting.of(memory.entries, index), 0, switches);
            if step.disarm != 0 {
                word.live.keep(step.told.live);
                word.fallback.keep(step.told.live);
                counters::add(&mut disarmed, step.disarm);
                out.push(Effect::Disarm(Vectors::new(index, step.disarm)));
            }
        }
        self.counters.disarms = self.counters.disarms.wrapping_add(disarmed);
        if self.facts.stale_entries() != 0 {
            self.forget_stale();
        }
    }

    /// Arms what is wanted and not live. Returns whether a vector is ready to send if claimed.
    #[inline(never)]
    fn arm_wanted<K: EffectSink>(&mut self, out: &mut Ordered<'_, K>) -> bool {
        let switches = self.facts.switches(ones);
        let exempting = self.exempting();
        let memory = self.storage.memory_mut();
        let (mut armed, mut ready) = (0, 0);
        for (index, word) in numbered(memory.words.iter_mut()) {
            let exempt = exempting.of(memory.entries, index);
            let step = step(word, exempt, 0, switches);
            ready |= kernel::ready(registers(word, exempt, 0), switches);
            if step.arm != 0 {
                word.live.insert(step.arm);
                counters::add(&mut armed, step.arm);
                out.push(Effect::Arm(Vectors::new(index, step.arm)));
            }
        }
        self.counters.arms = self.counters.arms.wrapping_add(armed);
        ready != 0
    }

    /// Sends what is pending, deliverable and claimed (I2).
    #[inline(never)]
    fn send_ready<K: EffectSink>(&mut self, out: &mut Ordered<'_, K>) {
        let switches = self.facts.switches(ones);
        let exempting = self.exempting();
        let memory = self.storage.memory_mut();
        let mut sent = 0;
        for (index, word) in numbered(memory.words) {
            let exempt = exempting.of(memory.entries, index);
            // What is pending is claimed, unless a load brought it.
            let pending = word.pending.get();
            let claimed =
                if self.orphans { claimed_among(memory.claims, index, pending) } else { pending };
            let step = step(word, exempt, claimed, switches);
            word.pending.keep(step.pending);
            if step.send != 0 {
                counters::add(&mut sent, step.send);
                out.push(Effect::Send(Vectors::new(index, step.send)));
            }
            if step.dropped | step.lost != 0 {
                self.counters.drop_messages(step.dropped, step.lost);
            }
        }
        self.counters.sent = self.counters.sent.wrapping_add(sent);
    }

    /// Emits `kind` (Poll or Drain) for those of `span` that may have held events.
    pub(crate) fn ask_host<K: EffectSink>(
        &mut self,
        kind: fn(Vectors) -> Effect,
        span: VectorRange,
        fx: &mut K,
    ) {
        self.each_held(span, kind, &mut Ordered::new(fx, S::MAX_EFFECTS));
    }

    /// Returns whether the host may hold an event of word `index`.
    pub(crate) fn may_hold(&self, index: usize) -> bool {
        let attached = ones(self.facts.attached());
        let word = self.storage.memory().words.get(index);
        word.is_some_and(|word| kernel::held(told(word, 0), attached) != 0)
    }

    fn each_held<K: EffectSink>(
        &mut self,
        span: VectorRange,
        kind: fn(Vectors) -> Effect,
        out: &mut Ordered<'_, K>,
    ) {
        let attached = ones(self.facts.attached());
        let memory = self.storage.memory();
        for index in span.words() {
            let Some(word) = memory.words.get(usize::from(index)) else { break };
            let held = kernel::held(told(word, 0), attached) & span.bits(index);
            if held != 0 {
                out.push(kind(Vectors::new(index, held)));
            }
        }
    }

    /// Returns whether any vector without a claim is pending.
    pub(crate) fn has_orphans(&self) -> bool {
        let memory = self.storage.memory();
        numbered(memory.words).any(|(index, word)| {
            let pending = word.pending.get();
            claimed_among(memory.claims, index, pending) != pending
        })
    }

    /// Notes that the host was told an older message for `vector`, which is live.
    pub(crate) fn mark_stale(&mut self, vector: Vector) {
        let entry = self.storage.memory_mut().entries.get_mut(vector.slot());
        if let Some(entry) = entry.filter(|entry| !entry.is_stale()) {
            entry.set_stale(true);
            self.facts.one_stale_entry_more();
        }
    }

    /// Forgets staleness of vectors that are no longer live.
    #[cold]
    #[inline(never)]
    fn forget_stale(&mut self) {
        let MemoryMut { entries, words, .. } = self.storage.memory_mut();
        for (vector, entry) in (0..u16::MAX).map(Vector::new).zip(entries) {
            let word = words.get(vector.word());
            let live = word.is_some_and(|word| word.live.get() & vector.bit() != 0);
            if entry.is_stale() && !live {
                entry.set_stale(false);
                self.facts.one_stale_entry_less();
            }
        }
    }
}

/// Returns what the host was told of one vector. Only a Disarm has to clear a fallback.
#[inline(always)]
fn one_told(word: &Word, bit: u64, stale: bool) -> Told<bool> {
    Told { live: word.live.get() & bit != 0, fallback: false, stale }
}

/// Returns the registers of one vector. Its claims are read only once it is ready.
#[inline(always)]
fn one_registers(word: &Word, bit: u64, exempt: bool) -> Registers<bool> {
    Registers {
        masked: word.masked.get() & bit != 0,
        exempt,
        pending: word.pending.get() & bit != 0,
        claimed: false,
    }
}

/// Stores the result of one vector's step, and emits its effects.
#[inline(always)]
fn tell<K: EffectSink>(
    word: &mut Word,
    vector: Vector,
    step: Step<bool>,
    counters: &mut Counters,
    out: &mut Ordered<'_, K>,
) {
    if step.disarm {
        word.live.remove(vector.bit());
        word.fallback.remove(vector.bit());
        counters::one(&mut counters.disarms);
        out.push(Effect::Disarm(Vectors::one(vector)));
    }
    if step.arm {
        word.live.insert(vector.bit());
        counters::one(&mut counters.arms);
        out.push(Effect::Arm(Vectors::one(vector)));
    }
}

/// Returns what the host was told of a word's vectors; `stale` of them have a message it was not
/// told.
pub(crate) fn told(word: &Word, stale: u64) -> Told<u64> {
    Told { live: word.live.get(), fallback: word.fallback.get(), stale }
}

/// Returns the registers of a word's vectors.
pub(crate) fn registers(word: &Word, exempt: u64, claimed: u64) -> Registers<u64> {
    Registers { masked: word.masked.get(), exempt, pending: word.pending.get(), claimed }
}

/// Returns the step of a word's vectors after an input that completes no message.
#[inline(always)]
fn step(word: &Word, exempt: u64, claimed: u64, switches: Switches<u64>) -> Step<u64> {
    kernel::step(told(word, 0), registers(word, exempt, claimed), switches, 0)
}

/// Returns those of `vectors`, of word `index`, that the device claims.
#[inline(never)]
pub(crate) fn claimed_among(claims: &[u16], index: u16, vectors: u64) -> u64 {
    let claims = claims.get(usize::from(index).wrapping_mul(64)..).unwrap_or_default();
    let (mut claimed, mut rest) = (0, vectors);
    while rest != 0 {
        let slot = usize::try_from(rest.trailing_zeros()).unwrap_or(0);
        let lowest = rest & rest.wrapping_neg();
        rest ^= lowest;
        if claims.get(slot).is_some_and(|&count| count != 0) {
            claimed |= lowest;
        }
    }
    claimed
}

/// Returns the vectors of a word with a message that the host was not told.
pub(crate) fn stale_among(entries: &[Entry]) -> u64 {
    entries.iter().take(64).rev().fold(0, |stale, entry| stale << 1 | u64::from(entry.is_stale()))
}
