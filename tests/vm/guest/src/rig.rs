//! A whole function of a nested machine, with a device of this one behind it, and how the devices are
//! made to interrupt.

use crate::device::Device;
use crate::device_to_apic::take;
use crate::nested;
use crate::tests::text;
use crate::world::World;
use kvm_ioctls::{VcpuFd, VmFd};
use msix_backends::Route;
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{
    AssignedLine, Deferral, DeviceControl, Function, FunctionSetup, GuestPin, Irqchip,
    PassedThrough, PhysicalMsi, PhysicalMsix, Platform, RouteOptions, Routes,
};
use msix_backends::vfio::{DeviceMsi, DeviceMsix, LineIrqs, VectorIrqs, WhileMasked};
use msix_core::{BarIndex, Layout, Mode, MsiCapability};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A device that interrupts when told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Edu,
    E1000e,
    /// It has no driver here: the kernel's loopback stands for it.
    Nvme,
    /// Likewise.
    Xhci,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Edu, Self::E1000e, Self::Nvme, Self::Xhci];

    /// Vendor and device.
    pub(crate) const fn id(self) -> (u16, u16) {
        match self {
            Self::Edu => (0x1234, 0x11e8),
            Self::E1000e => (0x8086, 0x10d3),
            Self::Nvme => (0x1b36, 0x0010),
            Self::Xhci => (0x1033, 0x0194),
        }
    }

    /// The modes that it has.
    pub(crate) const fn modes(self) -> &'static [Mode] {
        match self {
            Self::Edu => &[Mode::Intx, Mode::Msi],
            Self::Nvme => &[Mode::Intx, Mode::MsiX],
            Self::E1000e | Self::Xhci => &[Mode::Intx, Mode::Msi, Mode::MsiX],
        }
    }
}

/// What the function told its VMM.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The line, whenever it changed.
    pub(crate) line: Vec<bool>,
    pub(crate) mapped: Vec<bool>,
    pub(crate) resets: usize,
}

pub(crate) struct Vmm;

impl Platform for Vmm {
    fn write_memory(&mut self, address: u64, data: u32) {
        println!("{data:#x} was written to {address:#x}");
    }
    fn snoop(&mut self, _: Route) {} // not under this policy
}

/// Who brings the function's pin to the guest.
pub(crate) enum Pin {
    /// Nobody: the function has none.
    Absent,
    /// Userspace, which notes the level.
    Noted,
    /// Userspace, which notes the level and drives this with it.
    Driven(Box<dyn GuestPin>),
    /// KVM, to this GSI.
    Kernel(u32),
}

/// The function's pin, in userspace.
pub(crate) struct NotedPin {
    pub(crate) told: Arc<Mutex<Told>>,
    pub(crate) driven: Option<Box<dyn GuestPin>>,
}

impl GuestPin for NotedPin {
    fn set_level(&mut self, asserted: bool) {
        lock(&self.told).line.push(asserted);
        if let Some(pin) = &mut self.driven {
            pin.set_level(asserted);
        }
    }
}

/// The device beside its interrupts.
struct Control {
    told: Arc<Mutex<Told>>,
    reset: Box<dyn Fn() + Send>,
}

impl DeviceControl for Control {
    fn set_mappings(&mut self, mapped: bool) {
        lock(&self.told).mapped.push(mapped);
    }
    fn reset_device(&mut self) {
        lock(&self.told).resets += 1;
        (self.reset)();
    }
}

/// The function, programmed: MSI sends 0x48, MSI-X 0x40 + vector.
pub(crate) struct Rig<'a> {
    pub(crate) function: Function<Vmm>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) told: Arc<Mutex<Told>>,
    pub(crate) kind: Kind,
    device: &'a Device,
    vcpu: Option<VcpuFd>,
    // Dropped after the irqfds.
    _vm: Arc<VmFd>,
}

impl<'a> Rig<'a> {
    /// On a machine whose processor does not run.
    pub(crate) fn new(world: &'a World, kind: Kind) -> Result<Self, String> {
        let kvm = world.kvm.as_ref().map_err(Clone::clone)?;
        let vm = Arc::new(kvm.create_vm().map_err(text)?);
        vm.create_irq_chip().map_err(text)?;
        let vcpu = vm.create_vcpu(0).map_err(text)?;
        nested::enable_apic(&vcpu)?;
        let mut rig = Self::on(device_of(world, kind)?, kind, &vm, Pin::Noted)?;
        rig.vcpu = Some(vcpu);
        Ok(rig)
    }

    /// On a machine of the caller's.
    pub(crate) fn on(
        device: &'a Device,
        kind: Kind,
        vm: &Arc<VmFd>,
        pin: Pin,
    ) -> Result<Self, String> {
        let owned =
            || -> Result<OwnedFd, String> { device.as_fd().try_clone_to_owned().map_err(text) };
        let device_msix = msix_vectors(kind).map(|_| -> Result<Box<dyn PhysicalMsix>, String> {
            let irqs = VectorIrqs::msix(owned()?);
            let index = irqs.index().map_err(text)?;
            Ok(Box::new(DeviceMsix::new(irqs, index, WhileMasked::Eventfd)))
        });
        let msi_vectors = msi_vectors(kind);
        let device_msi = (msi_vectors > 0).then(|| -> Result<Box<dyn PhysicalMsi>, String> {
            let irqs = VectorIrqs::msi(owned()?);
            let count = u16::try_from(irqs.index().map_err(text)?.count).map_err(text)?;
            Ok(Box::new(DeviceMsi::new(irqs, count)))
        });
        let line = AssignedLine::new(Box::new(LineIrqs::new(owned()?))).map_err(text)?;
        let (line, driven) = match pin {
            Pin::Absent => (None, None),
            Pin::Noted => (Some(line), None),
            Pin::Driven(pin) => (Some(line), Some(pin)),
            Pin::Kernel(gsi) => (Some(line.resampled_by(Box::new(Arc::clone(vm)), gsi)), None),
        };
        let (layout, msi_capability) = capabilities(kind)?;
        let told = Arc::new(Mutex::new(Told::default()));
        let reset = {
            let device = Satisfier::of(device, kind)?;
            Box::new(move || device.reset())
        };
        let behind = PassedThrough {
            msix: device_msix.transpose()?,
            msi: device_msi.transpose()?,
            line,
            quiet: Duration::from_millis(50),
            control: Box::new(Control { told: Arc::clone(&told), reset }),
        };
        let pin = behind.line.is_some().then(|| -> Box<dyn GuestPin> {
            Box::new(NotedPin { told: Arc::clone(&told), driven })
        });
        let setup = FunctionSetup {
            msi: msi_capability,
            msix: layout,
            pin,
            device: Some(behind),
            ..FunctionSetup::new(Vmm)
        };
        let mut options = RouteOptions::new(Irqchip::Full);
        options.deferral = Deferral::NONE;
        let events = Loop::new().map_err(text)?;
        let routes = Routes::new(Box::new(Arc::clone(vm)), options, events);
        let function = Function::new(&routes, setup).map_err(text)?;
        let vm = Arc::clone(vm);
        let rig = Self { function, routes, told, kind, device, vcpu: None, _vm: vm };
        rig.satisfy()?;
        rig.program();
        Ok(rig)
    }

    /// As a driver does, with everything off.
    pub(crate) fn program(&self) {
        self.function.write_command(0, &[6, 0]);
        self.function.write_msi(4, &0xfee0_0000_u64.to_le_bytes());
        self.function.write_msi(12, &u16::from(MSI).to_le_bytes());
        for vector in 0..self.function.inspect(|f| f.msix().map_or(0, msix_core::Msix::vectors)) {
            let entry = u64::from(vector) * 16;
            self.function.write_table(entry, &0xfee0_0000_u64.to_le_bytes());
            let data = u32::from(MSIX) + u32::from(vector);
            self.function.write_table(entry + 8, &data.to_le_bytes());
            self.mask(vector, false);
        }
    }

    /// Masks MSI's one vector, or not: the guest's capability can, whatever the device's can.
    pub(crate) fn mask_msi(&self, masked: bool) {
        self.function.write_msi(16, &u32::from(masked).to_le_bytes());
    }

    pub(crate) fn mask(&self, vector: u16, masked: bool) {
        let entry = u64::from(vector) * 16 + 12;
        self.function.write_table(entry, &u32::from(masked).to_le_bytes());
    }

    /// The modes that the device has.
    pub(crate) const fn modes(&self) -> &'static [Mode] {
        self.kind.modes()
    }

    /// What a guest reads: Command, both capabilities, the table and the PBA.
    pub(crate) fn registers(&self) -> Vec<u8> {
        let function = &self.function;
        let vectors = function.inspect(|f| f.msix().map_or(0, msix_core::Msix::vectors));
        let (mut msi, mut msix, mut pba) = ([0; 24], [0; 12], [0; 8]);
        let mut table = vec![0; usize::from(vectors) * 16];
        function.read_msi(0, &mut msi);
        function.read_msix(0, &mut msix);
        for (at, bytes) in (0..).step_by(8).zip(table.chunks_mut(8)) {
            function.read_table(at, bytes);
        }
        function.read_pba(0, &mut pba);
        let command = function.command_and_status().0.to_le_bytes();
        [&command[..], &msi, &msix, &table, &pba].concat()
    }

    /// The kernel raises an interrupt of an index, which it refuses where the index is not active.
    pub(crate) fn loop_back(&self, index: u32) -> Result<(), String> {
        self.device.loop_back(index, 0)
    }

    /// The interrupt that vector `vector` of MSI is: the low bits of its data are the vector (A15).
    pub(crate) fn msi_interrupt(&self, vector: u16) -> u8 {
        msi_interrupt(self.kind, vector)
    }

    /// The guest switches to a mode, from whichever: what is enabled now is disabled after the new one
    /// is enabled, where that is possible at all.
    pub(crate) fn switch(&self, mode: Mode) {
        match mode {
            Mode::MsiX => {
                self.function.write_msix(3, &[0x80]);
                self.function.write_msi(2, &[0]);
            }
            Mode::Msi => {
                let all = msi_vectors(self.kind).max(1).ilog2().to_le_bytes()[0] << 4;
                self.function.write_msi(2, &[all | 1]);
                self.function.write_msix(3, &[0]);
            }
            _ => {
                self.function.write_msi(2, &[0]);
                self.function.write_msix(3, &[0]);
            }
        }
    }

    /// The device interrupts in `mode`.
    pub(crate) fn raise(&self, mode: Mode, vector: u16) -> Result<(), String> {
        let write = |at: u64, value: u32| self.device.write(0, at, &value.to_le_bytes());
        let loop_back = |index, vector| self.device.loop_back(index, vector);
        raise(self.kind, mode, vector, write, loop_back)
    }

    /// The driver satisfies the device: it asserts no more.
    pub(crate) fn satisfy(&self) -> Result<(), String> {
        satisfy(self.kind, self.device)
    }

    /// Waits until the line was told to be so, as the newest news.
    pub(crate) fn wait_line(&self, asserted: bool) -> Result<(), String> {
        wait_line(&self.routes, &self.told, asserted)
    }

    /// What arrives at the processor within `patience`, at the first time that something does.
    pub(crate) fn arrives(&self, patience: Duration) -> Result<Vec<u8>, String> {
        let begun = Instant::now();
        let vcpu = self.vcpu.as_ref().ok_or("no processor that can be looked at")?;
        loop {
            self.routes.run(Some(Duration::ZERO)).map_err(text)?;
            let taken = take(vcpu)?;
            if !taken.is_empty() || begun.elapsed() > patience {
                return Ok(taken);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Waits until a [`NotedPin`] was told to be so, as the newest news.
pub(crate) fn wait_line(routes: &Routes, told: &Mutex<Told>, asserted: bool) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        routes.run(Some(Duration::ZERO)).map_err(text)?;
        if lock(told).line.last() == Some(&asserted) {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("the line is not {asserted}: {:?}", lock(told)));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A device interrupts in `mode`: `write` writes a register of it, `loop_back` has the kernel raise an
/// interrupt of an index.
pub(crate) fn raise(
    kind: Kind,
    mode: Mode,
    vector: u16,
    write: impl Fn(u64, u32) -> Result<(), String>,
    loop_back: impl Fn(u32, u32) -> Result<(), String>,
) -> Result<(), String> {
    match kind {
        Kind::Edu => write(0x60, 1),
        Kind::E1000e => {
            write(0xd8, u32::MAX)?; // IMC: nothing interrupts
            write(0xc4, 0xffff)?; // ITR: messages are 16.8 ms apart
            match mode {
                Mode::MsiX => {
                    // IVAR: a vector each for the causes 20 to 24, which are cleared and masked
                    // when they interrupt (EIAC).
                    write(0xe4, 0xc_ba98)?;
                    write(0xdc, 0x1f0_0000)?;
                    write(0xd0, 1 << (20 + vector))?; // IMS
                    write(0xc8, 1 << (20 + vector)) // ICS
                }
                _ => {
                    write(0xc8, 1 << 2)?;
                    write(0xd0, 1 << 2)?; // interrupts now
                    // A message would be said again while the cause stands; a level stays.
                    if mode == Mode::Msi { write(0xd8, 1 << 2) } else { Ok(()) }
                }
            }
        }
        Kind::Nvme | Kind::Xhci => {
            let index = match mode {
                Mode::MsiX => 2,
                Mode::Msi => 1,
                _ => 0,
            };
            loop_back(index, u32::from(vector))
        }
    }
}

impl Drop for Rig<'_> {
    fn drop(&mut self) {
        // The next test finds a device that asks for nothing; a failure here was one before.
        let _ = self.satisfy();
    }
}

/// A device's descriptor and registers, for another thread.
pub(crate) struct Satisfier {
    descriptor: OwnedFd,
    /// Where BAR0 is in the descriptor.
    registers: u64,
    /// Where configuration space is.
    config: u64,
    kind: Kind,
}

impl Satisfier {
    pub(crate) fn of(device: &Device, kind: Kind) -> Result<Self, String> {
        let descriptor = device.as_fd().try_clone_to_owned().map_err(text)?;
        let registers = device.vfio().get_region_offset(0);
        let config = crate::device::config_offset(device);
        Ok(Self { descriptor, registers, config, kind })
    }

    /// The low byte of Status, as the device has it.
    pub(crate) fn status(&self) -> Option<u8> {
        let mut byte = [0];
        let read = rustix::io::pread(&self.descriptor, &mut byte, self.config + 6);
        (read == Ok(1)).then_some(byte[0])
    }

    /// Whether the device took it.
    pub(crate) fn satisfy(&self) -> bool {
        let Some(at) = satisfied_at(self.kind) else { return true };
        let all = u32::MAX.to_le_bytes();
        rustix::io::pwrite(&self.descriptor, &all, self.registers + at) == Ok(4)
    }

    /// Resets the device if it can be; the guest's Command is 0, and this test's is on again.
    fn reset(&self) {
        crate::device::reset(&self.descriptor);
        for value in [0_u16, 6] {
            // What fails shows in the test.
            let _ = rustix::io::pwrite(&self.descriptor, &value.to_le_bytes(), self.config + 4);
        }
    }
}

/// The register of BAR0 that is written with all ones to satisfy a device, if it has one.
pub(crate) const fn satisfied_at(kind: Kind) -> Option<u64> {
    match kind {
        Kind::Edu => Some(0x64),
        Kind::E1000e => Some(0xc0), // ICR
        Kind::Nvme | Kind::Xhci => None,
    }
}

/// The interrupt that vector `vector` of MSI is: the low bits of its data are the vector (A15).
pub(crate) fn msi_interrupt(kind: Kind, vector: u16) -> u8 {
    let low = msi_vectors(kind).to_le_bytes()[0] - 1;
    MSI & !low | vector.to_le_bytes()[0]
}

/// The capabilities that the guest sees.
pub(crate) fn capabilities(kind: Kind) -> Result<(Option<Layout>, Option<MsiCapability>), String> {
    let layout = msix_vectors(kind).map(|vectors| {
        let bar = BarIndex::new(0).map_err(text)?;
        Layout::exclusive_bar(vectors, bar).map_err(text)
    });
    let msi = Some(msi_vectors(kind)).filter(|vectors| *vectors > 0);
    let msi = msi.map(|vectors| MsiCapability::new(vectors.into())).transpose().map_err(text)?;
    Ok((layout.transpose()?, msi.map(|msi| msi.with_64_bit_address().with_masks())))
}

const fn msix_vectors(kind: Kind) -> Option<u32> {
    match kind {
        Kind::Edu => None,
        Kind::E1000e => Some(5),
        Kind::Nvme => Some(8), // of 512
        Kind::Xhci => Some(16),
    }
}

/// Vectors of its MSI.
const fn msi_vectors(kind: Kind) -> u16 {
    match kind {
        Kind::Edu | Kind::E1000e => 1,
        Kind::Nvme => 0,
        Kind::Xhci => 16,
    }
}

pub(crate) fn device_of(world: &World, kind: Kind) -> Result<&Device, String> {
    match kind {
        Kind::Edu => Ok(&world.edu),
        Kind::E1000e => Ok(&world.e1000e),
        Kind::Nvme => world.nvme.as_ref().ok_or_else(|| "no nvme".to_owned()),
        Kind::Xhci => Ok(&world.xhci),
    }
}

pub(crate) fn satisfy(kind: Kind, device: &Device) -> Result<(), String> {
    if let Some(at) = satisfied_at(kind) {
        device.write(0, at, &u32::MAX.to_le_bytes())?;
    }
    if kind == Kind::E1000e {
        // It holds interrupts apart (ITR), and QEMU does not like to be switched to another mode
        // meanwhile: it may abort.
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const QUIET: Duration = Duration::from_millis(200);
/// What MSI sends, with its low bits replaced where it has more than one vector.
pub(crate) const MSI: u8 = 0x48;
/// What vector 0 of MSI-X sends.
pub(crate) const MSIX: u8 = 0x40;
