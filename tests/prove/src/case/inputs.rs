//! What each input does to one vector of MSI-X.

use super::{Ask, Case};
use crate::sink::Kinds;
use msix_core::policy::{
    ClaimsOnReset, IntxRule, PendingOnDisable, Policy, TableAccess, VectorControlBits,
    WhileDisabled,
};
use msix_core::{Delivery, DropReason};

fn one(total: &mut u64) {
    *total = total.wrapping_add(1);
}

/// Inputs of the device.
impl Case {
    pub fn notify(&mut self) -> (Delivery, Kinds) {
        if self.lane.claims == 0 {
            one(&mut self.counters.dropped_unclaimed); // C24
            (Delivery::Dropped(DropReason::Unclaimed), Kinds::NONE)
        } else if self.deliverable() && !self.whole.bus_master {
            one(&mut self.counters.dropped_bus_master); // H16
            (Delivery::Dropped(DropReason::BusMaster), Kinds::NONE)
        } else if self.deliverable() {
            one(&mut self.counters.sent);
            (Delivery::Sent, Kinds::SEND)
        } else if !self.whole.enabled && self.policy.while_disabled == WhileDisabled::Drop {
            one(&mut self.counters.dropped_disabled); // H3
            (Delivery::Dropped(DropReason::Disabled), Kinds::NONE)
        } else if !self.whole.enabled && self.policy.while_disabled == WhileDisabled::Intx {
            one(&mut self.counters.to_intx);
            (Delivery::Intx, Kinds::REEVALUATE)
        } else if self.lane.pending {
            one(&mut self.counters.coalesced); // A12
            (Delivery::Coalesced, Kinds::NONE)
        } else {
            self.lane.pending = true; // A7
            (Delivery::Pending, Kinds::NONE)
        }
    }

    /// Returns whether an event was pending, and the effects.
    pub fn withdraw(&mut self) -> (bool, Kinds) {
        let was = core::mem::take(&mut self.lane.pending); // A8
        self.counters.withdrawn = self.counters.withdrawn.wrapping_add(u64::from(was));
        (was, self.drain())
    }

    /// Returns whether there is room for one more claim, and the effects.
    pub fn claim(&mut self) -> (bool, Kinds) {
        if self.lane.claims == u16::MAX {
            return (false, Kinds::NONE);
        }
        self.lane.claims += 1; // H9
        (true, self.settle(Ask::NOTHING))
    }

    pub fn unclaim(&mut self) -> Kinds {
        let mut kinds = Kinds::NONE;
        if self.lane.claims == 1 {
            let dropped = u64::from(core::mem::take(&mut self.lane.pending)); // C24
            self.counters.dropped_unclaimed = self.counters.dropped_unclaimed.wrapping_add(dropped);
            kinds = self.drain();
        }
        self.lane.claims = self.lane.claims.saturating_sub(1);
        kinds
    }

    pub fn unclaim_all(&mut self) -> Kinds {
        self.lane.claims = 0;
        self.lane.pending = false;
        self.drain()
    }

    pub fn set_mask(&mut self, masked: bool) -> Kinds {
        self.lane.masked = masked;
        self.settle(Ask::NOTHING)
    }

    pub fn set_message(&mut self, message: [u32; 3]) -> Kinds {
        self.rewrite(message);
        self.lane.masked = false; // H10
        self.settle(Ask { complete: true, ..Ask::NOTHING })
    }
}

/// Guest accesses.
impl Case {
    /// A write of the upper byte of Message Control.
    pub fn write_control(&mut self, high: u8) -> Kinds {
        let (was, now) = (self.whole.enabled, high & 0x80 != 0);
        self.whole.enabled = now;
        self.whole.function_masked = high & 0x40 != 0;
        let (on, off) = (!was && now, was && !now);
        let (mut deassert, mut reevaluate) = (on, off); // H17
        if self.policy.intx == IntxRule::OnEveryWrite {
            (deassert, reevaluate) = (now, false);
        }
        if self.whole.loading {
            (deassert, reevaluate) = (false, false); // H15
        } else {
            self.whole.intx_told = now;
        }
        if off && self.policy.pending_on_disable == PendingOnDisable::Drop {
            self.lane.pending = false; // H2
        }
        let ask = switched(&self.policy, was, now);
        Kinds::DEASSERT.when(deassert) | self.settle(ask) | Kinds::REEVALUATE.when(reevaluate)
    }

    /// A read of the PBA of `vectors` vectors begins.
    pub fn poll_pba(&self, v: u16, vectors: u16, offset: u64, len: usize) -> Kinds {
        let size = 8 * u64::from(vectors.div_ceil(64));
        let dword = u64::from(v / 32) * 4;
        let len = u64::try_from(len).unwrap_or(0);
        let covered = covers(&self.policy, offset, len, size, dword);
        Kinds::POLL.when(covered && self.pollable())
    }

    /// Returns byte `at` of the vector's entry as a guest reads it.
    pub fn table_byte(&self, at: u64) -> u8 {
        let [low, high, data, control] = self.lane.entry;
        let dwords = [low, high, data, control & !1 | u32::from(self.lane.masked)];
        let [field, byte] = [at / 4 % 4, at % 4].map(|index| usize::try_from(index).unwrap_or(0));
        dwords.get(field).and_then(|dword| dword.to_le_bytes().get(byte).copied()).unwrap_or(0)
    }
}

/// Inputs of the host backend and of the platform.
impl Case {
    pub fn attach(&mut self) -> Kinds {
        self.whole.attached = true;
        self.settle(Ask::NOTHING)
    }

    pub fn detach(&mut self) -> Kinds {
        let poll = Kinds::POLL.when(self.policy.poll_before_disable && self.pollable()); // H13
        self.whole.attached = false;
        poll | self.settle(Ask::NOTHING)
    }

    pub fn set_bus_master(&mut self, on: bool) -> Kinds {
        self.whole.bus_master = on;
        self.settle(Ask::NOTHING)
    }

    /// The host held an event of the vector, or only of others.
    pub fn report_held(&mut self, held: bool) -> Kinds {
        self.lane.pending |= held && self.lane.claims > 0;
        self.settle(Ask::NOTHING)
    }

    pub fn reset(&mut self) -> Kinds {
        let reevaluate = self.whole.intx_told && self.policy.intx == IntxRule::OnChange; // H17
        self.whole.enabled = false;
        self.whole.function_masked = false;
        self.whole.loading = false;
        self.whole.intx_told = false;
        self.lane.masked = true;
        self.lane.pending = false;
        self.lane.entry = [0; 4];
        if self.policy.claims_on_reset == ClaimsOnReset::Clear {
            self.lane.claims = 0;
        }
        let kinds = self.settle(Ask { drain: self.policy.drain, ..Ask::NOTHING });
        self.lane.stale = false; // all messages are 0
        kinds | Kinds::REEVALUATE.when(reevaluate)
    }

    /// The interrupt controllers are restored (H15): what the host had is disarmed, then everything is
    /// told.
    pub fn resume(&mut self) -> Kinds {
        if !self.whole.loading {
            return Kinds::NONE;
        }
        let disarm = Kinds::DISARM.when(self.lane.live);
        self.lane.live = false;
        self.lane.fallback = false;
        self.lane.stale = false;
        let (told, is) = (self.whole.intx_told, self.whole.enabled);
        self.whole.loading = false;
        self.whole.intx_told = is;
        let on_change = self.policy.intx == IntxRule::OnChange;
        Kinds::DEASSERT.when(!told && is)
            | disarm
            | self.settle(Ask::NOTHING)
            | Kinds::REEVALUATE.when(told && !is && on_change)
    }
}

/// Returns what a change between in force and not asks for, of MSI-X and of MSI.
pub fn switched(policy: &Policy, was: bool, is: bool) -> Ask {
    let (on, off) = (!was && is, was && !is);
    let drop = policy.pending_on_disable == PendingOnDisable::Drop; // H2
    let unlatched = policy.while_disabled != WhileDisabled::Latch; // H3
    Ask {
        poll: off && !drop && policy.poll_before_disable, // H13
        drain: policy.drain && (on && unlatched || off && drop),
        ..Ask::NOTHING
    }
}

/// Returns whether an access has a width and an alignment that are defined (A4).
pub fn is_aligned(offset: u64, len: u64) -> bool {
    len == 4 && offset.is_multiple_of(4) || len == 8 && offset.is_multiple_of(8)
}

/// Returns whether an access of `len` bytes at `offset` of a structure of `size` bytes carries out the
/// dword at byte `at` of it (A4, H6).
pub fn covers(policy: &Policy, offset: u64, len: u64, size: u64, at: u64) -> bool {
    let aligned = is_aligned(offset, len);
    let whole = at >= offset && len >= 4 && at - offset <= len - 4;
    let carried_out = aligned || policy.table_access == TableAccess::Dwords && len <= 8;
    offset < size && at < size && whole && carried_out
}

/// Returns the bits of Vector Control that are kept besides the mask (H7).
pub fn kept(bits: VectorControlBits) -> u32 {
    match bits {
        VectorControlBits::Verbatim => !1,
        VectorControlBits::SteeringTag => 0xffff_0000,
        VectorControlBits::MaskOnly => 0,
    }
}
