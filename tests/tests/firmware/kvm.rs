//! KVM, with a loader of the test: the image's segments, and registers as PVH has them.

use super::{Ended, Image};
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use msix_tests::peers::skipped;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap};

/// Bytes of memory.
const MEMORY: usize = 256 << 20;
/// Where the loader says what it says: PVH's `hvm_start_info`.
const START_INFO: u64 = 0x8000;
/// Where the command line is; its address is at byte 24 of that structure.
const COMMAND_LINE: u64 = 0x9000;
/// The longest that the image may run.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether the processor runs guests, and KVM need not emulate each of their instructions.
pub(crate) fn has_hardware() -> bool {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    processors.split_whitespace().any(|flag| ["vmx", "svm"].contains(&flag))
}

/// Boots `image` with that command line; without a usable /dev/kvm, `None` and a word of the skip.
pub(crate) fn boot_or_skip(test: &str, image: &'static Image, command_line: &str) -> Option<Ended> {
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) => {
            skipped(test, &format!("/dev/kvm: {error}"), "needs KVM and leave to open /dev/kvm");
            return None;
        }
    };
    let (done, ended) = channel();
    let command_line = command_line.to_owned();
    std::thread::spawn(move || done.send(boot(&kvm, image, &command_line)));
    match ended.recv_timeout(PATIENCE) {
        Ok(ended) => Some(ended),
        Err(RecvTimeoutError::Timeout) => panic!("still running after {PATIENCE:?}"),
        Err(RecvTimeoutError::Disconnected) => panic!("the virtual processor ended"),
    }
}

#[expect(unsafe_code, reason = "only the caller knows how long the memory stays mapped")]
fn boot(kvm: &Kvm, image: &Image, command_line: &str) -> Ended {
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MEMORY)]).expect("memory");
    for (address, bytes) in image.segments() {
        memory.write_slice(bytes, GuestAddress(address)).expect("the image fits");
    }
    memory.write_slice(command_line.as_bytes(), GuestAddress(COMMAND_LINE)).expect("it fits");
    memory.write_obj(COMMAND_LINE, GuestAddress(START_INFO + 24)).expect("it fits");
    let vm = kvm.create_vm().expect("KVM_CREATE_VM");
    vm.set_tss_address(0xfffb_d000).expect("KVM_SET_TSS_ADDR");
    let region = kvm_userspace_memory_region {
        memory_size: MEMORY as u64,
        userspace_addr: memory.get_host_address(GuestAddress(0)).expect("memory").addr() as u64,
        ..Default::default()
    };
    // SAFETY: the memory is dropped after the processor and the VM, which alone access it from now on.
    unsafe { vm.set_user_memory_region(region) }.expect("KVM_SET_USER_MEMORY_REGION");
    let mut vcpu = vm.create_vcpu(0).expect("KVM_CREATE_VCPU");
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).expect("KVM_GET_SUPPORTED_CPUID");
    vcpu.set_cpuid2(&cpuid).expect("KVM_SET_CPUID2"); // 64-bit mode is a feature
    start(&vcpu, image.entry());
    let mut said = Vec::new();
    loop {
        match vcpu.run().expect("KVM_RUN") {
            VcpuExit::IoOut(0xe9, bytes) => said.extend_from_slice(bytes),
            VcpuExit::IoOut(0xf4, result) => {
                let said = String::from_utf8(said).expect("UTF-8");
                return Ended { said, result: result[0] };
            }
            exit => panic!("{exit:?} after:\n{}", String::from_utf8_lossy(&said)),
        }
    }
}

/// 32-bit mode without paging, all segments the whole memory.
fn start(vcpu: &VcpuFd, entry: u64) {
    let mut registers = vcpu.get_sregs().expect("KVM_GET_SREGS");
    let data = kvm_segment {
        limit: 0xffff_ffff,
        selector: 16,
        type_: 3,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    registers.cs = kvm_segment { selector: 8, type_: 11, ..data };
    for segment in [
        &mut registers.ds,
        &mut registers.es,
        &mut registers.ss,
        &mut registers.fs,
        &mut registers.gs,
    ] {
        *segment = data;
    }
    registers.cr0 = 0x11; // PE, ET
    vcpu.set_sregs(&registers).expect("KVM_SET_SREGS");
    let registers = kvm_regs { rip: entry, rbx: START_INFO, rflags: 2, ..Default::default() };
    vcpu.set_regs(&registers).expect("KVM_SET_REGS");
}
