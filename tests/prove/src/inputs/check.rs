//! The engine's own question whether its invariants hold.

use crate::any::{self, Property, prove};
use crate::engine::{self, Begun, Memory, N, stale_is_counted, tail_is_clean};
use crate::sink::contains;
use msix_core::{Vectors, Violation};

/// `check` answers Ok only when the hypothesis holds for every vector, and what it names breaks it. Here
/// no vector satisfies the hypothesis from the start.
pub fn prove_check(memory: Memory<'_>) {
    let Some(begun) = engine::any_engine(memory) else {
        return;
    };
    let Begun { engine, vector, case, .. } = begun;
    // What INTx was told is not of the vectors.
    any::assume(case.whole.loading || case.whole.intx_told == case.whole.enabled);
    match engine.check() {
        Ok(()) => {
            prove(Property::Complete, case.sound());
            prove(Property::Tail, tail_is_clean(&engine));
            if N <= 4 {
                prove(Property::StaleCount, stale_is_counted(&engine));
            }
        }
        Err(Violation::StaleCount { stale, counted }) => {
            prove(Property::True, stale != u32::from(counted));
        }
        Err(violation) => {
            let (word, bits) = match violation {
                Violation::Liveness { word, wanted, live } => (word, wanted ^ live),
                Violation::Stuck { word, bits } | Violation::Impossible { word, bits } => {
                    (word, bits)
                }
                _ => (0, 0),
            };
            prove(Property::True, bits != 0 && word < engine.vectors().div_ceil(64));
            if contains(Vectors::new(word, bits), vector) {
                prove(Property::True, !case.sound());
            }
        }
    }
}
