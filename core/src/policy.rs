//! The choices that the specification leaves open, or that QEMU makes differently.
//!
//! The invariants I1 to I7 hold under every policy. Two differences of section H need no field: a
//! QWORD write of data and Vector Control is always applied as one (H5; QEMU's split shows only in
//! lists of effects), and pending vectors are always sent after they are armed (H20).

use crate::spec;

/// What an engine does where the specification leaves a choice: one field for each choice.
///
/// [`Policy::SPEC`] is strict and lossless. [`Policy::QEMU`] agrees with QEMU byte for byte and
/// message for message. Start from one of them and change fields.
///
/// No value of a field breaks an invariant, I1 to I7. Three values are the policies that
/// [I4](crate::rules#i4) speaks of, and clear pending bits: [`PendingOnDisable::Drop`],
/// [`UnclaimedPending::Lose`] and [`BusMasterOff::DropMessage`]; what they clear is counted.
///
/// ```
/// use msix_core::policy::{LiveRewrite, Policy};
///
/// let as_qemu_but_prompt = Policy { live_rewrite: LiveRewrite::Reroute, ..Policy::QEMU };
/// # let _ = as_qemu_but_prompt;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What becomes of an event while MSI-X is disabled (H3).
    pub while_disabled: WhileDisabled,
    /// What becomes of pending bits when MSI-X is disabled (H2).
    pub pending_on_disable: PendingOnDisable,
    /// Whether the host learns of a rewritten address or data of a live vector (H4).
    pub live_rewrite: LiveRewrite,
    /// Which table and PBA accesses are carried out (H6).
    pub table_access: TableAccess,
    /// Which Vector Control bits besides the mask are kept (H7, C10).
    pub vector_control: VectorControlBits,
    /// Whether address bits 1:0 reach the message (H7).
    pub message_address: MessageAddress,
    /// What becomes of claims at a function reset (C01, H8, H9).
    pub claims_on_reset: ClaimsOnReset,
    /// What becomes of a pending bit when its vector is deliverable and has no claim (H9).
    pub unclaimed_pending: UnclaimedPending,
    /// What bus master off does to messages (H16).
    pub bus_master_off: BusMasterOff,
    /// When INTx effects are emitted (H17).
    pub intx: IntxRule,
    /// How Multiple Message Enable reads back when it exceeds what an MSI function is capable of
    /// (A15, H26).
    pub message_enable: MessageEnable,
    /// Whether the host drops held events wherever the engine drops pending ones: at a reset, a
    /// withdrawal, the last unclaim, and a disable or enable under a policy that drops (H8, H13).
    pub drain: bool,
    /// Whether a disable and a detach first poll the held events (H13).
    pub poll_before_disable: bool,
    /// Whether a snapshot in QEMU's encoding with PBA bits past the last vector is refused;
    /// otherwise the bits are ignored (H15).
    pub reject_pba_tail: bool,
    /// Whether [`crate::Effect::Snoop`] is emitted for every entry that is written (Xen, G2).
    pub snoop: bool,
}

impl Policy {
    /// Strict and lossless: what the PCI Express specification asks for, and where it leaves a
    /// choice, the one that loses no interrupt.
    pub const SPEC: Self = Self {
        while_disabled: WhileDisabled::Latch,
        pending_on_disable: PendingOnDisable::Keep,
        live_rewrite: LiveRewrite::Reroute,
        table_access: TableAccess::Aligned,
        vector_control: VectorControlBits::SteeringTag,
        message_address: MessageAddress::Aligned,
        claims_on_reset: ClaimsOnReset::Keep,
        unclaimed_pending: UnclaimedPending::Keep,
        bus_master_off: BusMasterOff::Latch,
        intx: IntxRule::OnChange,
        message_enable: MessageEnable::AsWritten,
        drain: true,
        poll_before_disable: true,
        reject_pba_tail: true,
        snoop: false,
    };

    /// What QEMU was observed to do.
    pub const QEMU: Self = Self {
        while_disabled: WhileDisabled::Latch,
        pending_on_disable: PendingOnDisable::Keep,
        live_rewrite: LiveRewrite::Ignore,
        table_access: TableAccess::Dwords,
        vector_control: VectorControlBits::Verbatim,
        message_address: MessageAddress::Verbatim,
        claims_on_reset: ClaimsOnReset::Keep,
        unclaimed_pending: UnclaimedPending::Lose,
        bus_master_off: BusMasterOff::DropMessage,
        intx: IntxRule::OnEveryWrite,
        message_enable: MessageEnable::Capped,
        drain: false,
        poll_before_disable: false,
        reject_pba_tail: false,
        snoop: false,
    };
}

impl Default for Policy {
    /// [`Policy::SPEC`].
    fn default() -> Self {
        Self::SPEC
    }
}

/// What becomes of an event while MSI-X is disabled ([H3](crate::rules#h3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhileDisabled {
    /// It becomes pending. SPEC and QEMU.
    Latch,
    /// It is dropped and counted.
    Drop,
    /// It is left to INTx: [`crate::Effect::IntxReevaluate`], and nothing is latched (A10).
    Intx,
}

/// What becomes of pending bits when MSI-X Enable goes from 1 to 0. The specification allows both
/// ([A10](crate::rules#a10), [H2](crate::rules#h2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingOnDisable {
    /// They stay, and are sent when the vector is deliverable again. SPEC and QEMU.
    Keep,
    /// They are cleared and counted.
    Drop,
}

/// Whether the host learns of a rewritten address or data of a live vector, which the
/// specification leaves undefined ([A9](crate::rules#a9), [H4](crate::rules#h4)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveRewrite {
    /// [`crate::Effect::Reroute`] with the access that completes a changed message: one that
    /// covers the data dword, or the address pair as one QWORD. Never a torn address. SPEC.
    Reroute,
    /// The host keeps the message of an MSI-X vector until the next Arm. Every change of the MSI
    /// message is rerouted at once, even that of half an address. QEMU.
    Ignore,
}

/// Which table and PBA accesses of at most 8 bytes are carried out; longer ones are ignored
/// ([A4](crate::rules#a4), [H6](crate::rules#h6)). Bytes inside the structure that are not carried
/// out read 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableAccess {
    /// Aligned DWORD and aligned QWORD, as the specification defines. SPEC.
    Aligned,
    /// Every aligned DWORD that the access covers in full; the other bytes are ignored. QEMU.
    Dwords,
}

/// Which Vector Control bits besides the mask a table write keeps ([A3](crate::rules#a3),
/// [H7](crate::rules#h7)). Others read 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VectorControlBits {
    /// All of them. QEMU.
    Verbatim,
    /// The steering tag, bits 31:16. SPEC.
    SteeringTag,
    /// None: a function without steering tags.
    MaskOnly,
}

impl VectorControlBits {
    /// Returns the bits that are kept.
    #[inline]
    pub(crate) const fn bits(self) -> u32 {
        match self {
            Self::Verbatim => !spec::VECTOR_MASK,
            Self::SteeringTag => spec::STEERING_TAG,
            Self::MaskOnly => 0,
        }
    }
}

/// Whether address bits 1:0, which software must write as 0, reach the message
/// ([A3](crate::rules#a3), [H7](crate::rules#h7)). They read back as written either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageAddress {
    /// The message address is a multiple of 4. SPEC.
    Aligned,
    /// As written. QEMU.
    Verbatim,
}

/// What becomes of claims at a function reset ([H8](crate::rules#h8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimsOnReset {
    /// They become 0. Until the device claims its vectors again, their events are dropped.
    Clear,
    /// They stay: a reset is of registers, and the claims are the device's. SPEC and QEMU.
    Keep,
}

/// What becomes of a pending bit when its vector is deliverable and has no claim
/// ([H9](crate::rules#h9)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnclaimedPending {
    /// It stays until the vector is claimed, and is sent then. SPEC.
    Keep,
    /// It is cleared without a message, and counted. QEMU.
    Lose,
}

/// What bus master off does to messages ([A11](crate::rules#a11), [H16](crate::rules#h16)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusMasterOff {
    /// It gates like a mask: vectors are disarmed, and events become pending. SPEC.
    Latch,
    /// Vectors stay live; messages from userspace are dropped and counted. QEMU.
    DropMessage,
}

/// When INTx effects are emitted, and whether a device's level outlives MSI and MSI-X
/// ([A10](crate::rules#a10), [H17](crate::rules#h17)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntxRule {
    /// IntxDeassert when MSI-X Enable goes from 0 to 1, IntxReevaluate when it goes from 1 to 0. A
    /// [`crate::Function`] asserts a level that is still high when it returns to INTx. SPEC.
    OnChange,
    /// IntxDeassert at every write of the control byte that leaves MSI-X enabled, nothing else. A
    /// [`crate::Function`] forgets the level at such a write, and the device must raise it anew
    /// (H27). QEMU.
    OnEveryWrite,
}

/// How Multiple Message Enable reads back when it is reserved or exceeds what an MSI function is
/// capable of ([A15](crate::rules#a15), [H26](crate::rules#h26)). Either way the function sends
/// from no more vectors than it is capable of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageEnable {
    /// The field reads back as written. SPEC.
    AsWritten,
    /// A write of the control byte that leaves MSI enabled lowers the field to what the function is
    /// capable of. QEMU.
    Capped,
}
