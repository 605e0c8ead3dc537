//! Guest accesses to the capability in config space: 12 bytes, of which a guest can change two
//! bits.

use super::Msix;
use super::message_control::MessageControl;
use super::settle::Request;
use crate::counters;
use crate::effects::{EffectSink, NotCarriedOut, ready};
use crate::facts::Fact;
use crate::spec::{self, CAPABILITY_LEN, CONTROL_HIGH};
use crate::storage::Storage;
use crate::switch::Switch;

impl<S: Storage> Msix<S> {
    /// Points the capability at the next one in the chain (byte 1). Bits 1:0 of `offset` are
    /// cleared.
    pub const fn set_next_capability(&mut self, offset: u8) {
        self.next_capability = offset & !0b11;
    }

    /// Reads for a guest at byte `offset` of the capability, with any width. Bytes past its 12 read
    /// all ones (A1).
    pub fn read_config(&self, offset: usize, bytes: &mut [u8]) {
        let capability = self.image();
        for (index, byte) in (0..usize::MAX).zip(bytes) {
            let at = offset.saturating_add(index);
            *byte = capability.get(at).copied().unwrap_or(0xff);
        }
    }

    /// Writes for a guest at byte `offset` of the capability, with any width and alignment. Only a
    /// write that covers byte 3 has an effect (H19): it sets MSI-X Enable and Function Mask.
    ///
    /// Emits Disarm, or Arm and Send, as vectors stop or start to be deliverable, and by policy
    /// IntxDeassert, IntxReevaluate (C46), Poll and Drain (H2, H3, H13).
    ///
    /// # Errors
    /// [`NotCarriedOut`].
    pub fn write_config<K: EffectSink>(
        &mut self,
        offset: usize,
        bytes: &[u8],
        fx: &mut K,
    ) -> Result<(), NotCarriedOut> {
        ready::<Self, _, K>(fx)?;
        if let Some(control) = written_control(offset, bytes) {
            let request = self.switch(control);
            self.settle(request, fx);
        }
        Ok(())
    }

    /// Sets Enable and Function Mask as the guest wrote them, and returns what that asks for.
    fn switch(&mut self, new: MessageControl) -> Request {
        let was = !self.facts.has(Fact::DISABLED);
        self.set_control(new);
        let mut switch = Switch::new(&self.policy, was, new.enabled(), true);
        if self.facts.has(Fact::LOADING) {
            switch.intx = None; // the resume says it (H15)
        } else {
            self.facts.set(Fact::INTX_TOLD, new.enabled());
        }
        if switch.drop_pending {
            for word in self.storage.memory_mut().words {
                counters::add(&mut self.counters.dropped_disabled, word.pending.get());
                word.pending.remove(u64::MAX);
            }
        }
        Request::switch(switch)
    }

    pub(crate) fn set_control(&mut self, new: MessageControl) {
        self.facts.set(Fact::DISABLED, !new.enabled());
        self.facts.set(Fact::FUNCTION_MASKED, new.function_masked());
    }

    /// Returns the 12 bytes as the guest reads them (A1).
    pub(crate) fn image(&self) -> [u8; CAPABILITY_LEN] {
        let [c0, c1] = self.control().to_le_bytes();
        let [table, pba] = self.layout.registers();
        let [t0, t1, t2, t3] = table.to_le_bytes();
        let [p0, p1, p2, p3] = pba.to_le_bytes();
        [spec::CAPABILITY_ID, self.next_capability, c0, c1, t0, t1, t2, t3, p0, p1, p2, p3]
    }
}

/// Returns Enable and Function Mask after a write of `bytes` at byte `offset` of the capability;
/// `None` when the write does not cover them (H19).
pub(crate) fn written_control(offset: usize, bytes: &[u8]) -> Option<MessageControl> {
    let &high = CONTROL_HIGH.checked_sub(offset).and_then(|index| bytes.get(index))?;
    Some(MessageControl::from_register(u16::from_be_bytes([high, 0])))
}

#[cfg(test)]
mod tests {
    use crate::policy::{IntxRule, PendingOnDisable, WhileDisabled};
    use crate::testing::{engine, take};
    use crate::{Effect, Policy, Vector, Vectors};
    use std::vec::Vec;

    const V0: Vector = Vector::new(0);

    #[test]
    fn the_control_byte_is_reached_by_every_access_that_covers_it() {
        for (offset, bytes) in [
            (3, &[0xc0_u8][..]),
            (2, &[0xff, 0xc0]),
            (0, &[0xff, 0xff, 0xff, 0xc0]),
            (1, &[0xff, 0xff, 0xc0, 0xff, 0xff]),
            (3, &[0xff; 9]),
        ] {
            let (mut msix, mut fx) = engine::<4, 1>(Policy::SPEC);
            let before = msix.capability();
            msix.write_config(offset, bytes, &mut fx).unwrap();
            let mut expected = before;
            expected[3] = 0xc0;
            assert_eq!(msix.capability(), expected, "{offset} {bytes:x?}");
        }
        let (mut msix, mut fx) = engine::<4, 1>(Policy::SPEC);
        for (offset, bytes) in [
            (0, &[0_u8; 3][..]),
            (4, &[0; 8]),
            (4, &[0]),
            (12, &[0; 4]),
            (usize::MAX, &[0]),
            (3, &[]),
        ] {
            msix.write_config(offset, bytes, &mut fx).unwrap();
            assert!(msix.is_enabled() && fx.is_empty(), "{offset}");
        }
    }

    #[test]
    fn bytes_past_the_capability_read_all_ones() {
        let (mut msix, _) = engine::<4, 1>(Policy::SPEC);
        msix.set_next_capability(0x53);
        let mut bytes = [0; 16];
        msix.read_config(0, &mut bytes);
        assert_eq!(bytes, [0x11, 0x50, 3, 0x80, 0, 0, 0, 0, 0, 8, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        msix.read_config(usize::MAX, &mut bytes[..2]);
        assert_eq!(bytes[..2], [0xff, 0xff]);
    }

    #[test]
    fn intx_follows_changes_or_every_write() {
        let run = |intx| {
            let policy = Policy { intx, poll_before_disable: false, ..Policy::SPEC };
            let (mut msix, mut fx) = engine::<1, 1>(policy);
            [0x80, 0xc0, 0x00, 0x00, 0x80].map(|high| {
                msix.write_config(3, &[high], &mut fx).unwrap();
                take(&mut fx)
            })
        };
        let (deassert, reevaluate) =
            (Vec::from([Effect::IntxDeassert]), Vec::from([Effect::IntxReevaluate]));
        let none = Vec::new;
        assert_eq!(run(IntxRule::OnChange), [none(), none(), reevaluate, none(), deassert.clone()]);
        assert_eq!(
            run(IntxRule::OnEveryWrite),
            [deassert.clone(), deassert.clone(), none(), none(), deassert]
        );
    }

    #[test]
    fn what_the_host_holds_follows_the_policies_for_disabled_functions() {
        let all = Vectors::new(0, 3);
        for while_disabled in [WhileDisabled::Latch, WhileDisabled::Drop, WhileDisabled::Intx] {
            for pending_on_disable in [PendingOnDisable::Keep, PendingOnDisable::Drop] {
                let policy = Policy { while_disabled, pending_on_disable, ..Policy::SPEC };
                let (mut msix, mut fx) = engine::<2, 1>(policy);
                msix.notify(V0, &mut fx).unwrap();
                msix.write_config(3, &[0], &mut fx).unwrap();
                let kept = pending_on_disable == PendingOnDisable::Keep;
                let first = if kept { Effect::Poll(all) } else { Effect::Drain(all) };
                assert_eq!(take(&mut fx), [first, Effect::IntxReevaluate]);
                assert_eq!(msix.is_pending(V0), Some(kept));
                assert_eq!(msix.counters().dropped_disabled, u64::from(!kept));

                // The Poll was emitted before the disable, though it is answered after it.
                msix.report_held(Vectors::one(V0), &mut fx).unwrap();
                assert_eq!(msix.is_pending(V0), Some(true));

                let latched = while_disabled == WhileDisabled::Latch;
                for poll in [false, true] {
                    if poll {
                        msix.poll_pba(0, 8, &mut fx).unwrap();
                    } else {
                        msix.prepare_save(&mut fx).unwrap();
                    }
                    let expected =
                        if latched { Vec::from([Effect::Poll(all)]) } else { Vec::new() };
                    assert_eq!(take(&mut fx), expected);
                }
                msix.write_config(3, &[0x80], &mut fx).unwrap();
                let drain = (!latched).then_some(Effect::Drain(all));
                let expected: Vec<Effect> =
                    [Effect::IntxDeassert].into_iter().chain(drain).collect();
                assert_eq!(take(&mut fx), expected);
            }
        }
    }
}
