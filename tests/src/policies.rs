//! Mixed policies.

use msix_core::{
    BusMasterOff, ClaimsOnReset, IntxRule, LiveRewrite, Message, MessageAddress, MessageEnable,
    PendingOnDisable, Policy, TableAccess, UnclaimedPending, VectorControlBits, WhileDisabled,
};

/// The policy whose fields are chosen by the bits of `choice`, lowest first. Every combination of
/// all fields has a number below 2^18.
#[must_use]
pub fn mixed(choice: u32) -> Policy {
    let mut rest = choice;
    let mut pick = |options: u32| {
        let bits = options.next_power_of_two().trailing_zeros();
        let picked = rest & ((1 << bits) - 1);
        rest >>= bits;
        picked % options
    };
    Policy {
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
        never_masked: (pick(2) != 0).then_some(vector_zero),
    }
}

/// Xen's predicate: a message whose data names vector 0 (H25).
fn vector_zero(message: Message) -> bool {
    message.data & 0xff == 0
}
