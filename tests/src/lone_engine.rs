//! An engine under test, with everything an input can change as one comparable value.

use crate::lockstep::engine;
use crate::vector_effects::{VectorEffect, take_each};
use msix_core::operation::{Answer, Operation};
use msix_core::{Boxed, Counters, Effect, Effects, MAX_EFFECTS, Msix, Policy, Vector};

/// A boxed engine and the room that operations need.
#[derive(Debug, Clone)]
pub struct LoneEngine {
    /// The engine.
    pub engine: Msix<Boxed>,
    scratch: Vec<u8>,
}

/// All that an input can change, bus master apart, which cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineState {
    /// Control, table, PBA and claims.
    pub saved: Vec<u8>,
    /// Vectors that the host was asked to arm.
    pub live: Vec<u16>,
    /// Live vectors that the host could not serve.
    pub fallback: Vec<u16>,
    /// Totals.
    pub counters: Counters,
    /// Whether a backend listens.
    pub attached: bool,
    /// Whether a resume is to come.
    pub loading: bool,
}

impl LoneEngine {
    /// A function after reset.
    ///
    /// # Panics
    /// When `vectors` is not 1 to 2048.
    #[must_use]
    pub fn new(vectors: u16, policy: Policy) -> Self {
        let engine = engine(vectors, policy);
        let scratch = vec![0; engine.saved_len()];
        Self { engine, scratch }
    }

    /// One input, with the effects as the engine emitted them.
    pub fn apply(&mut self, operation: &Operation) -> (Answer, Vec<Effect>) {
        let mut fx = Effects::<MAX_EFFECTS>::new();
        let answer = self.apply_with(operation, &mut fx);
        (answer, fx.iter().collect())
    }

    /// Applies one input; returns its effects one vector at a time.
    pub fn apply_by_vector(&mut self, operation: &Operation) -> (Answer, Vec<VectorEffect>) {
        let mut fx = Effects::<MAX_EFFECTS>::new();
        let answer = self.apply_with(operation, &mut fx);
        (answer, take_each(&self.engine, &mut fx))
    }

    /// One input, with a list that may not be carried out.
    pub fn apply_with(&mut self, operation: &Operation, fx: &mut Effects<MAX_EFFECTS>) -> Answer {
        operation.apply(&mut self.engine, &mut self.scratch, fx)
    }

    /// Several inputs, their effects thrown away.
    pub fn run(&mut self, operations: &[Operation]) {
        for operation in operations {
            self.apply(operation);
        }
    }

    /// The native encoding.
    #[must_use]
    pub fn saved(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.engine.saved_len()];
        self.engine.save(&mut bytes).expect("the buffer has the length asked for");
        bytes
    }

    /// QEMU's encoding.
    #[must_use]
    pub fn saved_qemu(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.engine.qemu_len()];
        self.engine.save_qemu(&mut bytes).expect("the buffer has the length asked for");
        bytes
    }

    /// Message Control as the guest reads it.
    #[must_use]
    pub fn control(&self) -> u16 {
        self.engine.control()
    }

    /// All that an input can change.
    #[must_use]
    pub fn state(&self) -> EngineState {
        let those = |holds: fn(&Msix<Boxed>, Vector) -> Option<bool>| {
            let all = 0..self.engine.vectors();
            all.filter(|v| holds(&self.engine, Vector::new(*v)) == Some(true)).collect()
        };
        EngineState {
            saved: self.saved(),
            live: those(Msix::is_live),
            fallback: those(Msix::is_fallback),
            counters: *self.engine.counters(),
            attached: self.engine.is_attached(),
            loading: self.engine.is_loading(),
        }
    }
}
