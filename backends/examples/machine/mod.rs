//! What the examples share: a VM whose one processor runs no code, so that its local APIC keeps what
//! arrives, and the smallest [`Platform`].

use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use msix_backends::Route;
use msix_backends::kvm::Platform;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{error::Error, thread};

/// What an example returns.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Registers of the local APIC: spurious interrupt vector, interrupt requests.
const SPIV: usize = 0xf0;
const IRR: usize = 0x200;

/// A VM with interrupt controllers in the kernel.
pub(crate) struct Machine {
    /// The VM. `Arc`, because the VMM needs it as well as the routes.
    pub(crate) vm: Arc<VmFd>,
    processor: VcpuFd,
}

impl Machine {
    /// Makes one; `None` where there is no KVM.
    pub(crate) fn new() -> Outcome<Option<Self>> {
        let Ok(kvm) = Kvm::new() else {
            eprintln!("no /dev/kvm here: nothing to show");
            return Ok(None);
        };
        let vm = Arc::new(kvm.create_vm()?);
        vm.create_irq_chip()?;
        let processor = vm.create_vcpu(0)?;
        let mut apic = processor.get_lapic()?;
        apic.regs[SPIV] = -1; // vector 0xff
        apic.regs[SPIV + 1] = 1; // and the bit that turns the APIC on
        processor.set_lapic(&apic)?;
        Ok(Some(Self { vm, processor }))
    }

    /// Waits until interrupt `vector` has arrived, for a second at most, and takes it.
    pub(crate) fn take(&self, vector: u8) -> Outcome {
        let (byte, bit) = (IRR + 0x10 * usize::from(vector / 32), vector % 32);
        let (byte, mask) = (byte + usize::from(bit / 8), 1_i8.rotate_left(u32::from(bit % 8)));
        let end = Instant::now() + Duration::from_secs(1);
        loop {
            let mut apic = self.processor.get_lapic()?;
            if apic.regs[byte] & mask != 0 {
                apic.regs[byte] &= !mask;
                println!("interrupt {vector:#x} arrived");
                return Ok(self.processor.set_lapic(&apic)?);
            }
            if Instant::now() > end {
                return Err(format!("interrupt {vector:#x} did not arrive").into());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What a function needs of a VMM: nothing more is needed without INTx, and nothing at all without
/// messages to memory.
pub(crate) struct Vmm;

impl Platform for Vmm {
    fn write_memory(&mut self, address: u64, data: u32) {
        println!("the device writes {data:#x} to {address:#x}"); // a real one writes guest memory
    }

    fn snoop(&mut self, _: Route) {}
}
