//! A function through vfio-pci, as close to the kernel as can be: no call is checked, completed or
//! repeated before it goes down.

use crate::boot;
use rustix::io::Errno;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, vfio_irq_set,
};
use vfio_ioctls::{VfioContainer, VfioDevice, VfioIrq};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::ioctl::{ioctl_expr, ioctl_with_ptr};

/// The MSI-X index of SET_IRQS and GET_IRQ_INFO.
pub(crate) const MSIX: u32 = VFIO_PCI_MSIX_IRQ_INDEX;

/// A function bound to vfio-pci and opened, its memory decoded and bus master on.
pub(crate) struct Device {
    /// Address in sysfs, such as `0000:00:05.0`.
    pub(crate) name: String,
    /// IOMMU group.
    pub(crate) group: u32,
    vfio: VfioDevice,
    /// Offset of the MSI-X capability in the configuration space, bytes, if it has one.
    capability: Option<u16>,
}

impl Device {
    /// Opens the first function with these ids, if there is one, in `container`.
    pub(crate) fn find(
        (vendor, device): (u16, u16),
        container: &Arc<VfioContainer>,
    ) -> Result<Option<Self>, String> {
        match boot::functions(vendor, device)?.as_slice() {
            [] => Ok(None),
            [function, ..] => Self::open(function, container).map(Some),
        }
    }

    /// Takes the function at `sysfs` from its driver and opens it in `container`.
    fn open(sysfs: &Path, container: &Arc<VfioContainer>) -> Result<Self, String> {
        boot::bind_to_vfio(sysfs)?;
        let name = sysfs.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let group = std::fs::read_link(sysfs.join("iommu_group"))
            .map_err(|error| format!("IOMMU group of {name}: {error}"))?;
        let group = group.file_name().and_then(|number| number.to_str()?.parse().ok());
        let group = group.ok_or_else(|| format!("IOMMU group of {name} has no number"))?;
        let container = Arc::clone(container);
        let vfio = VfioDevice::new(sysfs, container, false)
            .map_err(|error| format!("opening {name}: {error}"))?;
        let mut device = Self { name, group, vfio, capability: None };
        device.capability = device.find_capability(CAP_MSIX);
        let command = u16::from_le_bytes(device.config(COMMAND)?);
        device.write_config(COMMAND, &(command | MEMORY | BUS_MASTER).to_le_bytes())?;
        Ok(device)
    }

    /// As `vfio-ioctls` has it.
    pub(crate) const fn vfio(&self) -> &VfioDevice {
        &self.vfio
    }

    /// What GET_IRQ_INFO said of an index when the device was opened.
    pub(crate) fn irq_info(&self, index: u32) -> Result<VfioIrq, String> {
        let info = self.vfio.get_irq_info(index).copied();
        info.ok_or_else(|| format!("{} has no IRQ index {index}", self.name))
    }

    /// One SET_IRQS on the MSI-X index, exactly as said; `count` is not derived from the data. What
    /// it returned: 0, or the number of vectors there are when these are too many (D3).
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn set_irqs(
        &self,
        flags: u32,
        start: u32,
        count: u32,
        data: &[u8],
    ) -> Result<u32, Errno> {
        self.set_irqs_of(MSIX, flags, start, count, data)
    }

    /// As [`set_irqs`](Self::set_irqs), on any index.
    fn set_irqs_of(
        &self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        data: &[u8],
    ) -> Result<u32, Errno> {
        set_irqs(&self.vfio, index, flags, start, count, data)
    }

    /// DATA_EVENTFD and ACTION_TRIGGER for the vectors from `start` on; `None` is -1.
    pub(crate) fn set_eventfds(
        &self,
        start: u32,
        events: &[Option<&EventFd>],
    ) -> Result<u32, Errno> {
        let descriptor = |event: &Option<&EventFd>| event.map_or(-1, |event| event.as_raw_fd());
        let data: Vec<u8> =
            events.iter().flat_map(|event| descriptor(event).to_ne_bytes()).collect();
        let count = u32::try_from(events.len()).map_err(|_| Errno::INVAL)?;
        let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
        self.set_irqs(flags, start, count, &data)
    }

    /// Disables the MSI-X index: DATA_NONE and ACTION_TRIGGER with count 0 (D5).
    pub(crate) fn disable_msix(&self) -> Result<u32, Errno> {
        self.set_irqs(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, &[])
    }

    /// Reads a region, which must answer whole.
    pub(crate) fn read<const N: usize>(&self, region: u32, at: u64) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        let offset = self.vfio.get_region_offset(region) + at;
        match rustix::io::pread(self, &mut bytes, offset) {
            Ok(read) if read == N => Ok(bytes),
            other => Err(format!("{}: reading region {region} at {at:#x}: {other:?}", self.name)),
        }
    }

    /// Writes a region, which must take it whole.
    pub(crate) fn write(&self, region: u32, at: u64, bytes: &[u8]) -> Result<(), String> {
        let offset = self.vfio.get_region_offset(region) + at;
        match rustix::io::pwrite(self, bytes, offset) {
            Ok(written) if written == bytes.len() => Ok(()),
            other => Err(format!("{}: writing region {region} at {at:#x}: {other:?}", self.name)),
        }
    }

    /// Reads the configuration space, as vfio-pci shows it.
    pub(crate) fn config<const N: usize>(&self, at: u16) -> Result<[u8; N], String> {
        self.read(VFIO_PCI_CONFIG_REGION_INDEX, u64::from(at))
    }

    /// Writes the configuration space, as far as vfio-pci lets through.
    pub(crate) fn write_config(&self, at: u16, bytes: &[u8]) -> Result<(), String> {
        self.write(VFIO_PCI_CONFIG_REGION_INDEX, u64::from(at), bytes)
    }

    /// Message Control of the physical function (D11).
    pub(crate) fn message_control(&self) -> Result<u16, String> {
        Ok(u16::from_le_bytes(self.config(self.msix()? + 2)?))
    }

    /// The first 64 bits of the physical PBA (D11).
    pub(crate) fn pba(&self) -> Result<u64, String> {
        let place = u32::from_le_bytes(self.config(self.msix()? + 8)?);
        Ok(u64::from_le_bytes(self.read(place & 7, u64::from(place & !7))?))
    }

    fn msix(&self) -> Result<u16, String> {
        self.capability.ok_or(format!("{} has no MSI-X", self.name))
    }

    /// Disables all its interrupts; EINVAL is the answer of an index that is idle (D5).
    pub(crate) fn disable_all(&self) {
        for index in [VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, MSIX] {
            let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
            let _ = self.set_irqs_of(index, flags, 0, 0, &[]);
        }
    }

    /// The kernel raises an interrupt of an index: its loopback (D5).
    pub(crate) fn loop_back(&self, index: u32, vector: u32) -> Result<(), String> {
        loop_back(&self.vfio, index, vector).map_err(|why| format!("{}: {why}", self.name))
    }

    pub(crate) fn find_capability(&self, id: u8) -> Option<u16> {
        let [mut at] = self.config(CAPABILITIES).ok()?;
        for _ in 0..48 {
            let [found, next] = self.config(u16::from(at)).ok()?;
            match (found == id, next) {
                (true, _) => return Some(u16::from(at)),
                (false, 0) => return None,
                (false, next) => at = next,
            }
        }
        None
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: The descriptor is open as long as `self.vfio` is there, which is borrowed.
        #[expect(unsafe_code, reason = "vfio-ioctls does not have AsFd")]
        unsafe {
            BorrowedFd::borrow_raw(self.vfio.as_raw_fd())
        }
    }
}

/// The ivshmem-doorbell device, which can raise any of its vectors when told to.
pub(crate) struct Ivshmem(Device);

impl Ivshmem {
    /// Of an ivshmem-doorbell device.
    pub(crate) const fn new(device: Device) -> Self {
        Self(device)
    }

    /// Rings its own doorbell: an event of `vector`, soon after this returns ([`taken`] waits).
    pub(crate) fn ring(&self, vector: u16) -> Result<(), String> {
        let id: [u8; 4] = self.read(VFIO_PCI_BAR0_REGION_INDEX, IV_POSITION)?;
        let told = u32::from_le_bytes(id) << 16 | u32::from(vector);
        self.write(VFIO_PCI_BAR0_REGION_INDEX, DOORBELL, &told.to_le_bytes())
    }
}

impl Deref for Ivshmem {
    type Target = Device;

    fn deref(&self) -> &Device {
        &self.0
    }
}

/// One SET_IRQS, exactly as said.
fn set_irqs(
    device: &impl AsRawFd,
    index: u32,
    flags: u32,
    start: u32,
    count: u32,
    data: &[u8],
) -> Result<u32, Errno> {
    let length = size_of::<vfio_irq_set>() + data.len();
    let header: [u32; 5] =
        [u32::try_from(length).map_err(|_| Errno::INVAL)?, flags, index, start, count];
    let mut words = header.to_vec();
    let (whole, rest) = data.as_chunks::<4>();
    words.extend(whole.iter().map(|bytes| u32::from_ne_bytes(*bytes)));
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words.push(u32::from_ne_bytes(last));
    // SAFETY: The kernel reads argsz bytes, which are in `words` and aligned as `vfio_irq_set`
    // is, and writes none.
    #[expect(unsafe_code, reason = "vfio-ioctls cannot say start, count or -1")]
    let answer = unsafe { ioctl_with_ptr(device, SET_IRQS, words.as_ptr()) };
    u32::try_from(answer).map_err(|_| {
        let error = std::io::Error::last_os_error();
        Errno::from_io_error(&error).unwrap_or(Errno::IO)
    })
}

/// The kernel raises an interrupt of an index: its loopback (D5).
pub(crate) fn loop_back(device: &impl AsRawFd, index: u32, vector: u32) -> Result<(), String> {
    let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
    let raised = set_irqs(device, index, flags, vector, 1, &[]);
    raised.map(drop).map_err(|error| format!("loopback: {error}"))
}

/// Where the configuration space is in the descriptor.
pub(crate) fn config_offset(device: &Device) -> u64 {
    device.vfio.get_region_offset(VFIO_PCI_CONFIG_REGION_INDEX)
}

/// VFIO_DEVICE_RESET: whether the device can be reset.
pub(crate) fn reset(device: &impl AsRawFd) -> bool {
    // SAFETY: It takes no argument.
    #[expect(unsafe_code, reason = "vfio-ioctls does not tell whether it was")]
    unsafe {
        vmm_sys_util::ioctl::ioctl(device, RESET) == 0
    }
}

/// What arrives at an eventfd (made with `EFD_NONBLOCK`): waits until `expected` events came, but no
/// longer than [`PATIENCE`]; for none, [`QUIET`]. More than expected are seen only if they are fast.
pub(crate) fn taken(event: &EventFd, expected: u64) -> u64 {
    let mut taken = 0;
    let begun = Instant::now();
    let wait = if expected == 0 { QUIET } else { PATIENCE };
    loop {
        taken += event.read().unwrap_or(0); // WouldBlock: none
        if begun.elapsed() >= wait || (expected > 0 && taken >= expected) {
            return taken;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Longest wait for an event: the machine is emulated and may be one of many.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing must come to be called nothing.
const QUIET: Duration = Duration::from_millis(200);

/// VFIO_DEVICE_SET_IRQS: `_IO(';', 100 + 10)`.
const SET_IRQS: std::ffi::c_ulong = ioctl_expr(vmm_sys_util::ioctl::_IOC_NONE, 0x3b, 110, 0);

/// VFIO_DEVICE_RESET: `_IO(';', 100 + 11)`.
const RESET: std::ffi::c_ulong = ioctl_expr(vmm_sys_util::ioctl::_IOC_NONE, 0x3b, 111, 0);

/// ivshmem registers in BAR 0: the device's own id, and the doorbell.
const IV_POSITION: u64 = 8;
const DOORBELL: u64 = 12;

/// Configuration space.
const COMMAND: u16 = 4;
const MEMORY: u16 = 1 << 1;
const BUS_MASTER: u16 = 1 << 2;
const CAPABILITIES: u16 = 0x34;
const CAP_MSIX: u8 = 0x11;
