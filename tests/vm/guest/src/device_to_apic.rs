//! A function whose interrupts come from a real device and go to the local APICs of a nested virtual
//! machine.

use crate::device::Device;
use crate::nested;
use crate::tests::{same, text};
use crate::world::World;
use kvm_bindings::kvm_lapic_state;
use kvm_ioctls::{VcpuFd, VmFd};
use msix_backends::Route;
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{
    Deferral, DeviceControl, Function, FunctionSetup, Irqchip, PassedThrough, Platform,
    RouteOptions, Routes,
};
use msix_backends::vfio::{DeviceMsix, Irqs, VectorIrqs, WhileMasked};
use msix_core::{BarIndex, Boxed, Layout, Msix, Vector};
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub(crate) struct Vmm;

impl Platform for Vmm {
    fn write_memory(&mut self, address: u64, data: u32) {
        println!("{data:#x} was written to {address:#x}");
    }
    fn snoop(&mut self, _: Route) {} // not under these policies
}

/// A device whose BARs no guest reaches, and that goes on as it is when the function is reset.
struct Left;

impl DeviceControl for Left {
    fn set_mappings(&mut self, _: bool) {}
    fn reset_device(&mut self) {}
}

/// A function of the guest with a real device behind it.
pub(crate) struct Chain {
    pub(crate) function: Function<Vmm>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) calls: Arc<AtomicUsize>,
    /// Two, which the recorded guest had.
    vcpus: Vec<VcpuFd>,
    // Dropped after the irqfds.
    _vm: Arc<VmFd>,
}

pub(crate) fn irqs(fd: impl std::os::fd::AsFd) -> Result<VectorIrqs<OwnedFd>, String> {
    Ok(VectorIrqs::msix(fd.as_fd().try_clone_to_owned().map_err(text)?))
}

/// The MSI-X index of a device, and how often it was asked for something.
struct Counted(VectorIrqs<OwnedFd>, Arc<AtomicUsize>);

impl Counted {
    fn count(&self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

impl Irqs for Counted {
    fn set(&self, start: u32, eventfds: &[Option<BorrowedFd<'_>>]) -> std::io::Result<u32> {
        self.count();
        self.0.set(start, eventfds)
    }
    fn unset(&self, vectors: Range<u32>) -> std::io::Result<()> {
        self.count();
        self.0.unset(vectors)
    }
    fn disable(&self) -> std::io::Result<()> {
        self.count();
        self.0.disable()
    }
}

/// A function on `vm`, its table programmed and masked, with `device` behind it.
pub(crate) struct Assigned {
    pub(crate) function: Function<Vmm>,
    pub(crate) routes: Arc<Routes>,
    /// SET_IRQS calls so far.
    pub(crate) calls: Arc<AtomicUsize>,
}

pub(crate) fn assign(
    vm: &Arc<VmFd>,
    device: &Device,
    vectors: u16,
    while_masked: WhileMasked,
    deferral: Deferral,
) -> Result<Assigned, String> {
    let irqs = irqs(device)?;
    let index = irqs.index().map_err(text)?;
    let calls = Arc::new(AtomicUsize::new(0));
    let physical = DeviceMsix::new(Counted(irqs, Arc::clone(&calls)), index, while_masked);
    let mut options = RouteOptions::new(Irqchip::Full);
    options.deferral = deferral;
    let events = Loop::new().map_err(text)?;
    let routes = Routes::new(Box::new(Arc::clone(vm)), options, events);
    let bar = BarIndex::new(0).map_err(text)?;
    let layout = Layout::exclusive_bar(vectors.into(), bar).map_err(text)?;
    let behind =
        PassedThrough { msix: Some(Box::new(physical)), ..PassedThrough::new(Box::new(Left)) };
    let setup =
        FunctionSetup { msix: Some(layout), device: Some(behind), ..FunctionSetup::new(Vmm) };
    let function = Function::new(&routes, setup).map_err(text)?;
    function.write_command(0, &[6, 0]);
    for vector in 0..vectors {
        let entry = u64::from(vector) * 16;
        function.write_table(entry, &0xfee0_0000_u64.to_le_bytes());
        function.write_table(entry + 8, &u32::from(interrupt(vector)).to_le_bytes());
    }
    Ok(Assigned { function, routes, calls })
}

/// Looks at a vector of the function's MSI-X; `false` where there is none.
pub(crate) fn of_msix(
    function: &Function<Vmm>,
    vector: u16,
    look: impl FnOnce(&Msix<Boxed>, Vector) -> Option<bool>,
) -> bool {
    function.inspect(|engine| look(engine.msix()?, Vector::new(vector))) == Some(true)
}

/// Whether a vector is delivered from userspace.
pub(crate) fn is_fallback(function: &Function<Vmm>, vector: u16) -> bool {
    of_msix(function, vector, Msix::is_fallback)
}

pub(crate) fn mask(function: &Function<Vmm>, vector: u16, masked: bool) {
    function.write_table(u64::from(vector) * 16 + 12, &u32::from(masked).to_le_bytes());
}

pub(crate) fn pending(function: &Function<Vmm>) -> u64 {
    let mut bytes = [0; 8];
    function.read_pba(0, &mut bytes);
    u64::from_le_bytes(bytes)
}

impl Chain {
    pub(crate) fn new(
        world: &World,
        device: &Device,
        vectors: u16,
        while_masked: WhileMasked,
    ) -> Result<Self, String> {
        Self::deferred(world, device, vectors, while_masked, Deferral::NONE)
    }

    pub(crate) fn deferred(
        world: &World,
        device: &Device,
        vectors: u16,
        while_masked: WhileMasked,
        deferral: Deferral,
    ) -> Result<Self, String> {
        let kvm = world.kvm.as_ref().map_err(Clone::clone)?;
        let vm = Arc::new(kvm.create_vm().map_err(text)?);
        vm.create_irq_chip().map_err(text)?;
        let vcpus: Result<Vec<VcpuFd>, _> = (0..2).map(|id| vm.create_vcpu(id)).collect();
        let vcpus = vcpus.map_err(text)?;
        vcpus.iter().try_for_each(nested::enable_apic)?;
        let assigned = assign(&vm, device, vectors, while_masked, deferral)?;
        let Assigned { function, routes, calls } = assigned;
        Ok(Self { function, routes, calls, vcpus, _vm: vm })
    }

    pub(crate) fn mask(&self, vector: u16, masked: bool) {
        mask(&self.function, vector, masked);
    }

    pub(crate) fn enable(&self, high: u8) {
        self.function.write_msix(3, &[high]);
    }

    pub(crate) fn pba(&self) -> u64 {
        pending(&self.function)
    }

    /// The interrupts that wait in the local APICs, which forget them.
    fn take(&self) -> Result<Vec<u8>, String> {
        let mut taken = Vec::new();
        for vcpu in &self.vcpus {
            taken.extend(take(vcpu)?);
        }
        Ok(taken)
    }

    /// The next interrupts to arrive; none, when none does for a while.
    pub(crate) fn arrives(&self, patience: Duration) -> Result<Vec<u8>, String> {
        let begun = Instant::now();
        loop {
            self.routes.run(Some(Duration::ZERO)).map_err(text)?;
            let taken = self.take()?;
            if !taken.is_empty() || begun.elapsed() > patience {
                return Ok(taken);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until all that are wanted have arrived, and nothing else.
    pub(crate) fn arrive(&self, wanted: &mut Vec<u8>) -> Result<(), String> {
        while let Some(first) = wanted.first().copied() {
            let arrived = self.arrives(PATIENCE)?;
            if arrived.is_empty() {
                return Err(format!("interrupt {first:#x} did not arrive"));
            }
            for interrupt in arrived {
                let place = wanted.iter().position(|wanted| *wanted == interrupt);
                let place = place.ok_or(format!("interrupt {interrupt:#x} arrived"))?;
                wanted.remove(place);
            }
        }
        Ok(())
    }

    pub(crate) fn expect(&self, what: &str, interrupts: &[u8]) -> Result<(), String> {
        let patience = if interrupts.is_empty() { QUIET } else { PATIENCE };
        same(what, self.arrives(patience)?, interrupts.to_vec())
    }
}

/// The interrupts that wait in a local APIC, which forgets them.
pub(crate) fn take(vcpu: &VcpuFd) -> Result<Vec<u8>, String> {
    let mut lapic = vcpu.get_lapic().map_err(text)?;
    let taken = requested(&lapic);
    for interrupt in &taken {
        let (byte, bit) = place(*interrupt);
        lapic.regs[byte] &= (!bit).cast_signed();
    }
    if !taken.is_empty() {
        // What came since it was read is lost: one at a time is waited for.
        vcpu.set_lapic(&lapic).map_err(text)?;
    }
    Ok(taken)
}

/// The interrupts that wait in a local APIC.
pub(crate) fn requested(lapic: &kvm_lapic_state) -> Vec<u8> {
    let waits = |interrupt: &u8| {
        let (byte, bit) = place(*interrupt);
        lapic.regs[byte].cast_unsigned() & bit != 0
    };
    (0..=255).filter(waits).collect()
}

/// The byte of a local APIC's registers, and the bit in it, that say whether an interrupt waits.
fn place(interrupt: u8) -> (usize, u8) {
    let byte = 0x200 + usize::from(interrupt / 32) * 16 + usize::from(interrupt % 32 / 8);
    (byte, 1 << (interrupt % 8))
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const QUIET: Duration = Duration::from_millis(200);

pub(crate) fn interrupt(vector: u16) -> u8 {
    0x40 + (vector % 128).to_le_bytes()[0]
}
