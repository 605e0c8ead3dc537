//! A virtual machine of the real KVM, for tests of delivery: in-kernel interrupt controllers, vCPUs
//! whose local APICs can be read, and, where a test wants one, a [`Guest`] that runs.
//!
//! Without a guest, [`Machine::take_irr`] tells which interrupts reached a vCPU (K13):
//!
//! ```no_run
//! use msix_tests::machine::{Machine, message};
//!
//! let machine = Machine::new(1)?;
//! machine.vm().signal_msi(message(0xfee0_0000, 0x41)).unwrap();
//! assert_eq!(machine.take_irr(0), [0x41]);
//! # Ok::<(), String>(())
//! ```
//!
//! With a guest, a [`Program`] made of [`Step`]s runs on vCPU 0; its accesses to anything but RAM
//! come to the test's callback, and its interrupt handlers count in RAM.
//!
//! The functions here are for tests: what a test got wrong, and every wait longer than [`PATIENCE`],
//! is a panic that says what was waited for.

mod guest;
mod program;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use kvm_bindings::{
    KVM_CAP_SPLIT_IRQCHIP, KVM_IRQ_ROUTING_MSI, KvmIrqRouting, kvm_enable_cap,
    kvm_irq_routing_entry as Route, kvm_irq_routing_entry__bindgen_ty_1 as Target,
    kvm_irq_routing_msi as Msi, kvm_msi, kvm_userspace_memory_region as Region,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vm_memory::{
    Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _,
};

pub use guest::{Guest, GuestAccess};
pub use program::{FAULT_PORT, Program, STOP_PORT, Step, counter};

use crate::peers::skipped;
use msix_sim::lapic;

/// The longest that anything here waits before it panics.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Where an MSI-X table may be placed: there is no RAM from here to 1 MiB, so that a guest's
/// accesses come to its callback.
pub const MMIO: u32 = 0xd_0000;

/// RAM that neither [`Machine`] nor [`Program`] uses, up to 0xa_0000: for a test's own words.
pub const FREE_RAM: u32 = 0x1_0000;

/// Start and length of RAM, in bytes; what is between them, from 640 KiB to 1 MiB, is MMIO.
const RAM: [(u64, usize); 2] = [(0, 0xa_0000), (0x10_0000, 0x10_0000)];

/// Pins of the IOAPIC that a split irqchip leaves to user space.
const IOAPIC_PINS: u64 = 24;

/// A virtual machine with 2 MiB of RAM and vCPUs that are ready to be sent interrupts.
pub struct Machine {
    // Before `ram`, so that the vCPUs, which alone access it, are gone first.
    vcpus: Vec<Arc<Mutex<VcpuFd>>>,
    vm: Arc<VmFd>,
    ram: GuestMemoryMmap,
}

impl Machine {
    /// A machine with the full in-kernel irqchip and `vcpus` vCPUs.
    ///
    /// The local APIC of vCPU `n` has the id `n`, is enabled by software with the spurious vector
    /// 0xff, and has the flat logical destination `1 << n` (none from vCPU 8 on).
    ///
    /// # Errors
    /// What KVM refused; also that there is no /dev/kvm.
    pub fn new(vcpus: u8) -> Result<Self, String> {
        Self::build(vcpus, |vm| {
            vm.create_irq_chip().map_err(|e| format!("KVM_CREATE_IRQCHIP: {e}"))
        })
    }

    /// [`Machine::new`] with local APICs in the kernel, and PIC and 24-pin IOAPIC left to user
    /// space: such a machine starts without any GSI route (K1).
    ///
    /// # Errors
    /// What KVM refused; also that there is no /dev/kvm.
    pub fn split_irqchip(vcpus: u8) -> Result<Self, String> {
        let split = kvm_enable_cap {
            cap: KVM_CAP_SPLIT_IRQCHIP,
            args: [IOAPIC_PINS, 0, 0, 0],
            ..Default::default()
        };
        Self::build(vcpus, |vm| {
            vm.enable_cap(&split).map_err(|e| format!("KVM_CAP_SPLIT_IRQCHIP: {e}"))
        })
    }

    fn build(vcpus: u8, irqchip: impl Fn(&VmFd) -> Result<(), String>) -> Result<Self, String> {
        let kvm = Kvm::new().map_err(|e| format!("/dev/kvm: {e}"))?;
        let vm = kvm.create_vm().map_err(|e| format!("KVM_CREATE_VM: {e}"))?;
        // Only Intel's real mode needs it; without it a vCPU there fails at its first entry.
        vm.set_tss_address(0xfffb_d000).map_err(|e| format!("KVM_SET_TSS_ADDR: {e}"))?;
        irqchip(&vm)?;
        let ranges = RAM.map(|(start, bytes)| (GuestAddress(start), bytes));
        let ram = GuestMemoryMmap::from_ranges(&ranges).map_err(|e| format!("guest RAM: {e}"))?;
        for (slot, region) in (0..).zip(ram.iter()) {
            let start = region.start_addr();
            let host = ram.get_host_address(start).map_err(|e| format!("guest RAM: {e}"))?;
            let region = Region {
                slot,
                flags: 0,
                guest_phys_addr: start.0,
                memory_size: region.len(),
                userspace_addr: host.addr() as u64,
            };
            map(&vm, region).map_err(|e| format!("KVM_SET_USER_MEMORY_REGION: {e}"))?;
        }
        let vcpus = (0..vcpus)
            .map(|index| {
                let vcpu = vm.create_vcpu(index.into());
                let vcpu = vcpu.map_err(|e| format!("KVM_CREATE_VCPU {index}: {e}"))?;
                lapic::enable(&vcpu, index)
                    .map_err(|e| format!("local APIC of vCPU {index}: {e}"))?;
                Ok(Arc::new(Mutex::new(vcpu)))
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { vcpus, vm: Arc::new(vm), ram })
    }

    /// The virtual machine, for routes, irqfds and MSIs.
    pub fn vm(&self) -> &Arc<VmFd> {
        &self.vm
    }

    /// Makes `gsi` send `data` to the first processor. The machine then has no other route.
    ///
    /// # Panics
    /// When KVM refuses it.
    pub fn route(&self, gsi: u32, data: u32) {
        let msi = Msi { address_lo: 0xfee0_0000, address_hi: 0, data, ..Default::default() };
        let route =
            Route { gsi, type_: KVM_IRQ_ROUTING_MSI, u: Target { msi }, ..Default::default() };
        let table = KvmIrqRouting::from_entries(&[route]).expect("a table of one route");
        self.vm.set_gsi_routing(&table).unwrap_or_else(|e| panic!("KVM_SET_GSI_ROUTING: {e}"));
    }

    /// The interrupt vectors requested in the local APIC of `vcpu`, lowest first.
    ///
    /// A vector requested twice is there once: that is how the IRR works.
    ///
    /// # Panics
    /// When the machine has no such vCPU, or a [`Guest`] runs on it.
    #[must_use]
    pub fn pending_irr(&self, vcpu: u8) -> Vec<u8> {
        lapic::irr(&self.vcpu(vcpu)).unwrap_or_else(|e| panic!("IRR of vCPU {vcpu}: {e}"))
    }

    /// [`Machine::pending_irr`], and clears them: the next call sees only new ones.
    ///
    /// What arrives between the look and the clearing is lost: no other thread may be sending.
    ///
    /// # Panics
    /// As [`Machine::pending_irr`].
    #[must_use]
    pub fn take_irr(&self, vcpu: u8) -> Vec<u8> {
        lapic::take_irr(&self.vcpu(vcpu)).unwrap_or_else(|e| panic!("IRR of vCPU {vcpu}: {e}"))
    }

    /// The aligned word of guest RAM at `addr`.
    ///
    /// # Panics
    /// When that is not RAM, or not aligned to four bytes.
    #[must_use]
    pub fn read_u32(&self, addr: u32) -> u32 {
        load(&self.ram, addr)
    }

    /// Writes the aligned word of guest RAM at `addr`.
    ///
    /// # Panics
    /// As [`Machine::read_u32`].
    pub fn write_u32(&self, addr: u32, value: u32) {
        self.ram
            .store(value, GuestAddress(addr.into()), Ordering::Release)
            .unwrap_or_else(|e| panic!("writing guest RAM at {addr:#x}: {e}"));
    }

    fn vcpu(&self, index: u8) -> MutexGuard<'_, VcpuFd> {
        let vcpu = self.vcpus.get(usize::from(index)).unwrap_or_else(|| {
            panic!("vCPU {index} of a machine with {}", self.vcpus.len());
        });
        match vcpu.try_lock() {
            Ok(vcpu) => vcpu,
            Err(TryLockError::WouldBlock) => panic!("vCPU {index} is busy running a guest"),
            // The callback of its guest panicked, which was reported; the vCPU is fine.
            Err(TryLockError::Poisoned(vcpu)) => vcpu.into_inner(),
        }
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("vcpus", &self.vcpus.len()).finish_non_exhaustive()
    }
}

/// [`Machine::new`] for test `test`; without a usable /dev/kvm, `None` and a word of the skip.
///
/// # Panics
/// When there is a KVM that refuses to make the machine.
#[must_use]
pub fn open_or_skip(test: &str, vcpus: u8) -> Option<Machine> {
    present(test).then(|| Machine::new(vcpus).unwrap_or_else(|e| panic!("{test}: {e}")))
}

/// [`open_or_skip`] for [`Machine::split_irqchip`].
///
/// # Panics
/// As [`open_or_skip`].
#[must_use]
pub fn open_split_or_skip(test: &str, vcpus: u8) -> Option<Machine> {
    present(test).then(|| Machine::split_irqchip(vcpus).unwrap_or_else(|e| panic!("{test}: {e}")))
}

fn present(test: &str) -> bool {
    let kvm = Kvm::new();
    if let Err(error) = &kvm {
        skipped(test, &format!("/dev/kvm: {error}"), "needs KVM and leave to open /dev/kvm");
    }
    kvm.is_ok()
}

/// The message `data` to `address` as `KVM_SIGNAL_MSI` takes it.
#[must_use]
pub fn message(address: u64, data: u32) -> kvm_msi {
    let [low, high] = [address as u32, (address >> 32) as u32];
    kvm_msi { address_lo: low, address_hi: high, data, ..Default::default() }
}

/// Waits until `done`.
///
/// # Panics
/// When that takes longer than [`PATIENCE`]; the message names `what`.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_micros(20));
    }
}

fn load(ram: &GuestMemoryMmap, addr: u32) -> u32 {
    ram.load(GuestAddress(addr.into()), Ordering::Acquire)
        .unwrap_or_else(|e| panic!("reading guest RAM at {addr:#x}: {e}"))
}

#[expect(unsafe_code, reason = "only the caller knows how long the memory stays mapped")]
fn map(vm: &VmFd, region: Region) -> Result<(), kvm_ioctls::Error> {
    // SAFETY: `region` is memory mapped by a `GuestMemoryMmap`, which nobody in this process takes
    // references into. Only vCPUs access it: each is owned by a `Machine` or by the thread of a
    // `Guest`, and both drop it before their handle to the mapping.
    unsafe { vm.set_user_memory_region(region) }
}
