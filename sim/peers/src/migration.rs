//! Finds the msix field of a device in a migration stream (rules F1 to F3).

use crate::qemu::QemuError;

/// A device's Message Control and msix field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedMsix {
    /// Message Control.
    pub control: u16,
    /// Table and PBA.
    pub msix: Vec<u8>,
}

const SECTION_FULL: u8 = 0x04;
const FOOTER: u8 = 0x7e;
/// Length of conventional PCI configuration space, bytes.
const CONFIG_LEN: usize = 256;
/// Version and configuration space, then four interrupt levels (F3).
const BEFORE_MSIX: usize = 4 + CONFIG_LEN + 16;
/// The device's two registers behind it (F3).
const BEHIND_MSIX: usize = 8;

/// Finds the ivshmem-doorbell device in PCI slot `slot` whose capability is at `capability`.
///
/// # Errors
/// [`QemuError::Device`] when the stream has no such section, or one of another shape.
pub fn find_msix_field(
    stream: &[u8],
    slot: u8,
    capability: u8,
    field: usize,
) -> Result<SavedMsix, QemuError> {
    let name = format!("0000:00:{slot:02x}.0/ivshmem-doorbell");
    let missing = |what: &str| QemuError::Device(format!("migration stream: {what} of {name}"));
    let len = u8::try_from(name.len()).map_err(|_| missing("the name"))?;
    let mut marker = vec![len];
    marker.extend_from_slice(name.as_bytes());
    let mut from = 0;
    while let Some(at) = position(stream.get(from..).unwrap_or_default(), &marker) {
        let at = from + at;
        from = at + 1;
        // 04, section id (4), then the marker, then instance and version (8), then the payload.
        let head = at.checked_sub(5).and_then(|start| stream.get(start..at));
        let Some([SECTION_FULL, id @ ..]) = head else { continue };
        let payload = at + marker.len() + 8;
        let end = field.checked_add(payload + BEFORE_MSIX + BEHIND_MSIX);
        let footer = end.and_then(|end| stream.get(end..)?.get(..5));
        if footer.is_none_or(|footer| footer[0] != FOOTER || footer[1..] != *id) {
            return Err(missing("the footer"));
        }
        let config = stream.get(payload + 4..payload + 4 + CONFIG_LEN);
        let config = config.ok_or_else(|| missing("the configuration space"))?;
        let control = config.get(usize::from(capability) + 2..usize::from(capability) + 4);
        let Some(&[low, high]) = control else { return Err(missing("Message Control")) };
        let msix = stream.get(payload + BEFORE_MSIX..payload + BEFORE_MSIX + field);
        let msix = msix.ok_or_else(|| missing("the msix field"))?.to_vec();
        return Ok(SavedMsix { control: u16::from_le_bytes([low, high]), msix });
    }
    Err(missing("the section"))
}

fn position(bytes: &[u8], marker: &[u8]) -> Option<usize> {
    let (first, rest) = marker.split_first()?;
    let mut from = 0;
    loop {
        let at = from + bytes.get(from..)?.iter().position(|byte| byte == first)?;
        if bytes.get(at + 1..)?.starts_with(rest) {
            return Some(at);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let mut bytes = b"QEVM\x00\x00\x00\x03 page \x1f0000".to_vec();
        bytes.extend([SECTION_FULL, 0, 0, 0, 9]);
        let name = b"0000:00:04.0/ivshmem-doorbell";
        bytes.push(u8::try_from(name.len()).unwrap());
        bytes.extend_from_slice(name);
        bytes.extend([0; 8]);
        bytes.extend([0, 0, 0, 2]);
        let mut config = [0; CONFIG_LEN];
        config[0x42] = 0x00;
        config[0x43] = 0x80;
        bytes.extend_from_slice(&config);
        bytes.extend([0; 16]);
        bytes.extend([0xaa; 17]);
        bytes.extend([0; BEHIND_MSIX]);
        bytes.extend([FOOTER, 0, 0, 0, 9]);
        bytes
    }

    #[test]
    fn the_field_is_found_by_name_and_checked_by_its_footer() {
        let expected = SavedMsix { control: 0x8000, msix: vec![0xaa; 17] };
        assert_eq!(find_msix_field(&stream(), 4, 0x40, 17).unwrap(), expected);
        assert!(find_msix_field(&stream(), 5, 0x40, 17).is_err(), "another slot");
        assert!(find_msix_field(&stream(), 4, 0x40, 18).is_err(), "another length");
        assert!(find_msix_field(&stream(), 4, 0x40, usize::MAX).is_err(), "and one of no machine");
        let whole = stream();
        for len in 0..whole.len() {
            assert!(find_msix_field(&whole[..len], 4, 0x40, 17).is_err(), "cut at {len}");
        }
    }
}
