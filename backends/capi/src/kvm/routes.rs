//! The owner of a VM's route table.

use crate::config::sized;
use crate::error::{CError, answer, done};
use crate::raw::{self, Handle};
use core::ffi::c_int;
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{Irqchip, RouteEntry, RouteOptions, Routes, RoutesError};
use std::boxed::Box;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec::Vec;

/// The most routes that a VM can have.
pub const MSIX_KVM_MAX_ROUTES: u32 = 4096;

/// The interrupt controllers that a VM has in the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CIrqchip {
    /// KVM_CREATE_IRQCHIP: their routes are kept in the table.
    Full = 0,
    /// KVM_CAP_SPLIT_IRQCHIP: local APICs alone. Give the routes of an I/O APIC in the VMM to
    /// msix_kvm_routes_keep().
    Split = 1,
    /// Arm's GICv2 or GICv3: the routes of SPIs are kept in the table, and GSI n is SPI n, interrupt 32 + n.
    Gic = 2,
}

/// How the owner of a VM's route table is made.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CKvmOptions {
    /// sizeof(struct msix_kvm_options).
    pub size: usize,
    /// One of msix_irqchip.
    pub irqchip: u32,
    /// How many routes there may be, at most MSIX_KVM_MAX_ROUTES. What has none is delivered from
    /// userspace; with 0 everything is.
    pub limit: u32,
    /// The number of SPIs with MSIX_IRQCHIP_GIC: KVM_DEV_ARM_VGIC_GRP_NR_IRQS less 32, at most 988; otherwise 0.
    pub spis: u32,
}

impl CKvmOptions {
    fn checked(self) -> Result<RouteOptions, CError> {
        let irqchip = match (self.irqchip, self.spis) {
            (0, 0) => Irqchip::Full,
            (1, 0) => Irqchip::Split,
            (2, spis @ ..=988) => Irqchip::Gic { spis },
            _ => return Err(CError::Value),
        };
        let mut chosen = RouteOptions::new(irqchip);
        chosen.limit = self.limit.min(MSIX_KVM_MAX_ROUTES);
        Ok(chosen)
    }
}

/// A route of a pin of an interrupt controller in the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CPinRoute {
    /// GSI, below 24; with MSIX_IRQCHIP_GIC, below the number of SPIs.
    pub gsi: u32,
    /// KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE or KVM_IRQCHIP_IOAPIC: 0 to 2. On Arm 0.
    pub irqchip: u32,
    /// The pin. On Arm the SPI, counted from 0.
    pub pin: u32,
}

/// Counts of the calls to the kernel so far, failed ones included.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CRouteStats {
    /// KVM_SET_GSI_ROUTING.
    pub commits: u64,
    /// KVM_IRQFD that assign.
    pub assigns: u64,
    /// KVM_IRQFD that deassign.
    pub deassigns: u64,
    /// KVM_SIGNAL_MSI, and pulses of an SPI by KVM_IRQ_LINE.
    pub signals: u64,
    /// Those of any kind that failed.
    pub failures: u64,
    /// GSIs given out now; not a total.
    pub gsis: u64,
}

/// The one owner of a VM's route table, shared by all functions of the VM. All its calls may be made by
/// any thread.
#[derive(Debug)]
pub struct CRoutes {
    _private: [u8; 0],
}

impl Handle for CRoutes {
    type Target = Arc<Routes>;
    const TAG: usize = 0x6d72_7473;
}

/// Makes the owner of the route table of the VM behind `vm_fd`, the descriptor that KVM_CREATE_VM returned.
/// The descriptor is duplicated, and stays the caller's. There must be no other owner: no
/// KVM_SET_GSI_ROUTING but by this. Make interrupt controllers in the kernel before. `*routes` is freed
/// with msix_kvm_routes_free().
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_VALUE, and
/// MSIX_ERROR_SYSTEM with errno, for instance if it is no VM or there is no /dev/kvm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_routes_new(
    vm_fd: c_int,
    options: *const CKvmOptions,
    routes: *mut *mut CRoutes,
) -> c_int {
    done(new(vm_fd, options, routes))
}

fn new(vm_fd: c_int, options: *const CKvmOptions, routes: *mut *mut CRoutes) -> Result<(), CError> {
    raw::write(routes, core::ptr::null_mut())?;
    sized(raw::read(options.cast())?, size_of::<CKvmOptions>())?;
    let chosen = raw::read(options)?.checked()?;
    let vm = raw::vm(vm_fd)?;
    let events = Loop::new()?;
    raw::write(routes, raw::give(Routes::new(Box::new(vm), chosen, events)))
}

/// Frees the owner of a route table; null does nothing. Free its functions first, and let no other thread
/// use it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_routes_free(routes: *mut CRoutes) {
    drop(raw::take_back(routes));
}

/// Runs one round of what KVM does not deliver by itself: commits routes that are due, waits at most
/// `timeout_ms` milliseconds for eventfds (negative: until something happens), and delivers what they hold.
/// A VMM calls this over and over in a thread of its own, or with 0 from its own loop.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_SYSTEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_routes_run(routes: *mut CRoutes, timeout_ms: c_int) -> c_int {
    let run = || {
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        raw::borrow(routes)?.run(timeout).map_err(CError::from)
    };
    done(run())
}

/// Returns a descriptor that is readable when msix_kvm_routes_run() has something to do, for the loop of
/// the VMM. It lives as long as the owner of the routes: do not close it.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_routes_fd(routes: *const CRoutes) -> c_int {
    answer(raw::borrow(routes).map(|routes| routes.events().as_raw_fd()))
}

/// Returns in how many milliseconds msix_kvm_routes_run() has to commit routes, rounded up; -1 when nothing
/// waits. For the loop of the VMM.
///
/// Errors: MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED; null answers -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_routes_due_ms(routes: *const CRoutes) -> c_int {
    answer(raw::borrow(routes).map(|routes| {
        let left = routes.deadline().map(|due| due.saturating_duration_since(Instant::now()));
        left.map_or(-1, |left| {
            c_int::try_from(left.as_micros().div_ceil(1000)).unwrap_or(c_int::MAX)
        })
    }))
}

/// Commits and arms what waits, for all functions.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_routes_flush(routes: *mut CRoutes) -> c_int {
    done(raw::borrow(routes).map(|routes| routes.flush()))
}

/// Replaces the `count` routes of pins, which belong to no function, and commits at once.
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VALUE for routes
/// that cannot be kept, MSIX_ERROR_SYSTEM; the table is then as it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_routes_keep(
    routes: *mut CRoutes,
    pins: *const CPinRoute,
    count: usize,
) -> c_int {
    let keep = || {
        let routes = raw::borrow(routes)?;
        let pins = raw::items(pins, count)?.iter();
        let entry =
            |pin: &CPinRoute| RouteEntry::Pin { gsi: pin.gsi, irqchip: pin.irqchip, pin: pin.pin };
        match routes.keep(pins.map(entry).collect::<Vec<_>>()) {
            Err(RoutesError::Commit(error)) => Err(error.into()),
            Err(_) => Err(CError::Value),
            Ok(()) => Ok(()),
        }
    };
    done(keep())
}

/// Writes the counts of the calls to the kernel to `*stats`; `size` is sizeof(struct msix_route_stats).
///
/// Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msix_kvm_routes_stats(
    routes: *const CRoutes,
    stats: *mut CRouteStats,
    size: usize,
) -> c_int {
    let look = || {
        let all = raw::borrow(routes)?.stats();
        sized(size, size_of::<CRouteStats>())?;
        raw::write(
            stats,
            CRouteStats {
                commits: all.commits,
                assigns: all.assigns,
                deassigns: all.deassigns,
                signals: all.signals,
                failures: all.failures,
                gsis: all.gsis,
            },
        )
    };
    done(look())
}

impl From<io::Error> for CError {
    /// The number of the system's error goes to `errno`.
    fn from(error: io::Error) -> Self {
        match (error.raw_os_error(), error.kind()) {
            (Some(number), _) => {
                errno::set_errno(errno::Errno(number));
                Self::System
            }
            (None, io::ErrorKind::InvalidInput) => Self::Value,
            (None, io::ErrorKind::AlreadyExists) => Self::Exists,
            (None, _) => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gic_has_spis_and_no_other_interrupt_controller_has() {
        let of = |irqchip, spis| {
            let options = CKvmOptions { size: 0, irqchip, limit: 9, spis }.checked();
            options.map(|chosen| (chosen.irqchip, chosen.limit, chosen.gsis.first))
        };
        assert_eq!(of(0, 0), Ok((Irqchip::Full, 9, 24)));
        assert_eq!(of(1, 0), Ok((Irqchip::Split, 9, 24)));
        for spis in [0, 96, 988] {
            assert_eq!(of(2, spis), Ok((Irqchip::Gic { spis }, 9, spis)));
        }
        for (irqchip, spis) in [(0, 1), (1, 96), (2, 989), (2, u32::MAX), (3, 0)] {
            assert_eq!(of(irqchip, spis), Err(CError::Value), "{irqchip} {spis}");
        }
    }
}
