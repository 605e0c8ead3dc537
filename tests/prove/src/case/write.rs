//! A guest's write to the table, and what it does to one vector.

use super::{Ask, Case, inputs::covers, inputs::kept};
use crate::any::{self, assume};
use crate::case::inputs::is_aligned;
use crate::sink::Kinds;

/// A write of the low `len` bytes of `value`, followed by zeros, at byte `offset` of the table.
#[derive(Debug)]
pub struct Write {
    pub offset: u64,
    len: usize,
    pub value: u64,
    bytes: [u8; 12],
}

impl Write {
    fn new(offset: u64, len: usize, value: u64) -> Self {
        let mut bytes = [0; 12];
        if let Some(low) = bytes.first_chunk_mut() {
            *low = value.to_le_bytes();
        }
        Self { offset, len, value, bytes }
    }

    pub fn dword() -> Self {
        let (offset, value) = (any::u64(), any::u64());
        assume(offset.is_multiple_of(4));
        Self::new(offset, 4, value)
    }

    pub fn qword() -> Self {
        let (offset, value) = (any::u64(), any::u64());
        assume(offset.is_multiple_of(8));
        Self::new(offset, 8, value)
    }

    /// A write of another width or alignment.
    pub fn other() -> Self {
        let (offset, value, len) = (any::u64(), any::u64(), any::up_to(12));
        assume(!is_aligned(offset, len as u64));
        Self::new(offset, len, value)
    }

    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Case {
    /// A write to a table of `vectors` vectors. Returns the effects that name the vector `v`, and
    /// whether the write reaches it.
    pub fn write_table(&mut self, v: u16, vectors: u16, write: &Write) -> (Kinds, bool) {
        let Write { offset, value, .. } = *write;
        let size = 16 * u64::from(vectors);
        let len = u64::try_from(write.len).unwrap_or(0);
        let entry = 16 * u64::from(v);
        let hit = [0, 4, 8, 12].map(|at| covers(&self.policy, offset, len, size, entry + at));
        let [low, high, data, control] = hit;
        if !(low || high || data || control) {
            return (Kinds::NONE, false);
        }
        let dword = |at: u64| (value >> (8 * ((entry + at).wrapping_sub(offset) & 7))) as u32;
        let [old_low, old_high, old_data, old_control] = self.lane.entry;
        self.rewrite([
            if low { dword(0) } else { old_low },
            if high { dword(4) } else { old_high },
            if data { dword(8) } else { old_data },
        ]);
        if control {
            self.lane.masked = dword(12) & 1 != 0;
            self.lane.entry[3] = dword(12) & kept(self.policy.vector_control);
        } else {
            self.lane.entry[3] = old_control;
        }
        // H4: the data, or the address pair at once.
        let complete = data || low && high;
        (self.settle(Ask { written: true, complete, ..Ask::NOTHING }), true)
    }
}
