//! A virtual machine on KVM, with one of Arm's interrupt controllers and the guest of [`crate::guest`].

use crate::guest::{
    COLLECTIONS, COMMANDS, DEVICES, EXCEPTION, IS_V2, LEFT, LPI_COUNTS, MAILBOX, PENDING,
    PROPERTIES, RAM, SCRIPT, SIZE, SPI_COUNTS, STOP, code,
};
use crate::{Outcome, same, text, wait};
use kvm_bindings::{
    KVM_ARM_VCPU_PSCI_0_2, KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR,
    KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, KVM_DEV_ARM_VGIC_GRP_NR_IRQS,
    KVM_VGIC_ITS_ADDR_TYPE, KVM_VGIC_V2_ADDR_TYPE_CPU, KVM_VGIC_V2_ADDR_TYPE_DIST,
    KVM_VGIC_V3_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_REDIST, kvm_create_device, kvm_device_attr,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_ITS, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3, kvm_userspace_memory_region, kvm_vcpu_init,
};
use kvm_ioctls::{DeviceFd, Kvm, VcpuExit, VcpuFd, VmFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap};

pub(crate) const DISTRIBUTOR: u64 = 0x0800_0000;
pub(crate) const ITS: u64 = 0x0808_0000;
/// The doorbell of the ITS.
pub(crate) const TRANSLATER: u64 = ITS + 0x1_0040;
/// Where the redistributors are, 128 KiB for each processor.
pub(crate) const REDISTRIBUTORS: u64 = 0x080a_0000;
const V2_INTERFACE: u64 = 0x0801_0000;
/// Interrupts of the controller, LPIs not counted.
const INTERRUPTS: u32 = 128;
/// Its pins.
pub(crate) const SPIS: u32 = INTERRUPTS - 32;
/// The SPI that wakes processor 0 up, as an interrupt's number; the next one wakes up processor 1.
const KICK: u32 = 40;

/// An interrupt controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chip {
    /// A GICv3 with an ITS, and two processors.
    V3WithIts,
    /// A GICv3 without one, and a processor.
    V3,
    /// A GICv2, and a processor.
    V2,
}

/// An access that the guest makes for the host.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access {
    Write(u64, u32),
    Write64(u64, u64),
    Read64(u64),
}

pub(crate) struct Machine {
    pub(crate) vm: Arc<VmFd>,
    pub(crate) memory: GuestMemoryMmap,
    pub(crate) gic: DeviceFd,
    pub(crate) its: Option<DeviceFd>,
    chip: Chip,
    /// Those that do not run.
    cpus: Vec<VcpuFd>,
    running: Vec<JoinHandle<Outcome<VcpuFd>>>,
    /// Where the next command to the ITS goes.
    queue: u64,
}

impl Machine {
    /// Makes one with the guest in its memory, which does not run yet.
    pub(crate) fn new(kvm: &Kvm, chip: Chip) -> Outcome<Self> {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(RAM), SIZE)]).map_err(text)?;
        memory.write_slice(code(), GuestAddress(RAM)).map_err(text)?;
        let v2 = u32::from(chip == Chip::V2);
        memory.write_obj(v2, GuestAddress(IS_V2)).map_err(text)?;
        Self::with_memory(kvm, chip, memory)
    }

    /// Makes one of a memory that another had.
    pub(crate) fn with_memory(kvm: &Kvm, chip: Chip, memory: GuestMemoryMmap) -> Outcome<Self> {
        let vm = Arc::new(kvm.create_vm().map_err(text)?);
        let region = kvm_userspace_memory_region {
            guest_phys_addr: RAM,
            memory_size: SIZE as u64,
            userspace_addr: memory.get_host_address(GuestAddress(RAM)).map_err(text)? as u64,
            ..Default::default()
        };
        #[expect(unsafe_code, reason = "no processor runs without the memory")]
        // SAFETY: `drop` stops the processors before the memory goes.
        unsafe { vm.set_user_memory_region(region) }.map_err(text)?;
        let processors = if chip == Chip::V3WithIts { 2 } else { 1 };
        let cpus = (0..processors).map(|id| cpu(&vm, id)).collect::<Outcome<Vec<_>>>()?;
        let (kind, addresses) = match chip {
            Chip::V2 => (
                kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2,
                [
                    (KVM_VGIC_V2_ADDR_TYPE_DIST, DISTRIBUTOR),
                    (KVM_VGIC_V2_ADDR_TYPE_CPU, V2_INTERFACE),
                ],
            ),
            Chip::V3 | Chip::V3WithIts => (
                kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
                [
                    (KVM_VGIC_V3_ADDR_TYPE_DIST, DISTRIBUTOR),
                    (KVM_VGIC_V3_ADDR_TYPE_REDIST, REDISTRIBUTORS),
                ],
            ),
        };
        let gic = device(&vm, kind)?;
        for (kind, address) in addresses {
            set(&gic, KVM_DEV_ARM_VGIC_GRP_ADDR, kind.into(), Some(&address))?;
        }
        set(&gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, Some(&INTERRUPTS))?;
        control(&gic, KVM_DEV_ARM_VGIC_CTRL_INIT)?;
        let mut machine =
            Self { vm, memory, gic, its: None, chip, cpus, running: Vec::new(), queue: 0 };
        if chip == Chip::V3WithIts {
            machine.its = Some(its(&machine.vm)?);
        }
        Ok(machine)
    }

    /// Starts the processors, and has them do these accesses first. `write` hears of the guest's writes
    /// where there is no memory.
    pub(crate) fn start(
        &mut self,
        accesses: &[Access],
        write: impl Fn(u64, &[u8]) + Clone + Send + 'static,
    ) -> Outcome {
        // Before that, no interrupt is enabled that would wake them up.
        self.post(accesses)?;
        self.run(write)?;
        self.finished()
    }

    fn run(&mut self, write: impl Fn(u64, &[u8]) + Clone + Send + 'static) -> Outcome {
        const PC: u64 = 0x6030_0000_0010_0040; // KVM_REG_ARM64, 64 bits, core register, pc
        for mut cpu in std::mem::take(&mut self.cpus) {
            cpu.set_one_reg(PC, &RAM.to_le_bytes()).map_err(text)?;
            let write = write.clone();
            self.running.push(std::thread::spawn(move || {
                loop {
                    match cpu.run() {
                        Ok(VcpuExit::MmioWrite(LEFT, _)) => return Ok(cpu),
                        Ok(VcpuExit::MmioWrite(address, data)) => {
                            if (EXCEPTION..EXCEPTION + 16).contains(&address) {
                                println!("an exception of the guest: {address:#x} {data:02x?}");
                            }
                            write(address, data);
                        }
                        Ok(other) => return Err(format!("the guest ended: {other:?}")),
                        Err(error) if error.errno() == 4 => {}
                        Err(error) => return Err(format!("KVM_RUN: {error}")),
                    }
                }
            }));
        }
        Ok(())
    }

    /// Ends the processors, between two instructions of the guest's main loop.
    pub(crate) fn stop(&mut self) -> Outcome {
        self.memory.store(1_u32, GuestAddress(STOP), Ordering::SeqCst).map_err(text)?;
        (0..).take(self.running.len()).try_for_each(|cpu| self.kick(cpu))?;
        let ended = || self.running.iter().all(JoinHandle::is_finished);
        wait("the processors leave the guest", || Ok(ended()))?;
        for thread in std::mem::take(&mut self.running) {
            let cpu = thread.join().map_err(|_| "a processor's thread panicked")??;
            self.cpus.push(cpu);
        }
        self.memory.store(0_u32, GuestAddress(STOP), Ordering::SeqCst).map_err(text)
    }

    /// Has the guest do these accesses. Returns what the last one read.
    pub(crate) fn script(&self, accesses: &[Access]) -> Outcome<u64> {
        self.post(accesses)?;
        self.kick(0)?;
        self.finished()?;
        let last = SCRIPT + 24 * (accesses.len() as u64).saturating_sub(1);
        self.memory.read_obj(GuestAddress(last + 8)).map_err(text)
    }

    fn finished(&self) -> Outcome {
        wait("the guest does its accesses", || Ok(self.word(MAILBOX)? == 0))
    }

    fn post(&self, accesses: &[Access]) -> Outcome {
        let mut at = SCRIPT;
        for access in accesses {
            let words = match *access {
                Access::Write(address, value) => [address, value.into(), 1],
                Access::Write64(address, value) => [address, value, 2],
                Access::Read64(address) => [address, 0, 3],
            };
            for word in words {
                self.memory.write_obj(word, GuestAddress(at)).map_err(text)?;
                at += 8;
            }
        }
        self.memory.write_obj([0_u64; 3], GuestAddress(at)).map_err(text)?;
        self.memory.store(1_u32, GuestAddress(MAILBOX), Ordering::SeqCst).map_err(text)
    }

    /// Wakes a processor up.
    fn kick(&self, cpu: u32) -> Outcome {
        self.pulse(KICK + cpu)
    }

    /// An edge of an SPI.
    pub(crate) fn pulse(&self, interrupt: u32) -> Outcome {
        let line = 1 << 24 | interrupt; // KVM_ARM_IRQ_TYPE_SPI
        [true, false]
            .into_iter()
            .try_for_each(|high| self.vm.set_irq_line(line, high))
            .map_err(text)
    }

    fn word(&self, address: u64) -> Outcome<u32> {
        self.memory.load(GuestAddress(address), Ordering::SeqCst).map_err(text)
    }

    /// How often each processor took an interrupt, LPI or not.
    pub(crate) fn taken(&self, interrupt: u32) -> Outcome<[u32; 2]> {
        let at = match interrupt.checked_sub(8192) {
            Some(lpi) => LPI_COUNTS + 4 * u64::from(lpi),
            None => SPI_COUNTS + 4 * u64::from(interrupt),
        };
        Ok([self.word(at)?, self.word(at + 0x1000)?])
    }

    /// Queues commands to the ITS. Returns the access that has them done.
    pub(crate) fn command(&mut self, commands: &[[u64; 4]]) -> Outcome<Access> {
        for command in commands {
            self.memory.write_obj(*command, GuestAddress(COMMANDS + self.queue)).map_err(text)?;
            self.queue = (self.queue + 32) % 0x1_0000;
        }
        Ok(Access::Write64(ITS + 0x88, self.queue)) // GITS_CWRITER
    }

    /// Has the ITS carry out commands while no processor runs.
    pub(crate) fn issue(&mut self, commands: &[[u64; 4]]) -> Outcome {
        self.command(commands)?;
        let its = self.its.as_ref().ok_or("no ITS")?;
        set(its, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, 0x88, Some(&self.queue))?; // GITS_CWRITER
        let read = get(its, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, 0x90)?;
        same("commands that the ITS carried out", read, self.queue)
    }

    /// Enables an LPI, or disables it; the ITS learns of it by [`inv`].
    pub(crate) fn configure(&self, lpi: u32, enabled: bool) -> Outcome {
        let byte = 0xa0 | u8::from(enabled);
        self.memory.write_obj(byte, GuestAddress(PROPERTIES + u64::from(lpi - 8192))).map_err(text)
    }

    /// What an operating system does first: every SPI is an edge but [`crate::guest::LEVEL`], and all are
    /// enabled.
    pub(crate) fn bring_up(&self) -> Vec<Access> {
        use Access::{Write, Write64};
        let d = DISTRIBUTOR;
        let v2 = self.chip == Chip::V2;
        let mut accesses = vec![Write(d, if v2 { 1 } else { 0x12 })]; // affinity routing, group 1
        for word in 1..4 {
            accesses.push(Write(d + 0x80 + 4 * word, if v2 { 0 } else { !0 })); // the group
        }
        for word in 2..8 {
            let level = if word == 2 { 3 << 6 } else { 0 };
            accesses.push(Write(d + 0xc00 + 4 * word, 0xaaaa_aaaa & !level)); // edges
        }
        if v2 {
            accesses.extend((8..32).map(|word| Write(d + 0x800 + 4 * word, 0x0101_0101))); // to processor 0
        }
        accesses.extend((1..4).map(|word| Write(d + 0x100 + 4 * word, !0))); // enabled
        if self.chip == Chip::V3WithIts {
            accesses.push(Write64(d + 0x6000 + 8 * u64::from(KICK + 1), 1)); // to processor 1
            for cpu in 0..2 {
                let r = REDISTRIBUTORS + 0x2_0000 * cpu;
                accesses.push(Write64(r + 0x70, PROPERTIES | 13)); // GICR_PROPBASER, 14 bits
                accesses.push(Write64(r + 0x78, (PENDING + 0x1_0000 * cpu) | 1 << 62)); // of zeros
                accesses.push(Write(r, 1)); // EnableLPIs
            }
            accesses.extend([
                Write64(ITS + 0x100, 1 << 63 | DEVICES | 2 << 8), // pages of 64 KiB
                Write64(ITS + 0x108, 1 << 63 | COLLECTIONS | 2 << 8),
                Write64(ITS + 0x80, 1 << 63 | COMMANDS | 15),
                Write(ITS, 1), // enabled
            ]);
        }
        accesses
    }
}

fn cpu(vm: &VmFd, id: u64) -> Outcome<VcpuFd> {
    let cpu = vm.create_vcpu(id).map_err(text)?;
    let mut target = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut target).map_err(text)?;
    target.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
    cpu.vcpu_init(&target).map_err(text)?;
    Ok(cpu)
}

fn device(vm: &VmFd, kind: u32) -> Outcome<DeviceFd> {
    let mut device = kvm_create_device { type_: kind, fd: 0, flags: 0 };
    vm.create_device(&mut device).map_err(text)
}

fn its(vm: &VmFd) -> Outcome<DeviceFd> {
    let its = device(vm, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_ITS)?;
    set(&its, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_ITS_ADDR_TYPE.into(), Some(&ITS))?;
    control(&its, KVM_DEV_ARM_VGIC_CTRL_INIT)?;
    Ok(its)
}

/// Sets an attribute of a device.
pub(crate) fn set<T>(device: &DeviceFd, group: u32, attr: u64, value: Option<&T>) -> Outcome {
    let addr = value.map_or(0, |value| std::ptr::from_ref(value) as u64);
    let attribute = kvm_device_attr { group, attr, addr, flags: 0 };
    device.set_device_attr(&attribute).map_err(|error| format!("{group}, {attr:#x}: {error}"))
}

/// Returns an attribute of 64 bits of a device.
pub(crate) fn get(device: &DeviceFd, group: u32, attr: u64) -> Outcome<u64> {
    let mut value = 0_u64;
    let addr = std::ptr::from_mut(&mut value) as u64;
    let mut attribute = kvm_device_attr { group, attr, addr, flags: 0 };
    #[expect(unsafe_code, reason = "the kernel writes 64 bits")]
    // SAFETY: `value` has them, and lives on.
    unsafe { device.get_device_attr(&mut attribute) }
        .map_err(|error| format!("{group}, {attr:#x}: {error}"))?;
    Ok(value)
}

/// Has a device do something.
pub(crate) fn control(device: &DeviceFd, what: u32) -> Outcome {
    set::<u64>(device, KVM_DEV_ARM_VGIC_GRP_CTRL, what.into(), None)
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Err(why) = self.stop() {
            println!("the machine does not stop: {why}");
        }
    }
}

/// Gives a device a table of `1 << bits` events.
pub(crate) fn mapd(device: u32, bits: u64, events: u64) -> [u64; 4] {
    [8 | u64::from(device) << 32, bits - 1, events | 1 << 63, 0]
}

/// Takes its events from a device.
pub(crate) fn unmapd(device: u32) -> [u64; 4] {
    [8 | u64::from(device) << 32, 0, 0, 0]
}

/// Gives a collection to a processor.
pub(crate) fn mapc(collection: u64, processor: u64) -> [u64; 4] {
    [9, 0, 1 << 63 | processor << 16 | collection, 0]
}

/// Gives an event an LPI and a collection.
pub(crate) fn mapti(device: u32, event: u32, lpi: u32, collection: u64) -> [u64; 4] {
    [0xa | u64::from(device) << 32, u64::from(event) | u64::from(lpi) << 32, collection, 0]
}

/// Moves an event to another collection.
pub(crate) fn movi(device: u32, event: u32, collection: u64) -> [u64; 4] {
    [1 | u64::from(device) << 32, event.into(), collection, 0]
}

/// Has the ITS read an event's configuration again.
pub(crate) fn inv(device: u32, event: u32) -> [u64; 4] {
    [0xc | u64::from(device) << 32, event.into(), 0, 0]
}

/// Takes an event's LPI back from its processor.
pub(crate) fn clear(device: u32, event: u32) -> [u64; 4] {
    [4 | u64::from(device) << 32, event.into(), 0, 0]
}

/// Waits for what was done before.
pub(crate) fn sync(processor: u64) -> [u64; 4] {
    [5, 0, processor << 16, 0]
}
