//! The base case: a new function satisfies the hypothesis.

use crate::any::{self, Property, assume, prove};
use crate::engine::{Memory, N, case_of};
use crate::function::{KEPT, Rules};
use crate::msi::{self, MsiCase};
use crate::pin::{self, PinCase};
use msix_core::{BarIndex, Borrowed, Function, FunctionCounters, Layout, Parts};

pub fn prove_function_new(Memory { entries, claims, words, .. }: Memory<'_>) {
    let (policy, vector) = (any::policy(), any::vector());
    assume(usize::from(vector.index()) < N);
    let [has_msix, has_msi, has_pin] = [any::bool(), any::bool(), any::bool()];
    let Some(shape) = MsiCase::any(policy) else { return };
    let pin = PinCase::any();
    let Ok(storage) = Borrowed::new(entries, claims, words) else { return };
    let Ok(bar) = BarIndex::new(0) else { return };
    let Ok(layout) = Layout::exclusive_bar(u32::try_from(N).unwrap_or(0), bar) else { return };
    let parts = Parts {
        msi: has_msi.then_some(shape.shape),
        msix: has_msix.then_some(layout),
        pin: has_pin.then_some(pin.source),
    };
    let Ok(function) = Function::with_storage(storage, parts, policy) else { return };
    let msi = function.msi().map(|is| MsiCase { state: is.in_full(), ..shape });
    let line = function.intx().map(|is| PinCase { state: is.in_full(), ..pin });
    let msix = function.msix().map(|engine| case_of(engine, vector));
    let there = [msix.is_some(), msi.is_some(), line.is_some()];
    prove(Property::Answer, there == [has_msix, has_msi, has_pin]);
    prove(Property::Registers, msi.is_none_or(|msi| msi.state == msi::NEW));
    prove(Property::Pin, line.is_none_or(|pin| pin.state == pin::NEW));
    prove(Property::Facts, function.msi().is_none_or(msix_core::Msi::facts_agree));
    let rules = Rules {
        policy: *function.policy(),
        command: function.command(),
        vectors: 0,
        vector,
        msix,
        msi,
        pin: line,
        counters: FunctionCounters::default(),
    };
    prove(Property::Agreed, rules.agrees() && rules.command & KEPT == 0 && rules.policy == policy);
    prove(Property::Sound, rules.sound());
    prove(Property::EventCounters, *function.counters() == rules.counters);
}
