//! A small guest in the guest: it writes registers by trapped accesses, takes interrupts in a handler of
//! its own, and counts them.

use crate::tests::text;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap};

/// A virtual machine whose one processor does some accesses, and then halts with interrupts enabled.
/// Interrupts from 0x40 to 0x4f are counted, [`LINE`] with a word to the VMM first, and [`SHARED`] with
/// a question for each of its sharers; 0x50 ends it.
pub(crate) struct Nested {
    pub(crate) vm: Arc<VmFd>,
    memory: GuestMemoryMmap,
    cpu: Option<VcpuFd>,
    processor: Option<JoinHandle<Result<(), String>>>,
}

/// What the guest does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access {
    /// Writes four bytes at an address where there is no memory.
    Write(u32, u32),
    /// Writes four bytes to a port other than 0xf4.
    Out(u8, u32),
    /// Reads a byte of a port.
    In(u8),
}

const SIZE: usize = 0x4000;
const CODE: u64 = 0x1000;
const HANDLERS: u64 = 0x2000;
const COUNTERS: u64 = 0x500;
const FIRST: u8 = 0x40;
/// The interrupt whose handler has its device satisfied first: a level.
pub(crate) const LINE: u8 = 0x4f;
/// The port that it writes for that.
pub(crate) const SATISFY: u8 = 0xf5;
/// The interrupt whose handler reads Status of each function that may have caused it, and has those
/// satisfied that say so: a level that functions share.
pub(crate) const SHARED: u8 = 0x4e;
/// How many share it.
pub(crate) const SHARERS: u8 = 3;
/// The ports of the low byte of Status, one for each that shares.
pub(crate) const STATUS: u8 = 0xe0;
/// The ports that are written to satisfy a sharer.
pub(crate) const SATISFY_SHARER: u8 = 0xe8;
const LAST: u8 = 0x50;

/// `sti; hlt; jmp` back.
const MAIN: [u8; 4] = [0xfb, 0xf4, 0xeb, 0xfc];

/// The accesses, and then `sti; hlt` for good.
fn program(accesses: &[Access]) -> Vec<u8> {
    let mut code = Vec::new();
    for access in accesses {
        match *access {
            Access::Write(address, value) => {
                code.extend([0x66, 0xbf]); // mov edi, address
                code.extend(address.to_le_bytes());
                code.extend([0x67, 0x64, 0x66, 0xc7, 0x07]); // mov dword fs:[edi], value
                code.extend(value.to_le_bytes());
            }
            Access::Out(port, value) => {
                code.extend([0x66, 0xb8]); // mov eax, value
                code.extend(value.to_le_bytes());
                code.extend([0x66, 0xe7, port]); // out port, eax
            }
            Access::In(port) => code.extend([0xe4, port]), // in al, port
        }
    }
    code.extend(MAIN);
    code
}

/// Counts a word up, ends the interrupt at the local APIC through FS, whose limit is 4 GiB, and
/// returns.
fn handler(counter: u16) -> Vec<u8> {
    let [low, high] = counter.to_le_bytes();
    let mut code = vec![0x66, 0xff, 0x06, low, high]; // inc dword [counter]
    code.extend([0x66, 0xbf, 0xb0, 0x00, 0xe0, 0xfe]); // mov edi, 0xfee000b0
    code.extend([0x67, 0x64, 0x66, 0xc7, 0x07, 0, 0, 0, 0]); // mov dword fs:[edi], 0
    code.push(0xcf); // iret
    code
}

/// Asks sharer by sharer for Interrupt Status, and has those satisfied that assert.
fn ask_sharers() -> Vec<u8> {
    let ask = |sharer| {
        let read = [0xe4, STATUS + sharer]; // in al, STATUS
        let test = [0xa8, 1 << 3, 0x74, 3]; // test al, Interrupt Status; jz to the next
        let satisfy = [0x66, 0xe7, SATISFY_SHARER + sharer]; // out SATISFY_SHARER, eax
        [&read[..], &test, &satisfy].concat()
    };
    (0..SHARERS).flat_map(ask).collect()
}

impl Nested {
    /// Makes it.
    pub(crate) fn new(kvm: &Kvm, accesses: &[Access]) -> Result<Self, String> {
        Self::of_code(kvm, &program(accesses))
    }

    /// Makes one that runs this code, in real mode with FS over all 4 GiB.
    pub(crate) fn of_code(kvm: &Kvm, code: &[u8]) -> Result<Self, String> {
        let memory: GuestMemoryMmap =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), SIZE)]).map_err(text)?;
        if CODE + code.len() as u64 > HANDLERS {
            return Err(format!("a program of {} bytes", code.len()));
        }
        memory.write_slice(code, GuestAddress(CODE)).map_err(text)?;
        for interrupt in FIRST..=LAST {
            let place = HANDLERS + u64::from(interrupt - FIRST) * 64;
            let counter = u16::try_from(counter(interrupt)).map_err(text)?;
            let code = match interrupt {
                LAST => vec![0xe6, 0xf4], // out 0xf4, al
                // out SATISFY, eax: what its device wants before the end of the interrupt
                LINE => [&[0x66, 0xe7, SATISFY], &*handler(counter)].concat(),
                SHARED => [ask_sharers(), handler(counter)].concat(),
                _ => handler(counter),
            };
            memory.write_slice(&code, GuestAddress(place)).map_err(text)?;
            let vector = u32::try_from(place).map_err(text)?; // segment 0
            let entry = GuestAddress(u64::from(interrupt) * 4);
            memory.write_obj(vector, entry).map_err(text)?;
        }
        let vm = Arc::new(kvm.create_vm().map_err(text)?);
        vm.create_irq_chip().map_err(text)?;
        let host = memory.get_host_address(GuestAddress(0)).map_err(text)?;
        let region = kvm_userspace_memory_region {
            memory_size: SIZE as u64,
            userspace_addr: host.addr() as u64,
            ..Default::default()
        };
        // SAFETY: The processor's thread, the last to use the machine, ends before the memory is
        // unmapped, or never; then it is leaked.
        #[expect(unsafe_code, reason = "KVM takes an address")]
        unsafe { vm.set_user_memory_region(region) }.map_err(text)?;
        let cpu = Some(prepared(&vm)?);
        Ok(Self { vm, memory, cpu, processor: None })
    }

    /// Its processor, which was not started yet.
    pub(crate) fn cpu(&self) -> Result<&VcpuFd, String> {
        self.cpu.as_ref().ok_or_else(|| "the processor runs".to_owned())
    }

    /// Starts its processor, whose accesses go to `access`, which returns what a read reads.
    pub(crate) fn start(&mut self, access: impl FnMut(Access) -> u8 + Send + 'static) {
        if let Some(cpu) = self.cpu.take() {
            self.processor = Some(std::thread::spawn(move || run(cpu, access)));
        }
    }

    /// Starts its processor, whose exits go to `exit`.
    pub(crate) fn start_at_exits(
        &mut self,
        mut exit: impl FnMut(VcpuExit<'_>) -> Result<(), String> + Send + 'static,
    ) -> Result<(), String> {
        let Some(cpu) = self.cpu.take() else { return Ok(()) };
        let named = std::thread::Builder::new().name("vcpu0".to_owned());
        let processor = named.spawn(move || run_to_exits(cpu, &mut exit)).map_err(text)?;
        self.processor = Some(processor);
        Ok(())
    }

    /// How often an interrupt was taken.
    pub(crate) fn count(&self, interrupt: u8) -> Result<u32, String> {
        self.memory.read_obj(GuestAddress(counter(interrupt))).map_err(text)
    }

    /// Waits until an interrupt was taken so many times.
    pub(crate) fn wait(&self, interrupt: u8, count: u32) -> Result<(), String> {
        let begun = Instant::now();
        while self.count(interrupt)? < count {
            if begun.elapsed() > Duration::from_secs(10) {
                let got = self.count(interrupt)?;
                return Err(format!("interrupt {interrupt:#x}: taken {got} times, not {count}"));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        let end = kvm_bindings::kvm_msi {
            address_lo: 0xfee0_0000,
            data: u32::from(LAST),
            ..Default::default()
        };
        let told = self.vm.signal_msi(end);
        let begun = Instant::now();
        while let (Ok(_), Some(processor)) = (told, self.processor.as_ref()) {
            if processor.is_finished() || begun.elapsed() > Duration::from_secs(10) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        match self.processor.take() {
            Some(processor) if processor.is_finished() => {
                if let Ok(Err(error)) = processor.join() {
                    println!("the nested guest: {error}");
                }
            }
            // It would run on without its memory.
            _ => std::mem::forget(self.memory.clone()),
        }
    }
}

fn counter(interrupt: u8) -> u64 {
    COUNTERS + u64::from(interrupt - FIRST) * 4
}

fn prepared(vm: &VmFd) -> Result<VcpuFd, String> {
    let cpu = vm.create_vcpu(0).map_err(text)?;
    let mut segments = cpu.get_sregs().map_err(text)?;
    segments.cs.base = 0;
    segments.cs.selector = 0;
    segments.fs.limit = u32::MAX;
    segments.fs.g = 1;
    cpu.set_sregs(&segments).map_err(text)?;
    let mut registers = cpu.get_regs().map_err(text)?;
    registers.rip = CODE;
    registers.rsp = 0x4000;
    registers.rflags = 2;
    cpu.set_regs(&registers).map_err(text)?;
    enable_apic(&cpu)?;
    Ok(cpu)
}

/// Enables the local APIC in software (K13), with a logical id of its own as Linux gives it.
pub(crate) fn enable_apic(cpu: &VcpuFd) -> Result<(), String> {
    let mut lapic = cpu.get_lapic().map_err(text)?;
    lapic.regs[0xf0] = -1;
    lapic.regs[0xf1] = 1;
    lapic.regs[0xd3] = 1 << lapic.regs[0x23]; // LDR, from the id
    lapic.regs[0xe0..0xe4].fill(-1); // DFR: flat
    cpu.set_lapic(&lapic).map_err(text)
}

fn run(cpu: VcpuFd, mut access: impl FnMut(Access) -> u8) -> Result<(), String> {
    let value = |data: &[u8]| data.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    run_to_exits(cpu, &mut |exit| {
        match exit {
            VcpuExit::IoOut(port, data) => {
                let port = u8::try_from(port).map_err(text)?;
                access(Access::Out(port, value(data).ok_or("a short port write")?));
            }
            VcpuExit::IoIn(port, data) => {
                let port = u8::try_from(port).map_err(text)?;
                data.fill(access(Access::In(port)));
            }
            VcpuExit::MmioWrite(address, data) => {
                let address = u32::try_from(address).map_err(text)?;
                access(Access::Write(address, value(data).ok_or("a short write")?));
            }
            other => return Err(format!("{other:?}")),
        }
        Ok(())
    })
}

/// Until the guest ends itself.
fn run_to_exits(
    mut cpu: VcpuFd,
    exit: &mut dyn FnMut(VcpuExit<'_>) -> Result<(), String>,
) -> Result<(), String> {
    loop {
        match cpu.run() {
            Ok(VcpuExit::IoOut(0xf4, _)) => return Ok(()),
            Ok(other) => exit(other)?,
            Err(error) if error.errno() == rustix::io::Errno::INTR.raw_os_error() => {}
            Err(error) => return Err(text(error)),
        }
    }
}
