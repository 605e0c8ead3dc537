//! The guests as real ones.

use super::GoOn;
use super::guest::{
    ACCOUNTED, FIRST, FLOOD, MEMORY, OTHER, OWN, PROGRAM, REGISTERS, RING, SENT, SHARED, STACK,
    START_PORT, STOP_PORT, TABLE, TAKEN, TOTAL, TRIPS, TURNS, VECTOR, program,
};
use super::meeting::{count_of, meet};
use super::plan::{DemoError, DemoOutcome, DemoPlan, PATIENCE, Side, percentiles};
use crate::{lapic, real_mode};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{Ioeventfds, Irqchip, RouteOptions, Routes};
use msix_ivshmem::{Board, DeviceOptions, IvshmemDevice};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use vm_memory::{
    Bytes as _, FileOffset, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap,
    GuestMemoryRegion as _,
};
use vmm_sys_util::signal::{Killable as _, SIGRTMIN};

/// A message to memory: none of these guests asks for one.
#[derive(Debug, Clone)]
struct Quiet;

impl Board for Quiet {
    fn write_memory(&self, _: u64, _: u32) {}
    fn set_intx(&self, _: bool) {}
}

/// One guest. Its fields go in this order: what uses the VM before the VM, the VM before its memory.
struct Guest {
    device: Mutex<IvshmemDevice<Quiet>>,
    routes: Arc<Routes>,
    vcpu: Mutex<VcpuFd>,
    exits: AtomicU64,
    done: AtomicBool,
    /// Kilohertz of the time-stamp counter.
    tsc_khz: u64,
    _vm: Arc<VmFd>,
    memory: GuestMemoryMmap,
}

pub(super) fn run(
    plan: DemoPlan,
    socket: &Path,
    go_on: GoOn<'_>,
) -> Result<DemoOutcome, DemoError> {
    let guests = [Arc::new(Guest::new(socket)?), Arc::new(Guest::new(socket)?)];
    let [first, second] = &guests;
    meet(&mut first.device())?;
    meet(&mut second.device())?;
    first.load(plan, true, second)?;
    second.load(plan, false, first)?;
    // A signal ends KVM_RUN, and does nothing else.
    signal_hook::flag::register(SIGRTMIN(), Arc::default())
        .map_err(DemoError::system("signal handler"))?;
    let end = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let userspace = guests.each_ref().map(|guest| guest.start(&end, Guest::deliver));
    let processors = guests.each_ref().map(|guest| guest.start(&end, Guest::run));
    let watched = watch(&guests, go_on);
    let seconds = begun.elapsed().as_secs_f64();
    end.store(true, Ordering::Relaxed);
    for (guest, thread) in processors.into_iter().chain(userspace).enumerate() {
        while !thread.is_finished() {
            // Again and again: one that comes just before KVM_RUN does not interrupt it.
            let _ = thread.kill(SIGRTMIN());
            thread::sleep(Duration::from_millis(1));
        }
        let ended = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        ended.map_err(|what| DemoError::Guest { guest: guest % 2, what })?;
    }
    watched?;
    let trips = first.round_trips(plan)?;
    Ok(DemoOutcome {
        backend: "kvm",
        without_kvm: None,
        guests: [first.side()?, second.side()?],
        seconds,
        round_trip_ns: percentiles(trips),
    })
}

/// Until both are done. Guests that count no further are stuck.
fn watch(guests: &[Arc<Guest>; 2], go_on: GoOn<'_>) -> Result<(), DemoError> {
    let mut last = ([Side::default(); 2], Instant::now());
    while !guests.iter().all(|guest| guest.done.load(Ordering::Acquire)) {
        thread::sleep(Duration::from_millis(10));
        let now = [guests[0].side()?, guests[1].side()?];
        if now != last.0 {
            last = (now, Instant::now());
        } else if last.1.elapsed() > PATIENCE {
            return Err(DemoError::Stuck { guests: now });
        }
        if !go_on(now[0].sent) {
            return Err(DemoError::Interrupted);
        }
    }
    Ok(())
}

impl Guest {
    fn new(socket: &Path) -> Result<Self, DemoError> {
        let failed =
            |what| move |error: kvm_ioctls::Error| DemoError::System { what, source: error.into() };
        let vm = Kvm::new().and_then(|kvm| kvm.create_vm()).map_err(failed("KVM_CREATE_VM"))?;
        let vm = Arc::new(vm);
        // Only Intel's real mode needs it.
        vm.set_tss_address(0xfffb_d000).map_err(failed("KVM_SET_TSS_ADDR"))?;
        vm.create_irq_chip().map_err(failed("KVM_CREATE_IRQCHIP"))?;

        let events = Loop::new().map_err(DemoError::system("epoll"))?;
        let options = RouteOptions::new(Irqchip::Full);
        let routes = Routes::new(Box::new(Arc::clone(&vm)), options, events);
        let stream = UnixStream::connect(socket).map_err(DemoError::system("server"))?;
        let rings: Box<dyn Ioeventfds> = Box::new(Arc::clone(&vm));
        let mut device =
            IvshmemDevice::doorbell(stream, DeviceOptions::new(1), &routes, Quiet, Some(rings))?;
        // What firmware does.
        for (register, address) in [(0x10, REGISTERS), (0x14, TABLE), (0x18, SHARED)] {
            device.write_config(register, &address.to_le_bytes());
        }
        device.write_config(4, &[6, 0]);

        let shared = device.memory().map(|memory| memory.file().try_clone());
        let shared = shared.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()));
        let shared = shared.map_err(DemoError::system("shared memory"))?;
        let ranges = [
            (GuestAddress(0), MEMORY, None),
            (
                GuestAddress(SHARED.into()),
                super::meeting::MEMORY as usize,
                Some(FileOffset::new(shared, 0)),
            ),
        ];
        let mapped = GuestMemoryMmap::from_ranges_with_files(&ranges);
        let memory = mapped.map_err(of_memory)?;
        for (slot, region) in (0..).zip(memory.iter()) {
            let start = region.start_addr();
            let host = memory.get_host_address(start).map_err(of_memory)?;
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: start.0,
                memory_size: region.len(),
                userspace_addr: host.addr() as u64,
            };
            map(&vm, region).map_err(failed("KVM_SET_USER_MEMORY_REGION"))?;
        }
        let vcpu = vm.create_vcpu(0).map_err(failed("KVM_CREATE_VCPU"))?;
        lapic::enable(&vcpu, 0).map_err(failed("KVM_SET_LAPIC"))?;
        real_mode::enter(&vcpu, PROGRAM, STACK).map_err(failed("KVM_SET_SREGS"))?;
        let tsc_khz = vcpu.get_tsc_khz().map_err(failed("KVM_GET_TSC_KHZ"))?;
        Ok(Self {
            device: Mutex::new(device),
            routes,
            vcpu: Mutex::new(vcpu),
            exits: AtomicU64::new(0),
            done: AtomicBool::new(false),
            tsc_khz: u64::from(tsc_khz),
            _vm: vm,
            memory,
        })
    }

    fn device(&self) -> std::sync::MutexGuard<'_, IvshmemDevice<Quiet>> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the program into its memory, and what it has to know.
    fn load(&self, plan: DemoPlan, first: bool, other: &Self) -> Result<(), DemoError> {
        let (program, handler) = program();
        let write = |at: u64, bytes: &[u8]| self.memory.write_slice(bytes, GuestAddress(at));
        let (own, theirs) = (usize::from(!first), usize::from(first));
        let peer = other.device().id().unwrap_or_default();
        let words = [
            (FIRST, u32::from(first)),
            (TURNS, plan.turns),
            (FLOOD, plan.flood),
            (TOTAL, plan.rings()),
            (RING, u32::from(peer) << 16),
            (OWN, SHARED + count_of(own) as u32),
            (OTHER, SHARED + count_of(theirs) as u32),
        ];
        let written = write(PROGRAM.into(), program)
            .and_then(|()| write(4 * u64::from(VECTOR), &u32::from(handler).to_le_bytes()))
            .and_then(|()| {
                words.iter().try_for_each(|(at, word)| write((*at).into(), &word.to_le_bytes()))
            });
        written.map_err(of_memory)
    }

    fn word(&self, at: u32) -> Result<u32, DemoError> {
        self.memory.load(GuestAddress(at.into()), Ordering::Acquire).map_err(of_memory)
    }

    fn side(&self) -> Result<Side, DemoError> {
        Ok(Side {
            sent: self.word(SENT)?,
            taken: self.word(TAKEN)?,
            accounted: self.word(ACCOUNTED)?,
            exits: self.exits.load(Ordering::Relaxed),
            from_userspace: self.routes.stats().signals,
        })
    }

    /// In nanoseconds.
    fn round_trips(&self, plan: DemoPlan) -> Result<Vec<u64>, DemoError> {
        let ticks = |turn: u32| self.word(TRIPS + 4 * turn).map(u64::from);
        let nanoseconds = |ticks: u64| ticks * 1_000_000 / self.tsc_khz.max(1);
        (0..plan.turns).map(|turn| ticks(turn).map(nanoseconds)).collect()
    }

    /// Starts a thread of this guest.
    fn start(
        self: &Arc<Self>,
        end: &Arc<AtomicBool>,
        run: fn(&Self, &AtomicBool) -> Result<(), String>,
    ) -> JoinHandle<Result<(), String>> {
        let (guest, end) = (Arc::clone(self), Arc::clone(end));
        thread::spawn(move || run(&guest, &end))
    }

    /// The thread of what KVM does not deliver by itself.
    fn deliver(&self, end: &AtomicBool) -> Result<(), String> {
        while !end.load(Ordering::Relaxed) {
            let delivered = self.routes.run(Some(Duration::from_millis(5)));
            delivered.map_err(|error| format!("epoll: {error}"))?;
        }
        Ok(())
    }

    /// The processor's thread.
    fn run(&self, end: &AtomicBool) -> Result<(), String> {
        let mut vcpu = self.vcpu.lock().unwrap_or_else(PoisonError::into_inner);
        let mut config_address = 0;
        let mut started = false;
        while !end.load(Ordering::Relaxed) && !self.done.load(Ordering::Relaxed) {
            let exit = vcpu.run();
            match exit {
                Ok(VcpuExit::IoOut(START_PORT, _)) => started = true,
                Ok(VcpuExit::IoOut(STOP_PORT, _)) => self.done.store(true, Ordering::Release),
                Ok(exit) => {
                    self.exits.fetch_add(started.into(), Ordering::Relaxed);
                    self.access(exit, &mut config_address)?;
                }
                Err(error) if io::Error::from(error).kind() == io::ErrorKind::Interrupted => {
                    self.exits.fetch_add(started.into(), Ordering::Relaxed);
                }
                Err(error) => return Err(format!("KVM_RUN: {error}")),
            }
        }
        Ok(())
    }

    fn access(&self, exit: VcpuExit<'_>, config_address: &mut u32) -> Result<(), String> {
        match exit {
            VcpuExit::IoOut(0xcf8, &[a, b, c, d]) => {
                *config_address = u32::from_le_bytes([a, b, c, d]);
            }
            // The device is in slot 4.
            VcpuExit::IoOut(port @ 0xcfc..=0xcff, bytes) if *config_address >> 11 & 0x1f == 4 => {
                let register = *config_address as usize & 0xfc;
                self.device().write_config(register + usize::from(port - 0xcfc), bytes);
            }
            VcpuExit::MmioWrite(address, bytes) => {
                let mut device = self.device();
                if let Some((bar, offset)) = device.decode(address) {
                    device.write_bar(bar, offset, bytes);
                }
            }
            VcpuExit::MmioRead(address, bytes) => {
                let device = self.device();
                bytes.fill(0xff);
                if let Some((bar, offset)) = device.decode(address) {
                    device.read_bar(bar, offset, bytes);
                }
            }
            VcpuExit::Intr => {}
            other => return Err(format!("exit {other:?}")),
        }
        Ok(())
    }
}

fn of_memory(error: impl std::error::Error + Send + Sync + 'static) -> DemoError {
    DemoError::System { what: "guest memory", source: io::Error::other(error) }
}

#[expect(unsafe_code, reason = "only the caller knows how long the memory stays mapped")]
fn map(vm: &VmFd, region: kvm_userspace_memory_region) -> Result<(), kvm_ioctls::Error> {
    // SAFETY: `region` is mapped by the `GuestMemoryMmap` of a `Guest`, which outlives its VM, and
    // into which nobody takes references.
    unsafe { vm.set_user_memory_region(region) }
}
