//! A recorded QEMU migration stream, and a reader that finds one device's msix field in it (F1 to F3).

use serde_json::Value;

/// What a stream holds of a device's MSI-X.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedDevice {
    /// Message Control in the saved config space.
    pub control: u16,
    /// The msix field: 16 N table bytes, ceil(N / 8) PBA bytes.
    pub field: Vec<u8>,
}

/// The recorded stream: QEMU's ivshmem-doorbell with 9 vectors. C45 loads the msix field that is in it.
pub const IVSHMEM_N9: &[u8] = include_bytes!("../../data/ivshmem-n9.bin");

/// Finds the device whose name in the stream's own description ends in `name`, and takes out its
/// msix field. `None` when the stream is not one or has no such device with MSI-X.
#[must_use]
pub fn device(stream: &[u8], name: &str) -> Option<SavedDevice> {
    if !stream.starts_with(b"QEVM\0\0\0\x03") {
        return None;
    }
    let description = description(stream)?;
    let device = description["devices"].as_array()?.iter().find(|device| {
        device["name"].as_str().is_some_and(|id| id.ends_with(name)) && !device["fields"].is_null()
    })?;
    let fields = device["fields"].as_array()?;
    let size = sum(fields.iter().map(|field| field["size"].as_u64()))?;
    let payload = payload(stream, device["name"].as_str()?, usize::try_from(size).ok()?)?;

    // PCIDevice comes first: version, config space, INTx levels.
    let pci_fields = fields.first()?["struct"]["fields"].as_array()?;
    let config_len = field_size(pci_fields, "pci config")?;
    let control_at = capability(payload.get(4..)?.get(..config_len)?)? + 4 + 2;
    let control = u16::from_le_bytes([*payload.get(control_at)?, *payload.get(control_at + 1)?]);

    let msix = fields.iter().position(|field| field["struct"]["vmsd_name"] == "msix")?;
    let before = sum(fields[..msix].iter().map(|field| field["size"].as_u64()))?;
    let len = field_size(fields[msix]["struct"]["fields"].as_array()?, "msix state")?;
    let first = usize::try_from(before).ok()?;
    Some(SavedDevice { control, field: payload.get(first..)?.get(..len)?.to_vec() })
}

/// The JSON that ends the stream: `06`, length, text up to the last byte (F1).
fn description(stream: &[u8]) -> Option<Value> {
    let at = (0..stream.len().saturating_sub(5)).rev().find(|at| {
        let (kind, len) = (stream[*at], be32(stream, at + 1));
        kind == 6 && len.and_then(|len| len.checked_add(at + 5)) == Some(stream.len())
    })?;
    serde_json::from_slice(&stream[at + 5..]).ok()
}

/// The payload of the section of device `id`, checked by its footer (F2).
fn payload<'a>(stream: &'a [u8], id: &str, len: usize) -> Option<&'a [u8]> {
    let mut name = vec![u8::try_from(id.len()).ok()?];
    name.extend(id.as_bytes());
    (5..stream.len()).find_map(|at| {
        if !stream[at..].starts_with(&name) || stream[at - 5] != 4 {
            return None;
        }
        let payload = at + name.len() + 8;
        let end = payload.checked_add(len)?;
        let footer = stream.get(end..end.checked_add(5)?)?;
        let same_section = footer[0] == 0x7e && footer[1..] == stream[at - 4..at];
        same_section.then(|| &stream[payload..end])
    })
}

/// Where the MSI-X capability is in a config space: follows the list from 0x34.
fn capability(config: &[u8]) -> Option<usize> {
    let mut at = usize::from(*config.get(0x34)?);
    for _ in 0..48 {
        match *config.get(at)? {
            0x11 => return Some(at),
            _ => at = usize::from(*config.get(at + 1)?),
        }
    }
    None
}

fn field_size(fields: &[Value], kind: &str) -> Option<usize> {
    let field = fields.iter().find(|field| field["type"] == kind)?;
    usize::try_from(field["size"].as_u64()?).ok()
}

/// Lengths that a stream gives, which may be any.
fn sum(mut sizes: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    sizes.try_fold(0_u64, |sum, size| sum.checked_add(size?))
}

fn be32(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(bytes)).ok()
}
