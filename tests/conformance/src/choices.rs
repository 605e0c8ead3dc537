//! The choices that an implementation made where the rules leave one.

use msix_core::Policy;
pub use msix_core::policy::{
    BusMasterOff, LiveRewrite, MessageAddress, PendingOnDisable, TableAccess, UnclaimedPending,
    VectorControlBits, WhileDisabled,
};

/// One field for each choice. An implementation is held to the choices it declares; where it declares
/// none (`None`) every conforming alternative passes, and the report notes which one was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choices {
    /// An event while MSI-X is disabled (H3; C17).
    pub while_disabled: Option<WhileDisabled>,
    /// Pending bits at a disable (H2; C17, C18).
    pub pending_on_disable: Option<PendingOnDisable>,
    /// A message changed while unmasked (H4; C32).
    pub live_rewrite: Option<LiveRewrite>,
    /// Accesses other than aligned dwords and qwords (H6; C06).
    pub table_access: Option<TableAccess>,
    /// Vector Control bits other than the mask (H7; C06, C10).
    pub vector_control: Option<VectorControlBits>,
    /// Address bits 1:0 (H7; C12).
    pub message_address: Option<MessageAddress>,
    /// Events while bus master is off (H16; C26).
    pub bus_master_off: Option<BusMasterOff>,
    /// A pending bit that becomes deliverable without a claim (H9; C24).
    pub unclaimed_pending: Option<UnclaimedPending>,
}

impl Choices {
    /// Declares nothing: all that conforms is accepted.
    pub const UNKNOWN: Self = Self {
        while_disabled: None,
        pending_on_disable: None,
        live_rewrite: None,
        table_access: None,
        vector_control: None,
        message_address: None,
        bus_master_off: None,
        unclaimed_pending: None,
    };

    /// Returns those of the engine of `msix-core` under `policy`.
    #[must_use]
    pub const fn of(policy: &Policy) -> Self {
        Self {
            while_disabled: Some(policy.while_disabled),
            pending_on_disable: Some(policy.pending_on_disable),
            live_rewrite: Some(policy.live_rewrite),
            table_access: Some(policy.table_access),
            vector_control: Some(policy.vector_control),
            message_address: Some(policy.message_address),
            bus_master_off: Some(policy.bus_master_off),
            unclaimed_pending: Some(policy.unclaimed_pending),
        }
    }

    /// Which Vector Control bits besides the mask are kept, if that is known.
    pub(super) fn kept_control_bits(&self) -> Option<u32> {
        self.vector_control.map(|choice| match choice {
            VectorControlBits::Verbatim => 0xffff_fffe,
            VectorControlBits::SteeringTag => 0xffff_0000,
            VectorControlBits::MaskOnly => 0,
        })
    }
}
