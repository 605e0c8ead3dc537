//! Handles of what lives on the heap, descriptors, and the VMM's callbacks.

use super::check;
use crate::config::CMessage;
use crate::error::CError;
use crate::kvm::CKvmOps;
use core::ffi::{c_int, c_void};
use kvm_ioctls::{Cap, Kvm, VmFd};
use std::boxed::Box;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, IntoRawFd as _, OwnedFd};

/// A type of the header that stands for something on the heap.
pub(crate) trait Handle {
    type Target;
    /// Tells one kind from others.
    const TAG: usize;
}

/// What a handle points to. The first field shows that it is one.
#[repr(C)]
struct Boxed<T> {
    tag: usize,
    target: T,
}

/// Gives something to C.
pub(crate) fn give<H: Handle>(target: H::Target) -> *mut H {
    Box::into_raw(Box::new(Boxed { tag: H::TAG, target })).cast()
}

/// Borrows what a handle stands for.
pub(crate) fn borrow<'a, H: Handle>(handle: *const H) -> Result<&'a H::Target, CError> {
    check_handle(handle)?;
    // SAFETY: `give` made it, and the caller promised not to free it while this function runs.
    Ok(&unsafe { &*handle.cast::<Boxed<H::Target>>() }.target)
}

/// Takes back what was given; nothing if it is null or no such handle.
pub(crate) fn take_back<H: Handle>(handle: *mut H) -> Option<H::Target> {
    check_handle(handle).ok()?;
    // SAFETY: `give` made it, and the caller gives it up.
    let mut boxed = unsafe { Box::from_raw(handle.cast::<Boxed<H::Target>>()) };
    boxed.tag = 0; // it is likely to be recognised if it is used again
    Some(boxed.target)
}

fn check_handle<H: Handle>(handle: *const H) -> Result<(), CError> {
    let pointer = handle.cast::<Boxed<H::Target>>();
    check(pointer)?;
    // SAFETY: whatever is there, its first word can be read as a number.
    let tag = unsafe { pointer.cast::<usize>().read() };
    if tag == H::TAG { Ok(()) } else { Err(CError::NotInitialized) }
}

/// Borrows an array of structs to read. Null is good for none.
pub(crate) fn items<'a, T: Copy>(pointer: *const T, len: usize) -> Result<&'a [T], CError> {
    if len == 0 {
        return Ok(&[]);
    }
    super::check_array(pointer, len)?;
    // SAFETY: the caller promised `len` items that are good for reads until the exported function returns,
    // and this is not used any longer.
    Ok(unsafe { core::slice::from_raw_parts(pointer, len) })
}

/// Duplicates a descriptor of the caller.
pub(crate) fn duplicate(descriptor: c_int) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::Error::from_raw_os_error(EBADF));
    }
    // SAFETY: it is not -1. If it is not open, the call fails and nothing was borrowed.
    unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned()
}

const EBADF: c_int = 9;
const ENOTTY: c_int = 25;

/// Duplicates the descriptor of a VM.
pub(crate) fn vm(descriptor: c_int) -> io::Result<VmFd> {
    let descriptor = duplicate(descriptor)?;
    let kvm = Kvm::new()?;
    kvm.get_vcpu_mmap_size()?; // fails now rather than when the descriptor is given up
    // SAFETY: the descriptor is owned here and given up. If it is no VM, every call on it fails.
    let vm = unsafe { kvm.create_vmfd_from_rawfd(descriptor.into_raw_fd()) }?;
    if vm.as_raw_fd() < 0 || vm.check_extension_int(Cap::IrqRouting) <= 0 {
        return Err(io::Error::from_raw_os_error(ENOTTY));
    }
    Ok(vm)
}

/// The VMM's own pointer, which any thread may pass back to it.
#[derive(Debug)]
pub(crate) struct Opaque(*mut c_void);

// SAFETY: nothing here reads through it. That a callback may be called by any thread, the header says.
unsafe impl Send for Opaque {}

impl Opaque {
    pub(crate) const fn new(pointer: *mut c_void) -> Self {
        Self(pointer)
    }
}

/// As for the callbacks of an engine.
impl CKvmOps {
    pub(crate) fn call_write_memory(&self, opaque: &Opaque, address: u64, data: u32) {
        if let Some(write_memory) = self.write_memory {
            // SAFETY: see `callbacks`.
            unsafe { write_memory(opaque.0, address, data) }
        }
    }

    pub(crate) fn call_snoop(&self, opaque: &Opaque, vector: u32, message: CMessage) {
        if let Some(snoop) = self.snoop {
            // SAFETY: see `callbacks`.
            unsafe { snoop(opaque.0, vector, message) }
        }
    }

    pub(crate) fn call_set_pin(&self, opaque: &Opaque, asserted: c_int) {
        if let Some(set_pin) = self.set_pin {
            // SAFETY: see `callbacks`.
            unsafe { set_pin(opaque.0, asserted) }
        }
    }
}
