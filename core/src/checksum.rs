//! The checksum of snapshots of version 1: the CRC-32 of Ethernet and zlib.
//!
//! A byte-by-byte CRC waits for its own last step. So eight stretches of the bytes are computed side by
//! side and joined afterwards: CRC is linear over GF(2), and moving one past `n` bytes is a multiplication
//! by x^8n. One table of 1 KiB, no reachable panic: firmware carries this.

/// The polynomial, its lowest power in the highest bit, without x^32.
const POLYNOMIAL: u32 = 0xedb8_8320;
const LANES: usize = 8;

/// What 8 zero bits do to a remainder with that low byte.
static TABLE: [u32; 256] = table();

#[expect(
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    reason = "evaluated when compiling"
)]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            remainder = times_x(remainder);
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
}

const fn times_x(value: u32) -> u32 {
    value >> 1 ^ if value & 1 == 0 { 0 } else { POLYNOMIAL }
}

/// Multiplies two polynomials, modulo the CRC's.
#[inline(never)]
fn multiply(mut a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    while a != 0 {
        if a >> 31 != 0 {
            product ^= b;
        }
        a <<= 1;
        b = times_x(b);
    }
    product
}

/// Returns x^8n: what `n` zero bytes multiply a remainder by.
fn past(mut n: usize) -> u32 {
    let (mut result, mut power) = (1 << 31, 1 << (31 - 8)); // x^0, x^8
    while n != 0 {
        if n & 1 != 0 {
            result = multiply(result, power);
        }
        power = multiply(power, power);
        n >>= 1;
    }
    result
}

/// Moves `remainder` past a byte that was xored into it.
fn past_byte(remainder: u32) -> u32 {
    let [low, ..] = remainder.to_le_bytes();
    let entry = TABLE.get(usize::from(low)).copied().unwrap_or(0); // always there
    remainder >> 8 ^ entry
}

/// Takes a stretch of `len` words for each lane.
fn stretches(words: &[[u8; 4]], len: usize) -> Option<[&[[u8; 4]]; LANES]> {
    let mut rest = words;
    let mut next = || {
        let (stretch, after) = rest.split_at_checked(len)?;
        rest = after;
        Some(stretch)
    };
    // Not in a loop: so the compiler sees that all are equally long.
    Some([next()?, next()?, next()?, next()?, next()?, next()?, next()?, next()?])
}

/// Returns the CRC-32 of `bytes`.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let (words, _) = bytes.as_chunks::<4>();
    let len = words.len() / LANES;
    let mut lanes = [u32::MAX, 0, 0, 0, 0, 0, 0, 0]; // only the first begins with ones
    if let Some(stretches) = stretches(words, len) {
        for index in 0..len {
            for (lane, stretch) in lanes.iter_mut().zip(stretches) {
                *lane ^= stretch.get(index).map_or(0, |&word| u32::from_le_bytes(word));
            }
            // A byte of each in turn: a processor computes the lanes at once.
            for _ in 0..4 {
                lanes = lanes.map(past_byte);
            }
        }
    }
    let past = past(len.wrapping_mul(4)); // of at most an eighth of all bytes
    let joined = lanes.iter().fold(0, |all, lane| multiply(all, past) ^ lane);
    let rest = bytes.get(len.wrapping_mul(4 * LANES)..).unwrap_or_default();
    !rest.iter().fold(joined, |remainder, &byte| past_byte(remainder ^ u32::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_ethernet_at_every_length() {
        const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let bytes: Vec<u8> =
            (0..5000_u32).map(|i| i.wrapping_mul(0x9e37_79b1).to_le_bytes()[2]).collect();
        for len in (0..600).chain([1023, 1024, 4095, 4999, 5000]) {
            assert_eq!(crc32(&bytes[..len]), CRC.checksum(&bytes[..len]), "{len}");
        }
    }
}
