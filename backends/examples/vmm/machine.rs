//! The machine: memory, processors, interrupt controllers in the kernel, and one device.

use crate::cpu::Cpu;
use crate::ports::{Ports, ResetLine};
use crate::virtio::{self, VirtioPci};
use crate::worker::Worker;
use crate::{Outcome, interrupts, rng};
use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_PIT_SPEAKER_DUMMY,
    kvm_irqchip, kvm_pit_config, kvm_pit_state2, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit, VmFd};
use msix_backends::kvm::{Routes, Runner};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use vm_memory::{GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _};
use vmm_sys_util::signal::{Killable as _, SIGRTMIN};

/// A virtual machine.
pub(crate) struct Machine {
    // The processors are the last users of the memory.
    cpus: Vec<Cpu>,
    pub(crate) memory: GuestMemoryMmap,
    pub(crate) routes: Arc<Routes>,
    _runner: Runner,
    vm: Arc<VmFd>,
    controllers: Controllers,
    device: Arc<VirtioPci>,
    _rng: Worker,
    buses: Arc<Buses>,
}

/// What a processor reaches by an exit.
struct Buses {
    ports: Mutex<Ports>,
    device: Arc<VirtioPci>,
    reset: ResetLine,
}

/// The interrupt controllers and the timer in the kernel, as after power-on.
struct Controllers {
    chips: [kvm_irqchip; 3],
    timer: kvm_pit_state2,
}

impl Machine {
    /// Makes a machine with so many bytes of memory, in one piece from 0, and so many processors.
    pub(crate) fn new(memory: usize, cpus: u8, console: Box<dyn Write + Send>) -> Outcome<Self> {
        let kvm = Kvm::new()?;
        let vm = Arc::new(kvm.create_vm()?);
        vm.set_tss_address(0xfffb_d000)?;
        vm.create_irq_chip()?;
        vm.create_pit2(kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() })?;
        let controllers = Controllers::save(&vm)?;
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), memory)])?;
        map(&vm, &memory)?;
        let cpus = (0..cpus).map(|index| Cpu::new(&kvm, &vm, index)).collect::<Outcome<_>>()?;

        let (routes, runner) = interrupts::routes(&vm)?;
        let layout = virtio::layout()?;
        let interrupts = interrupts::function(&routes, layout, memory.clone())?;
        let device = Arc::new(VirtioPci::new(rng::KIND, interrupts, layout, memory.clone())?);
        let rng = rng::start(&device)?;

        let reset = ResetLine::default();
        let ports = Ports::new(&vm, Arc::clone(&device), reset.clone(), console)?;
        let buses = Buses { ports: Mutex::new(ports), device: Arc::clone(&device), reset };
        let buses = Arc::new(buses);
        Ok(Self {
            cpus,
            memory,
            routes,
            _runner: runner,
            vm,
            controllers,
            device,
            _rng: rng,
            buses,
        })
    }

    /// Runs it from power-on until the guest resets it. `enter` sets the first processor up.
    pub(crate) fn run(&mut self, enter: impl FnOnce(&Cpu) -> Outcome) -> Outcome {
        self.controllers.restore(&self.vm)?;
        self.device.reset();
        self.cpus.iter().try_for_each(Cpu::reset)?;
        self.cpus.first().map_or(Ok(()), enter)?;

        // A handler of any kind makes the signal interrupt KVM_RUN rather than end the process.
        signal_hook::flag::register(SIGRTMIN(), Arc::default())?;
        let stop = Arc::new(AtomicBool::new(false));
        let running: Vec<_> = self.cpus.drain(..).map(|cpu| self.buses.start(cpu, &stop)).collect();
        let mut ended = Ok(());
        for thread in running {
            while !thread.is_finished() {
                thread::sleep(Duration::from_millis(1));
                if stop.load(Ordering::Acquire) {
                    // Again and again: a signal just before KVM_RUN does not interrupt it.
                    thread.kill(SIGRTMIN())?;
                }
            }
            let (cpu, how) = thread.join().map_err(|_| "a processor's thread panicked")?;
            self.cpus.push(cpu);
            ended = ended.and(how);
        }
        ended
    }
}

impl Buses {
    /// Starts a processor, until one of them says to stop.
    fn start(self: &Arc<Self>, mut cpu: Cpu, stop: &Arc<AtomicBool>) -> JoinHandle<(Cpu, Outcome)> {
        let (buses, stop) = (Arc::clone(self), Arc::clone(stop));
        thread::spawn(move || {
            let mut ended = Ok(());
            while !stop.load(Ordering::Acquire) && ended.is_ok() {
                ended = cpu.run(|exit| buses.serve(exit));
                if ended.is_err() || buses.reset.take() {
                    stop.store(true, Ordering::Release);
                }
            }
            (cpu, ended)
        })
    }

    /// Carries out what a processor cannot do by itself.
    fn serve(&self, exit: VcpuExit<'_>) -> Outcome {
        let ports = || self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        match exit {
            VcpuExit::IoIn(port, data) => ports().read(port, data),
            VcpuExit::IoOut(port, data) => ports().write(port, data),
            // Where nothing answers, a read has all bits set.
            VcpuExit::MmioRead(at, data) => {
                self.device.read(at, data).unwrap_or_else(|| data.fill(0xff))
            }
            VcpuExit::MmioWrite(at, data) => self.device.write(at, data).unwrap_or(()),
            other => return Err(format!("a processor ended with {other:?}").into()),
        }
        Ok(())
    }
}

impl Controllers {
    fn save(vm: &VmFd) -> Outcome<Self> {
        let mut chips = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC]
            .map(|chip_id| kvm_irqchip { chip_id, ..Default::default() });
        chips.iter_mut().try_for_each(|chip| vm.get_irqchip(chip))?;
        Ok(Self { chips, timer: vm.get_pit2()? })
    }

    fn restore(&self, vm: &VmFd) -> Outcome {
        self.chips.iter().try_for_each(|chip| vm.set_irqchip(chip))?;
        Ok(vm.set_pit2(&self.timer)?)
    }
}

/// Gives the guest its memory.
fn map(vm: &VmFd, memory: &GuestMemoryMmap) -> Outcome {
    for (slot, region) in (0..).zip(memory.iter()) {
        let start = region.start_addr();
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: start.0,
            memory_size: region.len(),
            userspace_addr: memory.get_host_address(start)? as u64,
        };
        // SAFETY: The machine drops its processors, which alone use this, before the memory.
        #[expect(unsafe_code, reason = "KVM takes an address")]
        unsafe { vm.set_user_memory_region(region) }?;
    }
    Ok(())
}
