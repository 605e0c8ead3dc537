//! Register layout of MSI-X, after PCI Express Base 6.x, 7.7.2 and 6.1.4, and the bits of Command
//! and Status that concern interrupts. The layout of MSI is in [`crate::MsiCapability`].
//!
//! Capability structure, 12 bytes ([A1](crate::rules#a1)):
//!
//! | byte | bits | field | access | after reset |
//! |---|---|---|---|---|
//! | 0 | 7:0 | capability id, 0x11 | RO | 0x11 |
//! | 1 | 7:0 | next capability pointer | RO | set by the embedder |
//! | 2..4 | 10:0 | table size, N - 1 | RO | N - 1 |
//! | | 13:11 | reserved | reads 0 | 0 |
//! | | 14 | Function Mask | RW | 0 |
//! | | 15 | MSI-X Enable | RW | 0 |
//! | 4..8 | 2:0 | BAR of the table (BIR) | RO | |
//! | | 31:3 | table offset, 8-byte aligned | RO | |
//! | 8..12 | 2:0 | BAR of the PBA | RO | |
//! | | 31:3 | PBA offset, 8-byte aligned | RO | |
//!
//! Table entry, 16 bytes ([A3](crate::rules#a3)):
//!
//! | byte | field | after reset |
//! |---|---|---|
//! | 0 | message address, low 32 bits | 0 |
//! | 4 | message address, high 32 bits | 0 |
//! | 8 | message data | 0 |
//! | 12 | Vector Control: bit 0 mask, 15:1 reserved, 23:16 and 31:24 steering tag | mask 1 |
//!
//! PBA ([A5](crate::rules#a5)): bit k of the array is bit `k % 64` of 8-byte word `k / 64`; bits
//! from N on read 0.

/// Capability id of MSI-X (A1).
pub const CAPABILITY_ID: u8 = 0x11;
/// Length of the capability, bytes (A1).
pub const CAPABILITY_LEN: usize = 12;
/// Offset in the capability of the byte that holds Enable and Function Mask (A1).
pub const CONTROL_HIGH: usize = 3;
/// Largest vector count (A1).
pub const MAX_VECTORS: u16 = 2048;
/// Length of a table entry, bytes (A2).
pub const ENTRY_LEN: u64 = 16;
/// Length of a PBA word, bytes (A2).
pub const PBA_WORD_LEN: u64 = 8;
/// Message Control bit 15, MSI-X Enable (A1).
pub const CONTROL_ENABLE: u16 = 0x8000;
/// Message Control bit 14, Function Mask (A1).
pub const CONTROL_FUNCTION_MASK: u16 = 0x4000;
/// Message Control bits 10:0, N - 1 (A1).
pub const CONTROL_SIZE: u16 = 0x07ff;
/// Vector Control bit 0, the vector's mask (A3).
pub const VECTOR_MASK: u32 = 1;
/// Vector Control bits 31:16, the steering tag (A3).
pub const STEERING_TAG: u32 = 0xffff_0000;
/// Size and alignment, bytes, of the block that no other register may share with table or PBA
/// (A2).
pub const ISOLATION: u64 = 4096;

/// Capability id of MSI (A14).
pub const MSI_CAPABILITY_ID: u8 = 0x05;
/// Length of the longest MSI capability, bytes: 64-bit address and per-vector masks (A14).
pub const MSI_LONGEST: usize = 24;
/// Largest vector count of MSI (A14).
pub const MSI_MAX_VECTORS: u16 = 32;
/// Message Control bit 0 of MSI, MSI Enable (A14).
pub const MSI_ENABLE: u16 = 0x0001;
/// Message Control bits 6:4 of MSI, Multiple Message Enable (A15).
pub const MSI_MULTIPLE: u16 = 0x0070;
/// Command bit 0, I/O Space Enable.
pub const COMMAND_IO: u16 = 0x0001;
/// Command bit 1, Memory Space Enable.
pub const COMMAND_MEMORY: u16 = 0x0002;
/// Command bit 2, Bus Master Enable (A11).
pub const COMMAND_BUS_MASTER: u16 = 0x0004;
/// Command bit 10, Interrupt Disable (A17).
pub const COMMAND_INTX_DISABLE: u16 = 0x0400;
/// Status bit 3, Interrupt Status (A17).
pub const STATUS_INTERRUPT: u16 = 0x0008;

/// Returns the length, bytes, of the table of `vectors` vectors (A2).
#[must_use]
pub(crate) const fn table_len(vectors: u16) -> u64 {
    // At most 65535 * 16: cannot wrap.
    widen(vectors).wrapping_mul(ENTRY_LEN)
}

/// Returns the length, bytes, of the PBA of `vectors` vectors (A2).
#[must_use]
pub(crate) const fn pba_len(vectors: u16) -> u64 {
    widen(vectors).div_ceil(64).wrapping_mul(PBA_WORD_LEN)
}

#[expect(clippy::as_conversions, reason = "a widening `From` is not const yet")]
const fn widen(vectors: u16) -> u64 {
    vectors as u64
}
