//! A list of effects that keeps what it says of one vector, and whether it is well formed.

use msix_core::{Effect, EffectSink, Vector, Vectors};

/// A set of kinds of effects.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds(pub u16);

impl Kinds {
    pub const NONE: Self = Self(0);
    pub const DEASSERT: Self = Self(1);
    pub const POLL: Self = Self(2);
    pub const DISARM: Self = Self(4);
    pub const DRAIN: Self = Self(8);
    pub const ARM: Self = Self(0x10);
    pub const REROUTE: Self = Self(0x20);
    pub const SNOOP: Self = Self(0x40);
    pub const SEND: Self = Self(0x80);
    pub const REEVALUATE: Self = Self(0x100);
    // Of the pin.
    pub const LOW: Self = Self(0x200);
    pub const UNLIVE: Self = Self(0x400);
    pub const LIVE: Self = Self(0x800);
    pub const HIGH: Self = Self(0x1000);
    pub const UNMASK: Self = Self(0x2000);

    /// Returns those for vectors: what a function makes of the effects of MSI-X.
    #[must_use]
    pub const fn of_vectors(self) -> Self {
        Self(self.0 & !(Self::DEASSERT.0 | Self::REEVALUATE.0))
    }

    #[must_use]
    pub const fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::NONE }
    }
}

impl core::fmt::Debug for Kinds {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let names = [
            "IntxDeassert",
            "Poll",
            "Disarm",
            "Drain",
            "Arm",
            "Reroute",
            "Snoop",
            "Send",
            "IntxReevaluate",
            "pin Deassert",
            "pin Disarm",
            "pin Arm",
            "pin Assert",
            "pin Unmask",
        ];
        let named = (0..).zip(names).filter(|(rank, _)| self.0 >> rank & 1 != 0);
        f.debug_set().entries(named.map(|(_, name)| name)).finish()
    }
}

impl core::ops::BitOr for Kinds {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The vectors that effects of a kind name, counted over the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    pub disarms: u64,
    pub arms: u64,
    pub reroutes: u64,
    pub sent: u64,
}

#[derive(Debug)]
pub struct Sink {
    vectors: u16,
    vector: Vector,
    /// The kinds that name the vector, and those that name none.
    pub kinds: Kinds,
    rank: u8,
    pub count: u16,
    /// The kinds stand in one order (I5).
    pub ordered: bool,
    /// Every effect names a vector of the table, and no kind names one twice.
    pub sane: bool,
    pub sums: Sums,
    /// The events that the input brought.
    pub events: u64,
}

impl Sink {
    #[must_use]
    pub fn new(vectors: u16, vector: Vector) -> Self {
        Self {
            vectors,
            vector,
            kinds: Kinds::NONE,
            rank: 0,
            count: 0,
            ordered: true,
            sane: true,
            sums: Sums::default(),
            events: 0,
        }
    }

    /// Returns whether all members are vectors of the table, and there is one.
    fn names_vectors(&self, set: Vectors) -> bool {
        let full = self.vectors / 64;
        let rest = self.vectors % 64;
        let inside = set.word() < full || set.word() == full && set.bits() >> rest == 0;
        inside && set.bits() != 0
    }
}

/// Returns whether `vector` is in the set.
#[must_use]
pub fn contains(set: Vectors, vector: Vector) -> bool {
    let (word, bit) = (vector.index() / 64, vector.index() % 64);
    set.word() == word && set.bits() >> bit & 1 != 0
}

fn add(total: &mut u64, bits: u64) {
    let count = if bits == u64::MAX { 64 } else { bits.count_ones() };
    *total = total.wrapping_add(u64::from(count));
}

impl EffectSink for Sink {
    const CAPACITY: usize = usize::MAX;

    fn is_ready(&self) -> bool {
        true
    }

    fn push(&mut self, effect: Effect) {
        let rank = match effect {
            Effect::IntxDeassert => 0,
            Effect::Poll(_) => 1,
            Effect::Disarm(_) => 2,
            Effect::Drain(_) => 3,
            Effect::Arm(_) => 4,
            Effect::Reroute(_) => 5,
            Effect::Snoop(_) => 6,
            Effect::Send(_) => 7,
            Effect::IntxReevaluate => 8,
        };
        self.ordered &= rank >= self.rank;
        self.rank = rank;
        self.count = self.count.wrapping_add(1);
        let whole = matches!(effect, Effect::IntxDeassert | Effect::IntxReevaluate);
        let set = effect.vectors();
        match effect {
            Effect::Disarm(set) => add(&mut self.sums.disarms, set.bits()),
            Effect::Arm(set) => add(&mut self.sums.arms, set.bits()),
            Effect::Reroute(set) => add(&mut self.sums.reroutes, set.bits()),
            Effect::Send(set) => add(&mut self.sums.sent, set.bits()),
            _ => {}
        }
        if !whole {
            self.sane &= self.names_vectors(set);
        }
        if whole || contains(set, self.vector) {
            let kind = 1 << rank;
            self.sane &= self.kinds.0 & kind == 0;
            self.kinds.0 |= kind;
        }
    }
}
