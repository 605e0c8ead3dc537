//! Saves a whole function, and loads it from untrusted bytes.
//!
//! In the [frame](crate::snapshot) with `"FNCT"`: flags (1 byte): bit 0 MSI, 1 MSI-X, 2 a pin, 3 its
//! level; 0 (1); the bits of Command (2); the encoding of MSI, of MSI-X, where they are.

use super::sinks::{AsIntx, AsMsi, AsMsix};
use super::{Function, FunctionEffect, KEPT};
use crate::effects::{EffectSink, NotCarriedOut, ready};
use crate::facts::Fact;
use crate::intx::{Intx, IntxSource};
use crate::msi::{Checked, Msi};
use crate::msix::Msix;
use crate::snapshot::{FRAME_LEN, Frame, LoadError, SaveError, Writer, seal};
use crate::spec::COMMAND_INTX_DISABLE;
use crate::storage::Storage;

const MAGIC: [u8; 4] = *b"FNCT";
const HEADER_LEN: usize = 4;
const HAS_MSI: u8 = 1;
const HAS_MSIX: u8 = 2;
const HAS_PIN: u8 = 4;
const HIGH: u8 = 8;

impl<S: Storage> Function<S> {
    /// Begins a save: emits Poll for every vector that may have held events (H14). Carry it out and
    /// report the answer through [`report_held`](Self::report_held); then save.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn prepare_save<K: EffectSink<FunctionEffect>>(
        &mut self,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        if let Some(msi) = &mut self.msi {
            msi.prepare_save(&mut AsMsi(fx));
        }
        if let Some(msix) = &mut self.msix {
            msix.prepare_save(&mut AsMsix(fx))?;
        }
        Ok(())
    }

    /// Returns the length of the encoding, bytes.
    #[must_use]
    pub fn saved_len(&self) -> usize {
        let msix = self.msix.as_ref().map_or(0, Msix::saved_len);
        self.msi_len().wrapping_add(msix).wrapping_add(HEADER_LEN + FRAME_LEN)
    }

    /// Writes the encoding to the start of `bytes`. Returns its length, bytes.
    ///
    /// # Errors
    /// [`SaveError`] when `bytes` is shorter than [`saved_len`](Self::saved_len).
    pub fn save(&self, bytes: &mut [u8]) -> Result<usize, SaveError> {
        let needed = self.saved_len();
        let mut out = Writer::framed(bytes, needed, MAGIC)?;
        let high = if self.intx.as_ref().is_some_and(Intx::level) { HIGH } else { 0 };
        out.put([self.parts() | high, 0]);
        out.put(self.command.to_le_bytes());
        let rest = out.rest();
        let (msi, rest) = rest.split_at_mut_checked(self.msi_len()).unwrap_or_default();
        if let Some(part) = &self.msi {
            part.save(msi)?;
        }
        if let Some(part) = &self.msix {
            part.save(rest)?;
        }
        seal(bytes, needed);
        Ok(needed)
    }

    /// Loads the encoding. All bytes are checked first: an error changes nothing. Nothing is
    /// emitted before [`resume`](Self::resume), and until then nothing is delivered (H15). The
    /// state of a physical line is not saved: it fires again.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(&mut self, bytes: &[u8]) -> Result<(), LoadError> {
        let frame = Frame::open(bytes, MAGIC, self.saved_len())?;
        let (header, rest) = frame.body.split_first_chunk().ok_or(frame.wrong_length())?;
        let &[flags, zero, c0, c1]: &[u8; HEADER_LEN] = header;
        let command = u16::from_le_bytes([c0, c1]);
        let emulated = self.intx.as_ref().is_some_and(|i| i.source == IntxSource::Emulated);
        let high = flags & HIGH != 0;
        if flags & !HIGH != self.parts() || high && !emulated || zero != 0 || command & !KEPT != 0 {
            return Err(LoadError::Function);
        }
        frame.check()?;
        let (msi, msix) = rest.split_at_checked(self.msi_len()).ok_or(frame.wrong_length())?;
        let checked = match &self.msi {
            Some(part) => Some(part.checked_snapshot(msi)?),
            None => None,
        };
        if let Some(part) = &mut self.msix {
            part.load(msix)?; // the last thing that can be refused
        }
        self.replace(command, high, checked);
        Ok(())
    }

    /// Loads what QEMU saves of a function: Command, the MSI capability (10 to 24 bytes) and
    /// Message Control of MSI-X, all from its config space, and the msix field (F3). `high` is the
    /// level of an emulated pin. Otherwise it is as [`load`](Self::load).
    ///
    /// # Errors
    /// [`LoadError`]; the state is as it was. [`LoadError::Function`] when a part of the function
    /// is not given, or one is given that it does not have.
    pub fn load_qemu(
        &mut self,
        command: u16,
        high: bool,
        msi: Option<&[u8]>,
        msix: Option<(u16, &[u8])>,
    ) -> Result<(), LoadError> {
        if (msi.is_some(), msix.is_some()) != (self.msi.is_some(), self.msix.is_some()) {
            return Err(LoadError::Function);
        }
        let checked = match (&self.msi, msi) {
            (Some(part), Some(bytes)) => Some(part.checked_capability(bytes)?),
            _ => None,
        };
        if let (Some(part), Some((control, bytes))) = (&mut self.msix, msix) {
            part.load_qemu(control, bytes)?; // the last thing that can be refused
        }
        self.replace(command & KEPT, high, checked);
        Ok(())
    }

    /// Stores checked registers; the MSI-X part is loaded already.
    pub(crate) fn replace(&mut self, command: u16, high: bool, msi: Option<Checked>) {
        self.command = command;
        if let (Some(part), Some(checked)) = (&mut self.msi, msi) {
            part.replace(checked);
        }
        self.tell_bus_master();
        let prohibited = self.msi_enabled() || self.msix_enabled();
        let disabled = self.has(COMMAND_INTX_DISABLE);
        if let Some(intx) = &mut self.intx {
            let high = high && intx.source == IntxSource::Emulated;
            intx.load(high, disabled, prohibited);
        }
        debug_assert!(self.check());
    }

    /// Ends a load, once the interrupt controllers are restored. Emits Disarm for what was live
    /// before the load, in whatever mode; then Arm for what is wanted now, and Send or Assert for
    /// what is pending. Does nothing when no load came before. A restored interrupt controller may
    /// have the pin of a physical line high: drive the pin as
    /// [`Intx::is_asserted`](crate::Intx::is_asserted) says then.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn resume<K: EffectSink<FunctionEffect>>(
        &mut self,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        if !self.is_loading() {
            return Ok(());
        }
        if let Some(intx) = &mut self.intx {
            intx.disarm_loaded(&mut AsIntx(fx));
        }
        if let Some(msix) = self.msix.as_mut().filter(|msix| msix.facts.has(Fact::LOADING)) {
            msix.disarm_loaded(&mut AsMsix(fx));
        }
        if let Some(msi) = &mut self.msi {
            msi.disarm_loaded(&mut AsMsi(fx));
            msi.resume(&mut AsMsi(fx));
        }
        if let Some(msix) = &mut self.msix {
            msix.resume(&mut AsMsix(fx))?;
        }
        if let Some(intx) = &mut self.intx {
            intx.resume(&mut AsIntx(fx));
        }
        debug_assert!(self.check());
        Ok(())
    }

    fn parts(&self) -> u8 {
        let part = |has: bool, flag: u8| if has { flag } else { 0 };
        part(self.msi.is_some(), HAS_MSI)
            | part(self.msix.is_some(), HAS_MSIX)
            | part(self.intx.is_some(), HAS_PIN)
    }

    const fn msi_len(&self) -> usize {
        if self.msi.is_some() { Msi::SAVED_LEN } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{function, take_function};
    use crate::{Delivery, Effect, Inline, IntxEffect, Mode, Parts, Policy, Vector, Vectors};
    use std::vec::Vec;

    fn saved(f: &Function<Inline<2, 1>>) -> Vec<u8> {
        let mut bytes = std::vec![0; f.saved_len()];
        assert_eq!(f.save(&mut bytes), Ok(bytes.len()));
        bytes
    }

    #[test]
    fn a_resume_leaves_the_mode_before_the_load_and_enters_the_loaded_one() {
        let (mut msi, mut fx) = function(Policy::SPEC);
        msi.write_msi(2, &[0x11], &mut fx).unwrap();
        take_function(&mut fx);
        let (mut msix, _) = function(Policy::SPEC);
        msix.set_level(true, &mut fx).unwrap();
        take_function(&mut fx);
        let intx = saved(&msix);
        msix.write_msix(3, &[0x80], &mut fx).unwrap();
        take_function(&mut fx);
        let both = Vectors::new(0, 3);

        msix.load(&saved(&msi)).unwrap();
        assert!(msix.is_loading());
        assert_eq!(msix.mode(), Mode::Msi);
        assert_eq!(msix.notify(Vector::new(0), &mut fx), Ok(Delivery::Pending));
        assert!(fx.is_empty());
        msix.resume(&mut fx).unwrap();
        assert_eq!(
            take_function(&mut fx),
            [
                FunctionEffect::MsiX(Effect::Disarm(both)),
                FunctionEffect::Msi(Effect::Arm(both)),
                FunctionEffect::Msi(Effect::Send(Vectors::new(0, 1))),
            ]
        );
        assert_eq!(saved(&msix), saved(&msi));
        msix.load(&intx).unwrap();
        msix.resume(&mut fx).unwrap();
        assert_eq!(
            take_function(&mut fx),
            [
                FunctionEffect::Msi(Effect::Disarm(both)),
                FunctionEffect::Intx(IntxEffect::Arm),
                FunctionEffect::Intx(IntxEffect::Assert),
            ]
        );
        msix.resume(&mut fx).unwrap();
        assert!(fx.is_empty());
    }

    #[test]
    fn every_defect_of_a_snapshot_is_named_and_changes_nothing() {
        let (mut f, mut fx) = function(Policy::SPEC);
        let good = saved(&f);
        f.write_msi(2, &[0x11], &mut fx).unwrap();
        let msi_at = 10; // behind magic number, version and header
        let msix_at = msi_at + Msi::SAVED_LEN;
        let with = |at: usize, xor: u8| {
            let mut bytes = good.clone();
            bytes[at] ^= xor;
            seal(&mut bytes, good.len());
            bytes
        };
        let length = |got| LoadError::Length { expected: good.len(), got };
        let mut flipped = good.clone();
        flipped[8] ^= 1;
        let cases = [
            (Vec::new(), length(0)),
            (good[..13].to_vec(), length(13)),
            (good[..good.len() - 1].to_vec(), length(good.len() - 1)),
            (with(0, 0x20), LoadError::Magic(*b"fNCT")),
            (with(4, 1), LoadError::Version(3)),
            (with(6, 1), LoadError::Function),
            (with(6, 0x10), LoadError::Function),
            (with(7, 1), LoadError::Function),
            (with(8, 8), LoadError::Function),
            (flipped, LoadError::Checksum),
            (with(msi_at + 20, 1), LoadError::Checksum), // inside MSI
            (with(msix_at + 20, 1), LoadError::Checksum), // inside MSI-X
        ];
        let before = f.clone();
        for (bytes, error) in cases {
            assert_eq!(f.load(&bytes), Err(error));
            assert!(f == before, "{error}");
        }
        let mut short = std::vec![0xa5; good.len() - 1];
        let expected = SaveError { needed: good.len(), got: short.len() };
        assert_eq!(f.save(&mut short), Err(expected));
        assert!(short.iter().all(|byte| *byte == 0xa5));
    }

    /// A function whose level is high, with MSI-X masked as a whole and an event of its vector 1.
    const OF_VERSION_1: [u8; 112] = [
        0x46, 0x4e, 0x43, 0x54, 0x01, 0x00, 0x0f, 0x00, 0x04, 0x00, 0x4d, 0x53, 0x49, 0x20, 0x01,
        0x00, 0x05, 0x00, 0x02, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x6f,
        0x87, 0xb7, 0x26, 0x4d, 0x53, 0x49, 0x58, 0x01, 0x00, 0x01, 0xc0, 0x02, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00,
        0x00, 0x00, 0x10, 0xe0, 0xfe, 0x00, 0x00, 0x00, 0x00, 0x41, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x01, 0x00, 0xfe,
        0x87, 0xda, 0xc6, 0x93, 0xd3, 0xa4, 0x6d,
    ];

    #[test]
    fn a_snapshot_of_version_1_is_loaded_and_checked_too() {
        let (mut f, _) = function(Policy::SPEC);
        let before = f.clone();
        for byte in 0..OF_VERSION_1.len() {
            let mut bytes = OF_VERSION_1;
            bytes[byte] ^= 0x10;
            f.load(&bytes).unwrap_err();
            assert!(f == before, "{byte}");
        }
        f.load(&OF_VERSION_1).unwrap();
        // The same, but for the versions and checksums of the whole, of MSI and of MSI-X.
        let mut now = saved(&f);
        for (version, checksum) in [(4, 108), (14, 44), (52, 104)] {
            assert_eq!(now[version..version + 2], [2, 0]);
            now[version..version + 2].copy_from_slice(&[1, 0]);
            now[checksum..checksum + 4].copy_from_slice(&OF_VERSION_1[checksum..checksum + 4]);
        }
        assert_eq!(now, OF_VERSION_1);
    }

    #[test]
    fn the_flags_say_which_parts_there_are_and_the_level_of_an_emulated_device() {
        let (whole, mut fx) = function(Policy::SPEC);
        let (msi, msix) = (whole.msi.unwrap().context.capability, whole.msix.unwrap().layout);
        for number in 0..8_u8 {
            let has = |bit: u8| number & bit != 0;
            for source in [IntxSource::Emulated, IntxSource::Physical] {
                let parts = Parts {
                    msi: has(1).then_some(msi),
                    msix: has(2).then_some(msix),
                    pin: has(4).then_some(source),
                };
                let mut f = Function::<Inline<2, 1>>::new(parts, Policy::SPEC).unwrap();
                assert_eq!(saved(&f)[6..8], [number, 0], "{parts:?}");
                f.attach(&mut fx).unwrap();
                take_function(&mut fx);
                f.set_level(true, &mut fx).unwrap();
                let mut emitted = take_function(&mut fx);
                f.report_fired(&mut fx).unwrap();
                emitted.append(&mut take_function(&mut fx));
                assert_eq!(emitted.len(), usize::from(has(4)), "Assert, where there is a pin");
                let level = if has(4) && source == IntxSource::Emulated { 8 } else { 0 };
                assert_eq!(saved(&f)[6..8], [number | level, 0], "{parts:?}, high");
            }
        }
    }

    #[test]
    fn a_function_of_qemu_is_taken_with_all_its_parts_or_not_at_all() {
        let (mut source, mut fx) = function(Policy::QEMU);
        source.write_msi(12, &[2], &mut fx).unwrap(); // masks vector 1
        source.write_msi(2, &[0x11], &mut fx).unwrap();
        take_function(&mut fx);
        let mut msi = [0; 20];
        source.read_msi(0, &mut msi);
        let mut field = [0; 33]; // two entries and a byte of the PBA
        (field[12], field[28], field[32]) = (1, 1, 0b10);
        let msix = Some((0x0001, field.as_slice()));

        let (mut f, _) = function(Policy::QEMU);
        let before = f.clone();
        for (msi, msix) in [(None, msix), (Some(msi.as_slice()), None), (None, None)] {
            assert_eq!(f.load_qemu(0, false, msi, msix), Err(LoadError::Function));
            assert!(f == before);
        }
        assert_eq!(f.load_qemu(0xffff, true, Some(&msi), msix), Ok(()));
        assert!(f.is_loading());
        assert_eq!((f.command(), f.mode()), (KEPT, Mode::Msi));
        assert_eq!(f.msi().unwrap().masked(), Vectors::new(0, 2));
        assert_eq!(f.msix().unwrap().pending().next(), Some(Vectors::new(0, 2)));
        f.resume(&mut fx).unwrap();
        take_function(&mut fx);
        f.write_msi(2, &[0x10], &mut fx).unwrap();
        assert_eq!(f.status(), 8, "the level came along");
    }
}
