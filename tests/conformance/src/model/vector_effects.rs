//! Effects one vector at a time, to compare an engine that thinks in sets with a model that does not.

use msix_core::{Effect, Effects, Message, Msix, Storage, Vector, Vectors};

/// One effect for one vector. The message is the one that a backend finds when it carries the effect
/// out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VectorEffect {
    /// [`Effect::IntxDeassert`].
    IntxDeassert,
    /// [`Effect::Poll`] of this vector.
    Poll(u16),
    /// [`Effect::Disarm`] of this vector.
    Disarm(u16),
    /// [`Effect::Drain`] of this vector.
    Drain(u16),
    /// [`Effect::Arm`] of this vector, for this message.
    Arm(u16, Message),
    /// [`Effect::Reroute`] of this vector, to this message.
    Reroute(u16, Message),
    /// [`Effect::Snoop`] of this vector.
    Snoop(u16),
    /// [`Effect::Send`] of this vector: this message was delivered.
    Send(u16, Message),
    /// [`Effect::IntxReevaluate`].
    IntxReevaluate,
}

/// Takes all effects of one input, in order, and splits them by vector.
pub fn take_each<S: Storage, const CAP: usize>(
    engine: &Msix<S>,
    fx: &mut Effects<CAP>,
) -> Vec<VectorEffect> {
    let mut effects = Vec::new();
    while let Some(effect) = fx.take() {
        split(engine, effect, &mut effects);
    }
    effects
}

fn split<S: Storage>(engine: &Msix<S>, effect: Effect, effects: &mut Vec<VectorEffect>) {
    let message = |v: Vector| engine.message(v).expect("effects name vectors of the table");
    let mut each =
        |set: Vectors, one: &dyn Fn(Vector) -> VectorEffect| effects.extend(set.iter().map(one));
    match effect {
        Effect::IntxDeassert => effects.push(VectorEffect::IntxDeassert),
        Effect::Poll(set) => each(set, &|v| VectorEffect::Poll(v.index())),
        Effect::Disarm(set) => each(set, &|v| VectorEffect::Disarm(v.index())),
        Effect::Drain(set) => each(set, &|v| VectorEffect::Drain(v.index())),
        Effect::Arm(set) => each(set, &|v| VectorEffect::Arm(v.index(), message(v))),
        Effect::Reroute(set) => each(set, &|v| VectorEffect::Reroute(v.index(), message(v))),
        Effect::Snoop(set) => each(set, &|v| VectorEffect::Snoop(v.index())),
        Effect::Send(set) => each(set, &|v| VectorEffect::Send(v.index(), message(v))),
        Effect::IntxReevaluate => effects.push(VectorEffect::IntxReevaluate),
    }
}
