//! A guest of some thirty bytes: a handler that counts, under code that spins or halts.

use crate::measure::Outcome;
use crate::vm::{ADDRESS, DATA};
use kvm_bindings::{
    kvm_lapic_state as Lapic, kvm_msi, kvm_regs as Registers, kvm_segment as Segment,
    kvm_userspace_memory_region as Region,
};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use std::hint::spin_loop;
use std::io;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What a guest does between interrupts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Idle {
    Spins,
    Halts,
}

/// A guest on the first processor of a machine that has no other memory.
pub(crate) struct Guest {
    vm: Arc<VmFd>,
    ram: &'static Ram,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Guest {
    pub(crate) fn start(vm: Arc<VmFd>, mut vcpu: VcpuFd, idle: Idle) -> Outcome<Self> {
        let ram = Ram::holding(match idle {
            Idle::Spins => &SPIN,
            Idle::Halts => &HALT,
        });
        map(&vm, ram)?;
        reset(&vcpu)?;
        let thread = thread::spawn(move || {
            loop {
                match vcpu.run() {
                    Ok(VcpuExit::IoOut(STOP_PORT, _)) => return Ok(()),
                    Ok(VcpuExit::Intr) => {}
                    Err(error) if io::Error::from(error).kind() == io::ErrorKind::Interrupted => {}
                    other => return Err(format!("{other:?}")),
                }
            }
        });
        Ok(Self { vm, ram, thread: Some(thread) })
    }

    /// The time from before `fire` to when the handler's count is seen to have changed.
    pub(crate) fn latency(&self, fire: impl FnOnce() -> Outcome<()>) -> Outcome<Duration> {
        let before = self.ram.count();
        let start = Instant::now();
        fire()?;
        loop {
            for _ in 0..1000 {
                if self.ram.count() != before {
                    return Ok(start.elapsed());
                }
                spin_loop();
            }
            if start.elapsed() > Duration::from_secs(5) {
                return Err("an interrupt that does not reach the guest".into());
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let stop = kvm_msi { address_lo: ADDRESS, data: STOP, ..Default::default() };
        if self.vm.signal_msi(stop).is_err() {
            return; // the thread ends with the process
        }
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Ok(()))) | None => {}
            Some(failed) => eprintln!("the guest failed: {failed:?}"),
        }
    }
}

/// Guest memory from address 0 on, never freed.
#[repr(C, align(4096))]
struct Ram([AtomicU32; 0x1000]);

impl Ram {
    fn holding(idle: &[u8]) -> &'static Self {
        let mut image = vec![0; 0x4000];
        let mut put = |at: u16, bytes: &[u8]| {
            image[usize::from(at)..][..bytes.len()].copy_from_slice(bytes);
        };
        put(ENTRY, idle);
        for (interrupt, handler, code) in [(DATA, COUNTING, &COUNT[..]), (STOP, LEAVING, &LEAVE)] {
            put(handler, code);
            put(4 * interrupt as u16, &handler.to_le_bytes()); // the segment is 0
        }
        let words = image.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
        let ram = Box::leak(Box::new(Self([const { AtomicU32::new(0) }; 0x1000])));
        ram.0.iter().zip(words).for_each(|(to, word)| to.store(word, Ordering::Relaxed));
        ram
    }

    fn count(&self) -> u32 {
        self.0[COUNTER / 4].load(Ordering::Acquire)
    }
}

#[expect(unsafe_code, reason = "only the caller knows how long the memory stays")]
fn map(vm: &VmFd, ram: &'static Ram) -> Result<(), kvm_ioctls::Error> {
    let region = Region {
        memory_size: size_of::<Ram>() as u64,
        userspace_addr: ptr::from_ref(ram).expose_provenance() as u64,
        ..Default::default()
    };
    // SAFETY: it is never freed, and is atomics, which may change under shared references.
    unsafe { vm.set_user_memory_region(region) }
}

/// Real mode at the entry, with every address in reach of FS.
fn reset(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut special = vcpu.get_sregs()?;
    let low = |segment: Segment| Segment { base: 0, selector: 0, ..segment };
    special.cs = low(special.cs);
    special.ds = low(special.ds);
    special.ss = low(special.ss);
    special.fs = Segment { limit: u32::MAX, g: 1, ..low(special.fs) };
    vcpu.set_sregs(&special)?;
    let (rip, rsp) = (u64::from(ENTRY), u64::from(STACK));
    vcpu.set_regs(&Registers { rip, rsp, rflags: 2, ..Default::default() })
}

/// Makes the local APIC take interrupts.
pub(crate) fn enable_apic(vcpu: &VcpuFd) -> Outcome<()> {
    let mut state = vcpu.get_lapic()?;
    store(&mut state, SPIV, 0x1ff);
    Ok(vcpu.set_lapic(&state)?)
}

/// Whether the local APIC was asked for [`DATA`]. It then forgets it.
pub(crate) fn take_request(vcpu: &VcpuFd) -> Outcome<bool> {
    let mut state = vcpu.get_lapic()?;
    let register = IRR + 0x10 * (DATA as usize / 32);
    let requested = state.regs[register + DATA as usize % 32 / 8] as u8 >> (DATA % 8) & 1 != 0;
    store(&mut state, register, 0);
    vcpu.set_lapic(&state)?;
    Ok(requested)
}

fn store(state: &mut Lapic, register: usize, value: u32) {
    for (to, from) in state.regs[register..].iter_mut().zip(value.to_le_bytes()) {
        *to = from as _;
    }
}

/// The interrupt that ends the guest.
const STOP: u32 = 0x42;
const STOP_PORT: u16 = 0x10;

const COUNTER: usize = 0x800;
const COUNTING: u16 = 0x1000;
const LEAVING: u16 = 0x1100;
const ENTRY: u16 = 0x1200;
const STACK: u16 = 0x3ff0;

#[rustfmt::skip]
const COUNT: [u8; 19] = [
    0x66, 0xff, 0x06, 0x00, 0x08, // inc dword [COUNTER]
    0x64, 0x67, 0x66, 0xc7, 0x05, 0xb0, 0x00, 0xe0, 0xfe, 0, 0, 0, 0, // mov dword fs:[EOI], 0
    0xcf, // iret
];
const LEAVE: [u8; 2] = [0xe6, STOP_PORT as u8]; // out STOP_PORT, al
const SPIN: [u8; 3] = [0xfb, 0xeb, 0xfe]; // sti; jmp $
const HALT: [u8; 4] = [0xfb, 0xf4, 0xeb, 0xfd]; // sti; hlt; jmp to hlt

const SPIV: usize = 0xf0;
const IRR: usize = 0x200;
