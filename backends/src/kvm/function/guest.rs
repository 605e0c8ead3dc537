//! Guest accesses: the two capabilities, Command and Status, table and PBA, and the pin's answers.

use super::locked::LockedFunction;
use super::{Function, always};
use crate::kvm::host::MessageMode;
use crate::kvm::platform::Platform;
use msix_core::spec::ENTRY_LEN;
use msix_core::{Access, Mode};
use std::ops::Range;

impl<P: Platform> Function<P> {
    /// Writes the MSI capability ([`msix_core::Function::write_msi`]).
    pub fn write_msi(&self, offset: usize, bytes: &[u8]) {
        self.shared.with(|locked| {
            locked.switch(|engine, fx| always(engine.write_msi(offset, bytes, fx)));
            locked.compare_msi();
        })
    }

    /// Reads the MSI capability ([`msix_core::Function::read_msi`]), including the events in the
    /// eventfds of masked vectors.
    pub fn read_msi(&self, offset: usize, bytes: &mut [u8]) {
        self.shared.with(|locked| {
            locked.input(|engine, fx| always(engine.poll_msi(offset, bytes.len(), fx)));
            locked.engine.read_msi(offset, bytes);
        })
    }

    /// Points the capability of `mode` at the next one in the chain
    /// ([`msix_core::Function::set_next_capability`]).
    pub fn set_next_capability(&self, mode: Mode, offset: u8) {
        self.shared.with(|locked| locked.engine.set_next_capability(mode, offset));
    }

    /// Writes the MSI-X capability ([`msix_core::Function::write_msix`]).
    pub fn write_msix(&self, offset: usize, bytes: &[u8]) {
        self.shared.with(|locked| {
            locked.switch(|engine, fx| always(engine.write_msix(offset, bytes, fx)));
        })
    }

    /// Reads the MSI-X capability ([`msix_core::Function::read_msix`]).
    pub fn read_msix(&self, offset: usize, bytes: &mut [u8]) {
        self.shared.lock().engine.read_msix(offset, bytes);
    }

    /// Writes the Command register ([`msix_core::Function::write_command`]).
    pub fn write_command(&self, offset: usize, bytes: &[u8]) {
        self.shared.input(|engine, fx| always(engine.write_command(offset, bytes, fx)));
    }

    /// Returns the bits of Command and of Status that are kept here
    /// ([`msix_core::Function::command`], [`msix_core::Function::status`]). Interrupt Status of a
    /// passed-through device's pin is read from the device itself.
    #[must_use]
    pub fn command_and_status(&self) -> (u16, u16) {
        let locked = self.shared.lock();
        (locked.engine.command(), locked.engine.status())
    }

    /// Writes the table ([`msix_core::Function::write_table`]).
    pub fn write_table(&self, offset: u64, bytes: &[u8]) -> Access {
        let written = Written { offset, len: bytes.len() as u64 };
        self.shared.input_then(
            self.shared.lock(),
            move |engine, fx| engine.write_table(offset, bytes, fx),
            move |locked, _| written.changes_no_live_message(locked),
            move |locked, access| {
                if !written.changes_no_live_message(locked) {
                    written.messages().for_each(|vector| locked.compare(MessageMode::MsiX, vector));
                }
                access.unwrap_or(Access::Unsupported)
            },
        )
    }

    /// Reads the table ([`msix_core::Function::read_table`]).
    pub fn read_table(&self, offset: u64, bytes: &mut [u8]) -> Access {
        self.shared.lock().engine.read_table(offset, bytes)
    }

    /// Reads the PBA ([`msix_core::Function::read_pba`]), including the events in the eventfds of
    /// masked vectors (C35).
    pub fn read_pba(&self, offset: u64, bytes: &mut [u8]) -> Access {
        let len = bytes.len();
        self.shared.input_then(
            self.shared.lock(),
            |engine, fx| always(engine.poll_pba(offset, len, fx)),
            |_, ()| true,
            |locked, ()| locked.engine.read_pba(offset, bytes),
        )
    }

    /// Ignores a write of the PBA ([`msix_core::Function::write_pba`]).
    pub fn write_pba(&self, offset: u64, bytes: &[u8]) -> Access {
        self.shared.lock().engine.write_pba(offset, bytes)
    }

    /// Takes the guest's EOI of the pin, from an interrupt controller in userspace
    /// ([`msix_core::Function::eoi`]). Where no EOI is available, call it also when the guest reads
    /// Status of a passed-through device and finds Interrupt Status 0: it may have satisfied the
    /// device for another function on the line, and makes no other access for this one.
    pub fn eoi(&self) {
        self.shared.input(|engine, fx| always(engine.eoi(fx)));
    }

    /// Takes an access of the guest to an unmapped BAR of a passed-through device. Where no EOI is
    /// available, it counts as one.
    pub fn bar_accessed(&self) {
        self.shared.with(|locked| {
            if locked.device.as_ref().is_some_and(|device| device.unmapped.is_some()) {
                locked.input(|engine, fx| always(engine.eoi(fx)));
            }
        })
    }
}

/// The bytes of the table that a guest writes.
#[derive(Clone, Copy)]
struct Written {
    offset: u64,
    len: u64,
}

impl Written {
    /// Returns whether it is easily seen that no message changes which the host was told: that of an
    /// entry that is not live, or Vector Control.
    #[inline]
    fn changes_no_live_message(self, locked: &LockedFunction) -> bool {
        let (entry, at) = (self.offset / ENTRY_LEN, self.offset % ENTRY_LEN);
        let is_live = |entry: usize| locked.host.is_live(MessageMode::MsiX, entry);
        let end = at.saturating_add(self.len);
        if end <= VECTOR_CONTROL {
            !usize::try_from(entry).is_ok_and(is_live)
        } else {
            at >= VECTOR_CONTROL && end <= ENTRY_LEN
        }
    }

    /// Returns the vectors with messages that may change.
    fn messages(self) -> Range<u16> {
        let vector = |entry: u64| u16::try_from(entry).unwrap_or(u16::MAX);
        let first = self.offset / ENTRY_LEN;
        let end = self.offset.saturating_add(self.len).div_ceil(ENTRY_LEN);
        vector(first)..vector(end.min(first + 2)) // an access has 8 bytes at most
    }
}

/// The place of Vector Control in an entry, behind the message.
const VECTOR_CONTROL: u64 = 12;
