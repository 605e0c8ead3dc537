//! The choices that PCI leaves open.

use crate::error::{CError, done};
use crate::raw;
use core::ffi::c_int;
use msix_core::policy::{self, Policy};

/// A policy to start from: see msix_policy_init().
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CPolicyName {
    /// Strict and lossless: what the PCI Express specification asks for.
    Spec = 0,
    /// What QEMU was observed to do, byte for byte and message for message.
    Qemu = 1,
}

/// What becomes of an event while MSI-X is disabled.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CWhileDisabled {
    /// It becomes pending. SPEC and QEMU.
    Latch = 0,
    /// It is dropped and counted.
    Drop = 1,
    /// It is left to INTx, and nothing is latched.
    Intx = 2,
}

/// What becomes of pending bits when MSI-X is disabled.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CPendingOnDisable {
    /// They stay. SPEC and QEMU.
    Keep = 0,
    /// They are cleared and counted.
    Drop = 1,
}

/// Whether the host learns of a rewritten message of an armed vector.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CLiveRewrite {
    /// When the message is complete: never half an address. SPEC.
    Reroute = 0,
    /// Not before it is armed the next time. QEMU.
    Ignore = 1,
}

/// Which accesses to table and PBA are carried out.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CTableAccess {
    /// Aligned ones of 4 or 8 bytes. SPEC.
    Aligned = 0,
    /// Every aligned 4 bytes that an access of up to 8 covers in full. QEMU.
    Dwords = 1,
}

/// Which bits of Vector Control besides the mask are kept.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CVectorControl {
    /// All of them. QEMU.
    Verbatim = 0,
    /// The steering tag, bits 31:16. SPEC.
    SteeringTag = 1,
    /// None.
    MaskOnly = 2,
}

/// Whether address bits 1:0 reach the message.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CMessageAddress {
    /// The message address is a multiple of 4. SPEC.
    Aligned = 0,
    /// As written. QEMU.
    Verbatim = 1,
}

/// What becomes of claims at a reset.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CClaimsOnReset {
    /// They become 0: the device must claim its vectors again.
    Clear = 0,
    /// They stay. SPEC and QEMU.
    Keep = 1,
}

/// What becomes of a pending bit when its vector could be sent and has no claim.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CUnclaimedPending {
    /// It stays until the vector is claimed. SPEC.
    Keep = 0,
    /// It is cleared without a message, and counted. QEMU.
    Lose = 1,
}

/// What bus master off does to messages.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CBusMasterOff {
    /// It gates like a mask. SPEC.
    Latch = 0,
    /// Vectors stay armed; messages sent by callback or list are dropped and counted. QEMU.
    DropMessage = 1,
}

/// When the INTx effects are emitted.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CIntxRule {
    /// When MSI-X Enable changes. SPEC.
    OnChange = 0,
    /// Deassert at every write of the control byte that leaves MSI-X enabled, nothing else. QEMU.
    OnEveryWrite = 1,
}

/// How Multiple Message Enable of MSI reads back when it exceeds what the function is capable of.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CMessageEnable {
    /// As written. SPEC.
    AsWritten = 0,
    /// Lowered to what the function is capable of. QEMU.
    Capped = 1,
}

/// The choices that PCI leaves open, one field for each. Let msix_policy_init() fill it in, then change
/// fields. A value that its enum does not have is refused where the policy is used.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CPolicy {
    /// One of msix_while_disabled.
    pub while_disabled: u8,
    /// One of msix_pending_on_disable.
    pub pending_on_disable: u8,
    /// One of msix_live_rewrite.
    pub live_rewrite: u8,
    /// One of msix_table_access.
    pub table_access: u8,
    /// One of msix_vector_control.
    pub vector_control: u8,
    /// One of msix_message_address.
    pub message_address: u8,
    /// One of msix_claims_on_reset.
    pub claims_on_reset: u8,
    /// One of msix_unclaimed_pending.
    pub unclaimed_pending: u8,
    /// One of msix_bus_master_off.
    pub bus_master_off: u8,
    /// One of msix_intx_rule.
    pub intx: u8,
    /// One of msix_message_enable.
    pub message_enable: u8,
    /// 1: the host drops held events wherever the engine drops pending ones; 0: it does not.
    pub drain: u8,
    /// 1: a disable and a detach first poll the held events; 0: they do not.
    pub poll_before_disable: u8,
    /// 1: a snapshot in QEMU's encoding with PBA bits past the last vector is refused; 0: the bits are
    /// ignored.
    pub reject_pba_tail: u8,
    /// 1: every entry that is written is reported (Xen); 0: none is.
    pub snoop: u8,
    /// Must be 0.
    pub reserved: u8,
}

/// Fills in a policy to start from. `name` is one of msix_policy_name.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_VALUE for another name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_policy_init(policy: *mut CPolicy, name: u32) -> c_int {
    let chosen = match name {
        0 => Ok(CPolicy::of(&Policy::SPEC)),
        1 => Ok(CPolicy::of(&Policy::QEMU)),
        _ => Err(CError::Value),
    };
    done(chosen.and_then(|chosen| raw::write(policy, chosen)))
}

/// The values of each field, in the order of their numbers.
const WHILE_DISABLED: &[policy::WhileDisabled] =
    &[policy::WhileDisabled::Latch, policy::WhileDisabled::Drop, policy::WhileDisabled::Intx];
const PENDING_ON_DISABLE: &[policy::PendingOnDisable] =
    &[policy::PendingOnDisable::Keep, policy::PendingOnDisable::Drop];
const LIVE_REWRITE: &[policy::LiveRewrite] =
    &[policy::LiveRewrite::Reroute, policy::LiveRewrite::Ignore];
const TABLE_ACCESS: &[policy::TableAccess] =
    &[policy::TableAccess::Aligned, policy::TableAccess::Dwords];
const VECTOR_CONTROL: &[policy::VectorControlBits] = &[
    policy::VectorControlBits::Verbatim,
    policy::VectorControlBits::SteeringTag,
    policy::VectorControlBits::MaskOnly,
];
const MESSAGE_ADDRESS: &[policy::MessageAddress] =
    &[policy::MessageAddress::Aligned, policy::MessageAddress::Verbatim];
const CLAIMS_ON_RESET: &[policy::ClaimsOnReset] =
    &[policy::ClaimsOnReset::Clear, policy::ClaimsOnReset::Keep];
const UNCLAIMED_PENDING: &[policy::UnclaimedPending] =
    &[policy::UnclaimedPending::Keep, policy::UnclaimedPending::Lose];
const BUS_MASTER_OFF: &[policy::BusMasterOff] =
    &[policy::BusMasterOff::Latch, policy::BusMasterOff::DropMessage];
const INTX: &[policy::IntxRule] = &[policy::IntxRule::OnChange, policy::IntxRule::OnEveryWrite];
const MESSAGE_ENABLE: &[policy::MessageEnable] =
    &[policy::MessageEnable::AsWritten, policy::MessageEnable::Capped];
const TRUTH: &[bool] = &[false, true];

/// The value with that number.
fn value<T: Copy>(values: &[T], number: u8) -> Result<T, CError> {
    values.get(usize::from(number)).copied().ok_or(CError::Value)
}

/// The number of a value.
fn number<T: PartialEq>(values: &[T], value: T) -> u8 {
    (0..).zip(values).find(|(_, listed)| **listed == value).map_or(u8::MAX, |(number, _)| number)
}

impl CPolicy {
    pub(crate) fn of(policy: &Policy) -> Self {
        Self {
            while_disabled: number(WHILE_DISABLED, policy.while_disabled),
            pending_on_disable: number(PENDING_ON_DISABLE, policy.pending_on_disable),
            live_rewrite: number(LIVE_REWRITE, policy.live_rewrite),
            table_access: number(TABLE_ACCESS, policy.table_access),
            vector_control: number(VECTOR_CONTROL, policy.vector_control),
            message_address: number(MESSAGE_ADDRESS, policy.message_address),
            claims_on_reset: number(CLAIMS_ON_RESET, policy.claims_on_reset),
            unclaimed_pending: number(UNCLAIMED_PENDING, policy.unclaimed_pending),
            bus_master_off: number(BUS_MASTER_OFF, policy.bus_master_off),
            intx: number(INTX, policy.intx),
            message_enable: number(MESSAGE_ENABLE, policy.message_enable),
            drain: number(TRUTH, policy.drain),
            poll_before_disable: number(TRUTH, policy.poll_before_disable),
            reject_pba_tail: number(TRUTH, policy.reject_pba_tail),
            snoop: number(TRUTH, policy.snoop),
            reserved: 0,
        }
    }

    pub(crate) fn checked(&self) -> Result<Policy, CError> {
        if self.reserved != 0 {
            return Err(CError::Value);
        }
        Ok(Policy {
            while_disabled: value(WHILE_DISABLED, self.while_disabled)?,
            pending_on_disable: value(PENDING_ON_DISABLE, self.pending_on_disable)?,
            live_rewrite: value(LIVE_REWRITE, self.live_rewrite)?,
            table_access: value(TABLE_ACCESS, self.table_access)?,
            vector_control: value(VECTOR_CONTROL, self.vector_control)?,
            message_address: value(MESSAGE_ADDRESS, self.message_address)?,
            claims_on_reset: value(CLAIMS_ON_RESET, self.claims_on_reset)?,
            unclaimed_pending: value(UNCLAIMED_PENDING, self.unclaimed_pending)?,
            bus_master_off: value(BUS_MASTER_OFF, self.bus_master_off)?,
            intx: value(INTX, self.intx)?,
            message_enable: value(MESSAGE_ENABLE, self.message_enable)?,
            drain: value(TRUTH, self.drain)?,
            poll_before_disable: value(TRUTH, self.poll_before_disable)?,
            reject_pba_tail: value(TRUTH, self.reject_pba_tail)?,
            snoop: value(TRUTH, self.snoop)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_policies_survive_the_way_through_c() {
        for policy in [Policy::SPEC, Policy::QEMU] {
            assert_eq!(CPolicy::of(&policy).checked(), Ok(policy));
        }
    }
}
