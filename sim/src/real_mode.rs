//! Where the guests of this project begin: in real mode, code, stack and data in the segment at 0, and
//! FS with all 4 GiB in reach ("unreal mode"), so that they need no page tables to get at a device.

use kvm_bindings::kvm_segment as Segment;
use kvm_ioctls::{Error, VcpuFd};

/// Puts a vCPU at `entry` with `stack`, interrupts off.
///
/// # Errors
/// Of KVM_GET_SREGS, KVM_SET_SREGS, KVM_SET_REGS.
pub fn enter(vcpu: &VcpuFd, entry: u16, stack: u16) -> Result<(), Error> {
    let mut special = vcpu.get_sregs()?;
    let low = |segment: Segment| Segment { base: 0, selector: 0, ..segment };
    special.cs = low(special.cs);
    special.ds = low(special.ds);
    special.es = low(special.es);
    special.ss = low(special.ss);
    special.fs = Segment { limit: u32::MAX, g: 1, ..low(special.fs) };
    vcpu.set_sregs(&special)?;
    vcpu.set_regs(&kvm_bindings::kvm_regs {
        rip: entry.into(),
        rsp: stack.into(),
        rflags: 2, // a bit that is always set
        ..Default::default()
    })
}
