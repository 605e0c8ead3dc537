//! Effects, which tell the host what to do, and the lists that carry them.

use crate::spec::MAX_VECTORS;
use crate::vectors::Vectors;

/// Most effects one input can emit for the largest table: `2 + 3 * 32` (I6).
pub const MAX_EFFECTS: usize = bound(MAX_VECTORS);

/// Most effects one input can emit for a table of `vectors` vectors (I6).
pub(crate) const fn bound(vectors: u16) -> usize {
    #[expect(clippy::as_conversions, reason = "a widening `From` is not const yet")]
    let words = (vectors as usize).div_ceil(64);
    words.wrapping_mul(3).wrapping_add(2)
}

/// One thing the host must do, for a set of up to 64 vectors.
///
/// In every list the kinds come in the order of this enum ([I5](crate::rules#i5)). Arm and Disarm
/// alternate for each vector ([I1](crate::rules#i1)); Send names only vectors that are deliverable
/// and claimed ([I3](crate::rules#i3)). The message of a vector is read from the engine
/// ([`crate::Msix::message`]) while the list is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Lower the INTx line, because MSI-X was enabled, which prohibits INTx (A10, H17).
    IntxDeassert,
    /// Report which of these vectors have held events, and take the events from where they are held
    /// (an eventfd's counter): answer with [`crate::Msix::report_held`] (K8, H13).
    Poll(Vectors),
    /// Stop delivering these. From now on the host holds their events, until they are polled or the
    /// vector is armed again (H1).
    Disarm(Vectors),
    /// Throw away the held events of these (H8, E8).
    Drain(Vectors),
    /// Deliver these from now on: commit the route, then arm (K6). Report what fails to
    /// [`crate::Msix::report_failed`].
    Arm(Vectors),
    /// Deliver these live vectors with the messages they have now: they changed (H4). Report what
    /// fails to [`crate::Msix::report_failed`].
    Reroute(Vectors),
    /// Note that a guest wrote the entries of these. Emitted only under [`crate::Policy::snoop`]
    /// (G2).
    Snoop(Vectors),
    /// Deliver one message of each of these now, from userspace, lowest vector first.
    Send(Vectors),
    /// Let the device drive its INTx line again, as its own status says: MSI-X was disabled, or an
    /// event came that is left to INTx (A10, H17).
    IntxReevaluate,
}

impl Effect {
    /// Place of the kind in a list, 0 to 8 (I5).
    pub(crate) const fn rank(self) -> u8 {
        match self {
            Self::IntxDeassert => 0,
            Self::Poll(_) => 1,
            Self::Disarm(_) => 2,
            Self::Drain(_) => 3,
            Self::Arm(_) => 4,
            Self::Reroute(_) => 5,
            Self::Snoop(_) => 6,
            Self::Send(_) => 7,
            Self::IntxReevaluate => 8,
        }
    }

    /// Returns the vectors that the effect names; none for the INTx kinds.
    #[must_use]
    pub const fn vectors(self) -> Vectors {
        match self {
            Self::Poll(set)
            | Self::Disarm(set)
            | Self::Drain(set)
            | Self::Arm(set)
            | Self::Reroute(set)
            | Self::Snoop(set)
            | Self::Send(set) => set,
            Self::IntxDeassert | Self::IntxReevaluate => Vectors::new(0, 0),
        }
    }
}

/// The list given to an input still holds effects of an earlier one. Nothing was changed
/// ([I7](crate::rules#i7)): carry the list out, then repeat the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotCarriedOut;

impl core::fmt::Display for NotCarriedOut {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the effects of the last input are not carried out yet")
    }
}

impl core::error::Error for NotCarriedOut {}

/// Takes the effects of kind `E` of an input: a list, or anything that takes them one by one.
///
/// An engine pushes in the order of [I5](crate::rules#i5), and no more than the bound of
/// [I6](crate::rules#i6) between two calls of [`is_ready`](Self::is_ready) that return `true`.
pub trait EffectSink<E = Effect> {
    /// The most effects it takes between two inputs; `usize::MAX` for a sink that cannot fill up. A
    /// sink that is too small for its engine ([`crate::Storage::MAX_EFFECTS`] and the like) does
    /// not compile.
    const CAPACITY: usize;

    /// Returns whether everything taken so far is carried out, so that an input may begin.
    fn is_ready(&self) -> bool;

    /// Takes one effect.
    fn push(&mut self, effect: E);
}

/// A machine with a bound on the effects of one input (I6).
pub(crate) trait Bounded<E> {
    const MAX_EFFECTS: usize;
}

/// Refuses a list that is too small (when compiling) or still holds effects.
pub(crate) fn ready<B: Bounded<E>, E, K: EffectSink<E>>(fx: &K) -> Result<(), NotCarriedOut> {
    const { assert!(K::CAPACITY >= B::MAX_EFFECTS, "the list is smaller than its MAX_EFFECTS") }
    if fx.is_ready() { Ok(()) } else { Err(NotCarriedOut) }
}

/// A list of at most `CAP` effects of kind `E`, without allocation.
///
/// `CAP` must be at least the bound of the storage it is used with ([I6](crate::rules#i6):
/// 2 + 3 * ceil(N / 64); [`MAX_EFFECTS`] fits all); less does not compile.
///
/// ```compile_fail
/// use msix_core::*;
/// let layout = Layout::exclusive_bar(65, BarIndex::new(0).unwrap()).unwrap();
/// let mut msix = Msix::<Inline<65, 2>>::new(layout, Policy::SPEC).unwrap();
/// let mut fx = Effects::<7>::new(); // 65 vectors need 8
/// let _ = msix.attach(&mut fx);
/// ```
#[derive(Debug, Clone)]
pub struct Effects<const CAP: usize, E = Effect> {
    list: heapless::Vec<E, CAP>,
    /// The number of effects already taken.
    taken: usize,
}

impl<const CAP: usize, E> Default for Effects<CAP, E> {
    fn default() -> Self {
        Self { list: heapless::Vec::new(), taken: 0 }
    }
}

impl<const CAP: usize, E: Copy> Effects<CAP, E> {
    /// Makes an empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self { list: heapless::Vec::new(), taken: 0 }
    }

    /// Takes the next effect to carry out, in order.
    #[must_use = "an effect that is taken must be carried out"]
    pub fn take(&mut self) -> Option<E> {
        let next = self.list.get(self.taken).copied();
        self.taken = self.taken.saturating_add(1);
        if self.taken >= self.list.len() {
            self.list.clear();
            self.taken = 0;
        }
        next
    }

    /// Returns the effects still to be carried out, in order, and leaves them in the list.
    pub fn iter(&self) -> impl Iterator<Item = E> + '_ {
        self.list.iter().skip(self.taken).copied()
    }

    /// Returns whether everything is carried out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl<const CAP: usize, E: Copy> EffectSink<E> for Effects<CAP, E> {
    const CAPACITY: usize = CAP;

    fn is_ready(&self) -> bool {
        self.is_empty()
    }

    // Kept out of line: a dozen places push, and firmware carries them all.
    #[inline(never)]
    fn push(&mut self, effect: E) {
        let full = self.list.push(effect).is_err();
        debug_assert!(!full, "I6: the bound of the storage is the capacity of the list");
    }
}

/// Checks, in debug builds, the order (I5) and the bound (I6) of every list.
pub(crate) struct Ordered<'a, K> {
    sink: &'a mut K,
    bound: usize,
    rank: u8,
}

impl<'a, K: EffectSink> Ordered<'a, K> {
    pub(crate) fn new(sink: &'a mut K, bound: usize) -> Self {
        Self { sink, bound, rank: 0 }
    }

    pub(crate) fn push(&mut self, effect: Effect) {
        debug_assert!(effect.rank() >= self.rank, "I5: {effect:?} is out of order");
        debug_assert!(self.bound > 0, "I6: {effect:?} is one too many");
        if cfg!(debug_assertions) {
            self.rank = effect.rank();
            self.bound = self.bound.saturating_sub(1);
        }
        self.sink.push(effect);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_two_and_three_for_each_word() {
        for (vectors, effects) in [(1, 5), (64, 5), (65, 8), (2047, 98), (2048, 98)] {
            assert_eq!(bound(vectors), effects);
        }
        assert_eq!(MAX_EFFECTS, 98);
    }

    #[test]
    fn a_list_is_taken_in_order() {
        let mut fx = Effects::<5>::new();
        let set = Vectors::new(1, 6);
        for effect in [Effect::Disarm(set), Effect::Arm(set)] {
            fx.push(effect);
        }
        assert!(!fx.is_ready());
        assert_eq!(fx.iter().count(), 2);
        assert_eq!(fx.take(), Some(Effect::Disarm(set)));
        assert_eq!(fx.take(), Some(Effect::Arm(set)));
        assert_eq!(fx.take(), None);
        assert!(fx.is_ready());
    }

    #[test]
    fn the_kinds_stand_in_the_order_in_which_they_are_declared() {
        let set = Vectors::new(0, 1);
        let kinds = [
            Effect::IntxDeassert,
            Effect::Poll(set),
            Effect::Disarm(set),
            Effect::Drain(set),
            Effect::Arm(set),
            Effect::Reroute(set),
            Effect::Snoop(set),
            Effect::Send(set),
            Effect::IntxReevaluate,
        ];
        assert!(kinds.iter().map(|kind| kind.rank()).eq(0..9));
    }
}
