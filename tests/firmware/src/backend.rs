//! The image's own backend: it carries out the engine's effects on memory of its own, without an allocator.
//!
//! It stands for a machine's interrupt controller: it delivers the events of armed vectors by itself,
//! and holds those of others.

use crate::record::Record;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use msix_conformance::HostCall;
use msix_core::{Effect, Message, Vector, Vectors};

/// Whether the backend has a defect on purpose: it does not throw held events away.
static IS_DEFECTIVE: AtomicBool = AtomicBool::new(false);

/// Has every backend be wrong, to see that the cases find it.
pub(crate) fn seed_defect() {
    IS_DEFECTIVE.store(true, Relaxed);
}

/// The backend of a function with at most `N` vectors of a mode.
pub(crate) struct Backend<const N: usize> {
    /// The messages of the vectors that it delivers (K6).
    routes: [Option<Message>; N],
    /// Vectors with an event that nobody took (K8).
    held: Set,
    /// Vectors that it was to deliver and cannot (H11).
    failed: Set,
}

/// What the engine must be told of an effect.
pub(crate) struct Answer {
    /// Vectors that were not armed or rerouted.
    pub(crate) failed: Vectors,
    /// Vectors whose events were held, and are not any more.
    pub(crate) held: Vectors,
}

impl<const N: usize> Backend<N> {
    pub(crate) const fn new() -> Self {
        Self { routes: [None; N], held: Set::EMPTY, failed: Set::EMPTY }
    }

    /// Carries out one effect, whose vectors have the messages that `message` knows.
    pub(crate) fn carry_out(
        &mut self,
        effect: Effect,
        message: impl Fn(Vector) -> Option<Message>,
        record: &mut Record,
    ) -> Answer {
        let word = effect.vectors().word();
        let none = Vectors::new(word, 0);
        let mut answer = Answer { failed: none, held: none };
        record.effect(effect);
        for vector in effect.vectors().iter() {
            let Some(route) = self.routes.get_mut(usize::from(vector.index())) else { continue };
            let index = vector.index();
            let bit = Vectors::one(vector).bits();
            match effect {
                Effect::Arm(_) | Effect::Reroute(_) => {
                    let Some(message) = message(vector) else { continue };
                    record.call(match effect {
                        Effect::Arm(_) => HostCall::Arm { vector: index, message },
                        _ => HostCall::Reroute { vector: index, message },
                    });
                    if record.refuses(index) {
                        *route = None;
                        self.failed.insert(vector);
                        answer.failed = Vectors::new(word, answer.failed.bits() | bit);
                    } else {
                        *route = Some(message);
                        if self.held.remove(vector) {
                            record.deliver(message);
                        }
                    }
                }
                Effect::Disarm(_) => {
                    *route = None;
                    self.failed.remove(vector);
                }
                Effect::Send(_) => {
                    let Some(message) = message(vector) else { continue };
                    record.call(HostCall::Send { vector: index, message });
                    record.deliver(message);
                }
                Effect::Poll(_) => {
                    if self.held.remove(vector) {
                        answer.held = Vectors::new(word, answer.held.bits() | bit);
                    }
                }
                Effect::Drain(_) => {
                    if !IS_DEFECTIVE.load(Relaxed) {
                        self.held.remove(vector);
                    }
                }
                Effect::Snoop(_) | Effect::IntxDeassert | Effect::IntxReevaluate => {}
            }
        }
        answer
    }

    /// Takes an event of the device: delivers it if the vector is armed, and holds it otherwise.
    pub(crate) fn signal(&mut self, vector: Vector, record: &mut Record) {
        match self.routes.get(usize::from(vector.index())) {
            Some(Some(message)) => record.deliver(*message),
            Some(None) => self.held.insert(vector),
            None => {}
        }
    }

    /// Takes a held event that no Poll asks for: of a vector that it failed to arm, or, if `any`, of any.
    pub(crate) fn take_held(&mut self, any: bool) -> Option<Vector> {
        let vector = self.held.first(|at| any || self.failed.contains(at))?;
        self.held.remove(vector);
        Some(vector)
    }

    /// Returns whether any vector is armed.
    pub(crate) fn is_armed(&self) -> bool {
        self.routes.iter().any(Option::is_some)
    }
}

/// A set of vectors.
pub(crate) struct Set([u64; 32]);

impl Set {
    pub(crate) const EMPTY: Self = Self([0; 32]);

    pub(crate) fn insert(&mut self, vector: Vector) {
        let one = Vectors::one(vector);
        if let Some(word) = self.0.get_mut(usize::from(one.word())) {
            *word |= one.bits();
        }
    }

    /// Returns whether it was in the set.
    pub(crate) fn remove(&mut self, vector: Vector) -> bool {
        let one = Vectors::one(vector);
        let Some(word) = self.0.get_mut(usize::from(one.word())) else { return false };
        let was_there = *word & one.bits() != 0;
        *word &= !one.bits();
        was_there
    }

    pub(crate) fn contains(&self, vector: Vector) -> bool {
        let one = Vectors::one(vector);
        self.0.get(usize::from(one.word())).is_some_and(|word| word & one.bits() != 0)
    }

    fn first(&self, wanted: impl Fn(Vector) -> bool) -> Option<Vector> {
        let words = (0..).zip(self.0).map(|(word, bits)| Vectors::new(word, bits));
        words.flat_map(Vectors::iter).find(|vector| wanted(*vector))
    }
}
