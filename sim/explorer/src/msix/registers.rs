//! The registers as the guest reads them, and as they should be after an input.

use msix_core::Vector;
use msix_core::operation::Operation;
use msix_core::policy::VectorControlBits;
use msix_core::policy::{BusMasterOff, ClaimsOnReset, MessageAddress};
use msix_core::{Message, Policy};

/// Most vectors that are explored at once.
pub const MAX_EXPLORED: usize = 3;

/// One entry, its pending bit, and its claims (which no guest can read).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct EntryRegisters {
    pub(crate) address: u64,
    pub(crate) data: u32,
    pub(crate) control: u32,
    pub(crate) pending: bool,
    pub(crate) claims: u16,
}

impl EntryRegisters {
    pub(crate) const fn masked(&self) -> bool {
        self.control & 1 != 0
    }

    /// The message it holds (H7).
    pub(crate) const fn message(&self, policy: &Policy) -> Message {
        let address = match policy.message_address {
            MessageAddress::Aligned => self.address & !0b11,
            MessageAddress::Verbatim => self.address,
        };
        Message { address, data: self.data }
    }
}

/// The registers of the explored vectors and of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Registers {
    pub(crate) enabled: bool,
    pub(crate) function_masked: bool,
    pub(crate) entries: [EntryRegisters; MAX_EXPLORED],
}

impl Registers {
    /// Returns them as they are after `operation` on the explored vectors `at`, by the rules alone.
    /// Pending bits stay: what becomes of them is judged by their properties.
    pub(crate) fn after(mut self, operation: Operation, at: &[Vector], policy: &Policy) -> Self {
        let index = |v: Vector| at.iter().position(|at| *at == v);
        match operation {
            Operation::WriteConfig { value, .. } => {
                self.enabled = value & 0x8000 != 0;
                self.function_masked = value & 0x4000 != 0;
            }
            Operation::WriteTable { offset, len, value } => {
                if let Some(entry) = index(Vector::new(offset / 16)).map(|i| &mut self.entries[i]) {
                    entry.write(offset % 16, len, value, policy);
                }
            }
            Operation::SetMask(v, masked) => {
                if let Some(entry) = index(v).map(|i| &mut self.entries[i]) {
                    entry.control = entry.control & !1 | u32::from(masked);
                }
            }
            Operation::SetMessage(v, message) => {
                if let Some(entry) = index(v).map(|i| &mut self.entries[i]) {
                    (entry.address, entry.data) = (message.address, message.data);
                    entry.control &= !1;
                }
            }
            Operation::Claim(v) => {
                index(v).into_iter().for_each(|i| self.entries[i].claims += 1);
            }
            Operation::Unclaim(v) => {
                let entry = index(v).map(|i| &mut self.entries[i]);
                entry.into_iter().for_each(|e| e.claims = e.claims.saturating_sub(1));
            }
            Operation::UnclaimAll => self.entries.iter_mut().for_each(|entry| entry.claims = 0),
            Operation::Reset => {
                (self.enabled, self.function_masked) = (false, false);
                for entry in self.entries.iter_mut().take(at.len()) {
                    let keep = policy.claims_on_reset == ClaimsOnReset::Keep;
                    let claims = if keep { entry.claims } else { 0 };
                    *entry = EntryRegisters {
                        control: 1,
                        claims,
                        pending: entry.pending,
                        ..EntryRegisters::default()
                    };
                }
            }
            _ => {}
        }
        self
    }

    /// Whether a message of explored vector `index` would be sent: the rule itself, not the
    /// engine's opinion (A6, A10, A11, H16).
    pub(crate) fn deliverable(&self, index: usize, policy: &Policy, bus_master: bool) -> bool {
        let gated = policy.bus_master_off == BusMasterOff::Latch && !bus_master;
        self.enabled && !self.function_masked && !self.entries[index].masked() && !gated
    }
}

impl EntryRegisters {
    fn write(&mut self, field: u16, len: u8, value: u64, policy: &Policy) {
        let kept = match policy.vector_control {
            VectorControlBits::Verbatim => !1,
            VectorControlBits::SteeringTag => 0xffff_0000,
            VectorControlBits::MaskOnly => 0,
        };
        let control = |value: u32| value & (kept | 1);
        match (field, len) {
            (0, 8) => self.address = value,
            (8, 8) => (self.data, self.control) = (low(value), control(low(value >> 32))),
            (0, _) => self.address = self.address & !0xffff_ffff | value,
            (4, _) => self.address = self.address & 0xffff_ffff | value << 32,
            (8, _) => self.data = low(value),
            _ => self.control = control(low(value)),
        }
    }
}

/// The lower half of `value`.
fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}
