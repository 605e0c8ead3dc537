//! The host bridge: as much of it as QEMU's has in configuration space.

use super::setup::MachineKind;
use std::ops::Range;

/// Bytes of conventional configuration space.
const LEN: usize = 256;
/// From here on registers are the bridge's own. What they do to RAM in QEMU's, they do not do here; q35's
/// that open and lock the RAM of system management cannot be written.
const OWN: usize = 0x40;
/// Where q35's says at which address configuration space is in memory.
const ECAM: usize = 0x60;

/// A host bridge.
#[derive(Debug)]
pub(super) struct Bridge {
    kind: MachineKind,
    bytes: [u8; LEN],
}

impl Bridge {
    /// As after power-on.
    pub(super) const fn new(kind: MachineKind) -> Self {
        let mut bytes = [0; LEN];
        match kind {
            MachineKind::Pc => {
                (bytes[0], bytes[1], bytes[2], bytes[3]) = (0x86, 0x80, 0x37, 0x12);
                (bytes[8], bytes[0xb]) = (2, 6);
                (bytes[0x57], bytes[0x72]) = (8, 2);
            }
            MachineKind::Q35 => {
                (bytes[0], bytes[1], bytes[2], bytes[3]) = (0x86, 0x80, 0xc0, 0x29);
                bytes[0xb] = 6;
                (bytes[0x50], bytes[ECAM + 3]) = (0x10, 0xb0);
                (bytes[0x9d], bytes[0x9e]) = (0x02, 0x38);
            }
            MachineKind::None => bytes = [0xff; LEN],
        }
        if !matches!(kind, MachineKind::None) {
            (bytes[0x2c], bytes[0x2d], bytes[0x2f]) = (0xf4, 0x1a, 0x11);
        }
        Self { kind, bytes }
    }

    /// As QEMU's: its own registers outlive a reset, but for the place of configuration space.
    pub(super) fn reset(&mut self) {
        let before = std::mem::replace(self, Self::new(self.kind));
        self.bytes[OWN..].copy_from_slice(&before.bytes[OWN..]);
        if self.kind == MachineKind::Q35 {
            let ecam = ECAM..ECAM + 8;
            self.bytes[ecam.clone()].copy_from_slice(&Self::new(self.kind).bytes[ecam]);
        }
    }

    pub(super) fn read(&self, offset: usize, bytes: &mut [u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            *byte = self.bytes.get(at).copied().unwrap_or(0xff);
        }
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        if self.kind == MachineKind::None {
            return;
        }
        for (at, written) in (offset..LEN).zip(bytes) {
            let writable = match at {
                4 => 0x07,
                5 => 0x05,
                0x50..0x52 | 0x9c..0xa0 if self.kind == MachineKind::Q35 => 0,
                0xc | 0x3c | OWN..LEN => 0xff,
                _ => 0,
            };
            self.bytes[at] = self.bytes[at] & !writable | written & writable;
        }
    }

    /// Where configuration space is in memory, if it is.
    pub(super) fn ecam(&self) -> Option<Range<u64>> {
        let register = u64::from_le_bytes(*self.bytes[ECAM..].first_chunk()?);
        let len: u64 = match (self.kind, register & 1, register >> 1 & 3) {
            (MachineKind::Q35, 1, 0) => 256 << 20,
            (MachineKind::Q35, 1, 1) => 128 << 20,
            (MachineKind::Q35, 1, 2) => 64 << 20,
            _ => return None,
        };
        let start = register & 0xf_ffff_ffff & !(len - 1);
        Some(start..start + len)
    }
}
