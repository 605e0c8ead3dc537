//! The function's own question whether its invariants hold.

use crate::any::{Property, assume, prove};
use crate::engine::{BYTES, Memory, N, WORDS};
use crate::function::{Begun, KEPT, any_function};
use msix_core::{Entry, Word};

/// `check` is true only when the parts agree and each holds what it must. Here nothing is assumed but what
/// `check` is not asked: that the parts know of the same load, that INTx was told the truth, and that no
/// register has a bit that does not exist.
#[unsafe(no_mangle)]
pub extern "C" fn prove_function_check(
    entries: &mut [Entry; N],
    claims: &mut [u16; N],
    words: &mut [Word; WORDS],
    bytes: &mut [u8; BYTES],
) {
    let Some(begun) = any_function(Memory { entries, claims, words, bytes }) else { return };
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
