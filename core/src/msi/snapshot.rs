//! Saves the registers of MSI, and loads them from untrusted bytes.
//!
//! In the [frame](crate::snapshot) with `"MSI "`: the capability as the guest reads it, without the
//! pending register, padded with zeros to 24 bytes; the vectors with an event (4 bytes).
//!
//! Not saved: policy, bus master, whether MSI-X is enabled too, whether a backend is attached,
//! counters.

use super::Msi;
use super::capability::Registers;
use super::settle::Request;
use crate::counters;
use crate::effects::EffectSink;
use crate::facts::Fact;
#[cfg(feature = "alloc")]
use crate::plain::MsiSnapshot;
use crate::snapshot::{FRAME_LEN, Frame, LoadError, SaveError, Writer, seal};
use crate::spec::MSI_LONGEST;

const MAGIC: [u8; 4] = *b"MSI ";
const EVENTS_LEN: usize = 4;

/// Registers that were checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checked {
    registers: Registers,
    events: u32,
}

impl Msi {
    /// The length of the encoding, bytes.
    pub(crate) const SAVED_LEN: usize = FRAME_LEN + MSI_LONGEST + EVENTS_LEN;

    /// Begins a save: emits Poll for every vector that may have held events, so that the snapshot
    /// includes them (H14).
    pub(crate) fn prepare_save<K: EffectSink>(&mut self, fx: &mut K) {
        self.poll(fx);
    }

    /// Writes the encoding to the start of `bytes`.
    pub(crate) fn save(&self, bytes: &mut [u8]) -> Result<(), SaveError> {
        let mut out = Writer::framed(bytes, Self::SAVED_LEN, MAGIC)?;
        let registers = Registers { pending: 0, ..self.registers() };
        out.put(self.context.capability.image(0, &registers));
        out.put(self.state.events.to_le_bytes());
        seal(bytes, Self::SAVED_LEN);
        Ok(())
    }

    /// Ends a load: emits Arm for what is wanted now, and Send for what is pending and deliverable.
    pub(crate) fn resume<K: EffectSink>(&mut self, fx: &mut K) {
        self.state.facts.set(Fact::LOADING, false);
        self.settle(Request::FACTS, fx);
    }

    /// Does the first half of a resume. The host's view predates the load: disarms everything, as a
    /// detach would.
    pub(crate) fn disarm_loaded<K: EffectSink>(&mut self, fx: &mut K) {
        let attached = self.state.facts.attached();
        self.state.facts.set_attached(false);
        self.settle(Request::FACTS, fx);
        self.state.facts.set_attached(attached);
    }

    pub(crate) fn checked_snapshot(&self, bytes: &[u8]) -> Result<Checked, LoadError> {
        let frame = Frame::open(bytes, MAGIC, Self::SAVED_LEN)?;
        frame.check()?;
        let (image, rest) = frame.body.split_first_chunk().ok_or(frame.wrong_length())?;
        let events = <[u8; EVENTS_LEN]>::try_from(rest).map_err(|_| frame.wrong_length())?;
        let registers = self.checked_image(image)?;
        let events = u32::from_le_bytes(events);
        match events & !self.context.capability.bits() {
            0 if registers.pending == 0 => Ok(Checked { registers, events }),
            0 => Err(LoadError::PbaTail(registers.pending.into())),
            outside => Err(LoadError::PbaTail(outside.into())),
        }
    }

    /// Checks the 10 to 24 bytes of the capability in a config space that QEMU saved. The next
    /// pointer is ignored. Without mask registers no events were saved.
    pub(crate) fn checked_capability(&self, bytes: &[u8]) -> Result<Checked, LoadError> {
        let expected = self.context.capability.len();
        if bytes.len() != expected {
            return Err(LoadError::Length { expected, got: bytes.len() });
        }
        let mut image = [0; MSI_LONGEST];
        image.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let registers = self.checked_image(&image)?;
        Ok(Checked { registers, events: registers.pending })
    }

    /// Returns the registers as plain data.
    #[cfg(feature = "alloc")]
    pub(crate) fn snapshot(&self) -> MsiSnapshot {
        let mut capability = alloc::vec![0; self.context.capability.len()];
        self.read_config(0, &mut capability);
        MsiSnapshot { capability, events: Some(self.state.events) }
    }

    /// Checks plain data.
    #[cfg(feature = "alloc")]
    pub(crate) fn checked_plain(&self, plain: &MsiSnapshot) -> Result<Checked, LoadError> {
        let checked = self.checked_capability(&plain.capability)?;
        let events = plain.events.unwrap_or(checked.events);
        match events & !self.context.capability.bits() {
            0 => Ok(Checked { events, ..checked }),
            outside => Err(LoadError::PbaTail(outside.into())),
        }
    }

    /// Returns the registers of an image, if its read-only bits are this function's.
    fn checked_image(&self, image: &[u8; MSI_LONGEST]) -> Result<Registers, LoadError> {
        let capability = self.context.capability;
        let registers = capability.registers(image);
        let [_, next, ..] = *image;
        for (at, (byte, own)) in
            (0..u8::MAX).zip(image.iter().zip(capability.image(next, &registers)))
        {
            if *byte != own {
                return Err(LoadError::Capability { at });
            }
        }
        Ok(registers)
    }

    /// Stores checked registers.
    pub(crate) fn replace(&mut self, checked: Checked) {
        counters::add(&mut self.context.counters.dropped_load, self.state.events.into());
        self.store(&checked.registers);
        self.state.events = checked.events;
        self.state.stale = 0; // the resume tells the host everything
        self.state.facts.set(Fact::LOADING, true);
        debug_assert_eq!(self.check(), Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{msi, take};
    use crate::{Effect, Policy, Vector, Vectors};
    use std::vec::Vec;

    fn load(msi: &mut Msi, bytes: &[u8]) -> Result<(), LoadError> {
        msi.checked_snapshot(bytes).map(|checked| msi.replace(checked))
    }

    fn load_capability(msi: &mut Msi, bytes: &[u8]) -> Result<(), LoadError> {
        msi.checked_capability(bytes).map(|checked| msi.replace(checked))
    }

    fn resume(msi: &mut Msi, fx: &mut crate::testing::Fx) {
        msi.disarm_loaded(fx);
        msi.resume(fx);
    }

    fn busy() -> (Msi, [u8; Msi::SAVED_LEN]) {
        let (mut msi, mut fx) = msi(Policy::SPEC);
        msi.write_config(16, &[0b1010], &mut fx);
        take(&mut fx);
        msi.notify(Vector::new(1), &mut fx).unwrap();
        let mut bytes = [0; Msi::SAVED_LEN];
        assert_eq!((msi.save(&mut bytes), Msi::SAVED_LEN), (Ok(()), 38));
        (msi, bytes)
    }

    #[test]
    fn a_loaded_engine_is_silent_until_it_resumes_and_then_tells_everything_once() {
        let (_, bytes) = busy();
        let (mut other, mut fx) = msi(Policy::SPEC);
        load(&mut other, &bytes).unwrap();
        assert!(other.state.facts.has(Fact::LOADING));
        assert_eq!(other.notify(Vector::new(0), &mut fx), Ok(crate::Delivery::Pending));
        assert_eq!(take(&mut fx), []);
        resume(&mut other, &mut fx);
        let set = Vectors::new(0, 0b0101);
        assert_eq!(
            take(&mut fx),
            [
                Effect::Disarm(Vectors::new(0, 0xf)),
                Effect::Arm(set),
                Effect::Send(Vectors::new(0, 1)),
            ]
        );
        let mut again = [0; Msi::SAVED_LEN];
        other.save(&mut again).unwrap();
        assert_eq!(again, bytes);
    }

    #[test]
    fn a_saved_config_space_is_taken_as_qemu_saves_it() {
        let (busy, _) = busy();
        let (mut other, _) = msi(Policy::QEMU);
        load_capability(&mut other, &busy.capability()).unwrap();
        assert_eq!(other.capability(), busy.capability());
        assert_eq!(other.pending(), Vectors::new(0, 2));
        let length = LoadError::Length { expected: 24, got: 23 };
        assert_eq!(load_capability(&mut other, &busy.capability()[..23]), Err(length));
        for (at, bit) in [(0, 1), (2, 2), (3, 2), (4, 1), (14, 1), (16, 0x10), (20, 0x10)] {
            let mut bytes = busy.capability();
            bytes[at] ^= bit;
            let refused = LoadError::Capability { at: u8::try_from(at).unwrap() };
            assert_eq!(load_capability(&mut other, &bytes), Err(refused));
        }
    }

    #[test]
    fn every_defect_of_a_snapshot_is_named_and_changes_nothing() {
        let (mut msi, good) = busy();
        let with = |at: usize, xor: u8| {
            let mut bytes = good;
            bytes[at] ^= xor;
            seal(&mut bytes, Msi::SAVED_LEN);
            Vec::from(bytes)
        };
        let length = |got| LoadError::Length { expected: Msi::SAVED_LEN, got };
        let mut flipped = good;
        flipped[12] ^= 1;
        let mut long = Vec::from(good);
        long.push(0);
        let cases: [(Vec<u8>, LoadError); 10] = [
            (Vec::new(), length(0)),
            (good[..37].to_vec(), length(37)),
            (long, length(39)),
            (with(0, 0x20), LoadError::Magic(*b"mSI ")),
            (with(4, 1), LoadError::Version(3)),
            (with(8, 2), LoadError::Capability { at: 2 }),
            (with(6, 1), LoadError::Capability { at: 0 }),
            (with(26, 1), LoadError::PbaTail(1)),
            (with(30, 0x10), LoadError::PbaTail(0x10)),
            (Vec::from(flipped), LoadError::Checksum),
        ];
        let before = msi.clone();
        for (bytes, error) in cases {
            assert_eq!(load(&mut msi, &bytes), Err(error));
            assert_eq!(msi, before, "{error}");
        }
        let mut short = [0xa5; 37];
        assert_eq!(msi.save(&mut short), Err(SaveError { needed: 38, got: 37 }));
        assert_eq!(short, [0xa5; 37]);
    }
}
