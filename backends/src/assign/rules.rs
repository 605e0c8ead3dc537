//! The known capabilities: their lengths, and the owners of their bytes.
//!
//! Registers that concern the device alone are passed. These are not:
//!
//! - **Power Management**: the power state. Leaving D3hot may reset the device behind the VMM's
//!   back, so the state and PME (which would reach the host's root port) are emulated.
//! - **PCI Express**: Initiate Function Level Reset, and the bit that offers it: a reset is the VMM's
//!   to do through VFIO, with its own state reset as well (A13). Payload size, extended tags and error
//!   reporting fit the host's tree and not the guest's, phantom functions would pass by the IOMMU:
//!   emulated. Link Control, and LTR, OBFF and 10-bit tags in Device Control 2: the guest reads what
//!   the host set, its writes do not reach the device.
//! - **Advanced Features**: its function level reset, for the same reason.
//! - **Enhanced Allocation, SR-IOV, Resizable BAR**: hold or change addresses and sizes of BARs.
//! - **ATS, PRI, PASID**: belong to the driver of the host's IOMMU.
//! - **ARI**: the host's function numbers. **TPH**: the tags of its table may be in the MSI-X table
//!   (A3), which is emulated.
//! - **AER, ACS, VC, LTR, L1 PM, PTM**: the host's; read, but not written.

use super::capabilities::{byte, dword};
use super::config::Masks;
use msix_core::MsiCapability;
use msix_core::spec::{CAPABILITY_ID, CAPABILITY_LEN, MSI_CAPABILITY_ID};

/// Returns the length of capability `id`, given its bytes from `body` on.
pub(super) fn len(id: u8, body: &[u8]) -> u16 {
    let stated = |at| u16::from(byte(body, at)).max(at + 1);
    match id {
        CAPABILITY_ID => CAPABILITY_LEN as u16,
        MSI_CAPABILITY_ID => {
            let control = u16::from_le_bytes([byte(body, 2), byte(body, 3)]);
            // A reserved value is refused later, so its length does not matter.
            MsiCapability::from_control(control).map_or(2, |capability| capability.len() as u16)
        }
        POWER | VPD | PCI_X => 8,
        VENDOR | ADVANCED => stated(2),
        EXPRESS => express_len(byte(body, 2)),
        ENHANCED => enhanced_len(body),
        _ => 2,
    }
}

/// Returns the length of extended capability `id`, given its bytes from `body` on.
pub(super) fn extended_len(id: u16, body: &[u8]) -> u16 {
    match id {
        // Bits 31:20 of the second dword.
        VENDOR_EXTENDED | DESIGNATED => {
            (u16::from_le_bytes([byte(body, 6), byte(body, 7)]) >> 4).max(8)
        }
        // Bits 7:5 of the first control register: how many BARs.
        RESIZABLE | RESIZABLE_VF => 4 + 8 * u16::from(byte(body, 8) >> 5).max(1),
        TPH => {
            let register = dword(body, 4);
            // Bits 10:9: the table is in the capability. Bits 26:16: its entries less one.
            let entries = (register >> 16 & 0x7ff) as u16 + 1;
            if register >> 9 & 3 == 1 { 12 + 2 * entries } else { 12 }
        }
        _ => EXTENDED_RULES.iter().find(|rule| rule.0 == id).map_or(4, |rule| rule.1),
    }
}

/// Returns the owners of the bytes of capability `id`, apart from its next pointer: those of the
/// whole capability, and exceptions by byte.
pub(super) fn masks(id: u8) -> (Masks, &'static [(u16, Masks)]) {
    match id {
        CAPABILITY_ID | MSI_CAPABILITY_ID | ENHANCED => (Masks::EMULATED, &[]),
        POWER => (Masks::PASSED, POWER_BYTES),
        EXPRESS => (Masks::PASSED, EXPRESS_BYTES),
        ADVANCED => (Masks::PASSED, ADVANCED_BYTES),
        _ => (Masks::PASSED, &[]),
    }
}

/// Returns the owner of the bytes of extended capability `id`.
pub(super) fn extended_masks(id: u16) -> Masks {
    EXTENDED_RULES.iter().find(|rule| rule.0 == id).map_or(Masks::PASSED, |rule| rule.2)
}

/// Returns the length of a PCI Express capability, which ends with the last register that a
/// function of its type and version has.
fn express_len(flags: u8) -> u16 {
    let (version, integrated) = (flags & 0xf, flags >> 4 == 9);
    match (version, integrated) {
        (0 | 1, true) => 0x0c,  // no link
        (0 | 1, false) => 0x14, // up to Link Status
        (_, true) => 0x2c,      // up to Device Status 2
        (_, false) => 0x34,     // up to Link Status 2
    }
}

/// Returns the length of Enhanced Allocation: 4 bytes, and entries that give the number of dwords
/// after their first.
fn enhanced_len(body: &[u8]) -> u16 {
    (0..byte(body, 2) & 0x3f).fold(4, |len, _| len + 4 * (1 + u16::from(byte(body, len) & 7)))
}

const POWER: u8 = 0x01;
const VPD: u8 = 0x03;
const PCI_X: u8 = 0x07;
const VENDOR: u8 = 0x09;
const EXPRESS: u8 = 0x10;
const ADVANCED: u8 = 0x13;
const ENHANCED: u8 = 0x14;

const VENDOR_EXTENDED: u16 = 0x0b;
const RESIZABLE: u16 = 0x15;
const TPH: u16 = 0x17;
const DESIGNATED: u16 = 0x23;
const RESIZABLE_VF: u16 = 0x24;

const POWER_BYTES: &[(u16, Masks)] = &[
    (3, Masks::passed(0x07)), // PME_Support
    (4, Masks::EMULATED),     // power state, No_Soft_Reset
    (5, Masks::EMULATED),     // PME enable and status
];

const EXPRESS_BYTES: &[(u16, Masks)] = &[
    (0x07, Masks::passed(0xef)), // offers function level reset
    (0x08, Masks::passed(0x10)), // payload size, error reporting; passed: relaxed ordering
    (0x09, Masks::passed(0x78)), // reset, tags, phantom functions; passed: read size, no snoop
    (0x10, Masks::READ),         // Link Control
    (0x11, Masks::READ),
    (0x29, Masks { read: 0xff, write: 0x8b }), // LTR, 10-bit tags, OBFF
    (0x30, Masks::READ),                       // Link Control 2
    (0x31, Masks::READ),
];

const ADVANCED_BYTES: &[(u16, Masks)] = &[
    (3, Masks::passed(0xfd)), // offers function level reset
    (4, Masks::passed(0xfe)), // starts it
];

/// Id, length, owners. Capabilities with several lengths get theirs from [`extended_len`].
const EXTENDED_RULES: &[(u16, u16, Masks)] = &[
    (0x0001, 0x2c, Masks::READ),     // AER
    (0x0002, 0x1c, Masks::READ),     // VC, with one channel
    (0x0003, 0x0c, Masks::PASSED),   // serial number
    (0x000d, 0x08, Masks::READ),     // ACS
    (0x000e, 0x08, Masks::EMULATED), // ARI
    (0x000f, 0x08, Masks::EMULATED), // ATS
    (0x0010, 0x40, Masks::EMULATED), // SR-IOV
    (0x0013, 0x10, Masks::EMULATED), // PRI
    (RESIZABLE, 0, Masks::EMULATED),
    (TPH, 0, Masks::EMULATED),
    (0x0018, 0x08, Masks::READ),     // LTR
    (0x001b, 0x08, Masks::EMULATED), // PASID
    (0x001e, 0x10, Masks::READ),     // L1 PM substates
    (0x001f, 0x0c, Masks::READ),     // PTM
    (RESIZABLE_VF, 0, Masks::EMULATED),
];
