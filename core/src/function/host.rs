//! Inputs of the host backend and of the platform around the function.

use super::sinks::{AsIntx, AsMsi, AsMsix};
use super::{Function, FunctionEffect, Mode};
use crate::effects::{EffectSink, NotCarriedOut, ready};
use crate::storage::Storage;
use crate::vectors::Vectors;

impl<S: Storage> Function<S> {
    /// Attaches a backend, for all modes. Emits Arm for what the current mode delivers; does
    /// nothing for a part that has a backend already.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn attach<K: EffectSink<FunctionEffect>>(
        &mut self,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        if let Some(msi) = &mut self.msi {
            msi.attach(&mut AsMsi(fx));
        }
        if let Some(msix) = &mut self.msix {
            msix.attach(&mut AsMsix(fx))?;
        }
        if let Some(intx) = &mut self.intx {
            intx.attach(&mut AsIntx(fx));
        }
        debug_assert!(self.check());
        Ok(())
    }

    /// Detaches the backend. Emits Poll by policy (H13) and Disarm for what is live. Report the
    /// answers before the backend is gone.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn detach<K: EffectSink<FunctionEffect>>(
        &mut self,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        if let Some(msi) = &mut self.msi {
            msi.detach(&mut AsMsi(fx));
        }
        if let Some(msix) = &mut self.msix {
            msix.detach(&mut AsMsix(fx))?;
        }
        if let Some(intx) = &mut self.intx {
            intx.detach(&mut AsIntx(fx));
        }
        debug_assert!(self.check());
        Ok(())
    }

    /// Reports that the backend could not carry out an Arm or Reroute of these vectors of `mode`,
    /// as [`Msix::report_failed`](crate::Msix::report_failed) does (H11). For INTx `vectors` is
    /// ignored. Emits nothing.
    pub fn report_failed(&mut self, mode: Mode, vectors: Vectors) {
        match (mode, &mut self.msix, &mut self.msi, &mut self.intx) {
            (Mode::MsiX, Some(msix), ..) => msix.report_failed(vectors),
            (Mode::Msi, _, Some(msi), _) => msi.report_failed(vectors),
            (Mode::Intx, .., Some(intx)) => intx.report_failed(),
            _ => {}
        }
    }

    /// Reports the answer to a Poll of `mode`: the host held events of these vectors, and has given
    /// them up ([`Msix::report_held`](crate::Msix::report_held)). Ignored for INTx.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn report_held<K: EffectSink<FunctionEffect>>(
        &mut self,
        mode: Mode,
        vectors: Vectors,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        match (mode, &mut self.msix, &mut self.msi) {
            (Mode::MsiX, Some(msix), _) => msix.report_held(vectors, &mut AsMsix(fx)),
            (Mode::Msi, _, Some(msi)) => {
                msi.report_held(vectors, &mut AsMsi(fx));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Resets the function from any mode, by a conventional or a function-level reset (A13): MSI
    /// and MSI-X disabled and in their reset state, Command 0, the level low. Emits Disarm for all
    /// that is live, Drain by policy (H8), and Arm of the pin, which is armed afresh.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn reset<K: EffectSink<FunctionEffect>>(
        &mut self,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        if let Some(msi) = &mut self.msi {
            msi.reset(&mut AsMsi(fx));
        }
        if let Some(msix) = &mut self.msix {
            msix.reset(&mut AsMsix(fx))?;
        }
        self.command = 0;
        self.tell_bus_master();
        if let Some(intx) = &mut self.intx {
            intx.reset(&mut AsIntx(fx));
        }
        debug_assert!(self.check());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FunctionFx, function, take_function};
    use crate::{Effect, Function, Inline, IntxEffect, Policy};

    const BOTH: Vectors = Vectors::new(0, 3);

    /// INTx, MSI, MSI-X, and MSI-X over MSI.
    const WRITES: [&[(bool, u8)]; 4] =
        [&[], &[(false, 0x11)], &[(true, 0x80)], &[(false, 0x11), (true, 0x80)]];

    #[test]
    fn a_reset_from_any_mode_disarms_everything_and_arms_the_pin_again() {
        for (number, writes) in WRITES.into_iter().enumerate() {
            let (mut f, mut fx) = function(Policy::SPEC);
            f.set_level(true, &mut fx).unwrap();
            take_function(&mut fx);
            for (msix, byte) in writes {
                if *msix {
                    f.write_msix(3, &[*byte], &mut fx).unwrap();
                } else {
                    f.write_msi(2, &[*byte], &mut fx).unwrap();
                }
                take_function(&mut fx);
            }
            f.write_command(0, &[7], &mut fx).unwrap();
            f.reset(&mut fx).unwrap();
            let emitted = take_function(&mut fx);
            let left: &[FunctionEffect] = match number {
                0 => &[
                    FunctionEffect::Intx(IntxEffect::Deassert),
                    FunctionEffect::Intx(IntxEffect::Disarm),
                ],
                1 => &[FunctionEffect::Msi(Effect::Disarm(BOTH))],
                _ => &[FunctionEffect::MsiX(Effect::Disarm(BOTH))],
            };
            assert!(left.iter().all(|effect| emitted.contains(effect)), "{emitted:?}");
            assert_eq!(emitted.last(), Some(&FunctionEffect::Intx(IntxEffect::Arm)), "{emitted:?}");
            assert_eq!((f.mode(), f.command(), f.status()), (Mode::Intx, 0, 0));
            assert!(f.check());
        }
    }

    #[test]
    fn a_backend_that_leaves_disarms_what_the_mode_has() {
        for (number, writes) in WRITES.into_iter().enumerate() {
            let (mut f, mut fx) = function(Policy::QEMU);
            for (msix, byte) in writes {
                if *msix {
                    f.write_msix(3, &[*byte], &mut fx).unwrap();
                } else {
                    f.write_msi(2, &[*byte], &mut fx).unwrap();
                }
                take_function(&mut fx);
            }
            let (released, used) = match number {
                0 => (
                    FunctionEffect::Intx(IntxEffect::Disarm),
                    FunctionEffect::Intx(IntxEffect::Arm),
                ),
                1 => (
                    FunctionEffect::Msi(Effect::Disarm(BOTH)),
                    FunctionEffect::Msi(Effect::Arm(BOTH)),
                ),
                _ => (
                    FunctionEffect::MsiX(Effect::Disarm(BOTH)),
                    FunctionEffect::MsiX(Effect::Arm(BOTH)),
                ),
            };
            f.detach(&mut fx).unwrap();
            assert_eq!(take_function(&mut fx), [released]);
            f.attach(&mut fx).unwrap();
            assert_eq!(take_function(&mut fx), [used]);
        }
    }

    #[test]
    fn answers_reach_the_mode_they_name() {
        let (mut f, mut fx) = function(Policy::SPEC);
        f.report_failed(Mode::Intx, BOTH);
        assert!(f.intx().unwrap().is_fallback());
        f.report_failed(Mode::None, BOTH);
        f.report_held(Mode::Msi, BOTH, &mut fx).unwrap();
        assert_eq!(f.msi().unwrap().pending(), BOTH);
        f.report_held(Mode::MsiX, Vectors::new(0, 1), &mut fx).unwrap();
        assert_eq!(f.msix().unwrap().pending().next(), Some(Vectors::new(0, 1)));
        f.report_held(Mode::Intx, BOTH, &mut fx).unwrap();
        f.write_msi(2, &[0x11], &mut fx).unwrap();
        take_function(&mut fx);
        f.report_failed(Mode::Msi, BOTH);
        assert_eq!(f.msi().unwrap().fallback(), BOTH);
        f.write_msix(3, &[0x80], &mut fx).unwrap();
        f.report_failed(Mode::MsiX, BOTH);
        assert_eq!(f.msix().unwrap().is_fallback(crate::Vector::new(1)), Some(true));
    }

    #[test]
    fn an_input_is_refused_while_the_last_list_is_not_carried_out() {
        type Input = fn(&mut Function<Inline<2, 1>>, &mut FunctionFx) -> bool;
        let inputs: [Input; 15] = [
            |f, fx| f.write_msi(2, &[1], fx).is_err(),
            |f, fx| f.write_msix(3, &[0x80], fx).is_err(),
            |f, fx| f.write_command(0, &[0], fx).is_err(),
            |f, fx| f.write_table(0, &[0; 4], fx).is_err(),
            |f, fx| f.poll_msi(0, 24, fx).is_err(),
            |f, fx| f.poll_pba(0, 8, fx).is_err(),
            |f, fx| f.notify(crate::Vector::new(0), fx).is_err(),
            |f, fx| f.withdraw(Mode::Intx, crate::Vector::new(0), fx).is_err(),
            |f, fx| {
                f.set_level(true, fx).is_err() && f.report_fired(fx).is_err() && f.eoi(fx).is_err()
            },
            |f, fx| f.attach(fx).is_err() && f.detach(fx).is_err(),
            |f, fx| f.report_held(Mode::None, BOTH, fx).is_err(),
            |f, fx| f.reset(fx).is_err(),
            |f, fx| f.prepare_save(fx).is_err() && f.resume(fx).is_err(),
            |f, fx| f.unclaim_all(fx).is_err(),
            |f, fx| f.set_mask(crate::Vector::new(0), true, fx).is_err(),
        ];
        for input in inputs {
            let (mut f, mut fx) = function(Policy::SPEC);
            let before = f.clone();
            fx.push(FunctionEffect::Intx(IntxEffect::Arm));
            assert!(input(&mut f, &mut fx));
            assert!(f == before && fx.iter().count() == 1);
        }
    }
}
