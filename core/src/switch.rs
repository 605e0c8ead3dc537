//! The switch of a capability between enabled and disabled: the same for MSI-X and MSI.

use crate::effects::Effect;
use crate::policy::{IntxRule, PendingOnDisable, Policy, WhileDisabled};

/// The requests of a switch, besides what follows from the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Switch {
    /// Held events are to be polled (H13).
    pub(crate) poll: bool,
    /// Held events are to be drained (H3).
    pub(crate) drain: bool,
    /// Pending bits are cleared and counted as dropped (H2).
    pub(crate) drop_pending: bool,
    /// The INTx effect (H17).
    pub(crate) intx: Option<Effect>,
}

impl Switch {
    /// Returns the requests of a capability that was in force before an input (`was`) and is after
    /// it (`is`). `written`: the guest wrote its control byte.
    pub(crate) fn new(policy: &Policy, was: bool, is: bool, written: bool) -> Self {
        let intx = Self::intx(policy, was, is, written);
        let mut switch = Self { poll: false, drain: false, drop_pending: false, intx };
        if was && !is {
            switch.drop_pending = policy.pending_on_disable == PendingOnDisable::Drop;
            switch.drain = switch.drop_pending && policy.drain;
            switch.poll = !switch.drop_pending && policy.poll_before_disable;
        }
        if !was && is {
            // H3: drain what was held while events were not latched.
            switch.drain = policy.drain && policy.while_disabled != WhileDisabled::Latch;
        }
        switch
    }

    /// Returns the INTx effect of a capability that was in force (`told`) when INTx was last told,
    /// and is now (`is`).
    pub(crate) fn intx(policy: &Policy, told: bool, is: bool, written: bool) -> Option<Effect> {
        match policy.intx {
            IntxRule::OnChange if !told && is => Some(Effect::IntxDeassert),
            IntxRule::OnChange if told && !is => Some(Effect::IntxReevaluate),
            IntxRule::OnEveryWrite if written && is => Some(Effect::IntxDeassert),
            _ => None,
        }
    }

    /// Returns the requests of a reset of a capability that was in force or not (A13).
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

/// Returns whether held events are wanted. A capability that is not in force wants them only where
/// events are latched (H3); otherwise the next enable drains them.
pub(crate) fn wants_held(policy: &Policy, in_force: bool) -> bool {
    in_force || policy.while_disabled == WhileDisabled::Latch
}
