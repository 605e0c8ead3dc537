//! The switch of a capability between enabled and disabled: the same for MSI-X and MSI.

use crate::effects::Effect;
use crate::policy::{IntxRule, PendingOnDisable, Policy, WhileDisabled};

/// What a switch asks for, besides what follows from the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Switch {
    /// Events that the host holds are wanted (H13).
    pub(crate) poll: bool,
    /// Events that the host holds must go (H3).
    pub(crate) drain: bool,
    /// Pending bits are cleared and counted as dropped (H2).
    pub(crate) drop_pending: bool,
    /// The INTx effect (H17).
    pub(crate) intx: Option<Effect>,
}

impl Switch {
    /// A capability that was in force or not is so or not now. `written`: the guest wrote its control
    /// byte.
    pub(crate) fn new(policy: &Policy, was: bool, is: bool, written: bool) -> Self {
        let intx = Self::intx(policy, was, is, written);
        let mut switch = Self { poll: false, drain: false, drop_pending: false, intx };
        if was && !is {
            switch.drop_pending = policy.pending_on_disable == PendingOnDisable::Drop;
            switch.drain = switch.drop_pending && policy.drain;
            switch.poll = !switch.drop_pending && policy.poll_before_disable;
        }
        if !was && is {
            // H3: what the host held while events were not latched goes too.
            switch.drain = policy.drain && policy.while_disabled != WhileDisabled::Latch;
        }
        switch
    }

    /// What INTx must hear of a capability that was in force or not when it was told last, and is so or
    /// not now.
    pub(crate) fn intx(policy: &Policy, told: bool, is: bool, written: bool) -> Option<Effect> {
        match policy.intx {
            IntxRule::OnChange if !told && is => Some(Effect::IntxDeassert),
            IntxRule::OnChange if told && !is => Some(Effect::IntxReevaluate),
            IntxRule::OnEveryWrite if written && is => Some(Effect::IntxDeassert),
            _ => None,
        }
    }

    /// A reset of a capability that was in force or not (A13).
    pub(crate) fn reset(policy: &Policy, was: bool) -> Self {
        let reevaluate = was && policy.intx == IntxRule::OnChange;
        Self {
            poll: false,
            drain: policy.drain, // H8
            drop_pending: true,
            intx: reevaluate.then_some(Effect::IntxReevaluate),
        }
    }
}

/// Whether what the host holds is wanted: while the capability is not in force only where such events
/// are latched (H3); elsewhere the next enable drops it.
pub(crate) fn wants_held(policy: &Policy, in_force: bool) -> bool {
    in_force || policy.while_disabled == WhileDisabled::Latch
}
