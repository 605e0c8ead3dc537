//! INTx as one `bool` a fact, written from the rules (A17, D12).

use msix_core::{IntxEffect, IntxSource};

/// The pin of a function.
#[derive(Debug, Clone)]
pub struct NaivePin {
    source: IntxSource,
    /// The level of an emulated device.
    pub level: bool,
    /// A physical line fired and waits for the guest's EOI.
    fired: bool,
    disabled: bool,
    prohibited: bool,
    attached: bool,
    /// Whether a resume is to come.
    pub loading: bool,
    armed: bool,
    asserted: bool,
    failed: bool,
}

impl NaivePin {
    /// After reset.
    #[must_use]
    pub fn new(source: IntxSource) -> Self {
        Self {
            source,
            level: false,
            fired: false,
            disabled: false,
            prohibited: false,
            attached: false,
            loading: false,
            armed: false,
            asserted: false,
            failed: false,
        }
    }

    /// Interrupt Status, where it is kept here: that of a physical pin is the device's.
    #[must_use]
    pub fn status(&self) -> bool {
        self.level && !self.prohibited
    }

    /// Used, asserted, failed.
    #[must_use]
    pub fn facts(&self) -> (bool, bool, bool) {
        (self.armed, self.asserted, self.failed)
    }

    /// The device's level.
    pub fn set_level(&mut self, high: bool) -> Vec<IntxEffect> {
        if self.source == IntxSource::Emulated {
            self.level = high;
        }
        self.settle()
    }

    /// The level is forgotten (H27).
    pub fn forget(&mut self) {
        self.level = false;
    }

    /// The physical line fired.
    pub fn fire(&mut self) -> Vec<IntxEffect> {
        if self.source == IntxSource::Physical && self.armed {
            self.fired = true;
        }
        self.settle()
    }

    /// The guest's EOI.
    pub fn eoi(&mut self) -> Vec<IntxEffect> {
        if self.loading || !self.asserted {
            return vec![];
        }
        if self.source == IntxSource::Emulated {
            return vec![IntxEffect::Assert]; // still high
        }
        self.fired = false;
        self.asserted = false;
        vec![IntxEffect::Deassert, IntxEffect::Unmask]
    }

    /// Interrupt Disable.
    pub fn set_disabled(&mut self, on: bool) -> Vec<IntxEffect> {
        self.disabled = on;
        self.settle()
    }

    /// MSI or MSI-X is enabled.
    pub fn set_prohibited(&mut self, on: bool) -> Vec<IntxEffect> {
        self.prohibited = on;
        self.settle()
    }

    /// A backend comes or goes.
    pub fn set_attached(&mut self, on: bool) -> Vec<IntxEffect> {
        self.attached = on;
        self.settle()
    }

    /// The Arm failed.
    pub fn fail(&mut self) {
        self.failed = self.armed;
    }

    /// Function reset: everything is low and armed again.
    pub fn reset(&mut self) -> Vec<IntxEffect> {
        let effects = self.disarm();
        let (source, attached) = (self.source, self.attached);
        *self = Self { attached, ..Self::new(source) };
        effects.into_iter().chain(self.settle()).collect()
    }

    /// The same level was loaded; a line that fired is not saved.
    pub fn loaded(&mut self) {
        (self.loading, self.fired) = (true, false);
    }

    /// Ends a load.
    pub fn resume(&mut self) -> Vec<IntxEffect> {
        if !self.loading {
            return vec![];
        }
        self.loading = false;
        let effects = self.disarm();
        effects.into_iter().chain(self.settle()).collect()
    }

    fn disarm(&mut self) -> Vec<IntxEffect> {
        let mut effects = vec![];
        if std::mem::take(&mut self.asserted) {
            effects.push(IntxEffect::Deassert);
        }
        if std::mem::take(&mut self.armed) {
            effects.push(IntxEffect::Disarm);
        }
        (self.fired, self.failed) = (false, false);
        effects
    }

    fn settle(&mut self) -> Vec<IntxEffect> {
        let open = !self.disabled && !self.prohibited;
        let mut effects = vec![];
        if !self.attached || !self.loading && !open {
            // Nobody to serve the line. A level of ours is still driven, if it may be.
            let keep = self.source == IntxSource::Emulated
                && if self.loading { self.asserted } else { open && self.level };
            if self.asserted && !keep {
                self.asserted = false;
                effects.push(IntxEffect::Deassert);
            }
            effects.extend(std::mem::take(&mut self.armed).then_some(IntxEffect::Disarm));
            (self.fired, self.failed) = (false, false);
        }
        if self.loading {
            return effects;
        }
        let high = open && (self.level || self.fired);
        if self.asserted && !high {
            self.asserted = false;
            effects.push(IntxEffect::Deassert);
        }
        if self.attached && open && !self.armed {
            self.armed = true;
            effects.push(IntxEffect::Arm);
        }
        if high && !self.asserted {
            self.asserted = true;
            effects.push(IntxEffect::Assert);
        }
        effects
    }
}
