//! An engine in any state, and what must hold of it after an input.

use crate::any::{self, Property, assume, prove};
use crate::case::Case;
use crate::sink::{Kinds, Sink, Sums};
use msix_core::{
    BarIndex, Borrowed, Counters, Entry, Layout, Message, Msix, Vector, Word, prove::Lane,
    prove::Whole,
};

/// `PROVE_N`: the number of vectors, or `..64` for every number up to 64. With an `x` behind it, any set
/// of messages is exempt from masks (H25); with a `d`, MSI has one vector too, so that the assertions of a
/// debug build, which are about all vectors, are about the one that is looked at.
const GIVEN: &str = match option_env!("PROVE_N") {
    Some(given) => given,
    None => "2",
};
const EXACT: bool = !matches!(GIVEN.as_bytes(), [b'.', ..]);
/// The number of vectors, or the most there are.
pub const N: usize = digits(GIVEN.as_bytes());
pub const WORDS: usize = N.div_ceil(64);
/// Room for a snapshot, of a whole function too.
pub const BYTES: usize = 18 * N + 8 * WORDS + 80;
/// The predicate of exempt messages.
pub const EXEMPT: Option<fn(Message) -> bool> = match GIVEN.as_bytes() {
    [.., b'x'] => Some(any::exempt),
    _ => None,
};

/// The most vectors of MSI, as the power of two.
pub const MSI_LOG: u16 = match GIVEN.as_bytes() {
    [.., b'd'] => 0,
    _ if COUNTED => 2,
    _ => 5,
};
/// No message is exempt, and there are few vectors: events are counted.
pub const COUNTED: bool = N <= 4 && EXEMPT.is_none();

const fn digits(text: &[u8]) -> usize {
    let (mut number, mut at) = (0, 0);
    while at < text.len() {
        if text[at].is_ascii_digit() {
            number = 10 * number + (text[at] - b'0') as usize;
        }
        at += 1;
    }
    number
}

pub type Engine<'a> = Msix<Borrowed<'a>>;

/// The memory of an engine. Every value is a state.
#[derive(Debug)]
pub struct Memory<'a> {
    pub entries: &'a mut [Entry; N],
    pub claims: &'a mut [u16; N],
    pub words: &'a mut [Word; WORDS],
    pub bytes: &'a mut [u8; BYTES],
}

/// Makes an engine in any state. Returns it with an arbitrary vector, what the rules know of the
/// vector, and an empty list.
#[inline(always)]
pub fn begin(memory: Memory<'_>) -> Option<Begun<'_>> {
    #[cfg(feature = "native")]
    crate::show::started(false);
    let mut begun = any_engine(memory)?;
    let Begun { engine, case, .. } = &mut begun;
    assume(case.sound());
    assume(tail_is_clean(engine));
    assume(stale_is_counted(engine));
    #[cfg(feature = "native")]
    {
        crate::show::started(true);
        crate::replay::begun(&begun.engine, begun.vector, &begun.case);
    }
    crate::show!("state", begun.case);
    crate::show!("vector", begun.vector);
    Some(begun)
}

/// An engine, and a vector of it.
#[derive(Debug)]
pub struct Begun<'a> {
    pub engine: Engine<'a>,
    pub vector: Vector,
    pub case: Case,
    pub fx: Sink,
    /// How many vectors are pending.
    pub pending: u64,
    /// A snapshot, or room for one.
    pub bytes: &'a mut [u8; BYTES],
}

/// As [`begin`], without the hypothesis.
#[inline(always)]
pub fn any_engine(memory: Memory<'_>) -> Option<Begun<'_>> {
    let layout = Layout::exclusive_bar(any_vectors(), BarIndex::new(0).ok()?).ok()?;
    engine_in(memory, layout)
}

/// Chooses the number of vectors, if there is a choice.
pub fn any_vectors() -> u32 {
    let vectors = if EXACT { N } else { any::up_to(N) };
    assume(vectors != 0);
    u32::try_from(vectors).unwrap_or(0)
}

/// As [`any_engine`], with a layout.
#[inline(always)]
pub fn engine_in(memory: Memory<'_>, layout: Layout) -> Option<Begun<'_>> {
    let vectors = usize::from(layout.vectors());
    let entries = memory.entries.get_mut(..vectors)?;
    let claims = memory.claims.get_mut(..vectors)?;
    let words = memory.words.get_mut(..vectors.div_ceil(64))?;
    // Chosen first, so that a simple counterexample is about Policy::SPEC if one is.
    let policy = any::policy();
    let whole = Whole {
        enabled: any::bool(),
        function_masked: any::bool(),
        loading: any::bool(),
        attached: any::bool(),
        bus_master: any::bool(),
        intx_told: any::bool(),
        orphans: any::bool(),
    };
    let (stale, counters) = (any::u16(), any::counters());
    let engine =
        Msix::in_state(entries, claims, words, layout, policy, EXEMPT, whole, stale, counters);
    let vector = any::vector();
    assume(vector.index() < engine.vectors());
    let case = case_of(&engine, vector);
    let fx = Sink::new(engine.vectors(), vector);
    let pending = engine.pending_count();
    Some(Begun { engine, vector, case, fx, pending, bytes: memory.bytes })
}

/// Returns what the rules know of a vector.
pub fn case_of(engine: &Engine<'_>, vector: Vector) -> Case {
    Case {
        policy: *engine.policy(),
        whole: engine.whole(),
        lane: engine.lane(vector),
        counters: *engine.counters(),
    }
}

/// Returns whether nothing is said of vectors that do not exist.
pub fn tail_is_clean(engine: &Engine<'_>) -> bool {
    engine.tail_is_clean(engine.vectors() / 64)
}

/// Returns whether the count of stale entries is right; of more than four, whether it is not below what
/// there is, counted up to two, and not above the number of vectors.
pub fn stale_is_counted(engine: &Engine<'_>) -> bool {
    let stale = (0..u16::try_from(N).unwrap_or(0)).map(|index| engine.is_stale(index));
    if N <= 4 {
        engine.stale_entries() == stale.map(u16::from).fold(0, u16::wrapping_add)
    } else {
        // An input forgets one at most before it asks whether there are more.
        let (one, two) = stale.fold((false, false), |(one, two), is| (one | is, two | one & is));
        let count = engine.stale_entries();
        count >= u16::from(one) + u16::from(two) && count <= engine.vectors()
    }
}

/// Proves that state and list are as the rules say, and that the hypothesis holds again.
#[inline(always)]
pub fn conclude(begun: &Begun<'_>, before: Case, kinds: Kinds) {
    let Begun { engine, vector, case: expected, fx, .. } = begun;
    let now = case_of(engine, *vector);
    prove_case(engine, expected, &now, fx, kinds);
    let (is, was) = (engine.counters(), &before.counters);
    prove(Property::EffectCounters, sums(is, was) == fx.sums);
    if N <= 4 {
        let ended = ended(is, was).wrapping_add(engine.pending_count());
        prove(Property::Conserved, begun.pending.wrapping_add(fx.events) == ended);
    }
    observe(engine, &now, fx);
    #[cfg(feature = "native")]
    crate::replay::ended(&now, fx.kinds);
}

/// Proves that list, facts and vector are as the rules say, and that the hypothesis holds again.
#[inline(always)]
pub fn prove_case(engine: &Engine<'_>, expected: &Case, now: &Case, list: &Sink, kinds: Kinds) {
    prove(Property::Ordered, list.ordered);
    prove(Property::Sane, list.sane);
    let bound = 2 + 3 * usize::from(engine.vectors().div_ceil(64));
    prove(Property::Bounded, usize::from(list.count) <= bound);
    prove(Property::Effects, list.kinds == kinds);
    crate::show!("MSI-X expected", (expected.whole, expected.lane, kinds));
    crate::show!("MSI-X got", (now.whole, now.lane, list.kinds));
    // Whether another vector is an orphan is not known here.
    let orphans = now.whole.orphans;
    prove(Property::Whole, now.whole == Whole { orphans, ..expected.whole });
    prove(Property::Facts, engine.facts_agree());
    prove(Property::Masked, now.lane.masked == expected.lane.masked);
    prove(Property::Pending, now.lane.pending == expected.lane.pending);
    prove(Property::Live, now.lane.live == expected.lane.live);
    prove(Property::Fallback, now.lane.fallback == expected.lane.fallback);
    prove(Property::Stale, now.lane.stale == expected.lane.stale);
    prove(Property::Claims, now.lane.claims == expected.lane.claims);
    prove(Property::Entry, now.lane.entry == expected.lane.entry);
    prove(Property::Sound, now.sound());
    prove(Property::Tail, tail_is_clean(engine));
    if N <= 4 {
        prove(Property::StaleCount, stale_is_counted(engine));
    }
}

/// Returns how many vectors the effects of an input named.
pub fn sums(is: &Counters, was: &Counters) -> Sums {
    Sums {
        disarms: is.disarms.wrapping_sub(was.disarms),
        arms: is.arms.wrapping_sub(was.arms),
        reroutes: is.reroutes.wrapping_sub(was.reroutes),
        sent: is.sent.wrapping_sub(was.sent),
    }
}

/// Returns how many events have ended otherwise than pending.
pub fn ended(is: &Counters, was: &Counters) -> u64 {
    [
        is.sent.wrapping_sub(was.sent),
        is.coalesced.wrapping_sub(was.coalesced),
        is.withdrawn.wrapping_sub(was.withdrawn),
        is.to_intx.wrapping_sub(was.to_intx),
        is.dropped_unclaimed.wrapping_sub(was.dropped_unclaimed),
        is.dropped_disabled.wrapping_sub(was.dropped_disabled),
        is.dropped_bus_master.wrapping_sub(was.dropped_bus_master),
        is.dropped_reset.wrapping_sub(was.dropped_reset),
        is.dropped_load.wrapping_sub(was.dropped_load),
    ]
    .into_iter()
    .fold(0, u64::wrapping_add)
}

/// Shows the result, for the comparison of the prover with native code.
fn observe(engine: &Engine<'_>, now: &Case, fx: &Sink) {
    let Whole { enabled, function_masked, loading, attached, bus_master, intx_told, orphans } =
        now.whole;
    let Lane { masked, pending, live, fallback, stale, claims, entry: [low, high, data, control] } =
        now.lane;
    let bits = [
        enabled,
        function_masked,
        loading,
        attached,
        bus_master,
        intx_told,
        orphans,
        masked,
        pending,
        live,
        fallback,
        stale,
        fx.ordered,
        fx.sane,
    ];
    any::observe(bits.into_iter().fold(0, |all, bit| all << 1 | u64::from(bit)));
    any::observe(u64::from(fx.kinds.0) << 32 | u64::from(fx.count) << 16 | u64::from(claims));
    any::observe(u64::from(high) << 32 | u64::from(low));
    any::observe(u64::from(control) << 32 | u64::from(data));
    any::observe(u64::from(engine.stale_entries()));
    let all = engine.counters();
    let counters = [
        all.sent,
        all.coalesced,
        all.withdrawn,
        all.to_intx,
        all.dropped_unclaimed,
        all.dropped_disabled,
        all.dropped_bus_master,
        all.dropped_reset,
        all.dropped_load,
        all.arms,
        all.disarms,
        all.reroutes,
        all.failures,
    ];
    for total in counters {
        any::observe(total);
    }
}

/// Defines a harness: any engine, one input, and what the rules say of it. The block changes the case
/// and returns the effects that name the vector.
#[macro_export]
macro_rules! harness {
    ($name:ident, |$m:ident, $v:ident, $c:ident, $fx:ident| $body:block) => {
        $crate::harness!($name, |$m, $v, $c, $fx, _bytes| $body);
    };
    ($name:ident, |$m:ident, $v:ident, $c:ident, $fx:ident, $bytes:ident| $body:block) => {
        pub fn $name(memory: $crate::engine::Memory<'_>) {
            let Some(mut begun) = $crate::engine::begin(memory) else {
                return;
            };
            let before = begun.case;
            let $crate::engine::Begun {
                engine: $m, vector, case: $c, fx: $fx, bytes: $bytes, ..
            } = &mut begun;
            let $v = *vector;
            let kinds: $crate::sink::Kinds = $body;
            $crate::engine::conclude(&begun, before, kinds);
        }
    };
}
