//! The rules for a function: what each part does, and the switching between them (A10, D2, H18).

use super::{FunctionSink, KEPT};
use crate::case::Case;
use crate::msi::{MsiCase, bit};
use crate::pin::PinCase;
use crate::sink::Kinds;
use msix_core::policy::{IntxRule, Policy};
use msix_core::{FunctionCounters, Mode, Vector};

/// What the rules know of a function.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub policy: Policy,
    pub command: u16,
    /// The number of vectors of MSI-X, 0 without.
    pub vectors: u16,
    /// The vector of MSI-X that is looked at.
    pub vector: Vector,
    pub msix: Option<Case>,
    pub msi: Option<MsiCase>,
    pub pin: Option<PinCase>,
    pub counters: FunctionCounters,
}

/// The effects that an input must have, by part.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub msix: Kinds,
    pub msi: Kinds,
    pub pin: Kinds,
}

impl Wanted {
    pub const NOTHING: Self = Self { msix: Kinds::NONE, msi: Kinds::NONE, pin: Kinds::NONE };
}

impl Rules {
    pub fn msix_enabled(&self) -> bool {
        self.msix.is_some_and(|msix| msix.whole.enabled)
    }

    pub fn msi_enabled(&self) -> bool {
        self.msi.is_some_and(|msi| msi.state.enabled)
    }

    fn bus_master(&self) -> bool {
        self.command & 4 != 0
    }

    fn disabled(&self) -> bool {
        self.command & 0x400 != 0
    }

    /// Returns how the function interrupts (H18).
    pub fn mode(&self) -> Mode {
        match (self.msix_enabled(), self.msi_enabled(), self.pin) {
            (true, ..) => Mode::MsiX,
            (_, true, _) => Mode::Msi,
            (.., Some(_)) => Mode::Intx,
            _ => Mode::None,
        }
    }

    /// Returns which of the two vectors and the pin are live.
    fn live(&self) -> [bool; 3] {
        [
            self.msix.is_some_and(|msix| msix.lane.live),
            self.msi.is_some_and(|msi| bit(msi.state.live, msi.v)),
            self.pin.is_some_and(|pin| pin.state.live),
        ]
    }

    pub fn loading(&self) -> bool {
        self.msix.is_some_and(|msix| msix.whole.loading)
            || self.msi.is_some_and(|msi| msi.state.loading)
            || self.pin.is_some_and(|pin| pin.state.loading)
    }

    /// Returns whether the parts know the same of Command, of each other and of a load, and at most one
    /// is live (D2).
    pub fn agrees(&self) -> bool {
        let loading = self.loading();
        let msix = self.msix.is_none_or(|msix| {
            msix.whole.bus_master == self.bus_master() && msix.whole.loading == loading
        });
        let msi = self.msi.is_none_or(|msi| {
            msi.state.bus_master == self.bus_master()
                && msi.state.loading == loading
                && msi.state.overridden == self.msix_enabled()
        });
        let pin = self.pin.is_none_or(|pin| {
            pin.state.prohibited == (self.msi_enabled() || self.msix_enabled())
                && pin.state.loading == loading
                && pin.state.disabled == self.disabled()
        });
        let alone = match self.live() {
            [msix, msi, pin] => !(msix && msi) && !(pin && (msix || msi)),
        };
        msix && msi && pin && alone && self.command & !KEPT == 0
    }

    /// Returns whether the function satisfies the induction hypothesis.
    pub fn sound(&self) -> bool {
        self.agrees()
            && self.msix.is_none_or(|msix| msix.sound())
            && self.msi.is_none_or(|msi| msi.sound() && msi.fits())
            && self.pin.is_none_or(|pin| pin.sound())
    }

    /// Returns an empty list.
    pub fn list(&self) -> FunctionSink {
        let (vectors, v) = self.msi.map_or((0, 0), |msi| (msi.shape.vectors(), msi.v));
        FunctionSink::new([self.vectors, vectors], [self.vector, Vector::new(v)], self.live())
    }

    /// Gives each part an input.
    pub fn each(
        &mut self,
        msix: impl FnOnce(&mut Case) -> Kinds,
        msi: impl FnOnce(&mut MsiCase) -> Kinds,
        pin: impl FnOnce(&mut PinCase) -> Kinds,
    ) -> Wanted {
        Wanted {
            msix: self.msix.as_mut().map_or(Kinds::NONE, msix),
            msi: self.msi.as_mut().map_or(Kinds::NONE, msi),
            pin: self.pin.as_mut().map_or(Kinds::NONE, pin),
        }
    }

    /// Gives MSI-X an input that concerns it alone.
    pub fn only_msix(&mut self, input: impl FnOnce(&mut Case) -> Kinds) -> Wanted {
        self.each(input, |_| Kinds::NONE, |_| Kinds::NONE)
    }

    pub fn only_msi(&mut self, input: impl FnOnce(&mut MsiCase) -> Kinds) -> Wanted {
        self.each(|_| Kinds::NONE, input, |_| Kinds::NONE)
    }

    pub fn only_pin(&mut self, input: impl FnOnce(&mut PinCase) -> Kinds) -> Wanted {
        self.each(|_| Kinds::NONE, |_| Kinds::NONE, input)
    }

    fn conflict(&mut self, is: bool) {
        self.counters.conflicts = self.counters.conflicts.wrapping_add(u64::from(is));
    }

    /// A guest's write to the capability of MSI.
    pub fn write_msi(&mut self, offset: usize, bytes: &[u8]) -> Wanted {
        if self.msi.is_none() {
            return Wanted::NOTHING;
        }
        let (was, other) = (self.msi_enabled(), self.msix_enabled());
        let control = 2_usize.checked_sub(offset).and_then(|at| bytes.get(at));
        let is = control.map_or(was, |byte| byte & 1 != 0);
        self.conflict(!was && is && other); // H18
        // H27: QEMU forgets the level at every write that leaves MSI enabled.
        let forget = control.is_some() && is && !other;
        self.forget(forget);
        self.each(
            |_| Kinds::NONE,
            |msi| msi.write(offset, bytes),
            |pin| pin.set_prohibited(is || other),
        )
    }

    /// A guest's write to the capability of MSI-X.
    pub fn write_msix(&mut self, offset: usize, bytes: &[u8]) -> Wanted {
        let high = 3_usize.checked_sub(offset).and_then(|at| bytes.get(at)).copied();
        let Some(high) = high.filter(|_| self.msix.is_some()) else {
            return Wanted::NOTHING; // H19
        };
        let (was, other, is) = (self.msix_enabled(), self.msi_enabled(), high & 0x80 != 0);
        self.conflict(!was && is && other);
        self.forget(is);
        self.each(
            |msix| msix.write_control(high),
            |msi| msi.set_overridden(is),
            |pin| pin.set_prohibited(is || other),
        )
    }

    /// Forgets the level, where the policy wants that of a switch (H27).
    fn forget(&mut self, is: bool) {
        if let Some(pin) = &mut self.pin
            && is
            && self.policy.intx == IntxRule::OnEveryWrite
        {
            pin.forget();
        }
    }

    pub fn write_command(&mut self, offset: usize, bytes: &[u8]) -> Wanted {
        let mut command = self.command.to_le_bytes();
        for (at, old) in (0_usize..).zip(&mut command) {
            *old = at.checked_sub(offset).and_then(|at| bytes.get(at)).copied().unwrap_or(*old);
        }
        self.command = u16::from_le_bytes(command) & KEPT;
        let (on, disabled) = (self.bus_master(), self.disabled());
        self.each(
            |msix| msix.set_bus_master(on),
            |msi| msi.set_bus_master(on),
            |pin| {
                pin.state.disabled = disabled; // A17
                pin.settle()
            },
        )
    }

    pub fn reset(&mut self) -> Wanted {
        self.command = 0;
        let wanted = self.each(Case::reset, MsiCase::reset, PinCase::reset);
        if let Some(msix) = &mut self.msix {
            msix.whole.bus_master = false;
        }
        wanted
    }

    /// Ends a load (H15).
    pub fn resume(&mut self) -> Wanted {
        if !self.loading() {
            return Wanted::NOTHING;
        }
        self.each(Case::resume, MsiCase::resume, PinCase::resume)
    }
}
