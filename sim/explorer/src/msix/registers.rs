//! The registers as the guest reads them, and as they should be after an input.

use super::MOST;
use super::subject::{Input, Subject};
use super::world::Setup;
use msix_core::Vector;
use msix_core::operation::Operation;
use msix_core::policy::{BusMasterOff, MessageAddress};
use msix_core::policy::{ClaimsOnReset, VectorControlBits};
use msix_core::{Message, Policy, Storage};

/// One entry, its pending bit, and its uses (which no guest can read).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Entry {
    pub(crate) address: u64,
    pub(crate) data: u32,
    pub(crate) control: u32,
    pub(crate) pending: bool,
    pub(crate) uses: u16,
}

impl Entry {
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
    pub(crate) entries: [Entry; MOST],
}

impl Registers {
    /// As the guest reads them now.
    pub(crate) fn read<S: Storage>(at: &[Vector], subject: &Subject<S>) -> Self {
        let control = subject.control();
        let mut entries = [Entry::default(); MOST];
        for (entry, v) in entries.iter_mut().zip(at) {
            let [address, rest] = subject.entry(*v);
            *entry = Entry {
                address,
                data: low(rest),
                control: low(rest >> 32),
                pending: subject.pba(v.index() / 64) >> (v.index() % 64) & 1 != 0,
                uses: subject.engine().claims(*v).unwrap_or(0),
            };
        }
        Self { enabled: control & 0x8000 != 0, function_masked: control & 0x4000 != 0, entries }
    }

    /// As they are after `input`, by the rules alone. Pending bits stay: what becomes of them is
    /// judged by their properties.
    pub(crate) fn after<S: Storage + Clone>(mut self, setup: &Setup<S>, input: Input<'_>) -> Self {
        let operation = match input {
            Input::Operation(operation) => operation,
            Input::Load(snapshot) => {
                let native = snapshot.is_native();
                let mut new = snapshot.registers;
                for (entry, old) in new.entries.iter_mut().zip(self.entries) {
                    entry.pending = old.pending;
                    entry.uses = if native { entry.uses } else { old.uses };
                }
                new.entries.iter_mut().skip(setup.at.len()).for_each(|e| *e = Entry::default());
                return new;
            }
        };
        let policy = &setup.policy;
        let index = |v: Vector| setup.at.iter().position(|at| *at == v);
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
                index(v).into_iter().for_each(|i| self.entries[i].uses += 1);
            }
            Operation::Unclaim(v) => {
                let entry = index(v).map(|i| &mut self.entries[i]);
                entry.into_iter().for_each(|e| e.uses = e.uses.saturating_sub(1));
            }
            Operation::UnclaimAll => self.entries.iter_mut().for_each(|entry| entry.uses = 0),
            Operation::Reset => {
                (self.enabled, self.function_masked) = (false, false);
                for entry in self.entries.iter_mut().take(setup.at.len()) {
                    let keep = policy.claims_on_reset == ClaimsOnReset::Keep;
                    let uses = if keep { entry.uses } else { 0 };
                    *entry = Entry { control: 1, uses, pending: entry.pending, ..Entry::default() };
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

impl Entry {
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

fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}
