//! The rules for the pin: written from A10, A17 and D12.

use crate::any;
use crate::sink::Kinds;
use msix_core::IntxSource;
use msix_core::prove::PinState;

/// A pin.
#[derive(Debug, Clone, Copy)]
pub struct PinCase {
    pub source: IntxSource,
    pub state: PinState,
}

/// A pin after its making.
pub const NEW: PinState = PinState {
    high: false,
    disabled: false,
    prohibited: false,
    attached: false,
    loading: false,
    live: false,
    asserted: false,
    fallback: false,
};

impl PinCase {
    /// Makes a pin in any state.
    pub fn any() -> Self {
        let source = if any::bool() { IntxSource::Emulated } else { IntxSource::Physical };
        let state = PinState {
            high: any::bool(),
            disabled: any::bool(),
            prohibited: any::bool(),
            attached: any::bool(),
            loading: any::bool(),
            live: any::bool(),
            asserted: any::bool(),
            fallback: any::bool(),
        };
        Self { source, state }
    }

    fn emulated(&self) -> bool {
        self.source == IntxSource::Emulated
    }

    /// Returns whether the guest lets the level through (A10, A17).
    fn open(&self) -> bool {
        !self.state.disabled && !self.state.prohibited
    }

    /// Returns whether a backend should deliver the line, and whether the guest should see it high.
    /// Nothing changes between load and resume (H15), but that a backend may leave.
    fn wanted(&self) -> (bool, bool) {
        let state = &self.state;
        let (mut live, mut high) = (self.open(), self.open() && state.high);
        if state.loading {
            (live, high) = (state.live, state.asserted);
        }
        if !state.attached {
            live = false;
        }
        if !live && !self.emulated() {
            high = false; // nobody sees a physical line
        }
        (live, high)
    }

    /// Returns whether the pin satisfies the induction hypothesis.
    pub fn sound(&self) -> bool {
        let PinState { live, asserted, fallback, high, .. } = self.state;
        let unseen = !self.emulated() && !live && high;
        self.wanted() == (live, asserted) && (live || !fallback) && !unseen
    }

    /// Ends an input.
    pub fn settle(&mut self) -> Kinds {
        let (live, asserted) = self.wanted();
        let (was_live, was_asserted) = (self.state.live, self.state.asserted);
        self.state.live = live;
        self.state.asserted = asserted;
        if !live {
            self.state.fallback = false;
            if !self.emulated() {
                self.state.high = false; // it fires again once it is armed again (D12)
            }
        }
        Kinds::LOW.when(was_asserted && !asserted)
            | Kinds::UNLIVE.when(was_live && !live)
            | Kinds::LIVE.when(!was_live && live)
            | Kinds::HIGH.when(!was_asserted && asserted)
    }

    /// Lowers and disarms the line; the device is not asked.
    fn disarm(&mut self) -> Kinds {
        let kinds = Kinds::LOW.when(self.state.asserted) | Kinds::UNLIVE.when(self.state.live);
        self.state = PinState { asserted: false, live: false, fallback: false, ..self.state };
        self.state.high &= self.emulated();
        kinds
    }

    pub fn set_level(&mut self, high: bool) -> Kinds {
        if self.emulated() {
            self.state.high = high;
        }
        self.settle()
    }

    pub fn fire(&mut self) -> Kinds {
        if !self.emulated() && self.state.live {
            self.state.high = true;
        }
        self.settle()
    }

    /// The guest's EOI: a controller with resampling sees an emulated line low from now on, and a
    /// physical line is unmasked (D12). Between load and resume it means nothing.
    pub fn eoi(&mut self) -> Kinds {
        if !self.state.asserted || self.state.loading {
            return Kinds::NONE;
        }
        if self.emulated() {
            return Kinds::HIGH;
        }
        self.state.high = false;
        self.state.asserted = false;
        Kinds::LOW | Kinds::UNMASK
    }

    pub fn set_prohibited(&mut self, is: bool) -> Kinds {
        self.state.prohibited = is;
        self.settle()
    }

    /// Forgets the level (H27).
    pub fn forget(&mut self) {
        self.state.high &= !self.emulated();
    }

    pub fn reset(&mut self) -> Kinds {
        let kinds = self.disarm();
        self.state = PinState { attached: self.state.attached, ..NEW };
        kinds | self.settle()
    }

    pub fn resume(&mut self) -> Kinds {
        let kinds = self.disarm();
        self.state.loading = false;
        kinds | self.settle()
    }
}
