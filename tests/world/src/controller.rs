//! The guest's interrupt controllers: messages that arrived, and the level of the pin.

use crate::outside::Shared;
use msix_backends::kvm::GuestPin;

/// What a guest gets.
#[derive(Debug, Default)]
pub(crate) struct Controller {
    /// Messages, and writes of memory, in order: address and data.
    pub(crate) sent: Vec<(u64, u32)>,
    /// The pin as userspace drives it.
    pub(crate) pin: bool,
    /// The pin as KVM drives it, by resampling.
    pub(crate) line: bool,
    /// Userspace does not hear that the pin should be lowered.
    pub(crate) is_deaf: bool,
}

impl Controller {
    pub(crate) const fn is_high(&self) -> bool {
        self.pin || self.line
    }
}

impl GuestPin for Shared {
    fn set_level(&mut self, asserted: bool) {
        let mut outside = self.lock();
        outside.calls += 1;
        if asserted || !outside.controller.is_deaf {
            outside.controller.pin = asserted;
        }
    }
}
