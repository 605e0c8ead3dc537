//! How a function on KVM is made.

use crate::config::{CMessage, sized};
use crate::error::CError;
use crate::layout::CLayout;
use crate::policy::CPolicy;
use crate::raw::{self, Opaque};
use core::ffi::{c_int, c_void};
use msix_backends::Route;
use msix_backends::kvm::{EventfdOrigin, Format, FunctionSetup, Gicv2mFrame, GuestPin, Platform};
use msix_core::MsiCapability;
use std::boxed::Box;

/// What a function on KVM calls in the VMM. The calls are made without any lock of the library, one at a
/// time for a function, by the thread that uses a function or runs the routes. They may use every function,
/// also this one, but must not free any, nor wait for a lock that a thread holds while it uses a function.
/// A callback must return: no longjmp(), no exception.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CKvmOps {
    /// sizeof(struct msix_kvm_ops).
    pub size: usize,
    /// Writes 32 bits, `data`, to `address` of guest memory, as a bus master does: the guest gave a vector a
    /// message that is no interrupt. It may be the address of a register. Null: such messages are lost.
    pub write_memory: Option<unsafe extern "C" fn(opaque: *mut c_void, address: u64, data: u32)>,
    /// Notes that the guest wrote the entry of a vector; only under `snoop` of the policy. Null: nothing.
    pub snoop: Option<unsafe extern "C" fn(opaque: *mut c_void, vector: u32, message: CMessage)>,
    /// Drives the function's pin at the guest's interrupt controller, 1 is asserted. May be repeated. Null:
    /// the function has no pin.
    pub set_pin: Option<unsafe extern "C" fn(opaque: *mut c_void, asserted: c_int)>,
}

/// Which messages of a function are interrupts. All others are writes of memory.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CInterrupts {
    /// On x86-64 those to 0xFEE00000 to 0xFEEFFFFF; elsewhere all.
    Default = 0,
    /// Those to `doorbell`, the GITS_TRANSLATER of an Arm ITS: 0x10040 behind the start of its frames. The
    /// function needs `requester_id`, by which the guest's ITS knows it.
    Its = 1,
    /// Those to the MSI_SETSPI_NS register of the GICv2m frame that begins at `doorbell`, which the VMM
    /// emulates. They raise the SPIs of the frame.
    Gicv2m = 2,
}

/// How a function on KVM is made. A part that it has not is 0.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CKvmConfig {
    /// sizeof(struct msix_kvm_config).
    pub size: usize,
    /// Table and PBA of MSI-X; with 0 vectors the function has no MSI-X.
    pub msix: CLayout,
    /// The sizes of the six BARs, bytes, 0 for one that is not there, to check the layout against; null if
    /// they are not known.
    pub bar_sizes: *const u64,
    /// The vectors of MSI: 1, 2, 4, 8, 16 or 32; with 0 the function has no MSI.
    pub msi_vectors: u32,
    /// 1: the MSI capability has a 64-bit address; 0: 32 bits.
    pub msi_64_bit: u32,
    /// 1: the MSI capability has mask and pending registers; 0: none.
    pub msi_masks: u32,
    /// 1: the eventfd of each vector is made elsewhere and given to msix_kvm_function_connect(); 0: the
    /// function makes them.
    pub connected: u32,
    /// 1: the VMM offers KVM_FEATURE_MSI_EXT_DEST_ID and has enabled 32-bit APIC ids; 0: not.
    pub extended_destinations: u32,
    /// 1: messages carry `requester_id`, as KVM_CAP_MSI_DEVID asks for; 0: they do not.
    pub has_requester_id: u32,
    /// The requester id: bus << 8 | device << 3 | function, unless the guest's tables map it to another.
    pub requester_id: u32,
    /// One of msix_interrupts.
    pub interrupts: u32,
    /// The guest-physical address that `interrupts` needs; otherwise 0.
    pub doorbell: u64,
    /// The first interrupt of a GICv2m frame, 32 to 1019; otherwise 0.
    pub first_spi: u32,
    /// How many interrupts the frame has; otherwise 0.
    pub spis: u32,
    /// The choices that PCI leaves open.
    pub policy: CPolicy,
    /// The callbacks, which are copied; null for none.
    pub ops: *const CKvmOps,
    /// Passed to every callback, by any thread.
    pub opaque: *mut c_void,
}

/// The VMM behind callbacks.
#[derive(Debug)]
pub(crate) struct CPlatform {
    ops: CKvmOps,
    opaque: Opaque,
}

impl Platform for CPlatform {
    fn write_memory(&mut self, address: u64, data: u32) {
        self.ops.call_write_memory(&self.opaque, address, data);
    }

    fn snoop(&mut self, route: Route) {
        let vector = u32::from(route.vector.index());
        self.ops.call_snoop(&self.opaque, vector, route.message.into());
    }
}

impl GuestPin for CPlatform {
    fn set_level(&mut self, asserted: bool) {
        self.ops.call_set_pin(&self.opaque, c_int::from(asserted));
    }
}

const NO_OPS: CKvmOps =
    CKvmOps { size: size_of::<CKvmOps>(), write_memory: None, snoop: None, set_pin: None };

pub(crate) fn setup(config: *const CKvmConfig) -> Result<FunctionSetup<CPlatform>, CError> {
    sized(raw::read(config.cast())?, size_of::<CKvmConfig>())?;
    let config = raw::read(config)?;
    let ops = if config.ops.is_null() {
        NO_OPS
    } else {
        sized(raw::read(config.ops.cast())?, size_of::<CKvmOps>())?;
        raw::read(config.ops)?
    };
    let part = || CPlatform { ops, opaque: Opaque::new(config.opaque) };
    let mut setup = FunctionSetup::new(part());
    if ops.set_pin.is_some() {
        setup.pin = Some(Box::new(part()));
    }
    if config.msix.vectors != 0 {
        setup.msix = Some(config.msix.checked(config.bar_sizes)?);
    }
    if config.msi_vectors != 0 {
        let mut msi = MsiCapability::new(config.msi_vectors).map_err(|_| CError::Value)?;
        if truth(config.msi_64_bit)? {
            msi = msi.with_64_bit_address();
        }
        if truth(config.msi_masks)? {
            msi = msi.with_masks();
        }
        setup.msi = Some(msi);
    }
    setup.policy = config.policy.checked()?;
    let device = truth(config.has_requester_id)?.then_some(config.requester_id);
    let spis = (config.first_spi, config.spis);
    setup.format = Format {
        extended_destinations: truth(config.extended_destinations)?,
        ..format(config.interrupts, config.doorbell, spis, device)?
    };
    if truth(config.connected)? {
        setup.eventfds = EventfdOrigin::Connected;
    }
    Ok(setup)
}

fn truth(value: u32) -> Result<bool, CError> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(CError::Value),
    }
}

/// Returns the format of messages, where the config has nothing that its `interrupts` do not need.
fn format(
    interrupts: u32,
    address: u64,
    spis: (u32, u32),
    device: Option<u32>,
) -> Result<Format, CError> {
    match (interrupts, address, spis) {
        (0, 0, (0, 0)) => Ok(Format { device, ..Format::default() }),
        (1, _, (0, 0)) => Ok(Format::its(address, device.ok_or(CError::Value)?)),
        (2, _, (first @ 32..1020, count)) if count <= 1020 - first => {
            Ok(Format { device, ..Format::gicv2m(Gicv2mFrame { address, first, count }) })
        }
        _ => Err(CError::Value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_are_those_of_x86_of_an_its_or_of_a_frame_and_have_what_they_need() {
        let (its, frame) = (0x809_0040, 0x802_0000);
        let all = Gicv2mFrame { address: frame, first: 32, count: 988 };
        for (interrupts, address, spis, device, expected) in [
            (0, 0, (0, 0), None, Format::default()),
            (0, 0, (0, 0), Some(9), Format { device: Some(9), ..Format::default() }),
            (1, its, (0, 0), Some(0), Format::its(its, 0)),
            (2, frame, (32, 988), None, Format::gicv2m(all)),
            (
                2,
                frame,
                (1019, 1),
                None,
                Format::gicv2m(Gicv2mFrame { first: 1019, count: 1, ..all }),
            ),
        ] {
            assert_eq!(format(interrupts, address, spis, device), Ok(expected));
        }
        for (interrupts, address, spis, device) in [
            (0, its, (0, 0), None),
            (0, 0, (0, 1), None),
            (1, its, (0, 0), None), // no device id
            (1, its, (32, 0), Some(9)),
            (2, frame, (31, 1), None),
            (2, frame, (1020, 0), None),
            (2, frame, (32, 989), None),
            (2, frame, (32, u32::MAX), None),
            (3, 0, (0, 0), None),
        ] {
            let refused = format(interrupts, address, spis, device);
            assert_eq!(refused, Err(CError::Value), "{interrupts} {spis:?}");
        }
    }
}
