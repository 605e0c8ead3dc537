//! The capability in config space: 12 bytes, of which a guest can change two bits.

use crate::control::Control;
use crate::counters;
use crate::effect::{Effect, EffectSink, NotCarriedOut};
use crate::msix::{Msix, ready};
use crate::policy::{IntxRule, PendingOnDisable, WhileDisabled};
use crate::settle::Request;
use crate::spec::{self, CAPABILITY_LEN, CONTROL_HIGH};
use crate::storage::Storage;

impl<S: Storage> Msix<S> {
    /// Points the capability at the next one in the chain (byte 1); bits 1:0 are cleared.
    pub const fn set_next_capability(&mut self, offset: u8) {
        self.next_capability = offset & !0b11;
    }

    /// Guest read at byte `offset` of the capability, of any width. Bytes past its 12 read all
    /// ones (A1).
    pub fn read_config(&self, offset: usize, bytes: &mut [u8]) {
        let capability = self.capability();
        for (index, byte) in bytes.iter_mut().enumerate() {
            let at = offset.saturating_add(index);
            *byte = capability.get(at).copied().unwrap_or(0xff);
        }
    }

    /// Guest write at byte `offset` of the capability, of any width and alignment. Only a write
    /// that covers byte 3 does anything (H19): it sets MSI-X Enable and Function Mask.
    ///
    /// Emits Release or Use and Send as vectors stop or start to be deliverable, and by policy
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
        ready::<S, K>(fx)?;
        let high = CONTROL_HIGH.checked_sub(offset).and_then(|index| bytes.get(index));
        if let Some(&high) = high {
            let request = self.set_control(Control::from_register(u16::from_be_bytes([high, 0])));
            self.settle(request, fx);
        }
        Ok(())
    }

    fn set_control(&mut self, new: Control) -> Request {
        let mut request = Request::DIFFERENCE;
        let old = self.control();
        self.facts.set_control(new);
        let enabled = !old.enabled() && new.enabled();
        let disabled = old.enabled() && !new.enabled();
        request.intx = match self.policy.intx {
            IntxRule::OnChange if enabled => Some(Effect::IntxDeassert),
            IntxRule::OnChange if disabled => Some(Effect::IntxReevaluate),
            IntxRule::OnEveryWrite if new.enabled() => Some(Effect::IntxDeassert),
            _ => None,
        };
        if enabled && self.policy.while_disabled != WhileDisabled::Latch && self.policy.drain {
            request.drain = self.all(); // H3: what the host held meanwhile is dropped too
        }
        if disabled {
            match self.policy.pending_on_disable {
                PendingOnDisable::Keep if self.policy.poll_before_disable => {
                    request.poll = self.all(); // H13
                }
                PendingOnDisable::Keep => {}
                PendingOnDisable::Drop => {
                    for word in self.storage.memory_mut().words {
                        counters::add(&mut self.counters.dropped_disabled, word.pending.get());
                        word.pending.remove(u64::MAX);
                    }
                    if self.policy.drain {
                        request.drain = self.all();
                    }
                }
            }
        }
        request
    }

    /// The 12 bytes as the guest reads them (A1).
    #[must_use]
    pub fn capability(&self) -> [u8; CAPABILITY_LEN] {
        let [c0, c1] = self.control().register(self.vectors()).to_le_bytes();
        let [table, pba] = self.layout.registers();
        let [t0, t1, t2, t3] = table.to_le_bytes();
        let [p0, p1, p2, p3] = pba.to_le_bytes();
        [spec::CAPABILITY_ID, self.next_capability, c0, c1, t0, t1, t2, t3, p0, p1, p2, p3]
    }
}
