//! Guest accesses to the capability in config space: 10 to 24 bytes.

use super::Msi;
use super::capability::Registers;
use super::settle::Request;
use crate::counters;
use crate::effects::EffectSink;
use crate::facts::Fact;
use crate::policy::{LiveRewrite, MessageEnable};
use crate::spec::{MSI_ENABLE, MSI_LONGEST};
use crate::switch::Switch;

/// Offset of the low byte of Message Control: MSI Enable and Multiple Message Enable (A14).
const CONTROL_LOW: usize = 2;
/// Offset of the message address.
const ADDRESS: usize = 4;

impl Msi {
    /// Points the capability at the next one in the chain (byte 1). Bits 1:0 of `offset` are
    /// cleared.
    pub(crate) const fn set_next_capability(&mut self, offset: u8) {
        self.state.next_capability = offset & !0b11;
    }

    /// Returns the capability as the guest reads it; bytes past its end are 0 (A14).
    pub(crate) fn image(&self) -> [u8; MSI_LONGEST] {
        self.context.capability.image(self.state.next_capability, &self.registers())
    }

    /// Reads for a guest at byte `offset` of the capability, with any width, after
    /// [`poll_config`](Self::poll_config). Bytes past the capability's end read all ones.
    pub(crate) fn read_config(&self, offset: usize, bytes: &mut [u8]) {
        let image = self.image();
        let capability = image.get(..self.context.capability.len()).unwrap_or_default();
        for (index, byte) in (0..usize::MAX).zip(bytes) {
            let at = offset.saturating_add(index);
            *byte = capability.get(at).copied().unwrap_or(0xff);
        }
    }

    /// Begins a guest read of `len` bytes at byte `offset`: when it covers the pending register,
    /// emits Poll for the vectors that may have held events (A16, H13).
    pub(crate) fn poll_config<K: EffectSink>(&mut self, offset: usize, len: usize, fx: &mut K) {
        let covered = self.context.capability.pending_at().is_some_and(|at| {
            offset < at.saturating_add(4) && offset.saturating_add(len) > at && len > 0
        });
        if covered {
            self.poll(fx);
        }
    }

    /// Writes for a guest at byte `offset` of the capability, with any width and alignment (A14). A
    /// write is applied as one.
    ///
    /// Emits Disarm, or Arm and Send, as vectors stop or start to be deliverable; Reroute by
    /// [`LiveRewrite`]; and by policy Poll and Drain (H2, H3, H13).
    pub(crate) fn write_config<K: EffectSink>(&mut self, offset: usize, bytes: &[u8], fx: &mut K) {
        let covers = |at: usize| at.checked_sub(offset).and_then(|index| bytes.get(index));
        let mut image = self.image();
        for (at, byte) in (0..self.context.capability.len()).zip(&mut image) {
            *byte = covers(at).copied().unwrap_or(*byte);
        }
        let mut new = self.context.capability.registers(&image);
        let control_written = covers(CONTROL_LOW).is_some();
        if control_written {
            new.control = self.capped(new.control);
        }
        let data_at = self.context.capability.data_at();
        // Never a torn address: the whole of it, or the data that comes after it (H4).
        let mut complete = (ADDRESS..data_at).all(|at| covers(at).is_some())
            || (data_at..data_at.wrapping_add(2)).any(|at| covers(at).is_some());

        let (was_live, old_low) = (self.state.live, self.low());
        let old = self.registers();
        let untold = self.state.stale != 0;
        let was_in_force = self.state.in_force();
        self.store(&new);
        self.mark_stale(&old, old_low, was_live);
        complete |= control_written && old_low != self.low() && !untold;
        // QEMU tells every change at once: without masks there is no unmask that it could wait for.
        complete |= self.context.policy.live_rewrite == LiveRewrite::Ignore;
        let request = self.switch(was_in_force, control_written);
        self.settle(Request { complete, ..request }, fx);
    }

    /// Returns what a change between in force and not asks for; the registers have changed already.
    pub(super) fn switch(&mut self, was: bool, written: bool) -> Request {
        let switch = Switch::new(&self.context.policy, was, self.state.in_force(), written);
        if switch.drop_pending {
            let dropped = core::mem::take(&mut self.state.events);
            counters::add(&mut self.context.counters.dropped_disabled, dropped.into());
        }
        Request::switch(switch)
    }

    pub(super) fn registers(&self) -> Registers {
        let enable = if self.state.facts.has(Fact::DISABLED) { 0 } else { MSI_ENABLE };
        Registers {
            control: enable | u16::from(self.state.multiple).wrapping_shl(4),
            address: self.state.address,
            data: self.state.data,
            masked: self.state.masked,
            pending: self.folded(),
        }
    }

    /// Stores all that a guest can write.
    pub(super) fn store(&mut self, new: &Registers) {
        let [low, _] = new.control.to_le_bytes();
        self.state.facts.set(Fact::DISABLED, new.control & MSI_ENABLE == 0);
        self.state.multiple = low >> 4 & 0b111;
        self.state.address = new.address;
        self.state.data = new.data;
        self.state.masked = new.masked;
    }

    /// Caps a Multiple Message Enable above the vectors there are, by policy (H26).
    fn capped(&self, control: u16) -> u16 {
        let most = u16::from(self.context.capability.log()).wrapping_shl(4) | MSI_ENABLE;
        let caps = self.context.policy.message_enable == MessageEnable::Capped;
        if caps && control & MSI_ENABLE != 0 { control.min(most) } else { control }
    }

    /// Notes the live vectors with a message that changed (H4).
    fn mark_stale(&mut self, old: &Registers, old_low: u16, live: u32) {
        let low = self.low();
        let address = old.address != self.state.address;
        let data = |data: u16, low: u16, k: u16| data & !low | k & low;
        let (mut bit, mut changed) = (1_u32, 0);
        for k in 0..self.vectors() {
            if address || data(old.data, old_low, k) != data(self.state.data, low, k) {
                changed |= bit;
            }
            bit = bit.wrapping_shl(1);
        }
        self.state.stale |= changed & live;
    }
}

/// Returns MSI Enable after a write of `bytes` at byte `offset` of the capability; `None` when the
/// write does not cover it.
pub(crate) fn written_enable(offset: usize, bytes: &[u8]) -> Option<bool> {
    let &low = CONTROL_LOW.checked_sub(offset).and_then(|index| bytes.get(index))?;
    Some(u16::from(low) & MSI_ENABLE != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{PendingOnDisable, WhileDisabled};
    use crate::testing::{msi, take};
    use crate::{Effect, MsiCapability, Policy, Vector, Vectors};
    use std::vec::Vec;

    #[test]
    fn a_write_reaches_the_writable_bits_it_covers_and_nothing_else() {
        let capability = MsiCapability::new(4).unwrap().with_64_bit_address().with_masks();
        let all: [u8; 24] = [
            5, 0x50, 0xf5, 1, 0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0,
            0xf, 0, 0, 0, 0, 0, 0, 0,
        ];
        let fresh = {
            let mut msi = Msi::new(capability, Policy::SPEC);
            msi.set_next_capability(0x53);
            msi
        };
        for offset in 0..26 {
            for len in [1, 2, 3, 4, 8, 26] {
                let (mut msi, mut fx) = (fresh.clone(), crate::testing::Fx::new());
                let before = msi.capability();
                msi.write_config(offset, &std::vec![0xff; len], &mut fx);
                let expected: Vec<u8> =
                    (0..24)
                        .map(|at| {
                            if (offset..offset + len).contains(&at) { all[at] } else { before[at] }
                        })
                        .collect();
                assert_eq!(msi.capability()[..], expected, "{len} bytes at {offset}");
            }
        }
        let (mut msi, mut fx) = (fresh.clone(), crate::testing::Fx::new());
        msi.write_config(usize::MAX, &[1, 1], &mut fx);
        assert_eq!(msi, fresh);
    }

    #[test]
    fn bytes_past_the_capability_read_all_ones() {
        let msi = Msi::new(MsiCapability::new(1).unwrap(), Policy::SPEC);
        let mut bytes = [0; 12];
        msi.read_config(0, &mut bytes);
        assert_eq!(bytes, [5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        msi.read_config(usize::MAX, &mut bytes[..2]);
        assert_eq!(bytes[..2], [0xff, 0xff]);
    }

    #[test]
    fn a_number_of_vectors_above_the_capable_reads_back_by_policy() {
        for (policy, written, read) in [
            (Policy::SPEC, 0x71, 0x71),
            (Policy::SPEC, 0x21, 0x21),
            (Policy::QEMU, 0x71, 0x21),
            (Policy::QEMU, 0x31, 0x21),
            (Policy::QEMU, 0x11, 0x11),
            (Policy::QEMU, 0x70, 0x70), // only a write that leaves it enabled
        ] {
            let (mut msi, mut fx) = msi(policy);
            msi.write_config(2, &[written], &mut fx);
            assert_eq!(msi.capability()[2] & 0x71, read, "{written:#x}");
            assert!(msi.allocated() <= 4);
        }
    }

    #[test]
    fn a_live_message_is_rerouted_when_it_is_complete_and_never_with_half_an_address() {
        let all = Vectors::new(0, 0xf);
        let cases: [(usize, &[u8], &[Effect]); 8] = [
            (4, &[4, 0x20, 0xe0, 0xfe], &[]),
            (8, &[1, 0, 0, 0], &[]),
            (2, &[0x11], &[Effect::Disarm(Vectors::new(0, 0b1100))]), // the address may be half
            (2, &[0x21], &[Effect::Arm(Vectors::new(0, 0b1100))]),
            (12, &[0x40], &[Effect::Reroute(Vectors::new(0, 0b11))]), // the others know already
            (12, &[0x40, 0], &[]),
            (4, &[0, 0x10, 0xe0, 0xfe, 0, 0, 0, 0], &[Effect::Reroute(all)]),
            (12, &[0x43], &[]), // the low bits are the vectors' numbers
        ];
        let (mut spec, mut fx) = msi(Policy::SPEC);
        let (mut qemu, _) = msi(Policy::QEMU);
        for (offset, bytes, expected) in cases {
            spec.write_config(offset, bytes, &mut fx);
            assert_eq!(take(&mut fx), expected, "{bytes:x?} at {offset}");
        }
        let rerouted = |vectors| Effect::Reroute(Vectors::new(0, vectors));
        let cases: [(usize, &[u8], &[Effect]); 5] = [
            (4, &[4, 0x20, 0xe0, 0xfe], &[rerouted(0xf)]),
            (8, &[1, 0, 0, 0], &[rerouted(0xf)]),
            (2, &[0x11], &[Effect::Disarm(Vectors::new(0, 0b1100)), rerouted(0b11)]),
            (12, &[0x40], &[rerouted(0b11)]),
            (12, &[0x40, 0], &[]),
        ];
        qemu.write_config(12, &[3, 0], &mut fx);
        take(&mut fx);
        for (offset, bytes, expected) in cases {
            qemu.write_config(offset, bytes, &mut fx);
            assert_eq!(take(&mut fx), expected, "{bytes:x?} at {offset}, as QEMU does");
        }
        // Another number of vectors is another message for those that stay.
        spec.write_config(12, &[0x43], &mut fx);
        spec.write_config(2, &[0x11], &mut fx);
        let rest = Vectors::new(0, 0b11);
        assert_eq!(take(&mut fx), [Effect::Disarm(Vectors::new(0, 0b1100)), Effect::Reroute(rest)]);
        // A 32-bit address is complete with its one register.
        let mut narrow = Msi::new(MsiCapability::new(1).unwrap(), Policy::SPEC);
        narrow.attach(&mut fx);
        narrow.write_config(2, &[1], &mut fx);
        take(&mut fx);
        narrow.write_config(4, &[4, 0], &mut fx);
        assert_eq!(take(&mut fx), []);
        narrow.write_config(4, &[8, 0, 0, 0], &mut fx);
        assert_eq!(take(&mut fx), [Effect::Reroute(Vectors::one(Vector::new(0)))]);
    }

    #[test]
    fn only_a_read_of_the_pending_register_polls() {
        let (mut msi, mut fx) = msi(Policy::SPEC);
        msi.write_config(16, &[0b0110], &mut fx);
        take(&mut fx);
        for (offset, len, polls) in [
            (0, 20, false),
            (0, 21, true),
            (20, 4, true),
            (23, 1, true),
            (24, 4, false),
            (20, 0, false),
            (21, 0, false),
        ] {
            msi.poll_config(offset, len, &mut fx);
            let expected = polls.then_some(Effect::Poll(Vectors::new(0, 0b0110)));
            assert_eq!(fx.take(), expected, "{len} bytes at {offset}");
        }
        let mut plain = Msi::new(MsiCapability::new(4).unwrap(), Policy::SPEC);
        plain.attach(&mut fx);
        plain.poll_config(0, 24, &mut fx);
        assert!(fx.is_empty());
    }

    #[test]
    fn one_write_can_disarm_arm_reroute_and_send() {
        let (mut msi, mut fx) = msi(Policy::SPEC);
        msi.write_config(16, &[0b0010], &mut fx);
        take(&mut fx);
        msi.notify(Vector::new(1), &mut fx).unwrap();
        let mut bytes = msi.capability();
        (bytes[4], bytes[16]) = (4, 0b0001);
        msi.write_config(0, &bytes, &mut fx);
        let v1 = Vectors::new(0, 0b0010);
        assert_eq!(
            take(&mut fx),
            [
                Effect::Disarm(Vectors::new(0, 0b0001)),
                Effect::Arm(v1),
                Effect::Reroute(Vectors::new(0, 0b1100)),
                Effect::Send(v1),
            ]
        );
    }

    #[test]
    fn an_enable_and_a_disable_tell_the_host_by_policy() {
        let all = Vectors::new(0, 0xf);
        for (policy, disable, enable) in [
            (Policy::SPEC, Vec::from([Effect::Disarm(all)]), Vec::from([Effect::Arm(all)])),
            (Policy::QEMU, Vec::from([Effect::Disarm(all)]), Vec::from([Effect::Arm(all)])),
            (
                Policy {
                    pending_on_disable: PendingOnDisable::Drop,
                    while_disabled: WhileDisabled::Drop,
                    ..Policy::SPEC
                },
                Vec::from([Effect::Disarm(all), Effect::Drain(all)]),
                Vec::from([Effect::Drain(all), Effect::Arm(all)]),
            ),
        ] {
            let (mut msi, mut fx) = msi(policy);
            msi.write_config(2, &[0x20], &mut fx);
            assert_eq!(take(&mut fx), disable);
            msi.write_config(2, &[0x21], &mut fx);
            assert_eq!(take(&mut fx), enable);
        }
    }
}
