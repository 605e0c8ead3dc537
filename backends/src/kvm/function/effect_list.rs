//! The effects of an input, as the host takes them: the sets of one kind together.

use msix_core::{EffectSink, FunctionEffect, Vectors};
use std::mem::discriminant;

/// The effects of one input, in order.
#[derive(Debug, Default)]
pub(super) struct EffectList {
    effects: Vec<FunctionEffect>,
    /// How many were taken.
    taken: usize,
    /// The sets of those that were taken last.
    sets: Vec<Vectors>,
}

impl EffectList {
    /// Returns whether everything is carried out.
    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// Takes the next effect to carry out, and all others of its kind, which stand behind it (I5). Returns
    /// the first of them, and the sets of all.
    #[inline]
    pub(super) fn take(&mut self) -> Option<(FunctionEffect, &[Vectors])> {
        let Some(&first) = self.effects.get(self.taken) else {
            self.effects.clear();
            self.taken = 0;
            return None;
        };
        self.sets.clear();
        self.sets.push(set(first));
        self.taken += 1;
        while let Some(&next) = self.effects.get(self.taken).filter(|next| is_like(**next, first)) {
            self.sets.push(set(next));
            self.taken += 1;
        }
        Some((first, &self.sets))
    }
}

impl EffectSink<FunctionEffect> for EffectList {
    const CAPACITY: usize = usize::MAX;

    #[inline]
    fn is_ready(&self) -> bool {
        self.is_empty()
    }

    fn push(&mut self, effect: FunctionEffect) {
        self.effects.push(effect);
    }
}

fn is_like(one: FunctionEffect, other: FunctionEffect) -> bool {
    match (one, other) {
        (FunctionEffect::MsiX(a), FunctionEffect::MsiX(b))
        | (FunctionEffect::Msi(a), FunctionEffect::Msi(b)) => discriminant(&a) == discriminant(&b),
        _ => false,
    }
}

const fn set(effect: FunctionEffect) -> Vectors {
    match effect {
        FunctionEffect::MsiX(effect) | FunctionEffect::Msi(effect) => effect.vectors(),
        FunctionEffect::Intx(_) => Vectors::new(0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use msix_core::{Effect, IntxEffect};

    #[test]
    fn effects_of_one_kind_and_mode_are_taken_together_and_those_of_the_pin_alone() {
        let [a, b, c] = [0, 1, 2].map(|word| Vectors::new(word, 1));
        let (msix, msi) = (FunctionEffect::MsiX, FunctionEffect::Msi);
        let pin = FunctionEffect::Intx(IntxEffect::Deassert);
        let mut list = EffectList::default();
        for _ in 0..2 {
            assert!(list.is_empty() && list.is_ready());
            let left = [msi(Effect::Disarm(c)), pin, pin];
            let disarmed = [msix(Effect::Disarm(a)), msix(Effect::Disarm(b))];
            let rest = [msix(Effect::Arm(a)), msix(Effect::Arm(c)), msix(Effect::Send(b))];
            left.into_iter().chain(disarmed).chain(rest).for_each(|effect| list.push(effect));
            assert_eq!(list.take(), Some((msi(Effect::Disarm(c)), &[c][..])));
            for _ in 0..2 {
                assert!(!list.is_ready(), "not before the last one");
                assert_eq!(list.take().map(|(effect, _)| effect), Some(pin));
            }
            assert_eq!(list.take(), Some((msix(Effect::Disarm(a)), &[a, b][..])));
            assert_eq!(list.take(), Some((msix(Effect::Arm(a)), &[a, c][..])));
            assert_eq!(list.take(), Some((msix(Effect::Send(b)), &[b][..])));
            assert_eq!(list.take(), None);
        }
    }
}
