//! A function in any state, the rules for it, and what must hold of it after an input.

mod rules;
mod sink;

pub use rules::{Rules, Wanted};
pub use sink::FunctionSink;

use crate::any::{self, Property, assume, prove};
use crate::engine::{self, BYTES, Engine, Memory};
use crate::msi::{MsiCase, bit};
use crate::pin::PinCase;
use crate::sink::{Kinds, Sums};
use msix_core::prove::MsiState;
use msix_core::{Borrowed, Counters, Function, FunctionCounters, Intx, Msi};

/// The function that is proven.
pub type Whose<'a> = Function<Borrowed<'a>>;

/// A function in any state, and the rules for it.
#[derive(Debug)]
pub struct Begun<'a> {
    pub function: Whose<'a>,
    pub rules: Rules,
    pub fx: FunctionSink,
    /// How many events are pending.
    pub pending: u64,
    /// A snapshot, or room for one.
    pub bytes: &'a mut [u8; BYTES],
}

/// The bits of Command that a function keeps: I/O, memory, bus master, Interrupt Disable.
pub const KEPT: u16 = 0x0407;

/// Makes a function in any state, of any parts, with the hypothesis: that of each part, and that they
/// agree.
#[inline(always)]
pub fn begin(memory: Memory<'_>) -> Option<Begun<'_>> {
    #[cfg(feature = "native")]
    crate::show::started(false);
    let begun = any_function(memory)?;
    assume(begun.rules.sound());
    assume(
        begun
            .function
            .msix()
            .is_none_or(|engine| engine::tail_is_clean(engine) && engine::stale_is_counted(engine)),
    );
    #[cfg(feature = "native")]
    crate::show::started(true);
    crate::show!("state", begun.rules);
    Some(begun)
}

/// As [`begin`], without the hypothesis.
#[inline(always)]
pub fn any_function(memory: Memory<'_>) -> Option<Begun<'_>> {
    let engine::Begun { engine, vector, case, bytes, .. } = engine::any_engine(memory)?;
    let [has_msix, has_msi, has_pin] = [any::bool(), any::bool(), any::bool()];
    let mut rules = Rules {
        policy: case.policy,
        command: any::u16(),
        vectors: if has_msix { engine.vectors() } else { 0 },
        vector,
        msix: has_msix.then_some(case),
        msi: Some(MsiCase::any(case.policy)?).filter(|_| has_msi),
        pin: Some(PinCase::any()).filter(|_| has_pin),
        counters: FunctionCounters::default(),
    };
    rules.counters.conflicts = any::u64();
    rules.counters.to_intx = any::u64();
    let msi = rules.msi.map(|m| Msi::in_state(m.shape, m.policy, m.state, m.counters));
    let pin = rules.pin.map(|p| Intx::in_state(p.source, p.state));
    let msix = if has_msix { Some(engine) } else { None };
    let function = Function::in_state(msi, msix, pin, rules.command, rules.policy, rules.counters);
    let fx = rules.list();
    let pending = pending_count(&function);
    Some(Begun { function, rules, fx, pending, bytes })
}

/// Returns how many events are pending.
pub fn pending_count(function: &Whose<'_>) -> u64 {
    let msi = function.msi().map_or(0, |msi| msi.in_full().events.count_ones());
    function.msix().map_or(0, Engine::pending_count).wrapping_add(msi.into())
}

/// Proves that state and list are as the rules say, and that the hypothesis holds again.
#[inline(always)]
pub fn conclude(begun: &Begun<'_>, before: &Rules, wanted: Wanted, together: bool) {
    let Begun { function, rules, fx, .. } = begun;
    let now = Rules { policy: *function.policy(), command: function.command(), ..*rules };
    prove(Property::Agreed, now.command == rules.command && now.policy == before.policy);
    prove(Property::Alone, fx.alone);
    prove(Property::Together, fx.together || !together);
    let mut ended = function.counters().to_intx.wrapping_sub(before.counters.to_intx);
    let msix = function.msix().map(|engine| engine::case_of(engine, rules.vector));
    if let (Some(engine), Some(case), Some(was), Some(now)) =
        (function.msix(), &rules.msix, &before.msix, &msix)
    {
        engine::prove_case(engine, case, now, &fx.msix, wanted.msix.of_vectors());
        ended = ended.wrapping_add(engine::ended(engine.counters(), &was.counters));
        counted(engine.counters(), &was.counters, fx.msix.sums);
    } else {
        prove(Property::Effects, fx.msix.count == 0);
    }
    let msi = function.msi().zip(rules.msi);
    let msi = msi.map(|(msi, case)| MsiCase { state: msi.in_full(), ..case });
    if let (Some(engine), Some(case), Some(was), Some(now)) =
        (function.msi(), &rules.msi, &before.msi, &msi)
    {
        conclude_msi(case, now, fx, wanted.msi);
        prove(Property::Facts, engine.facts_agree());
        ended = ended.wrapping_add(engine::ended(engine.counters(), &was.counters));
        counted(engine.counters(), &was.counters, fx.msi.sums);
    } else {
        prove(Property::Effects, fx.msi.count == 0);
    }
    let pin = function.intx().zip(rules.pin);
    let pin = pin.map(|(pin, case)| PinCase { state: pin.in_full(), ..case });
    match (&rules.pin, &pin) {
        (Some(case), Some(now)) => {
            prove(Property::Pin, now.state == case.state);
            prove(Property::Sound, now.sound());
            prove(Property::Ordered, fx.pin_ordered);
            prove(Property::Effects, fx.pin == wanted.pin);
            crate::show!("pin expected", (case.state, wanted.pin));
            crate::show!("pin got", (now.state, fx.pin));
        }
        _ => prove(Property::Effects, fx.pin == Kinds::NONE),
    }
    let now = Rules { msix, msi, pin, ..now };
    prove(Property::Agreed, now.agrees());
    prove(Property::EventCounters, *function.counters() == rules.counters);
    if engine::COUNTED {
        let left = ended.wrapping_add(pending_count(function));
        prove(Property::Conserved, begun.pending.wrapping_add(fx.events) == left);
    }
    observe(function, fx);
}

fn counted(is: &Counters, was: &Counters, sums: Sums) {
    prove(Property::EffectCounters, engine::sums(is, was) == sums);
}

fn conclude_msi(expected: &MsiCase, now: &MsiCase, fx: &FunctionSink, kinds: Kinds) {
    let list = &fx.msi;
    let (is, wanted, v) = (&now.state, &expected.state, expected.v);
    prove(Property::Ordered, list.ordered);
    prove(Property::Sane, list.sane);
    prove(Property::Bounded, list.count <= 5);
    prove(Property::Effects, list.kinds == kinds);
    crate::show!("MSI expected", (wanted, kinds));
    crate::show!("MSI got", (is, list.kinds));
    let MsiState { live, fallback, stale, events, .. } = *wanted;
    prove(Property::Registers, *is == MsiState { events: is.events, ..with(wanted, is) });
    // What becomes of an event depends on the vector that it is sent as.
    let looked_at = now.sent_as(now.event) == v;
    let event = bit(is.events, now.event) == bit(events, now.event);
    prove(Property::Pending, !looked_at || event);
    prove(Property::Live, bit(is.live, v) == bit(live, v));
    prove(Property::Fallback, bit(is.fallback, v) == bit(fallback, v));
    prove(Property::Stale, bit(is.stale, v) == bit(stale, v));
    prove(Property::Sound, now.sound());
    prove(Property::Tail, now.fits());
}

/// Returns `wanted`, with the sets of `is` that are looked at vector by vector.
fn with(wanted: &MsiState, is: &MsiState) -> MsiState {
    MsiState { live: is.live, fallback: is.fallback, stale: is.stale, ..*wanted }
}

/// Shows the result, for the comparison of the prover with native code.
fn observe(function: &Whose<'_>, fx: &FunctionSink) {
    let kinds = [fx.msix.kinds, fx.msi.kinds, fx.pin];
    any::observe(kinds.into_iter().fold(0, |all, kinds| all << 16 | u64::from(kinds.0)));
    any::observe(u64::from(fx.msix.count) << 16 | u64::from(fx.msi.count));
    any::observe(function.command().into());
    if let Some(msi) = function.msi() {
        let MsiState { address, data, masked, events, live, fallback, stale, .. } = msi.in_full();
        any::observe(address);
        any::observe(u64::from(data) << 32 | u64::from(masked));
        any::observe(u64::from(events) << 32 | u64::from(live));
        any::observe(u64::from(fallback) << 32 | u64::from(stale));
    }
}

/// Defines a harness: any function, one input, and what the rules say of it. The block changes the rules'
/// state and returns the effects. With `split` the effects of one part need not stand together.
#[macro_export]
macro_rules! function_harness {
    ($name:ident, |$f:ident, $r:ident, $fx:ident| $body:block) => {
        $crate::function_harness!($name, |$f, $r, $fx, _bytes| $body, true);
    };
    ($name:ident, |$f:ident, $r:ident, $fx:ident, $bytes:ident| $body:block) => {
        $crate::function_harness!($name, |$f, $r, $fx, $bytes| $body, true);
    };
    ($name:ident, |$f:ident, $r:ident, $fx:ident, $bytes:ident| $body:block, $together:expr) => {
        pub fn $name(memory: $crate::engine::Memory<'_>) {
            let Some(mut begun) = $crate::function::begin(memory) else { return };
            let before = begun.rules;
            let $crate::function::Begun { function: $f, rules: $r, fx: $fx, bytes: $bytes, .. } =
                &mut begun;
            let wanted: $crate::function::Wanted = $body;
            $crate::function::conclude(&begun, &before, wanted, $together);
        }
    };
}
