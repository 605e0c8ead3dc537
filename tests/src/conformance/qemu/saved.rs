//! Puts another msix field into a migration stream (rules F2 and F3).

use msix_peers::{Qemu, QemuError};

const SECTION_FULL: u8 = 0x04;
/// Version of a PCI device, before its configuration space.
const BEFORE_CONFIG: usize = 4;
/// Version and configuration space (256), then four interrupt levels.
const BEFORE_MSIX: usize = BEFORE_CONFIG + 256 + 16;

/// The stream with Message Control and the field of device 0 exchanged. A field of another length
/// moves what follows it.
pub(super) fn exchange(
    stream: &[u8],
    capability: u8,
    old_len: usize,
    control: u16,
    field: &[u8],
) -> Result<Vec<u8>, QemuError> {
    let missing = || QemuError::Device("the migration stream has no ivshmem-doorbell".to_owned());
    let name = format!("0000:00:{:02x}.0/ivshmem-doorbell", Qemu::slot(0));
    let len = u8::try_from(name.len()).map_err(|_| missing())?;
    let marker = [&[len], name.as_bytes()].concat();
    let at = stream.windows(marker.len()).enumerate().find(|(at, window)| {
        *window == marker && at.checked_sub(5).map(|head| stream[head]) == Some(SECTION_FULL)
    });
    let (at, _) = at.ok_or_else(missing)?;
    // The name, then instance and version.
    let payload = at + marker.len() + 8;
    let register = payload + BEFORE_CONFIG + usize::from(capability) + 2;
    let msix = payload + BEFORE_MSIX;
    let mut changed = stream.get(..msix).ok_or_else(missing)?.to_vec();
    changed[register..register + 2].copy_from_slice(&control.to_le_bytes());
    changed.extend_from_slice(field);
    changed.extend_from_slice(stream.get(msix + old_len..).ok_or_else(missing)?);
    Ok(changed)
}
