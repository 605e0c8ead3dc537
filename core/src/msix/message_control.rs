//! Message Control: the two bits that a guest can write.

use crate::spec;

/// The writable bits of Message Control ([A1](crate::rules#a1)): MSI-X Enable and Function Mask.
/// Both are clear after reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct MessageControl {
    enabled: bool,
    function_masked: bool,
}

impl MessageControl {
    /// Takes bits 15 and 14 of a Message Control value; the other bits are read-only (A1).
    #[must_use]
    pub(crate) const fn from_register(value: u16) -> Self {
        Self {
            enabled: value & spec::CONTROL_ENABLE != 0,
            function_masked: value & spec::CONTROL_FUNCTION_MASK != 0,
        }
    }

    pub(crate) const fn new(enabled: bool, function_masked: bool) -> Self {
        Self { enabled, function_masked }
    }

    /// Returns Message Control as the guest reads it, for a table of `vectors` vectors (1 to 2048).
    #[must_use]
    pub(crate) const fn register(self, vectors: u16) -> u16 {
        let mut value = vectors.wrapping_sub(1) & spec::CONTROL_SIZE;
        if self.enabled {
            value |= spec::CONTROL_ENABLE;
        }
        if self.function_masked {
            value |= spec::CONTROL_FUNCTION_MASK;
        }
        value
    }

    /// Returns MSI-X Enable, bit 15.
    #[must_use]
    pub(crate) const fn enabled(self) -> bool {
        self.enabled
    }

    /// Returns Function Mask, bit 14. It never alters the vectors' own mask bits (A6).
    #[must_use]
    pub(crate) const fn function_masked(self) -> bool {
        self.function_masked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_writable_bits_are_taken_and_the_size_is_read_back() {
        for (written, read) in
            [(0xffff, 0xc003), (0x8000, 0x8003), (0x4000, 0x4003), (0x3fff, 0x0003)]
        {
            assert_eq!(MessageControl::from_register(written).register(4), read);
        }
        assert_eq!(MessageControl::default().register(2048), 0x07ff);
    }
}
