//! The interrupt controllers that KVM has for a nested machine: a line to the I/O APIC, and what a VMM
//! hands to another of them.

use crate::tests::text;
use kvm_bindings::{KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, kvm_irqchip, kvm_lapic_state};
use kvm_ioctls::{VcpuFd, VmFd};
use msix_backends::kvm::GuestPin;
use std::sync::Arc;

/// The pin of the I/O APIC that functions are wired to.
pub(crate) const GSI: u32 = 10;

/// Makes [`GSI`] send `interrupt`, level-triggered, to the first processor.
pub(crate) fn route_line(vm: &VmFd, interrupt: u8) -> Result<(), String> {
    let mut chip = kvm_irqchip { chip_id: KVM_IRQCHIP_IOAPIC, ..Default::default() };
    vm.get_irqchip(&mut chip).map_err(text)?;
    // SAFETY: the chip is the I/O APIC, whose fields are plain numbers.
    #[expect(unsafe_code, reason = "a union")]
    unsafe {
        chip.chip.ioapic.redirtbl[usize::from(GSI.to_le_bytes()[0])].bits =
            u64::from(interrupt) | 1 << 15;
    }
    vm.set_irqchip(&chip).map_err(text)?;
    // The same line goes to the 8259, which after reset takes everything.
    let mut chip = kvm_irqchip { chip_id: KVM_IRQCHIP_PIC_MASTER, ..Default::default() };
    vm.get_irqchip(&mut chip).map_err(text)?;
    chip.chip.pic.imr = 0xff;
    vm.set_irqchip(&chip).map_err(text)
}

/// [`GSI`], as userspace drives it.
pub(crate) struct Wire(pub(crate) Arc<VmFd>);

impl GuestPin for Wire {
    fn set_level(&mut self, asserted: bool) {
        if let Err(error) = self.0.set_irq_line(GSI, asserted) {
            println!("the line cannot be driven: {error}"); // what is missing shows in the test
        }
    }
}

/// The state of the I/O APIC and of the first processor's local APIC.
pub(crate) struct Controllers {
    io: [i8; 512],
    local: kvm_lapic_state,
}

impl Controllers {
    /// Those of a machine whose processor does not run.
    pub(crate) fn of(vm: &VmFd, cpu: &VcpuFd) -> Result<Self, String> {
        let mut chip = kvm_irqchip { chip_id: KVM_IRQCHIP_IOAPIC, ..Default::default() };
        vm.get_irqchip(&mut chip).map_err(text)?;
        // SAFETY: all bytes of the union were set.
        #[expect(unsafe_code, reason = "a union")]
        let io = unsafe { chip.chip.dummy };
        Ok(Self { io, local: cpu.get_lapic().map_err(text)? })
    }

    /// Gives them to a machine whose processor does not run.
    pub(crate) fn put(&self, vm: &VmFd, cpu: &VcpuFd) -> Result<(), String> {
        let mut chip = kvm_irqchip { chip_id: KVM_IRQCHIP_IOAPIC, ..Default::default() };
        chip.chip.dummy = self.io;
        vm.set_irqchip(&chip).map_err(text)?;
        cpu.set_lapic(&self.local).map_err(text)
    }

    /// The interrupts that wait for the processor.
    pub(crate) fn requested(&self) -> Vec<u8> {
        crate::device_to_apic::requested(&self.local)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.io.iter().chain(&self.local.regs).map(|byte| byte.cast_unsigned()).collect()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (io, local) = bytes.split_first_chunk::<512>()?;
        let regs = local.try_into().ok().map(|regs: [u8; 1024]| regs.map(u8::cast_signed))?;
        Some(Self { io: io.map(u8::cast_signed), local: kvm_lapic_state { regs } })
    }
}
