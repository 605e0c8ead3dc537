//! Guest accesses.

use crate::any::{self, Property, prove};
use crate::case::{Ask, Case};
use crate::engine::Engine;
use crate::harness;
use crate::sink::{Kinds, Sink};
use msix_core::policy::{
    IntxRule, PendingOnDisable, Policy, TableAccess, VectorControlBits, WhileDisabled,
};
use msix_core::{Access, Vector};

harness!(prove_write_config, |m, _v, c, fx| {
    let (offset, len) = (any::up_to(usize::MAX), any::up_to(8));
    let value = any::u64().to_le_bytes();
    let written = value.get(..len).unwrap_or_default();
    prove(Property::Answer, m.write_config(offset, written, fx).is_ok());
    match 3_usize.checked_sub(offset).and_then(|at| written.get(at)) {
        None => Kinds::NONE, // H19
        Some(high) => {
            let (was, now) = (c.whole.enabled, high & 0x80 != 0);
            c.whole.enabled = now;
            c.whole.function_masked = high & 0x40 != 0;
            let (on, off) = (!was && now, was && !now);
            let (mut deassert, mut reevaluate) = (on, off); // H17
            if c.policy.intx == IntxRule::OnEveryWrite {
                (deassert, reevaluate) = (now, false);
            }
            if c.whole.loading {
                (deassert, reevaluate) = (false, false); // H15
            } else {
                c.whole.intx_told = now;
            }
            let drop = c.policy.pending_on_disable == PendingOnDisable::Drop; // H2
            if off && drop {
                c.lane.pending = false;
            }
            let unlatched = c.policy.while_disabled != WhileDisabled::Latch; // H3
            let ask = Ask {
                poll: off && !drop && c.policy.poll_before_disable,
                drain: c.policy.drain && (on && unlatched || off && drop),
                ..Ask::NOTHING
            };
            Kinds::DEASSERT.when(deassert) | c.settle(ask) | Kinds::REEVALUATE.when(reevaluate)
        }
    }
});

/// Returns whether an access has a width and an alignment that are defined (A4).
fn is_aligned(offset: u64, len: u64) -> bool {
    len == 4 && offset.is_multiple_of(4) || len == 8 && offset.is_multiple_of(8)
}

/// Returns whether an access of `len` bytes at `offset` of a structure of `size` bytes carries out the
/// dword at byte `at` of it (A4, H6).
fn covers(policy: &Policy, offset: u64, len: u64, size: u64, at: u64) -> bool {
    let aligned = is_aligned(offset, len);
    let whole = at >= offset && len >= 4 && at - offset <= len - 4;
    let carried_out = aligned || policy.table_access == TableAccess::Dwords && len <= 8;
    offset < size && at < size && whole && carried_out
}

/// Returns the bits of Vector Control that are kept besides the mask (H7).
pub(super) fn kept(bits: VectorControlBits) -> u32 {
    match bits {
        VectorControlBits::Verbatim => !1,
        VectorControlBits::SteeringTag => 0xffff_0000,
        VectorControlBits::MaskOnly => 0,
    }
}

/// A write to the table.
struct Write {
    offset: u64,
    len: usize,
    value: u64,
}

impl Write {
    /// Gives it to the engine, and returns the effects that name `v`.
    fn give(&self, m: &mut Engine<'_>, v: Vector, c: &mut Case, fx: &mut Sink) -> Kinds {
        let Self { offset, len, value } = *self;
        let mut bytes = [0; 12];
        if let Some(low) = bytes.first_chunk_mut() {
            *low = value.to_le_bytes();
        }
        let answer = m.write_table(offset, bytes.get(..len).unwrap_or_default(), fx);
        let size = 16 * u64::from(m.vectors());
        prove(Property::Refused, (answer == Ok(Access::OutOfRange)) == (offset >= size));
        let len = u64::try_from(len).unwrap_or(0);
        let entry = 16 * u64::from(v.index());
        let hit = [0, 4, 8, 12].map(|at| covers(&c.policy, offset, len, size, entry + at));
        let [low, high, data, control] = hit;
        if !(low || high || data || control) {
            return Kinds::NONE;
        }
        prove(Property::Answer, answer == Ok(Access::Done));
        let dword = |at: u64| (value >> (8 * ((entry + at).wrapping_sub(offset) & 7))) as u32;
        let [old_low, old_high, old_data, old_control] = c.lane.entry;
        c.rewrite([
            if low { dword(0) } else { old_low },
            if high { dword(4) } else { old_high },
            if data { dword(8) } else { old_data },
        ]);
        if control {
            c.lane.masked = dword(12) & 1 != 0;
            c.lane.entry[3] = dword(12) & kept(c.policy.vector_control);
        } else {
            c.lane.entry[3] = old_control;
        }
        // H4: the data, or the address pair at once.
        let complete = data || low && high;
        c.settle(Ask { written: true, complete, ..Ask::NOTHING })
    }
}

harness!(prove_write_dword, |m, v, c, fx| {
    let (offset, value) = (any::u64(), any::u64());
    any::assume(offset.is_multiple_of(4));
    Write { offset, len: 4, value }.give(m, v, c, fx)
});

harness!(prove_write_qword, |m, v, c, fx| {
    let (offset, value) = (any::u64(), any::u64());
    any::assume(offset.is_multiple_of(8));
    Write { offset, len: 8, value }.give(m, v, c, fx)
});

harness!(prove_write_other, |m, v, c, fx| {
    let (offset, value, len) = (any::u64(), any::u64(), any::up_to(12));
    any::assume(!is_aligned(offset, len as u64));
    Write { offset, len, value }.give(m, v, c, fx)
});

harness!(prove_poll_pba, |m, v, c, fx| {
    let (offset, len) = (any::u64(), any::up_to(usize::MAX));
    prove(Property::Answer, m.poll_pba(offset, len, fx).is_ok());
    let size = 8 * u64::from(m.vectors().div_ceil(64));
    let dword = u64::from(v.index() / 32) * 4;
    let covered = covers(&c.policy, offset, u64::try_from(len).unwrap_or(0), size, dword);
    Kinds::POLL.when(covered && c.pollable())
});

/// Returns the byte of an entry that a guest reads at byte `at` of the table.
fn table_byte(c: &Case, at: u64) -> u8 {
    let [low, high, data, control] = c.lane.entry;
    let dwords = [low, high, data, control & !1 | u32::from(c.lane.masked)];
    let [field, byte] = [at / 4 % 4, at % 4].map(|index| usize::try_from(index).unwrap_or(0));
    dwords.get(field).and_then(|dword| dword.to_le_bytes().get(byte).copied()).unwrap_or(0)
}

harness!(prove_read_table, |m, v, c, _fx| {
    let (offset, len, index) = (any::u64(), any::up_to(9), any::up_to(8));
    let mut bytes = [0; 9];
    let answer = m.read_table(offset, bytes.get_mut(..len).unwrap_or_default());
    let size = 16 * u64::from(m.vectors());
    prove(Property::Answer, (answer == Access::OutOfRange) == (offset >= size));
    if index < len
        && let Some(&got) = bytes.get(index)
    {
        let (index, len) = (u64::try_from(index).unwrap_or(0), u64::try_from(len).unwrap_or(0));
        match offset.checked_add(index) {
            Some(at) if at < size => {
                if at / 16 == u64::from(v.index()) {
                    let covered = covers(&c.policy, offset, len, size, at & !3);
                    let want = if covered { table_byte(c, at) } else { 0 };
                    prove(Property::Byte, got == want);
                }
            }
            _ => prove(Property::Byte, got == 0xff), // C07
        }
    }
    Kinds::NONE
});

harness!(prove_read_pba, |m, v, c, _fx| {
    let (offset, len, index, bit) = (any::u64(), any::up_to(9), any::up_to(8), any::u64() & 7);
    let mut bytes = [0; 9];
    let answer = m.read_pba(offset, bytes.get_mut(..len).unwrap_or_default());
    let size = 8 * u64::from(m.vectors().div_ceil(64));
    prove(Property::Answer, (answer == Access::OutOfRange) == (offset >= size));
    if index < len
        && let Some(&got) = bytes.get(index)
    {
        let (index, len) = (u64::try_from(index).unwrap_or(0), u64::try_from(len).unwrap_or(0));
        match offset.checked_add(index) {
            Some(at) if at < size => {
                let covered = covers(&c.policy, offset, len, size, at & !3);
                if 8 * at + bit == u64::from(v.index()) {
                    let pending = got >> bit & 1 != 0;
                    prove(Property::Byte, pending == (covered && c.lane.pending));
                }
                if 8 * at + bit >= u64::from(m.vectors()) {
                    prove(Property::Tail, got >> bit & 1 == 0); // A5
                }
            }
            _ => prove(Property::Byte, got == 0xff), // C07
        }
    }
    Kinds::NONE
});
