//! Table entries and the messages they hold.

use crate::policy::{MessageAddress, VectorControlBits};
use crate::spec;

/// What a vector writes to memory: one 32-bit write of `data` to `address`
/// ([A11](crate::rules#a11), [A3](crate::rules#a3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Message {
    /// The address, in the function's bus-master address space.
    pub address: u64,
    /// The data, sent unmodified (A3).
    pub data: u32,
}

/// One table entry of 16 bytes ([A3](crate::rules#a3)): address low and high, data, Vector Control.
/// Its mask bit is in [`crate::Word`]. Only the engine reads and writes it; embedders name it to
/// lend memory to [`crate::Borrowed`].
///
/// Bit 0 of the last dword, where a guest sees the mask, is set here when the message was rewritten
/// while the vector was live and the host was not told yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry([u32; 4]);

const STALE: u32 = spec::VECTOR_MASK;

impl Entry {
    /// The entry after reset: address, data and Vector Control are 0, apart from the mask bit (A3).
    pub const RESET: Self = Self([0; 4]);

    pub(crate) fn message(&self, address: MessageAddress) -> Message {
        let [low, high, data, _] = self.0;
        let low = match address {
            MessageAddress::Verbatim => low,
            MessageAddress::Aligned => low & !0b11, // H7
        };
        Message { address: u64::from(high) << 32 | u64::from(low), data }
    }

    pub(crate) fn set_message(&mut self, message: Message) -> bool {
        let [b0, b1, b2, b3, b4, b5, b6, b7] = message.address.to_le_bytes();
        let low = u32::from_le_bytes([b0, b1, b2, b3]);
        let high = u32::from_le_bytes([b4, b5, b6, b7]);
        let [.., control] = self.0;
        let new = [low, high, message.data, control];
        core::mem::replace(&mut self.0, new) != new
    }

    /// Returns dword `index` (0 to 3) as the guest reads it.
    pub(crate) fn dword(&self, index: usize, masked: bool) -> u32 {
        match self.0.get(index) {
            Some(dword) if index < 3 => *dword,
            Some(control) => control & !spec::VECTOR_MASK | u32::from(masked),
            None => 0,
        }
    }

    /// Stores a dword of the message; `index` is 0, 1 or 2. Returns whether it changed.
    #[inline]
    pub(crate) fn store_message(&mut self, index: usize, value: u32) -> bool {
        self.0.get_mut(index).is_some_and(|dword| core::mem::replace(dword, value) != value)
    }

    /// Stores Vector Control except the mask bit, which the caller keeps (H7, C10).
    #[inline]
    pub(crate) fn store_control(&mut self, value: u32, kept: VectorControlBits) {
        let [.., control] = &mut self.0;
        *control = value & kept.bits() | *control & STALE;
    }

    /// Stores Vector Control as [`store_control`](Self::store_control), of an entry that is not stale.
    #[inline]
    pub(crate) fn set_control(&mut self, value: u32, kept: VectorControlBits) {
        debug_assert!(!self.is_stale());
        let [.., control] = &mut self.0;
        *control = value & kept.bits();
    }

    pub(crate) fn is_stale(&self) -> bool {
        let [.., control] = self.0;
        control & STALE != 0
    }

    pub(crate) fn set_stale(&mut self, stale: bool) {
        let [.., control] = &mut self.0;
        *control = *control & !STALE | u32::from(stale);
    }

    /// Reads an entry from the 16 bytes that a guest sees, with the bits `kept` of Vector Control; the caller
    /// keeps the mask bit.
    pub(crate) fn from_guest_view(bytes: [u8; 16], kept: u32) -> Self {
        let value = u128::from_le_bytes(bytes);
        let control = low_dword(value >> 96) & kept;
        Self([low_dword(value), low_dword(value >> 32), low_dword(value >> 64), control])
    }

    /// Returns the 16 bytes that the guest reads (A3).
    pub(crate) fn guest_view(&self, masked: bool) -> [u8; 16] {
        let dword = |index| u128::from(self.dword(index, masked));
        (dword(0) | dword(1) << 32 | dword(2) << 64 | dword(3) << 96).to_le_bytes()
    }
}

fn low_dword(value: u128) -> u32 {
    let [b0, b1, b2, b3, ..] = value.to_le_bytes();
    u32::from_le_bytes([b0, b1, b2, b3])
}

/// Returns the mask bit of the 16 bytes that a guest sees.
pub(crate) fn mask_bit(bytes: [u8; 16]) -> bool {
    u128::from_le_bytes(bytes) >> 96 & u128::from(spec::VECTOR_MASK) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    #[test]
    fn a_guest_view_survives_the_round_trip_under_qemu() {
        let bytes: [u8; 16] =
            core::array::from_fn(|i| 0xf1_u8.wrapping_add(u8::try_from(i).unwrap()));
        let entry = Entry::from_guest_view(bytes, Policy::QEMU.vector_control.bits());
        assert_eq!(entry.guest_view(mask_bit(bytes)), bytes);
    }

    #[test]
    fn the_stale_note_is_never_seen_by_the_guest() {
        let mut entry = Entry::RESET;
        entry.set_stale(true);
        entry.store_control(0xffff_ffff, VectorControlBits::Verbatim);
        assert!(entry.is_stale());
        assert_eq!(entry.dword(3, false), 0xffff_fffe);
        assert_eq!(entry.dword(3, true), 0xffff_ffff);
    }
}
