//! The list of effects itself. The other harnesses have one that judges each effect in its place.

use crate::any::{self, Property, prove};
use crate::engine::Memory;
use msix_core::{Effect, EffectSink, Effects, Vectors};

/// The most effects of a list about one word of vectors (I6).
const MOST: usize = 5;

/// What was pushed is taken in order, once, and the list is ready when all of it is.
pub fn prove_list(_: Memory<'_>) {
    let mut given = [Effect::IntxDeassert; MOST];
    for effect in &mut given {
        let (kind, set) = (any::up_to(8), Vectors::new(any::u16(), any::u64()));
        *effect = match kind {
            0 => Effect::IntxDeassert,
            1 => Effect::Poll(set),
            2 => Effect::Disarm(set),
            3 => Effect::Drain(set),
            4 => Effect::Arm(set),
            5 => Effect::Reroute(set),
            6 => Effect::Snoop(set),
            7 => Effect::Send(set),
            _ => Effect::IntxReevaluate,
        };
    }
    let many = any::up_to(MOST);
    let mut list = Effects::<MOST>::new();
    prove(Property::Answer, list.is_ready());
    for effect in given.get(..many).unwrap_or_default() {
        list.push(*effect);
        prove(Property::Answer, !list.is_ready());
    }
    for index in 0..MOST {
        let left = list.iter().count();
        prove(Property::Answer, left == many.saturating_sub(index));
        prove(Property::Answer, list.is_ready() == (left == 0));
        let next = list.take();
        prove(Property::Effects, next == given.get(index).copied().filter(|_| index < many));
    }
    prove(Property::Answer, list.is_ready() && list.take().is_none() && list.is_ready());
}
