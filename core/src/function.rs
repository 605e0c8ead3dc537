//! A whole function's interrupts: INTx, MSI and MSI-X, and the switching between them.

mod device;
mod guest;
mod host;
#[cfg(msix_prove)]
mod prove;
mod sinks;
mod snapshot;

use crate::effects::{Bounded, Effect, Effects, MAX_EFFECTS};
use crate::facts::{Fact, Facts};
use crate::intx::{Intx, IntxEffect, IntxSource, LIVE};
use crate::layout::Layout;
use crate::msi::{Msi, MsiCapability};
use crate::msix::{Message, Msix, NewError};
use crate::policy::{IntxRule, Policy};
use crate::spec::{
    COMMAND_BUS_MASTER, COMMAND_INTX_DISABLE, COMMAND_IO, COMMAND_MEMORY, STATUS_INTERRUPT,
};
use crate::storage::{Storage, sealed::Fresh};
use crate::vectors::Vector;

/// The most effects that one input of a [`Function`] emits, for the largest table.
pub const MAX_FUNCTION_EFFECTS: usize = MAX_EFFECTS + Msi::MAX_EFFECTS + Intx::MAX_EFFECTS;

/// Bits of Command that are kept here.
pub(crate) const KEPT: u16 =
    COMMAND_IO | COMMAND_MEMORY | COMMAND_BUS_MASTER | COMMAND_INTX_DISABLE;

/// How a function interrupts now ([A10](crate::rules#a10)). Derived from what is enabled, never
/// stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Mode {
    /// Not at all: MSI and MSI-X are disabled or missing, and so is the pin.
    None,
    /// By its pin, whatever Interrupt Disable says.
    Intx,
    /// By MSI.
    Msi,
    /// By MSI-X, which is preferred when both are enabled (H18).
    MsiX,
}

/// One thing the host must do, and the part of the function that it is for ([I5](crate::rules#i5),
/// [D2](crate::rules#d2)). In a list, everything of the mode that is left comes before anything of
/// the mode that is entered. The effects of one part stand together and in their own order, except
/// that in a [`Function::resume`] the Disarm of any part comes before all other effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FunctionEffect {
    /// For MSI-X; never [`Effect::IntxDeassert`] nor [`Effect::IntxReevaluate`].
    MsiX(Effect),
    /// For MSI; never [`Effect::IntxDeassert`] nor [`Effect::IntxReevaluate`].
    Msi(Effect),
    /// For the pin.
    Intx(IntxEffect),
}

/// A list of the effects of a [`Function`]. `CAP` must be at least [`Function::MAX_EFFECTS`]
/// ([`MAX_FUNCTION_EFFECTS`] fits all); less does not compile.
///
/// ```compile_fail
/// use msix_core::*;
/// let mut function = Function::<Inline<64, 1>>::new(Parts::default(), Policy::SPEC).unwrap();
/// let mut fx = FunctionEffects::<13>::new(); // 64 vectors need 14
/// let _ = function.attach(&mut fx);
/// ```
pub type FunctionEffects<const CAP: usize> = Effects<CAP, FunctionEffect>;

/// The interrupt side of one PCI function: MSI, MSI-X and a pin, as far as the function has them,
/// and the bits of the Command register that concern them. Each part holds its invariants, and at
/// most one mode is live ([A10](crate::rules#a10), [D2](crate::rules#d2), [H18](crate::rules#h18)).
///
/// ```
/// use msix_core::*;
///
/// # fn main() -> Result<(), Box<dyn core::error::Error>> {
/// let msi = MsiCapability::new(1)?.with_64_bit_address();
/// let parts = Parts { msi: Some(msi), pin: Some(IntxSource::Emulated), ..Parts::default() };
/// let mut function = Function::<Inline<1, 1>>::new(parts, Policy::SPEC)?;
/// let mut fx = FunctionEffects::<14>::new();
///
/// function.attach(&mut fx)?; // a host listens
/// assert_eq!(fx.take(), Some(FunctionEffect::Intx(IntxEffect::Arm)));
/// function.write_command(0, &[0x06], &mut fx)?; // memory and bus master on
/// function.set_level(true, &mut fx)?; // the device asks for attention
/// assert_eq!(fx.take(), Some(FunctionEffect::Intx(IntxEffect::Assert)));
/// function.write_msi(2, &[0x01], &mut fx)?; // the guest enables MSI:
/// assert_eq!(fx.take(), Some(FunctionEffect::Intx(IntxEffect::Deassert))); // INTx is left first
/// assert_eq!(fx.take(), Some(FunctionEffect::Intx(IntxEffect::Disarm)));
/// assert_eq!(fx.take(), Some(FunctionEffect::Msi(Effect::Arm(Vectors::new(0, 1)))));
/// assert_eq!(function.mode(), Mode::Msi);
/// # Ok(())
/// # }
/// ```
///
/// The parts are read through [`msi`](Self::msi), [`msix`](Self::msix) and [`intx`](Self::intx), and
/// changed only through the function. After reset Command is 0: bus master is off.
#[derive(Debug, Clone)]
pub struct Function<S> {
    pub(crate) msi: Option<Msi>,
    pub(crate) msix: Option<Msix<S>>,
    pub(crate) intx: Option<Intx>,
    /// The bits of Command in [`KEPT`].
    pub(crate) command: u16,
    policy: Policy,
    counters: FunctionCounters,
}

/// Totals of a [`Function`] that no part of it counts ([H18](crate::rules#h18)). They wrap at 2^64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FunctionCounters {
    /// How often a guest enabled MSI and MSI-X together, which PCI leaves undefined (A10, H18).
    pub conflicts: u64,
    /// Events of [`Function::notify`] that were left to the pin's level.
    pub to_intx: u64,
}

/// Which parts a function has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts {
    /// The MSI capability.
    pub msi: Option<MsiCapability>,
    /// MSI-X, with its table and PBA.
    pub msix: Option<Layout>,
    /// An interrupt pin, and where its level comes from.
    pub pin: Option<IntxSource>,
}

impl<S: Storage + Fresh> Function<S> {
    /// Makes a function in its reset state. Without MSI-X, `S` may be [`Inline<1,
    /// 1>`](crate::Inline).
    ///
    /// # Errors
    /// [`NewError`] when `S` has no room for exactly the layout's vectors.
    pub fn new(parts: Parts, policy: Policy) -> Result<Self, NewError> {
        let msix = parts.msix.map(|layout| Msix::new(layout, policy)).transpose()?;
        Ok(Self::assemble(parts, msix, policy))
    }
}

#[cfg(feature = "alloc")]
impl Function<crate::Boxed> {
    /// Makes a function in its reset state, on the heap (feature `alloc`).
    #[must_use]
    pub fn boxed(parts: Parts, policy: Policy) -> Self {
        let msix = parts.msix.map(|layout| Msix::boxed(layout, policy));
        Self::assemble(parts, msix, policy)
    }
}

impl<'a> Function<crate::Borrowed<'a>> {
    /// Makes a function in its reset state, with the per-vector state of MSI-X in lent memory.
    ///
    /// # Errors
    /// [`NewError`] when the memory is not for exactly the layout's vectors.
    pub fn with_storage(
        storage: crate::Borrowed<'a>,
        parts: Parts,
        policy: Policy,
    ) -> Result<Self, NewError> {
        let msix = parts.msix.map(|layout| Msix::with_storage(storage, layout, policy));
        Ok(Self::assemble(parts, msix.transpose()?, policy))
    }
}

impl<S: Storage> Function<S> {
    /// The most effects that one input emits, all parts together: 14 for up to 64 vectors.
    pub const MAX_EFFECTS: usize = S::MAX_EFFECTS + Msi::MAX_EFFECTS + Intx::MAX_EFFECTS;

    fn assemble(parts: Parts, msix: Option<Msix<S>>, policy: Policy) -> Self {
        let mut function = Self {
            msi: parts.msi.map(|capability| Msi::new(capability, policy)),
            msix,
            intx: parts.pin.map(Intx::new),
            command: 0,
            policy,
            counters: FunctionCounters { conflicts: 0, to_intx: 0 },
        };
        function.tell_bus_master();
        function
    }

    /// Returns the choices this function was made with.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns how the function interrupts now.
    #[must_use]
    pub fn mode(&self) -> Mode {
        if self.msix_enabled() {
            Mode::MsiX
        } else if self.msi_enabled() {
            Mode::Msi
        } else if self.intx.is_some() {
            Mode::Intx
        } else {
            Mode::None
        }
    }

    /// Returns the MSI capability, if the function has one.
    #[must_use]
    pub const fn msi(&self) -> Option<&Msi> {
        self.msi.as_ref()
    }

    /// Returns the MSI-X capability, if the function has one.
    #[must_use]
    pub const fn msix(&self) -> Option<&Msix<S>> {
        self.msix.as_ref()
    }

    /// Returns the pin, if the function has one.
    #[must_use]
    pub const fn intx(&self) -> Option<&Intx> {
        self.intx.as_ref()
    }

    /// Exempts messages of MSI-X from both masks, as [`Msix::with_exempt_messages`] does (Xen, H25).
    #[must_use]
    pub fn with_exempt_messages(mut self, predicate: fn(Message) -> bool) -> Self {
        self.msix = self.msix.map(|msix| msix.with_exempt_messages(predicate));
        self
    }

    /// Points the capability of `mode`, MSI or MSI-X, at the next one in the chain (byte 1). Bits
    /// 1:0 of `offset` are cleared. Does nothing when the function has no such capability.
    pub const fn set_next_capability(&mut self, mode: Mode, offset: u8) {
        match (mode, &mut self.msi, &mut self.msix) {
            (Mode::Msi, Some(msi), _) => msi.set_next_capability(offset),
            (Mode::MsiX, _, Some(msix)) => msix.set_next_capability(offset),
            _ => {}
        }
    }

    /// Returns the message that `mode` sends for `vector`; `None` when there is none.
    #[must_use]
    pub fn message(&self, mode: Mode, vector: Vector) -> Option<Message> {
        match mode {
            Mode::MsiX => self.msix.as_ref()?.message(vector),
            Mode::Msi => self.msi.as_ref()?.message(vector),
            Mode::Intx | Mode::None => None,
        }
    }

    /// Returns the bits of the Command register that are kept here: I/O, memory and bus master
    /// enable, and Interrupt Disable. All are 0 after reset.
    #[must_use]
    pub const fn command(&self) -> u16 {
        self.command
    }

    /// Returns the bit of the Status register that is kept here: Interrupt Status of an emulated
    /// device (A17). For a physical pin it is 0, because the device's own Status register has the
    /// bit, whatever Interrupt Disable says and however the line reaches the guest; the guest must
    /// read it there.
    #[must_use]
    pub fn status(&self) -> u16 {
        if self.intx.as_ref().is_some_and(Intx::interrupt_status) { STATUS_INTERRUPT } else { 0 }
    }

    /// Returns the totals that no part counts.
    #[must_use]
    pub const fn counters(&self) -> &FunctionCounters {
        &self.counters
    }

    /// Returns whether a snapshot was loaded and not yet [resumed](Self::resume).
    #[must_use]
    pub fn is_loading(&self) -> bool {
        let loading = |facts: Facts| facts.has(Fact::LOADING);
        self.msi.as_ref().is_some_and(|msi| loading(msi.state.facts))
            || self.msix.as_ref().is_some_and(|msix| loading(msix.facts))
            || self.intx.as_ref().is_some_and(Intx::is_loading)
    }

    /// Returns whether every part holds its invariants and the parts agree: at most one mode is
    /// live (D2). Debug builds assert this after every input.
    #[must_use]
    pub fn check(&self) -> bool {
        let sound = self.msi.as_ref().is_none_or(|msi| msi.check().is_ok())
            && self.msix.as_ref().is_none_or(|msix| msix.check().is_ok())
            && self.intx.as_ref().is_none_or(Intx::check);
        let msi = self.msi.as_ref().is_some_and(|msi| msi.state.live != 0);
        let msix = self.msix.as_ref().is_some_and(Msix::has_live);
        let intx = self.intx.as_ref().is_some_and(|intx| intx.has(LIVE));
        let alone = !(msi && msix) && !(intx && (msi || msix));
        let prohibited = self.msi_enabled() || self.msix_enabled();
        let bus_master = self.has(COMMAND_BUS_MASTER);
        let agreed =
            self.msi.as_ref().is_none_or(|msi| {
                let facts = msi.state.facts;
                facts.has(Fact::OVERRIDDEN) == self.msix_enabled()
                    && facts.has(Fact::BUS_MASTER) == bus_master
            }) && self.msix.as_ref().is_none_or(|m| m.facts.has(Fact::BUS_MASTER) == bus_master)
                && self.intx.as_ref().is_none_or(|intx| {
                    intx.is_prohibited() == prohibited
                        && intx.is_disabled() == self.has(COMMAND_INTX_DISABLE)
                });
        sound && alone && agreed
    }

    fn msi_enabled(&self) -> bool {
        self.msi.as_ref().is_some_and(|msi| !msi.state.facts.has(Fact::DISABLED))
    }

    fn msix_enabled(&self) -> bool {
        self.msix.as_ref().is_some_and(|msix| !msix.facts.has(Fact::DISABLED))
    }

    const fn has(&self, command: u16) -> bool {
        self.command & command != 0
    }

    /// Copies the bus master bit to the parts, for a function that has nothing to emit.
    fn tell_bus_master(&mut self) {
        let (on, overridden) = (self.has(COMMAND_BUS_MASTER), self.msix_enabled());
        if let Some(msi) = &mut self.msi {
            msi.set_loaded_facts(overridden, on);
        }
        if let Some(msix) = &mut self.msix {
            msix.facts.set_bus_master(on);
        }
    }

    /// Returns whether a write of a control byte forgets the device's level (H27).
    fn forgets_level(&self) -> bool {
        self.policy.intx == IntxRule::OnEveryWrite
    }
}

impl<S: Storage> Bounded<FunctionEffect> for Function<S> {
    const MAX_EFFECTS: usize = Self::MAX_EFFECTS;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sealed::Sealed;
    use crate::testing::{function, take_function};
    use crate::{Inline, MsiCapability};

    type F = Function<Inline<2, 1>>;

    #[test]
    fn a_list_holds_what_all_parts_emit_together() {
        assert_eq!(Function::<Inline<1, 1>>::MAX_EFFECTS, 14);
        assert_eq!(Function::<Inline<2048, 32>>::MAX_EFFECTS, 107);
        assert_eq!(MAX_FUNCTION_EFFECTS, 107);
    }

    #[test]
    fn each_capability_points_at_its_own_next_one() {
        let (mut f, _) = function(Policy::SPEC);
        f.set_next_capability(Mode::Msi, 0x53);
        f.set_next_capability(Mode::MsiX, 0x71);
        f.set_next_capability(Mode::Intx, 0x90);
        let (mut msi, mut msix) = ([0; 2], [0; 2]);
        f.read_msi(0, &mut msi);
        f.read_msix(0, &mut msix);
        assert_eq!((msi, msix), ([0x05, 0x50], [0x11, 0x70]));
    }

    #[test]
    fn a_function_with_a_single_part_is_loading_from_its_load_to_its_resume() {
        let layout = function(Policy::SPEC).0.msix.unwrap().layout;
        for parts in [
            Parts { msi: MsiCapability::new(1).ok(), ..Parts::default() },
            Parts { msix: Some(layout), ..Parts::default() },
            Parts { pin: Some(IntxSource::Physical), ..Parts::default() },
        ] {
            let mut f = F::new(parts, Policy::SPEC).unwrap();
            let (mut bytes, mut fx) = ([0; 128], crate::testing::FunctionFx::new());
            let len = f.save(&mut bytes).unwrap();
            assert!(!f.is_loading());
            f.load(&bytes[..len]).unwrap();
            assert!(f.is_loading(), "{parts:?}");
            f.resume(&mut fx).unwrap();
            assert!(!f.is_loading(), "{parts:?}");
        }
    }

    /// Each defect is one that only a single condition of the check sees.
    #[test]
    fn a_part_that_is_unsound_or_disagrees_fails_the_check() {
        type Break = fn(&mut F);
        let cases: [(&str, Mode, Break); 11] = [
            ("MSI masks a vector that it has not", Mode::Intx, |f| {
                f.msi.as_mut().unwrap().state.masked = 4;
            }),
            ("MSI-X is live without a backend", Mode::MsiX, |f| {
                f.msix.as_mut().unwrap().facts.set_attached(false);
            }),
            ("the pin is asserted without a level", Mode::Intx, |f| {
                f.intx.as_mut().unwrap().forget_level();
            }),
            ("MSI is live beside the pin", Mode::Intx, |f| {
                let msi = f.msi.as_mut().unwrap();
                msi.state.facts.set(Fact::LOADING, true);
                msi.state.live = 1;
            }),
            ("MSI-X is live beside the pin", Mode::Intx, |f| {
                let msix = f.msix.as_mut().unwrap();
                msix.facts.set(Fact::LOADING, true);
                msix.storage.memory_mut().words[0].live.insert(1);
            }),
            ("MSI is live beside MSI-X", Mode::MsiX, |f| {
                let msi = f.msi.as_mut().unwrap();
                msi.state.facts.set(Fact::LOADING, true);
                msi.state.live = 1;
            }),
            ("MSI is overridden by an MSI-X that is disabled", Mode::Intx, |f| {
                f.msi.as_mut().unwrap().state.facts.set(Fact::OVERRIDDEN, true);
            }),
            ("MSI has bus master on", Mode::Intx, |f| {
                f.msi.as_mut().unwrap().state.facts.set(Fact::BUS_MASTER, true);
            }),
            ("MSI-X has bus master on", Mode::Intx, |f| {
                f.msix.as_mut().unwrap().facts.set(Fact::BUS_MASTER, true);
            }),
            ("the pin is prohibited by nothing", Mode::Intx, |f| {
                let mut fx = crate::Effects::<4, IntxEffect>::new();
                f.intx.as_mut().unwrap().set_prohibited(true, &mut fx);
            }),
            ("the pin is disabled, and Command does not say so", Mode::Intx, |f| {
                let mut fx = crate::Effects::<4, IntxEffect>::new();
                f.intx.as_mut().unwrap().set_disabled(true, &mut fx);
            }),
        ];
        for (defect, mode, breaks) in cases {
            let (mut f, mut fx) = function(Policy::QEMU);
            f.set_level(true, &mut fx).unwrap();
            take_function(&mut fx);
            f.write_command(0, &[0], &mut fx).unwrap();
            if mode == Mode::MsiX {
                f.write_msix(3, &[0x80], &mut fx).unwrap();
            }
            assert!(f.check() && f.mode() == mode);
            breaks(&mut f);
            assert!(!f.check(), "{defect}");
        }
    }
}
