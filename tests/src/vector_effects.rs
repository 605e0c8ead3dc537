//! Effects one vector at a time, so that an engine that thinks in sets can be compared with a model
//! that does not.

use msix_core::{Effect, Effects, Message, Msix, Storage, Vector, Vectors};

/// What the host was told about one vector. The message is the one a backend finds when it carries
/// the effect out.
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

/// Takes all effects of one input, in order, and says them one vector at a time.
pub fn take_each<S: Storage, const CAP: usize>(
    engine: &Msix<S>,
    fx: &mut Effects<CAP>,
) -> Vec<VectorEffect> {
    let mut told = Vec::new();
    while let Some(effect) = fx.take() {
        say(engine, effect, &mut told);
    }
    told
}

fn say<S: Storage>(engine: &Msix<S>, effect: Effect, told: &mut Vec<VectorEffect>) {
    let message = |v: Vector| engine.message(v).expect("effects name vectors of the table");
    let mut each =
        |set: Vectors, one: &dyn Fn(Vector) -> VectorEffect| told.extend(set.iter().map(one));
    match effect {
        Effect::IntxDeassert => told.push(VectorEffect::IntxDeassert),
        Effect::Poll(set) => each(set, &|v| VectorEffect::Poll(v.index())),
        Effect::Disarm(set) => each(set, &|v| VectorEffect::Disarm(v.index())),
        Effect::Drain(set) => each(set, &|v| VectorEffect::Drain(v.index())),
        Effect::Arm(set) => each(set, &|v| VectorEffect::Arm(v.index(), message(v))),
        Effect::Reroute(set) => each(set, &|v| VectorEffect::Reroute(v.index(), message(v))),
        Effect::Snoop(set) => each(set, &|v| VectorEffect::Snoop(v.index())),
        Effect::Send(set) => each(set, &|v| VectorEffect::Send(v.index(), message(v))),
        Effect::IntxReevaluate => told.push(VectorEffect::IntxReevaluate),
    }
}
