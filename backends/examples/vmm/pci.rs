//! Configuration space of a function: ordinary bytes, but for what belongs to the interrupts.

use crate::interrupts::Interrupts;
use msix_core::spec::{CAPABILITY_LEN, COMMAND_MEMORY};
use std::ops::Range;

/// What a function says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) vendor: u16,
    pub(crate) device: u16,
    /// Subsystem's vendor and device.
    pub(crate) subsystem: [u16; 2],
    /// Revision, interface, subclass, class.
    pub(crate) class: [u8; 4],
}

/// The bytes, and the bits of them that a guest can change.
pub(crate) struct ConfigSpace {
    bytes: [u8; LEN],
    writable: [u8; LEN],
    reset: [u8; LEN],
    bar_len: u32,
    interrupts: Option<Interrupts>,
}

impl ConfigSpace {
    /// Makes the space of a function without BARs and interrupts, such as a host bridge.
    pub(crate) fn new(identity: Identity) -> Self {
        let mut reset = [0; LEN];
        let mut put = |at: usize, bytes: &[u8]| reset[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x00, &identity.vendor.to_le_bytes());
        put(0x02, &identity.device.to_le_bytes());
        put(0x08, &identity.class);
        put(0x2c, &identity.subsystem[0].to_le_bytes());
        put(0x2e, &identity.subsystem[1].to_le_bytes());
        let mut writable = [0; LEN];
        writable[CACHE_LINE] = 0xff;
        writable[LINE] = 0xff;
        Self { bytes: reset, writable, reset, bar_len: 0, interrupts: None }
    }

    /// Adds MSI-X, and `bar_len` bytes of memory behind BAR 0, a power of two.
    pub(crate) fn with_msix(mut self, interrupts: Interrupts, bar_len: u32) -> Self {
        self.reset[STATUS] |= HAS_CAPABILITIES;
        self.reset[CAPABILITIES] = MSIX;
        self.writable[BAR0..][..4].copy_from_slice(&(!(bar_len - 1)).to_le_bytes());
        self.bytes = self.reset;
        Self { bar_len, interrupts: Some(interrupts), ..self }
    }

    /// Adds further capabilities, before MSI-X in the list. Each begins with its id; its second byte
    /// becomes the pointer to the next.
    pub(crate) fn with_capabilities(mut self, capabilities: &[&[u8]]) -> Self {
        let mut at = usize::from(MSIX) + CAPABILITY_LEN;
        for capability in capabilities {
            self.reset[at..at + capability.len()].copy_from_slice(capability);
            self.reset[at + 1] = std::mem::replace(&mut self.reset[CAPABILITIES], at as u8);
            at += capability.len().next_multiple_of(4);
        }
        self.bytes = self.reset;
        self
    }

    /// Puts everything back as after power-on, the interrupts too.
    pub(crate) fn reset(&mut self) {
        self.bytes = self.reset;
        if let Some(interrupts) = &self.interrupts {
            interrupts.reset();
        }
    }

    /// Reads for a guest, inside four aligned bytes. Command and the MSI-X capability are the function's.
    pub(crate) fn read(&self, offset: usize, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(&mut *data) {
            *byte = self.bytes.get(at).copied().unwrap_or(0xff);
        }
        let Some(interrupts) = &self.interrupts else { return };
        if let Some(at) = within(offset, COMMAND, 2) {
            let command = interrupts.command_and_status().0.to_le_bytes();
            data.iter_mut().zip(command.iter().skip(at)).for_each(|(to, from)| *to = *from);
        } else if let Some(at) = within(offset, usize::from(MSIX), CAPABILITY_LEN) {
            interrupts.read_msix(at, data);
        }
    }

    /// Writes for a guest, inside four aligned bytes.
    pub(crate) fn write(&mut self, offset: usize, data: &[u8]) {
        if let Some(interrupts) = &self.interrupts {
            if let Some(at) = within(offset, COMMAND, 2) {
                interrupts.write_command(at, data);
            } else if let Some(at) = within(offset, usize::from(MSIX), CAPABILITY_LEN) {
                interrupts.write_msix(at, data);
            }
        }
        let space = self.bytes.iter_mut().zip(self.writable).skip(offset);
        for ((byte, writable), written) in space.zip(data) {
            *byte = *byte & !writable | written & writable;
        }
    }

    /// Returns where the memory behind BAR 0 is, while the function answers there.
    pub(crate) fn bar(&self) -> Option<Range<u64>> {
        let (command, _) = self.interrupts.as_ref()?.command_and_status();
        let register = self.bytes[BAR0..].first_chunk()?;
        let start = u64::from(u32::from_le_bytes(*register));
        let answers = command & COMMAND_MEMORY != 0 && start != 0;
        answers.then(|| start..start + u64::from(self.bar_len))
    }
}

/// Returns the offset in the `len` bytes from `start` on.
fn within(offset: usize, start: usize, len: usize) -> Option<usize> {
    offset.checked_sub(start).filter(|&at| at < len)
}

const LEN: usize = 256;
const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const CACHE_LINE: usize = 0x0c;
const BAR0: usize = 0x10;
const CAPABILITIES: usize = 0x34;
const LINE: usize = 0x3c;
const MSIX: u8 = 0x40;
/// Status: there is a list of capabilities.
const HAS_CAPABILITIES: u8 = 1 << 4;
