//! Hooks of the proofs: a pin in any state, and what its state says.

use super::{
    ASSERTED, ATTACHED, DISABLED, FALLBACK, HIGH, Intx, IntxSource, LIVE, LOADING, PROHIBITED,
};

/// The state of a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinState {
    /// The device asserts.
    pub high: bool,
    /// Interrupt Disable.
    pub disabled: bool,
    /// MSI or MSI-X is enabled.
    pub prohibited: bool,
    /// A backend is attached.
    pub attached: bool,
    /// Between a load and its resume.
    pub loading: bool,
    /// It is armed and not disarmed since.
    pub live: bool,
    /// The guest's controller was shown the line high.
    pub asserted: bool,
    /// Its Arm failed.
    pub fallback: bool,
}

impl Intx {
    /// Makes a pin in a given state, whatever it is.
    pub const fn in_state(source: IntxSource, is: PinState) -> Self {
        let mut pin = Self::new(source);
        pin.set(HIGH, is.high);
        pin.set(DISABLED, is.disabled);
        pin.set(PROHIBITED, is.prohibited);
        pin.set(ATTACHED, is.attached);
        pin.set(LOADING, is.loading);
        pin.set(LIVE, is.live);
        pin.set(ASSERTED, is.asserted);
        pin.set(FALLBACK, is.fallback);
        pin
    }

    /// Returns the state.
    pub const fn in_full(&self) -> PinState {
        PinState {
            high: self.has(HIGH),
            disabled: self.has(DISABLED),
            prohibited: self.has(PROHIBITED),
            attached: self.has(ATTACHED),
            loading: self.has(LOADING),
            live: self.has(LIVE),
            asserted: self.has(ASSERTED),
            fallback: self.has(FALLBACK),
        }
    }
}
