//! The function's own question whether its invariants hold.

use crate::any::{Property, assume, prove};
use crate::engine::Memory;
use crate::function::{Begun, KEPT, any_function};

/// `check` is true only when the parts agree and each holds what it must. Here nothing is assumed but what
/// `check` is not asked: that the parts know of the same load, that INTx was told the truth, and that no
/// register has a bit that does not exist.
pub fn prove_function_check(memory: Memory<'_>) {
    let Some(begun) = any_function(memory) else { return };
    let Begun { function, rules, .. } = begun;
    let loading = rules.loading();
    assume(rules.msix.is_none_or(|msix| {
        let told = msix.whole.loading || msix.whole.intx_told == msix.whole.enabled;
        told && msix.whole.loading == loading
    }));
    assume(rules.msi.is_none_or(|msi| msi.fits() && msi.state.loading == loading));
    assume(rules.command & KEPT == rules.command);
    assume(rules.pin.is_none_or(|pin| pin.state.loading == loading));
    if function.check() {
        prove(Property::Agreed, rules.agrees());
        prove(Property::Complete, rules.msix.is_none_or(|msix| msix.sound()));
        prove(Property::Complete, rules.msi.is_none_or(|msi| msi.sound()));
        prove(Property::Complete, rules.pin.is_none_or(|pin| pin.sound()));
    }
}
