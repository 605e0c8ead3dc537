//! VFIO_DEVICE_SET_IRQS and VFIO_DEVICE_GET_IRQ_INFO on the MSI-X, MSI and INTx indices, and nothing
//! else.

use super::plan::IrqIndex;
use crate::happening::failed;
use crate::kvm::PhysicalIntx;
use std::io;
use std::mem::size_of;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_IRQ_INFO_NORESIZE, VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_TYPE,
    vfio_irq_info, vfio_irq_set,
};
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ptr};
use vmm_sys_util::ioctl_io_nr;

ioctl_io_nr!(VFIO_DEVICE_GET_IRQ_INFO, VFIO_TYPE.into(), VFIO_BASE + 9);
ioctl_io_nr!(VFIO_DEVICE_SET_IRQS, VFIO_TYPE.into(), VFIO_BASE + 10);

/// The calls that the backend makes on a device's MSI-X or MSI index. [`VectorIrqs`] makes them on
/// a device's descriptor; another implementation can count, fail, pretend, or speak to a vfio-user
/// server.
#[cfg_attr(test, mockall::automock)]
pub trait Irqs: Send {
    /// Binds the vectors from `start` on to eventfds (DATA_EVENTFD and ACTION_TRIGGER); `None` is
    /// -1, which unbinds. Returns 0, or the number of vectors available when they were too few
    /// (D3).
    ///
    /// # Errors
    /// The kernel's: then any of these vectors may be unbound (D4).
    fn set<'a>(&self, start: u32, eventfds: &[Option<BorrowedFd<'a>>]) -> io::Result<u32>;
    /// Unbinds a range without -1 (D14).
    ///
    /// # Errors
    /// The kernel's.
    fn unset(&self, vectors: Range<u32>) -> io::Result<()>;
    /// Disables the index (DATA_NONE and ACTION_TRIGGER with count 0, D5).
    ///
    /// # Errors
    /// The kernel's; EINVAL when the index is not enabled.
    fn disable(&self) -> io::Result<()>;
}

/// The MSI-X or the MSI index of an open VFIO device, by group or by cdev (D13).
#[derive(Debug)]
pub struct VectorIrqs<D> {
    device: D,
    index: u32,
}

impl<D: AsRawFd + Send> VectorIrqs<D> {
    /// Takes the MSI-X index of a device, given its descriptor or something that has it.
    pub const fn msix(device: D) -> Self {
        Self { device, index: VFIO_PCI_MSIX_IRQ_INDEX }
    }

    /// Takes the MSI index of a device.
    pub const fn msi(device: D) -> Self {
        Self { device, index: VFIO_PCI_MSI_IRQ_INDEX }
    }

    /// Returns how many vectors the device has, and whether the kernel can add some while others
    /// are in use (D6).
    ///
    /// # Errors
    /// The kernel's.
    #[expect(unsafe_code, reason = "an ioctl")]
    pub fn index(&self) -> io::Result<IrqIndex> {
        let mut info = vfio_irq_info {
            argsz: u32::try_from(size_of::<vfio_irq_info>()).unwrap_or(0),
            index: self.index,
            ..Default::default()
        };
        // SAFETY: the kernel writes no more than `argsz` bytes, the structure's.
        if unsafe { ioctl_with_mut_ref(&self.device, VFIO_DEVICE_GET_IRQ_INFO(), &mut info) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let noresize = info.flags & VFIO_IRQ_INFO_NORESIZE != 0;
        Ok(IrqIndex { count: info.count, noresize, holes: true })
    }

    fn set_irqs(&self, data: u32, start: u32, count: usize, fds: &[i32]) -> io::Result<u32> {
        set_irqs(&self.device, self.index, data | VFIO_IRQ_SET_ACTION_TRIGGER, start, count, fds)
            .inspect_err(failed(SET_IRQS))
    }
}

#[expect(unsafe_code, reason = "an ioctl")]
fn set_irqs(
    device: &impl AsRawFd,
    index: u32,
    flags: u32,
    start: u32,
    count: usize,
    fds: &[i32],
) -> io::Result<u32> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let size = size_of::<vfio_irq_set>() + size_of_val(fds);
    let head = [
        u32::try_from(size).map_err(invalid)?,
        flags,
        index,
        start,
        u32::try_from(count).map_err(invalid)?,
    ];
    let request: Vec<u32> =
        head.into_iter().chain(fds.iter().map(|fd| fd.cast_unsigned())).collect();
    // SAFETY: the kernel reads `argsz` bytes, which is as long as the request is.
    let answer = unsafe { ioctl_with_ptr(device, VFIO_DEVICE_SET_IRQS(), request.as_ptr()) };
    u32::try_from(answer).map_err(|_| io::Error::last_os_error())
}

impl<D: AsRawFd + Send> Irqs for VectorIrqs<D> {
    fn set(&self, start: u32, eventfds: &[Option<BorrowedFd<'_>>]) -> io::Result<u32> {
        let fd = |eventfd: &Option<BorrowedFd<'_>>| eventfd.map_or(-1, |fd| fd.as_raw_fd());
        let fds: Vec<i32> = eventfds.iter().map(fd).collect();
        self.set_irqs(VFIO_IRQ_SET_DATA_EVENTFD, start, fds.len(), &fds)
    }

    fn unset(&self, vectors: Range<u32>) -> io::Result<()> {
        self.set_irqs(
            VFIO_IRQ_SET_DATA_EVENTFD,
            vectors.start,
            vectors.len(),
            &vec![-1; vectors.len()],
        )?;
        Ok(())
    }

    fn disable(&self) -> io::Result<()> {
        self.set_irqs(VFIO_IRQ_SET_DATA_NONE, 0, 0, &[])?;
        Ok(())
    }
}

/// The INTx index of an open VFIO device.
#[derive(Debug)]
pub struct LineIrqs<D>(D);

impl<D: AsRawFd + Send> LineIrqs<D> {
    /// Takes a device's descriptor, or something that has it.
    pub const fn new(device: D) -> Self {
        Self(device)
    }

    fn set_irqs(&self, flags: u32, count: usize, fds: &[i32]) -> io::Result<()> {
        set_irqs(&self.0, VFIO_PCI_INTX_IRQ_INDEX, flags, 0, count, fds).map(drop)
    }
}

impl<D: AsRawFd + Send> PhysicalIntx for LineIrqs<D> {
    fn enable(&mut self, trigger: BorrowedFd<'_>) -> io::Result<()> {
        let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
        self.set_irqs(flags, 1, &[trigger.as_raw_fd()]).inspect_err(failed(SET_IRQS))?;
        // The host's interrupt controller may have missed a level that rose before its pin was set
        // up; the unmask of a masked line looks at the device's Interrupt Status (D12).
        let masked = self.set_irqs(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK, 1, &[]);
        if masked.is_ok() {
            self.unmask();
        }
        Ok(())
    }

    fn unmask_by(&mut self, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK;
        self.set_irqs(flags, 1, &[eventfd.as_raw_fd()]).inspect_err(failed(SET_IRQS))
    }

    fn unmask(&mut self) {
        // A device that is gone, or has its index disabled meanwhile, has nothing to unmask.
        let _ = self.set_irqs(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, 1, &[]);
    }

    fn disable(&mut self) {
        // EINVAL: it was disabled already (D5).
        let _ = self.set_irqs(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0, &[]);
    }
}

/// What a failure of it is told as.
const SET_IRQS: &str = "VFIO_DEVICE_SET_IRQS";
