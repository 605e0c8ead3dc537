//! Inputs of the device: events, its level, and the side channels of a platform.

use super::sinks::{AsIntx, AsMsi, AsMsix};
use super::{Function, FunctionEffect, Mode};
use crate::effects::{EffectSink, NotCarriedOut, ready};
use crate::msix::{Delivery, Message, Msix, VectorError};
use crate::storage::Storage;
use crate::vectors::Vector;

impl<S: Storage> Function<S> {
    /// Takes an event of the device for `vector` of the current [`mode`](Self::mode), MSI-X or MSI,
    /// as [`Msix::notify`] does. An event of vector k of MSI is sent as
    /// [`Msi::vector_for(k)`](crate::Msi::vector_for).
    ///
    /// While neither is enabled, events are the pin's level. With a pin the answer is
    /// [`Delivery::Intx`], whatever the vector; nothing is latched, and the device asks for
    /// attention by [`set_level`](Self::set_level). Without a pin the event goes to MSI-X, or to
    /// MSI where there is no MSI-X, and becomes what [`crate::policy::WhileDisabled`] says.
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`], [`VectorError::NotCarriedOut`].
    pub fn notify<K: EffectSink<FunctionEffect>>(
        &mut self,
        vector: Vector,
        fx: &mut K,
    ) -> Result<Delivery, VectorError> {
        ready::<Self, _, K>(fx)?;
        let mode = self.mode();
        if mode == Mode::Intx {
            self.counters.to_intx = self.counters.to_intx.wrapping_add(1);
            return Ok(Delivery::Intx);
        }
        match (&mut self.msix, &mut self.msi) {
            (Some(msix), _) if mode != Mode::Msi => msix.notify(vector, &mut AsMsix(fx)),
            (_, Some(msi)) => msi.notify(vector, &mut AsMsi(fx)),
            _ => Err(missing(vector)),
        }
    }

    /// Withdraws a pending event of `vector` of `mode`: its cause is gone (A8). Returns whether
    /// there was one. `mode` is named because events outlive their mode; INTx has no pending
    /// events. Emits Drain by policy, as [`Msix::withdraw`] does.
    ///
    /// # Errors
    /// [`VectorError::OutOfRange`], [`VectorError::NotCarriedOut`].
    pub fn withdraw<K: EffectSink<FunctionEffect>>(
        &mut self,
        mode: Mode,
        vector: Vector,
        fx: &mut K,
    ) -> Result<bool, VectorError> {
        ready::<Self, _, K>(fx)?;
        match (mode, &mut self.msix, &mut self.msi) {
            (Mode::MsiX, Some(msix), _) => msix.withdraw(vector, &mut AsMsix(fx)),
            (Mode::Msi, _, Some(msi)) => msi.withdraw(vector, &mut AsMsi(fx)),
            (Mode::MsiX | Mode::Msi, ..) => Err(missing(vector)),
            (Mode::Intx | Mode::None, ..) => Ok(false),
        }
    }

    /// Sets the level of an emulated device, in any mode; does nothing without a pin. Emits Assert
    /// or Deassert when the line is open and the level changes.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn set_level<K: EffectSink<FunctionEffect>>(
        &mut self,
        high: bool,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        if let Some(intx) = &mut self.intx {
            intx.set_level(high, &mut AsIntx(fx));
        }
        Ok(())
    }

    /// Reports that a physical line fired, and that the backend masked it (D12); does nothing
    /// without a pin. Emits Assert. Ignored when the line is not live (its Disarm unmasks it), has
    /// fired already, or is emulated.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn report_fired<K: EffectSink<FunctionEffect>>(
        &mut self,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        if let Some(intx) = &mut self.intx {
            intx.report_fired(&mut AsIntx(fx));
        }
        Ok(())
    }

    /// Takes the guest's EOI for the line; does nothing without a pin. For a physical line that
    /// fired it emits Deassert and Unmask; a device that still asserts makes the line fire again.
    /// For an emulated level that is still high it emits Assert, because a controller with
    /// resampling has lowered its view of the line. Otherwise the EOI was for another function on
    /// the line, and nothing is emitted.
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn eoi<K: EffectSink<FunctionEffect>>(&mut self, fx: &mut K) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        if let Some(intx) = &mut self.intx {
            intx.eoi(&mut AsIntx(fx));
        }
        Ok(())
    }

    /// Adds a claim of `vector` of MSI-X ([`Msix::claim`]). MSI does not count claims.
    ///
    /// # Errors
    /// [`VectorError`].
    pub fn claim<K: EffectSink<FunctionEffect>>(
        &mut self,
        vector: Vector,
        fx: &mut K,
    ) -> Result<(), VectorError> {
        ready::<Self, _, K>(fx)?;
        self.msix_or(vector)?.claim(vector, &mut AsMsix(fx))
    }

    /// Removes a claim of `vector` of MSI-X ([`Msix::unclaim`]).
    ///
    /// # Errors
    /// [`VectorError`].
    pub fn unclaim<K: EffectSink<FunctionEffect>>(
        &mut self,
        vector: Vector,
        fx: &mut K,
    ) -> Result<(), VectorError> {
        ready::<Self, _, K>(fx)?;
        self.msix_or(vector)?.unclaim(vector, &mut AsMsix(fx))
    }

    /// Removes all claims of all vectors of MSI-X ([`Msix::unclaim_all`]).
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn unclaim_all<K: EffectSink<FunctionEffect>>(
        &mut self,
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        match &mut self.msix {
            Some(msix) => msix.unclaim_all(&mut AsMsix(fx)),
            None => Ok(()),
        }
    }

    /// Sets or clears the mask bit of `vector` of MSI-X from a side channel ([`Msix::set_mask`]).
    ///
    /// # Errors
    /// [`VectorError`].
    pub fn set_mask<K: EffectSink<FunctionEffect>>(
        &mut self,
        vector: Vector,
        masked: bool,
        fx: &mut K,
    ) -> Result<(), VectorError> {
        ready::<Self, _, K>(fx)?;
        self.msix_or(vector)?.set_mask(vector, masked, &mut AsMsix(fx))
    }

    /// Sets the message of `vector` of MSI-X from a side channel and clears its mask bit
    /// ([`Msix::set_message`]).
    ///
    /// # Errors
    /// [`VectorError`].
    pub fn set_message<K: EffectSink<FunctionEffect>>(
        &mut self,
        vector: Vector,
        message: Message,
        fx: &mut K,
    ) -> Result<(), VectorError> {
        ready::<Self, _, K>(fx)?;
        self.msix_or(vector)?.set_message(vector, message, &mut AsMsix(fx))
    }

    fn msix_or(&mut self, vector: Vector) -> Result<&mut Msix<S>, VectorError> {
        self.msix.as_mut().ok_or(missing(vector))
    }
}

/// Returns the error for a vector of a capability that is not there.
const fn missing(vector: Vector) -> VectorError {
    VectorError::OutOfRange { vector, vectors: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FunctionFx, function, take_function};
    use crate::{Effect, Function, Inline, IntxSource, MsiCapability, Parts, Policy, Vectors};

    const V1: Vector = Vector::new(1);

    #[test]
    fn an_event_goes_where_the_mode_says() {
        let (mut f, mut fx) = function(Policy::SPEC);
        assert_eq!(f.notify(V1, &mut fx), Ok(Delivery::Intx));
        assert_eq!((take_function(&mut fx).len(), f.counters().to_intx), (0, 1));
        f.write_msi(2, &[0x11], &mut fx).unwrap();
        take_function(&mut fx);
        assert_eq!(f.notify(V1, &mut fx), Ok(Delivery::Sent));
        let set = Vectors::one(V1);
        assert_eq!(take_function(&mut fx), [FunctionEffect::Msi(Effect::Send(set))]);
        f.write_msix(3, &[0x80], &mut fx).unwrap();
        take_function(&mut fx);
        assert_eq!(f.notify(V1, &mut fx), Ok(Delivery::Sent));
        assert_eq!(take_function(&mut fx), [FunctionEffect::MsiX(Effect::Send(set))]);
        let vector = Vector::new(2);
        let outside = Err(VectorError::OutOfRange { vector, vectors: 2 });
        assert_eq!(f.notify(vector, &mut fx), outside);
    }

    #[test]
    fn a_function_without_a_pin_latches_what_comes_while_nothing_is_enabled() {
        let parts = Parts { msi: Some(MsiCapability::new(2).unwrap()), ..Parts::default() };
        let mut f = Function::<Inline<1, 1>>::new(parts, Policy::SPEC).unwrap();
        let mut fx = FunctionFx::new();
        assert_eq!(f.mode(), Mode::None);
        assert_eq!(f.notify(V1, &mut fx), Ok(Delivery::Pending));
        assert_eq!(f.withdraw(Mode::Intx, V1, &mut fx), Ok(false));
        assert_eq!(f.withdraw(Mode::Msi, V1, &mut fx), Ok(true));
        let (mut f, _) = function(Policy::SPEC);
        assert_eq!(f.withdraw(Mode::MsiX, V1, &mut fx), Ok(false));
    }

    #[test]
    fn the_side_channels_reach_msi_x() {
        let (mut f, mut fx) = function(Policy::SPEC);
        f.unclaim(V1, &mut fx).unwrap();
        take_function(&mut fx);
        assert_eq!(f.msix().unwrap().claims(V1), Some(0));
        f.claim(V1, &mut fx).unwrap();
        f.set_mask(V1, true, &mut fx).unwrap();
        assert_eq!(f.msix().unwrap().is_masked(V1), Some(true));
        let message = Message { address: 0x1000, data: 7 };
        f.set_message(V1, message, &mut fx).unwrap();
        assert_eq!(f.message(Mode::MsiX, V1), Some(message));
        assert_eq!((f.message(Mode::Intx, V1), f.message(Mode::None, V1)), (None, None));
        assert_eq!(f.message(Mode::Msi, V1), Some(Message { address: 0, data: 1 }));
        f.unclaim_all(&mut fx).unwrap();
        assert_eq!(f.msix().unwrap().claims(V1), Some(0));
    }

    #[test]
    fn a_physical_line_fires_and_is_unmasked_after_the_eoi() {
        use crate::IntxEffect::{Arm, Assert, Deassert, Unmask};
        let parts = Parts { pin: Some(IntxSource::Physical), ..Parts::default() };
        let mut f = Function::<Inline<1, 1>>::new(parts, Policy::SPEC).unwrap();
        let mut fx = FunctionFx::new();
        f.attach(&mut fx).unwrap();
        assert_eq!(take_function(&mut fx), [FunctionEffect::Intx(Arm)]);
        for _ in 0..2 {
            f.report_fired(&mut fx).unwrap();
            assert_eq!(take_function(&mut fx), [FunctionEffect::Intx(Assert)]);
            f.eoi(&mut fx).unwrap();
            let expected = [FunctionEffect::Intx(Deassert), FunctionEffect::Intx(Unmask)];
            assert_eq!(take_function(&mut fx), expected);
        }
    }
}
