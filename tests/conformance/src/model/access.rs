//! Guest accesses to table and PBA: which bytes they reach (A4, H6, C07).

use super::vector_effects::VectorEffect;
use super::{Ask, Reference};
use msix_core::Access;
use msix_core::operation::Answer;
use msix_core::policy::{LiveRewrite, TableAccess, VectorControlBits};

/// The low `len` bytes of `value`, at most 8.
pub(super) fn low(value: u64, len: u8) -> Vec<u8> {
    value.to_le_bytes().into_iter().take(usize::from(len)).collect()
}

/// The little-endian value of at most 8 bytes.
pub(super) fn number(bytes: Vec<u8>) -> u64 {
    bytes.into_iter().rev().fold(0, |value, byte| value << 8 | u64::from(byte))
}

impl Reference {
    /// Where the dwords begin that an access to a structure of `size` bytes carries out, and what
    /// becomes of the access.
    fn carried_out(&self, size: usize, offset: usize, len: usize) -> (Vec<usize>, Access) {
        if offset >= size {
            return (vec![], Access::OutOfRange); // C07
        }
        let defined = matches!(len, 4 | 8) && offset.is_multiple_of(len); // A4
        if self.policy.table_access == TableAccess::Aligned && !defined {
            return (vec![], Access::Unsupported);
        }
        let covered = |at: &usize| offset <= *at && at + 4 <= offset + len;
        match (0..size).step_by(4).filter(covered).collect::<Vec<_>>() {
            none if none.is_empty() => (none, Access::Unsupported),
            dwords => (dwords, Access::Done),
        }
    }

    /// What a read of `structure` answers: the dwords it carries out, zero elsewhere inside, all
    /// ones past the end.
    pub(super) fn read(&self, structure: &[u8], offset: u16, len: u8) -> Answer {
        let (offset, len) = (usize::from(offset), usize::from(len.min(8)));
        let (dwords, access) = self.carried_out(structure.len(), offset, len);
        let byte = |at: usize| match structure.get(at) {
            None => 0xff,
            Some(byte) if dwords.contains(&(at / 4 * 4)) => *byte,
            Some(_) => 0,
        };
        Answer::Read(access, number((offset..offset + len).map(byte).collect()))
    }

    /// The vectors whose pending bits a read of the PBA carries out.
    pub(super) fn covered_by(&self, offset: u16, len: u8) -> Vec<usize> {
        let (offset, len) = (usize::from(offset), usize::from(len.min(8)));
        let (dwords, _) = self.carried_out(self.pba.len(), offset, len);
        self.all().into_iter().filter(|v| dwords.contains(&(v / 32 * 4))).collect()
    }

    /// A guest write to the table.
    pub(super) fn write_table(
        &mut self,
        offset: usize,
        bytes: &[u8],
    ) -> (Answer, Vec<VectorEffect>) {
        let (dwords, access) = self.carried_out(self.table.len(), offset, bytes.len());
        let mut ask = Ask::default();
        for &at in &dwords {
            let value = [0, 1, 2, 3].map(|i| bytes[at + i - offset]);
            self.store(at, u32::from_le_bytes(value));
            let v = at / 16;
            let whole_address = dwords.contains(&(16 * v)) && dwords.contains(&(16 * v + 4));
            if at % 16 == 8 || whole_address {
                ask.completed = Some(v); // H4
            }
            if self.policy.snoop && !ask.snoop.contains(&v) {
                ask.snoop.push(v); // G2
            }
        }
        (Answer::Written(access), self.settle(ask))
    }

    /// Stores a dword at byte `at` of the table.
    pub(super) fn store(&mut self, at: usize, value: u32) {
        let (v, field) = (at / 16, at % 16);
        let value = match (field, self.policy.vector_control) {
            (12, VectorControlBits::SteeringTag) => value & 0xffff_0001, // H7, C10
            (12, VectorControlBits::MaskOnly) => value & 1,
            _ => value,
        };
        if field != 12 && value != self.dword(at) {
            self.message_changed(v);
        }
        self.table[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// The message of `v` is rewritten, maybe while the host has the old one (H4).
    pub(super) fn message_changed(&mut self, v: usize) {
        if self.live[v] && self.policy.live_rewrite == LiveRewrite::Reroute {
            self.stale[v] = true;
        }
    }
}
