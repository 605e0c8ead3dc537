//! Mixed policies.

use msix_core::policy::{
    BusMasterOff, ClaimsOnReset, IntxRule, LiveRewrite, MessageAddress, MessageEnable,
    PendingOnDisable, TableAccess, UnclaimedPending, VectorControlBits, WhileDisabled,
};
use msix_core::{Message, Msix, Policy, Storage};

/// How an engine behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// Its policy.
    pub policy: Policy,
    /// Whether messages are exempt from masks as Xen has it: those of [`vector_zero`] (H25).
    pub exempts: bool,
}

impl From<Policy> for Behaviour {
    fn from(policy: Policy) -> Self {
        Self { policy, exempts: false }
    }
}

impl Behaviour {
    /// `engine`, which is as it was made, with this behaviour.
    pub fn give<S: Storage>(self, engine: Msix<S>) -> Msix<S> {
        if self.exempts { engine.with_exempt_messages(vector_zero) } else { engine }
    }
}

/// The behaviour with a policy whose fields are chosen by the bits of `choice`, lowest first. Every combination of
/// all fields has a number below 2^18.
#[must_use]
pub fn mixed(choice: u32) -> Behaviour {
    let mut rest = choice;
    let mut pick = |options: u32| {
        let bits = options.next_power_of_two().trailing_zeros();
        let picked = rest & ((1 << bits) - 1);
        rest >>= bits;
        picked % options
    };
    let policy = Policy {
        while_disabled: match pick(3) {
            0 => WhileDisabled::Latch,
            1 => WhileDisabled::Drop,
            _ => WhileDisabled::Intx,
        },
        vector_control: match pick(3) {
            0 => VectorControlBits::Verbatim,
            1 => VectorControlBits::SteeringTag,
            _ => VectorControlBits::MaskOnly,
        },
        pending_on_disable: [PendingOnDisable::Keep, PendingOnDisable::Drop][pick(2) as usize],
        live_rewrite: [LiveRewrite::Reroute, LiveRewrite::Ignore][pick(2) as usize],
        table_access: [TableAccess::Aligned, TableAccess::Dwords][pick(2) as usize],
        message_address: [MessageAddress::Aligned, MessageAddress::Verbatim][pick(2) as usize],
        claims_on_reset: [ClaimsOnReset::Clear, ClaimsOnReset::Keep][pick(2) as usize],
        unclaimed_pending: [UnclaimedPending::Keep, UnclaimedPending::Lose][pick(2) as usize],
        bus_master_off: [BusMasterOff::Latch, BusMasterOff::DropMessage][pick(2) as usize],
        intx: [IntxRule::OnChange, IntxRule::OnEveryWrite][pick(2) as usize],
        message_enable: [MessageEnable::AsWritten, MessageEnable::Capped][pick(2) as usize],
        drain: pick(2) != 0,
        poll_before_disable: pick(2) != 0,
        reject_pba_tail: pick(2) != 0,
        snoop: pick(2) != 0,
    };
    Behaviour { policy, exempts: pick(2) != 0 }
}

/// Xen's predicate: a message whose data names vector 0 (H25).
#[must_use]
pub fn vector_zero(message: Message) -> bool {
    message.data & 0xff == 0
}
