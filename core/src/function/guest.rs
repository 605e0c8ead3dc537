//! Guest accesses: the two capabilities, Command, table and PBA.

use super::sinks::{AsIntx, AsMsi, AsMsix};
use super::{Function, FunctionEffect, KEPT};
use crate::effects::{EffectSink, NotCarriedOut, ready};
use crate::facts::Fact;
use crate::msi::written_enable;
use crate::msix::{Access, written_control};
use crate::spec::{COMMAND_BUS_MASTER, COMMAND_INTX_DISABLE};
use crate::storage::Storage;

impl<S: Storage> Function<S> {
    /// Writes for a guest at byte `offset` of the MSI capability; does nothing without MSI. A write
    /// that enables or disables MSI switches the mode: what leaves the old mode is emitted before
    /// what enters the new one (D2).
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn write_msi<K: EffectSink<FunctionEffect>>(
        &mut self,
        offset: usize,
        bytes: &[u8],
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        let (was, msix) = (self.msi_enabled(), self.msix_enabled());
        if self.msi.is_none() {
            return Ok(());
        }
        let written = written_enable(offset, bytes);
        let on = written.unwrap_or(was);
        self.count_conflict(!was && on && msix);
        self.close_intx(on || msix, written.is_some() && !msix, fx);
        if let Some(msi) = &mut self.msi {
            msi.write_config(offset, bytes, &mut AsMsi(fx));
        }
        self.open_intx(fx);
        Ok(())
    }

    /// Begins a guest read of `len` bytes at byte `offset` of the MSI capability: when it covers
    /// the pending register, emits Poll for the vectors that may have held events (A16, H13). Carry
    /// it out and report the answer through [`report_held`](Self::report_held); then call
    /// [`read_msi`](Self::read_msi).
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn poll_msi<K: EffectSink<FunctionEffect>>(
        &mut self,
        offset: usize,
        len: usize,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        if let Some(msi) = &mut self.msi {
            msi.poll_config(offset, len, &mut AsMsi(fx));
        }
        Ok(())
    }

    /// Writes for a guest at byte `offset` of the MSI-X capability
    /// ([`Msix::write_config`](crate::Msix::write_config)); switches the mode as
    /// [`write_msi`](Self::write_msi) does.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn write_msix<K: EffectSink<FunctionEffect>>(
        &mut self,
        offset: usize,
        bytes: &[u8],
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        let (was, msi) = (self.msix_enabled(), self.msi_enabled());
        let Some(control) = written_control(offset, bytes).filter(|_| self.msix.is_some()) else {
            return Ok(());
        };
        let on = control.enabled();
        self.count_conflict(!was && on && msi);
        self.close_intx(on || msi, on, fx);
        if on {
            self.override_msi(true, fx);
        }
        if let Some(msix) = &mut self.msix {
            msix.write_config(offset, bytes, &mut AsMsix(fx))?;
        }
        if !on {
            self.override_msi(false, fx);
        }
        self.open_intx(fx);
        Ok(())
    }

    /// Reads for a guest at byte `offset` of the MSI capability, after [`poll_msi`](Self::poll_msi).
    /// Bytes past the capability's end, and all bytes without MSI, are ones.
    pub fn read_msi(&self, offset: usize, bytes: &mut [u8]) {
        match &self.msi {
            Some(msi) => msi.read_config(offset, bytes),
            None => bytes.fill(0xff),
        }
    }

    /// Reads for a guest at byte `offset` of the MSI-X capability
    /// ([`Msix::read_config`](crate::Msix::read_config)). Without MSI-X all bytes are ones.
    pub fn read_msix(&self, offset: usize, bytes: &mut [u8]) {
        match &self.msix {
            Some(msix) => msix.read_config(offset, bytes),
            None => bytes.fill(0xff),
        }
    }

    /// Writes for a guest at byte `offset` of the Command register, to one or both of its bytes;
    /// bytes past it are ignored. Bus Master Enable gates MSI and MSI-X (A11, H16), and Interrupt
    /// Disable the pin (A17); I/O and memory enable are only kept.
    ///
    /// Emits Disarm, or Arm and Send, of the current mode, and Deassert and Disarm, or Arm and
    /// Assert, of the pin.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn write_command<K: EffectSink<FunctionEffect>>(
        &mut self,
        offset: usize,
        bytes: &[u8],
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        let mut register = self.command.to_le_bytes();
        for (at, byte) in (0_usize..2).zip(&mut register) {
            let written = at.checked_sub(offset).and_then(|index| bytes.get(index));
            *byte = written.copied().unwrap_or(*byte);
        }
        self.command = u16::from_le_bytes(register) & KEPT;
        let (bus_master, disabled) = (self.has(COMMAND_BUS_MASTER), self.has(COMMAND_INTX_DISABLE));
        if let Some(msi) = &mut self.msi {
            msi.set_bus_master(bus_master, &mut AsMsi(fx));
        }
        if let Some(msix) = &mut self.msix {
            msix.set_bus_master(bus_master, &mut AsMsix(fx))?;
        }
        if let Some(intx) = &mut self.intx {
            intx.set_disabled(disabled, &mut AsIntx(fx));
        }
        debug_assert!(self.check());
        Ok(())
    }

    /// Writes for a guest at byte `offset` of the table
    /// ([`Msix::write_table`](crate::Msix::write_table)); out of range without MSI-X.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn write_table<K: EffectSink<FunctionEffect>>(
        &mut self,
        offset: u64,
        bytes: &[u8],
        fx: &mut K,
    ) -> Result<Access, NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        match &mut self.msix {
            Some(msix) => msix.write_table(offset, bytes, &mut AsMsix(fx)),
            None => Ok(Access::OutOfRange),
        }
    }

    /// Reads for a guest at byte `offset` of the table
    /// ([`Msix::read_table`](crate::Msix::read_table)); out of range without MSI-X.
    pub fn read_table(&self, offset: u64, bytes: &mut [u8]) -> Access {
        self.msix.as_ref().map_or(Access::OutOfRange, |msix| msix.read_table(offset, bytes))
    }

    /// Ignores a guest write at byte `offset` of the PBA
    /// ([`Msix::write_pba`](crate::Msix::write_pba)), which changes nothing; out of range without
    /// MSI-X.
    pub fn write_pba(&self, offset: u64, bytes: &[u8]) -> Access {
        self.msix.as_ref().map_or(Access::OutOfRange, |msix| msix.write_pba(offset, bytes))
    }

    /// Reads for a guest at byte `offset` of the PBA ([`Msix::read_pba`](crate::Msix::read_pba)),
    /// after [`poll_pba`](Self::poll_pba); out of range without MSI-X.
    pub fn read_pba(&self, offset: u64, bytes: &mut [u8]) -> Access {
        self.msix.as_ref().map_or(Access::OutOfRange, |msix| msix.read_pba(offset, bytes))
    }

    /// Begins a guest read of the PBA ([`Msix::poll_pba`](crate::Msix::poll_pba));
    /// [`read_pba`](Self::read_pba) ends it.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn poll_pba<K: EffectSink<FunctionEffect>>(
        &mut self,
        offset: u64,
        len: usize,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        match &mut self.msix {
            Some(msix) => msix.poll_pba(offset, len, &mut AsMsix(fx)),
            None => Ok(()),
        }
    }

    /// Closes the pin before MSI or MSI-X is entered. With `forget` its level is forgotten too,
    /// where the policy says so (H27).
    pub(super) fn close_intx<K: EffectSink<FunctionEffect>>(
        &mut self,
        prohibited: bool,
        forget: bool,
        fx: &mut K,
    ) {
        let forget = forget && self.forgets_level();
        if let (true, Some(intx)) = (prohibited, &mut self.intx) {
            intx.set_prohibited(true, &mut AsIntx(fx));
            if forget {
                intx.forget_level();
            }
        }
    }

    /// Opens the pin after MSI and MSI-X are left.
    pub(super) fn open_intx<K: EffectSink<FunctionEffect>>(&mut self, fx: &mut K) {
        let prohibited = self.msi_enabled() || self.msix_enabled();
        if let Some(intx) = &mut self.intx {
            intx.set_prohibited(prohibited, &mut AsIntx(fx));
        }
        debug_assert!(self.check());
    }

    /// Overrides MSI by MSI-X, or ends that (H18).
    pub(super) fn override_msi<K: EffectSink<FunctionEffect>>(&mut self, on: bool, fx: &mut K) {
        if let Some(msi) =
            self.msi.as_mut().filter(|msi| msi.state.facts.has(Fact::OVERRIDDEN) != on)
        {
            msi.set_overridden(on, &mut AsMsi(fx));
        }
    }

    const fn count_conflict(&mut self, conflict: bool) {
        if conflict {
            self.counters.conflicts = self.counters.conflicts.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::FunctionEffect::{Intx, Msi, MsiX};
    use crate::IntxEffect::{Arm, Assert, Deassert, Disarm};
    use crate::testing::{function, take_function};
    use crate::{Access, Effect, Function, Inline, Mode, Parts, Policy, Vector, Vectors};

    const BOTH: Vectors = Vectors::new(0, 3);

    #[test]
    fn every_switch_leaves_the_old_mode_before_it_enters_the_new_one() {
        let (mut f, mut fx) = function(Policy::SPEC);
        f.set_level(true, &mut fx).unwrap();
        assert_eq!(take_function(&mut fx), [Intx(Assert)]);
        f.write_msi(2, &[0x11], &mut fx).unwrap();
        assert_eq!(take_function(&mut fx), [Intx(Deassert), Intx(Disarm), Msi(Effect::Arm(BOTH))]);
        assert_eq!((f.mode(), f.status()), (Mode::Msi, 0));
        f.write_msix(3, &[0x80], &mut fx).unwrap();
        assert_eq!(take_function(&mut fx), [Msi(Effect::Disarm(BOTH)), MsiX(Effect::Arm(BOTH))]);
        assert_eq!((f.mode(), f.counters().conflicts), (Mode::MsiX, 1));
        f.write_msi(12, &[1], &mut fx).unwrap(); // out of force, and still a register
        assert_eq!(take_function(&mut fx), []);
        f.write_msix(3, &[0], &mut fx).unwrap();
        let v1 = Vectors::new(0, 2);
        assert_eq!(take_function(&mut fx), [MsiX(Effect::Disarm(BOTH)), Msi(Effect::Arm(v1))]);
        assert_eq!(f.mode(), Mode::Msi);
        f.write_msi(2, &[0x10], &mut fx).unwrap();
        let poll = Msi(Effect::Poll(Vectors::new(0, 1))); // H13
        assert_eq!(
            take_function(&mut fx),
            [poll, Msi(Effect::Disarm(v1)), Intx(Arm), Intx(Assert)]
        );
        assert_eq!((f.mode(), f.status()), (Mode::Intx, 8));
        f.write_msix(3, &[0x80], &mut fx).unwrap();
        assert_eq!(take_function(&mut fx), [Intx(Deassert), Intx(Disarm), MsiX(Effect::Arm(BOTH))]);
        f.write_msi(2, &[0x11], &mut fx).unwrap(); // the other way into a conflict
        assert_eq!((take_function(&mut fx).len(), f.counters().conflicts), (0, 2));
        f.write_msi(2, &[0x11], &mut fx).unwrap(); // it was one before
        for control in [0x80, 0, 0] {
            f.write_msix(3, &[control], &mut fx).unwrap();
            take_function(&mut fx);
        }
        f.write_msi(2, &[0x11], &mut fx).unwrap(); // and is none any more
        assert_eq!(f.counters().conflicts, 2);
    }

    #[test]
    fn a_write_that_enables_nothing_leaves_the_pin_alone() {
        let (mut f, mut fx) = function(Policy::SPEC);
        f.set_level(true, &mut fx).unwrap();
        assert_eq!(take_function(&mut fx), [Intx(Assert)]);
        for byte in [0x10, 0x70, 0xfe] {
            f.write_msi(2, &[byte], &mut fx).unwrap();
            f.write_msix(3, &[byte & 0x7f], &mut fx).unwrap();
            assert_eq!(take_function(&mut fx), [], "{byte:#x}");
        }
    }

    #[test]
    fn qemus_policy_forgets_the_level_where_msi_or_msi_x_is_enabled() {
        for msix in [false, true] {
            let (mut f, mut fx) = function(Policy::QEMU);
            let mut enable = |f: &mut Function<Inline<2, 1>>, on: bool| {
                let high = if on { 0x80 } else { 0 };
                let low = if on { 0x11 } else { 0x10 };
                if msix {
                    f.write_msix(3, &[high], &mut fx).unwrap();
                } else {
                    f.write_msi(2, &[low], &mut fx).unwrap();
                }
                take_function(&mut fx)
            };
            assert_eq!(enable(&mut f, true).len(), 2);
            let mut level = crate::testing::FunctionFx::new();
            f.set_level(true, &mut level).unwrap();
            assert_eq!(enable(&mut f, true), []);
            assert_eq!(enable(&mut f, false).last(), Some(&Intx(Arm)), "no Assert");
            f.set_level(true, &mut level).unwrap();
            assert_eq!(level.take(), Some(Intx(Assert)));
        }
    }

    #[test]
    fn qemus_policy_keeps_a_level_that_comes_while_msi_or_msi_x_is_enabled() {
        let (mut f, mut fx) = function(Policy::QEMU);
        f.write_msi(2, &[0x11], &mut fx).unwrap();
        take_function(&mut fx);
        f.set_level(true, &mut fx).unwrap();
        f.write_msi(4, &[0, 0x10, 0xe0, 0xfe], &mut fx).unwrap(); // not the control byte
        take_function(&mut fx);
        f.write_msi(2, &[0x10], &mut fx).unwrap();
        assert_eq!(take_function(&mut fx).last(), Some(&Intx(Assert)));
        f.write_msix(3, &[0x80], &mut fx).unwrap();
        take_function(&mut fx);
        f.set_level(true, &mut fx).unwrap();
        f.write_msi(2, &[0x10], &mut fx).unwrap(); // has no say while MSI-X is enabled
        f.write_msix(3, &[0], &mut fx).unwrap();
        assert_eq!(take_function(&mut fx).last(), Some(&Intx(Assert)));
    }

    #[test]
    fn command_gates_the_pin_and_the_messages() {
        let (mut f, mut fx) = function(Policy::SPEC);
        f.set_level(true, &mut fx).unwrap();
        take_function(&mut fx);
        f.write_command(0, &[0xff, 0xff], &mut fx).unwrap();
        assert_eq!(take_function(&mut fx), [Intx(Deassert), Intx(Disarm)]);
        assert_eq!((f.command(), f.status()), (0x407, 8));
        f.write_msix(3, &[0x80], &mut fx).unwrap();
        take_function(&mut fx);
        f.write_command(0, &[0x03], &mut fx).unwrap();
        assert_eq!(take_function(&mut fx), [MsiX(Effect::Disarm(BOTH))]);
        f.write_command(1, &[0], &mut fx).unwrap();
        f.write_command(2, &[0xff], &mut fx).unwrap();
        assert_eq!((take_function(&mut fx).len(), f.command()), (0, 3));
        f.write_msix(3, &[0], &mut fx).unwrap();
        let poll = MsiX(Effect::Poll(BOTH)); // they were not live
        assert_eq!(take_function(&mut fx), [poll, Intx(Arm), Intx(Assert)], "no bus master needed");
    }

    #[test]
    fn a_guest_reads_every_register_through_the_function() {
        let (mut f, mut fx) = function(Policy::SPEC);
        f.write_msi(2, &[0x11], &mut fx).unwrap();
        take_function(&mut fx);
        assert_eq!(f.write_table(16, &0x1000_u32.to_le_bytes(), &mut fx), Ok(Access::Done));
        f.report_held(Mode::MsiX, Vectors::new(0, 2), &mut fx).unwrap();
        let (mut control, mut address, mut pba) = ([0; 2], [0; 4], [0; 8]);
        f.read_msi(2, &mut control);
        assert_eq!(control[0] & 0x71, 0x11);
        f.read_msix(2, &mut control);
        assert_eq!(control, [1, 0], "two vectors, disabled");
        assert_eq!(f.read_table(16, &mut address), Access::Done);
        assert_eq!(address, 0x1000_u32.to_le_bytes());
        assert_eq!(f.write_pba(0, &[0; 8]), Access::ReadOnly);
        assert_eq!(f.read_pba(0, &mut pba), Access::Done);
        assert_eq!(pba, [2, 0, 0, 0, 0, 0, 0, 0], "the write changed nothing");
    }

    #[test]
    fn a_function_without_the_part_ignores_its_accesses() {
        let mut f = Function::<Inline<2, 1>>::new(Parts::default(), Policy::SPEC).unwrap();
        let mut fx = crate::testing::FunctionFx::new();
        f.write_msi(2, &[1], &mut fx).unwrap();
        f.write_msix(3, &[0x80], &mut fx).unwrap();
        f.poll_msi(0, 24, &mut fx).unwrap();
        f.poll_pba(0, 8, &mut fx).unwrap();
        assert_eq!(f.write_table(0, &[0; 4], &mut fx), Ok(Access::OutOfRange));
        assert_eq!(f.write_pba(0, &[0; 8]), Access::OutOfRange);
        assert_eq!(f.read_table(0, &mut [0; 4]), Access::OutOfRange);
        assert_eq!(f.read_pba(0, &mut [0; 8]), Access::OutOfRange);
        let (mut msi, mut msix) = ([0; 2], [0; 2]);
        f.read_msi(0, &mut msi);
        f.read_msix(0, &mut msix);
        assert_eq!((msi, msix), ([0xff; 2], [0xff; 2]));
        f.attach(&mut fx).unwrap();
        f.reset(&mut fx).unwrap();
        assert!(fx.is_empty() && f.check());
        assert_eq!((f.mode(), f.status()), (Mode::None, 0));
        assert!(f.notify(Vector::new(0), &mut fx).is_err());
        assert!(f.withdraw(Mode::Msi, Vector::new(0), &mut fx).is_err());
        assert!(f.claim(Vector::new(0), &mut fx).is_err());
    }
}
