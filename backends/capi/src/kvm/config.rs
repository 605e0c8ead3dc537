//! How a function on KVM is made.

use crate::config::{CMessage, sized};
use crate::error::CError;
use crate::layout::CLayout;
use crate::policy::CPolicy;
use crate::raw::{self, Opaque};
use core::ffi::{c_int, c_void};
use msix_backends::Route;
use msix_backends::kvm::{EventfdOrigin, Format, FunctionSetup, GuestPin, Platform};
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
    /// The requester id: bus << 8 | device << 3 | function.
    pub requester_id: u32,
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
    setup.format = Format {
        extended_destinations: truth(config.extended_destinations)?,
        device: truth(config.has_requester_id)?.then_some(config.requester_id),
        ..Format::default()
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
