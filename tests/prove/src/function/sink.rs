//! A list of the effects of a function that keeps what it says of one vector of MSI-X, one of MSI and the
//! pin, and whether it is well formed.

use crate::sink::{Kinds, Sink, contains};
use msix_core::{Effect, EffectSink, FunctionEffect, IntxEffect, Vector, Vectors};

/// A list of a function's effects.
#[derive(Debug)]
pub struct FunctionSink {
    pub msix: Sink,
    pub msi: Sink,
    /// The effects for the pin.
    pub pin: Kinds,
    pin_rank: u8,
    /// The pin's kinds stand in one order, each once.
    pub pin_ordered: bool,
    /// Which of the two vectors and the pin are live now: MSI-X, MSI, the pin.
    live: [bool; 3],
    vectors: [Vector; 2],
    /// At no moment were two of them live (D2).
    pub alone: bool,
    part: u8,
    seen: u8,
    /// The effects of one part stand together.
    pub together: bool,
    /// The events that the input brought.
    pub events: u64,
}

impl FunctionSink {
    /// Makes an empty list. `live` says which of the two vectors and the pin are live.
    pub fn new(tables: [u16; 2], vectors: [Vector; 2], live: [bool; 3]) -> Self {
        Self {
            msix: Sink::new(tables[0], vectors[0]),
            msi: Sink::new(tables[1], vectors[1]),
            pin: Kinds::NONE,
            pin_rank: 0,
            pin_ordered: true,
            live,
            vectors,
            alone: true,
            part: u8::MAX,
            seen: 0,
            together: true,
            events: 0,
        }
    }

    fn vectors(&mut self, part: usize, effect: Effect) {
        match effect {
            Effect::Arm(set) if self.names(part, set) => self.live[part] = true,
            Effect::Disarm(set) if self.names(part, set) => self.live[part] = false,
            _ => {}
        }
    }

    fn names(&self, part: usize, set: Vectors) -> bool {
        contains(set, self.vectors[part])
    }

    fn pin(&mut self, effect: IntxEffect) {
        let (rank, kind) = match effect {
            IntxEffect::Deassert => (1, Kinds::LOW),
            IntxEffect::Disarm => (2, Kinds::UNLIVE),
            IntxEffect::Arm => (3, Kinds::LIVE),
            IntxEffect::Assert => (4, Kinds::HIGH),
            IntxEffect::Unmask => (5, Kinds::UNMASK),
        };
        self.pin_ordered &= rank > self.pin_rank;
        self.pin_rank = rank;
        self.pin = self.pin | kind;
        self.live[2] = match effect {
            IntxEffect::Arm => true,
            IntxEffect::Disarm => false,
            _ => self.live[2],
        };
    }
}

impl EffectSink<FunctionEffect> for FunctionSink {
    const CAPACITY: usize = usize::MAX;

    fn is_ready(&self) -> bool {
        true
    }

    fn push(&mut self, effect: FunctionEffect) {
        let part = match effect {
            FunctionEffect::MsiX(effect) => {
                self.msix.push(effect);
                self.vectors(0, effect);
                0
            }
            FunctionEffect::Msi(effect) => {
                self.msi.push(effect);
                self.vectors(1, effect);
                1
            }
            FunctionEffect::Intx(effect) => {
                self.pin(effect);
                2
            }
        };
        if part != self.part {
            self.together &= self.seen >> part & 1 == 0;
            self.seen |= 1 << part;
            self.part = part;
        }
        let [msix, msi, pin] = self.live;
        self.alone &= !(msix && msi) && !(pin && (msix || msi));
    }
}
