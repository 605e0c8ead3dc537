//! The four shapes of an MSI capability, and where the registers of each are.

use crate::spec::{MSI_CAPABILITY_ID, MSI_ENABLE, MSI_LONGEST, MSI_MULTIPLE};
use core::fmt;

/// The fixed properties of a function's MSI capability ([A14](crate::rules#a14)): the number of
/// vectors that it is capable of (1, 2, 4, 8, 16 or 32), whether its address has 64 bits, and
/// whether it has mask and pending registers.
///
/// | byte | field | access | after reset |
/// |---|---|---|---|
/// | 0 | capability id, 0x05 | RO | 0x05 |
/// | 1 | next capability pointer | RO | set by the embedder |
/// | 2..4 | Message Control: bit 0 MSI Enable | RW | 0 |
/// | | 3:1 Multiple Message Capable, log2 of the vectors | RO | |
/// | | 6:4 Multiple Message Enable, log2 of the vectors allocated | RW | 0 |
/// | | 7 64-bit address, 8 per-vector masking | RO | |
/// | | 15:9 reserved | reads 0 | 0 |
/// | 4..8 | message address, low 32 bits; bits 1:0 read 0 | RW | 0 |
/// | 8..12 | message address, high 32 bits; only with a 64-bit address | RW | 0 |
/// | +0..+2 | message data, at 8 or 12 | RW | 0 |
/// | +2..+4 | reserved; only with masks | reads 0 | 0 |
/// | +4..+8 | mask bits; only with masks | RW for the vectors it has | 0 |
/// | +8..+12 | pending bits; only with masks | RO | 0 |
///
/// It is 10, 14, 20 or 24 bytes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MsiCapability {
    /// log2 of the vectors, 0 to 5.
    log: u8,
    pub(crate) wide: bool,
    pub(crate) masks: bool,
}

impl MsiCapability {
    /// Describes a capability for `vectors` vectors, with a 32-bit address and no masks.
    ///
    /// # Errors
    /// [`MsiCapabilityError::Vectors`] unless `vectors` is 1, 2, 4, 8, 16 or 32.
    pub const fn new(vectors: u32) -> Result<Self, MsiCapabilityError> {
        let log = match vectors {
            1 => 0,
            2 => 1,
            4 => 2,
            8 => 3,
            16 => 4,
            32 => 5,
            other => return Err(MsiCapabilityError::Vectors(other)),
        };
        Ok(Self { log, wide: false, masks: false })
    }

    /// Adds a 64-bit address.
    #[must_use]
    pub const fn with_64_bit_address(self) -> Self {
        Self { wide: true, ..self }
    }

    /// Adds mask and pending registers.
    #[must_use]
    pub const fn with_masks(self) -> Self {
        Self { masks: true, ..self }
    }

    /// Reads the description from Message Control of a real function; the writable bits are
    /// ignored.
    ///
    /// # Errors
    /// [`MsiCapabilityError::Reserved`] when Multiple Message Capable is 6 or 7.
    pub const fn from_control(value: u16) -> Result<Self, MsiCapabilityError> {
        let [low, _] = value.to_le_bytes();
        let log = low >> 1 & 0b111;
        if log > 5 {
            return Err(MsiCapabilityError::Reserved(value));
        }
        Ok(Self { log, wide: value & WIDE != 0, masks: value & MASKS != 0 })
    }

    /// Returns how many vectors the function is capable of, 1 to 32.
    #[must_use]
    pub const fn vectors(self) -> u16 {
        // At most 1 << 5.
        1_u16.wrapping_shl(self.log_u32())
    }

    /// Returns the length, bytes: 10, 14, 20 or 24.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a capability is never empty")]
    pub const fn len(self) -> usize {
        match (self.wide, self.masks) {
            (false, false) => 10,
            (true, false) => 14,
            (false, true) => 20,
            (true, true) => 24,
        }
    }

    /// Returns the read-only bits of Message Control.
    pub(crate) const fn control(self) -> u16 {
        let mut value = 0;
        if self.wide {
            value |= WIDE;
        }
        if self.masks {
            value |= MASKS;
        }
        value | self.log_u16().wrapping_shl(1)
    }

    /// Returns Multiple Message Enable for all vectors.
    pub(crate) const fn log(self) -> u8 {
        self.log
    }

    /// Returns the vectors, as the set of their bits.
    pub(crate) const fn bits(self) -> u32 {
        low_bits(self.vectors())
    }

    /// Returns the offset of the data register.
    pub(crate) const fn data_at(self) -> usize {
        if self.wide { 12 } else { 8 }
    }

    /// Returns the offset of the pending register.
    pub(crate) const fn pending_at(self) -> Option<usize> {
        match (self.wide, self.masks) {
            (_, false) => None,
            (false, true) => Some(16),
            (true, true) => Some(20),
        }
    }

    /// Returns the registers as bytes; those past the capability's end are 0.
    pub(crate) fn image(self, next: u8, registers: &Registers) -> [u8; MSI_LONGEST] {
        let mut image = [0; MSI_LONGEST];
        let [a0, a1, a2, a3, high @ ..] = registers.address.to_le_bytes();
        put(&mut image, 0, [MSI_CAPABILITY_ID, next]);
        put(&mut image, 2, (registers.control | self.control()).to_le_bytes());
        put(&mut image, 4, [a0, a1, a2, a3]);
        if self.wide {
            put(&mut image, 8, high);
        }
        put(&mut image, self.data_at(), registers.data.to_le_bytes());
        if let Some(pending_at) = self.pending_at() {
            put(&mut image, pending_at.wrapping_sub(4), registers.masked.to_le_bytes());
            put(&mut image, pending_at, registers.pending.to_le_bytes());
        }
        image
    }

    /// Returns the registers in such bytes: the inverse of [`image`](Self::image), without the bits
    /// that are read-only or do not exist.
    pub(crate) fn registers(self, image: &[u8; MSI_LONGEST]) -> Registers {
        let [a0, a1, a2, a3] = take(image, 4);
        let [a4, a5, a6, a7] = if self.wide { take(image, 8) } else { [0; 4] };
        let bits = |at| u32::from_le_bytes(take(image, at)) & self.bits();
        let pending_at = self.pending_at();
        Registers {
            control: u16::from_le_bytes(take(image, 2)) & (MSI_ENABLE | MSI_MULTIPLE),
            address: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]) & !0b11,
            data: u16::from_le_bytes(take(image, self.data_at())),
            masked: pending_at.map_or(0, |at| bits(at.wrapping_sub(4))),
            pending: pending_at.map_or(0, bits),
        }
    }

    #[expect(clippy::as_conversions, reason = "a widening `From` is not const yet")]
    const fn log_u16(self) -> u16 {
        self.log as u16
    }

    #[expect(clippy::as_conversions, reason = "a widening `From` is not const yet")]
    const fn log_u32(self) -> u32 {
        self.log as u32
    }
}

fn put<const L: usize>(image: &mut [u8; MSI_LONGEST], at: usize, bytes: [u8; L]) {
    if let Some(slot) = image.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *slot = bytes;
    }
}

fn take<const L: usize>(image: &[u8; MSI_LONGEST], at: usize) -> [u8; L] {
    image.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; L])
}

/// The registers of an MSI capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registers {
    /// MSI Enable and Multiple Message Enable.
    pub(crate) control: u16,
    pub(crate) address: u64,
    pub(crate) data: u16,
    pub(crate) masked: u32,
    pub(crate) pending: u32,
}

impl Registers {
    /// The registers after reset (A13).
    pub(crate) const RESET: Self = Self { control: 0, address: 0, data: 0, masked: 0, pending: 0 };
}

/// Returns the `vectors` (1 to 32) lowest bits.
#[expect(clippy::as_conversions, reason = "a widening `From` is not const yet")]
pub(crate) const fn low_bits(vectors: u16) -> u32 {
    match 1_u32.checked_shl(vectors as u32) {
        Some(end) => end.wrapping_sub(1),
        None => u32::MAX,
    }
}

/// Message Control bit 7, 64-bit address (A14).
const WIDE: u16 = 0x0080;
/// Message Control bit 8, per-vector masking (A14).
const MASKS: u16 = 0x0100;

/// Why there is no such MSI capability ([A14](crate::rules#a14)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MsiCapabilityError {
    /// The number of vectors is not 1, 2, 4, 8, 16 or 32.
    Vectors(u32),
    /// Multiple Message Capable of this Message Control value is 6 or 7, which is reserved.
    Reserved(u16),
}

impl fmt::Display for MsiCapabilityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vectors(vectors) => {
                write!(f, "{vectors} vectors: MSI has 1, 2, 4, 8, 16 or 32")
            }
            Self::Reserved(value) => {
                write!(
                    f,
                    "Message Control {value:#06x}: its Multiple Message Capable has a reserved value"
                )
            }
        }
    }
}

impl core::error::Error for MsiCapabilityError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_shapes_have_their_lengths_and_control_values() {
        let plain = MsiCapability::new(8).unwrap();
        for (capability, len, control) in [
            (plain, 10, 0x0006),
            (plain.with_64_bit_address(), 14, 0x0086),
            (plain.with_masks(), 20, 0x0106),
            (plain.with_64_bit_address().with_masks(), 24, 0x0186),
        ] {
            assert_eq!((capability.len(), capability.control()), (len, control));
            assert_eq!(MsiCapability::from_control(control | 0x0071), Ok(capability));
        }
    }

    #[test]
    fn only_powers_of_two_up_to_32_are_vector_counts() {
        for vectors in 0..=65 {
            let made = MsiCapability::new(vectors);
            if [1, 2, 4, 8, 16, 32].contains(&vectors) {
                assert_eq!(made.map(|c| u32::from(c.vectors())), Ok(vectors));
                assert_eq!(MsiCapability::from_control(made.unwrap().control()), made);
            } else {
                assert_eq!(made, Err(MsiCapabilityError::Vectors(vectors)));
            }
        }
        for control in [0x008c, 0x008e] {
            let refused = Err(MsiCapabilityError::Reserved(control));
            assert_eq!(MsiCapability::from_control(control), refused);
        }
    }

    #[test]
    fn what_an_image_holds_is_what_went_into_it() {
        let registers = Registers {
            control: 0x0031,
            address: 0xfee0_1000,
            data: 0x4142,
            masked: 0b0101,
            pending: 0b1010,
        };
        let with = MsiCapability::new(4).unwrap().with_masks();
        let image = with.image(0x50, &registers);
        let expected = [5, 0x50, 0x35, 1, 0, 0x10, 0xe0, 0xfe, 0x42, 0x41, 0, 0, 5, 0, 0, 0, 10];
        assert_eq!(image[..17], expected);
        assert_eq!(with.registers(&image), registers);
        let wide = with.with_64_bit_address();
        let high = Registers { address: 0x1_fee0_1000, ..registers };
        let image = wide.image(0, &high);
        assert_eq!(image[8..18], [1, 0, 0, 0, 0x42, 0x41, 0, 0, 5, 0]);
        assert_eq!(wide.registers(&image), high);
        assert_eq!(wide.registers(&[0xff; 24]).masked, 0b1111, "only the vectors it has");
    }
}
