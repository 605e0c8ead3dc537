//! What became of every event: of each device vector, how many messages may still come for events that
//! were fired, and whether one must.

/// More messages than there are places that can hold an event.
const MOST: u8 = 4;

/// The events of one device vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Owed {
    /// An event was fired, and no message stands for it yet (A12).
    pub(crate) must: bool,
    /// Messages that fired events allow.
    pub(crate) may: u8,
}

impl Owed {
    /// An event; `sure`: it must be delivered, or be pending.
    pub(crate) fn fire(&mut self, sure: bool) {
        self.must |= sure;
        self.may = (self.may + 1).min(MOST);
    }

    /// The events of another vector are of this one from now on.
    pub(crate) fn share(&mut self, must: bool, may: u8) {
        self.must |= must;
        self.may = (self.may + may).min(MOST);
    }

    /// It was dropped, by a rule that says so.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// What a load makes of it: what the host held before may come, or not.
    pub(crate) fn load(&mut self, saved: Self) {
        *self = Self { must: saved.must, may: (self.may.max(1) + saved.may).min(MOST) };
    }

    /// What a snapshot has of it: a bit of each of so many capabilities.
    pub(crate) fn saved(self, capabilities: u8) -> Self {
        Self { may: self.may.min(capabilities), ..self }
    }
}

/// Has a message stand for the events of `candidates`, if it may. One message less may come for one of
/// them, which is returned: rather for the one that just `fired`, one of which fewer are `waiting` than may
/// come, or one with a message that was not sent.
pub(crate) fn charge(
    owed: &mut [Owed],
    candidates: &[usize],
    fired: Option<u8>,
    waiting: impl Fn(usize) -> u8,
    unsent: &[bool],
) -> Option<usize> {
    let rank = |&v: &usize| {
        let gone = owed[v].may.saturating_sub(waiting(v));
        (fired.map(usize::from) != Some(v), MOST - gone, !unsent[v], MOST - owed[v].may)
    };
    let may = candidates.iter().copied().filter(|&v| owed[v].may > 0);
    let vector = may.min_by_key(rank)?;
    owed[vector].may -= 1;
    candidates.iter().for_each(|&v| owed[v].must = false);
    Some(vector)
}
