//! Programs for a guest, written as lists of steps and assembled to an image of low memory.
//!
//! Real mode, where code, stack and data share the segment at 0, and FS reaches all 4 GiB: the
//! host sets its limit ("unreal mode"), so that the local APIC's EOI register is within reach.
//!
//! | from | what |
//! |---|---|
//! | 0 | interrupt vector table |
//! | 0x400 | how often each vector was taken, 32 bits each ([`counter`]) |
//! | 0x800 | stack |
//! | 0x1000 | a handler a vector, 32 bytes each |
//! | 0x3000 | the steps, to 0xffff |

use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// What a guest does, one after the other. Addresses are guest-physical; a step that takes one
/// reaches RAM and MMIO alike, in one access of the step's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writes a byte at an address.
    Write8(u32, u8),
    /// Writes two bytes at an address.
    Write16(u32, u16),
    /// Writes four bytes at an address.
    Write32(u32, u32),
    /// Writes eight bytes at an address.
    Write64(u32, u64),
    /// Reads four bytes at `from` and stores them in RAM at `to`.
    Read32 {
        /// The address to read.
        from: u32,
        /// The address to store to.
        to: u32,
    },
    /// Writes a 32-bit value to a port other than [`STOP_PORT`] and [`FAULT_PORT`].
    Out(u16, u32),
    /// Takes interrupts from here on. A guest starts without.
    Sti,
    /// Takes no interrupts from here on.
    Cli,
    /// Spins until the word in RAM at an address has a value: how a test holds the guest until it
    /// says to go on.
    WaitWord(u32, u32),
    /// Spins until an interrupt vector was taken so many times or more (only after [`Step::Sti`]).
    WaitCount(u8, u32),
    /// Halts, with interrupts enabled, until an interrupt vector was taken so many times or more.
    /// Interrupts are enabled afterwards.
    HaltUntilCount(u8, u32),
    /// Does the steps so many times, once at least.
    Repeat(u32, Vec<Step>),
    /// Halts for good, waking only for interrupts where they are enabled. Every program ends so.
    Halt,
    /// Ends the guest: [`Guest::finish`](super::Guest::finish) waits for that.
    Stop,
}

/// Where in RAM the guest counts how often it took interrupt `vector`: 32 bits that wrap.
#[must_use]
pub const fn counter(vector: u8) -> u32 {
    COUNTERS + 4 * vector as u32
}

/// A guest program: low memory as it is when the guest starts.
#[derive(Clone, Debug)]
pub struct Program {
    pub(super) image: Vec<u8>,
}

impl Program {
    /// Assembles `steps`.
    ///
    /// From vector 16 on, every interrupt has a handler that adds one to [`counter`], signals EOI to
    /// the local APIC and returns. Below are the processor's exceptions: taking one ends the guest,
    /// and is a panic of the test.
    ///
    /// # Panics
    /// When the program does not fit into its 52 KiB (a step takes up to 40 bytes).
    #[must_use]
    pub fn new(steps: &[Step]) -> Self {
        let image = assemble(steps).unwrap_or_else(|e| panic!("assembling a guest program: {e}"));
        assert!(image.len() <= END, "a guest program that ends at {:#x}", image.len());
        Self { image }
    }
}

fn assemble(steps: &[Step]) -> Result<Vec<u8>, IcedError> {
    let mut image = vec![0; usize::from(ENTRY)];
    for vector in 0..=u8::MAX {
        let ip = HANDLERS + HANDLER_BYTES * u16::from(vector);
        let code = handler(vector)?.assemble(ip.into())?;
        image[usize::from(ip)..][..code.len()].copy_from_slice(&code);
        // The segment, the other half of the entry, is 0.
        image[4 * usize::from(vector)..][..2].copy_from_slice(&ip.to_le_bytes());
    }
    let mut asm = CodeAssembler::new(BITS)?;
    for step in steps.iter().chain([&Step::Halt]) {
        emit(&mut asm, step)?;
    }
    image.extend(asm.assemble(ENTRY.into())?);
    Ok(image)
}

fn handler(vector: u8) -> Result<CodeAssembler, IcedError> {
    let mut asm = CodeAssembler::new(BITS)?;
    if vector < FIRST_INTERRUPT {
        asm.mov(al, u32::from(vector))?;
        asm.out(u32::from(FAULT_PORT), al)?;
        return Ok(asm);
    }
    asm.push(edi)?;
    asm.mov(edi, counter(vector))?;
    asm.inc(dword_ptr(edi).fs())?;
    asm.mov(edi, EOI)?;
    asm.mov(dword_ptr(edi).fs(), 0)?;
    asm.pop(edi)?;
    asm.iret()?;
    Ok(asm)
}

/// Steps are free to use EAX, DX, EDI and MM0.
fn emit(asm: &mut CodeAssembler, step: &Step) -> Result<(), IcedError> {
    match *step {
        Step::Write8(at, value) => {
            asm.mov(edi, at)?;
            asm.mov(byte_ptr(edi).fs(), u32::from(value))
        }
        Step::Write16(at, value) => {
            asm.mov(edi, at)?;
            asm.mov(word_ptr(edi).fs(), u32::from(value))
        }
        Step::Write32(at, value) => {
            asm.mov(edi, at)?;
            asm.mov(dword_ptr(edi).fs(), value)
        }
        Step::Write64(at, value) => {
            // Real mode has no 64-bit general registers: MMX has, by way of the stack.
            for half in [value >> 32, value & u64::from(u32::MAX)] {
                asm.mov(eax, half as u32)?;
                asm.push(eax)?;
            }
            asm.mov(edi, esp)?;
            asm.movq(mm0, qword_ptr(edi).fs())?;
            asm.add(sp, 8)?;
            asm.mov(edi, at)?;
            asm.movq(qword_ptr(edi).fs(), mm0)
        }
        Step::Read32 { from, to } => {
            asm.mov(edi, from)?;
            asm.mov(eax, dword_ptr(edi).fs())?;
            asm.mov(edi, to)?;
            asm.mov(dword_ptr(edi).fs(), eax)
        }
        Step::Out(port, value) => {
            asm.mov(dx, u32::from(port))?;
            asm.mov(eax, value)?;
            asm.out(dx, eax)
        }
        Step::Sti => asm.sti(),
        Step::Cli => asm.cli(),
        Step::WaitWord(at, value) => {
            let mut again = asm.create_label();
            asm.mov(edi, at)?;
            asm.set_label(&mut again)?;
            asm.pause()?;
            asm.cmp(dword_ptr(edi).fs(), value)?;
            asm.jne(again)
        }
        Step::WaitCount(vector, count) => {
            let mut again = asm.create_label();
            asm.mov(edi, counter(vector))?;
            asm.set_label(&mut again)?;
            asm.pause()?;
            asm.cmp(dword_ptr(edi).fs(), count)?;
            asm.jb(again)
        }
        Step::HaltUntilCount(vector, count) => {
            let (mut again, mut enough) = (asm.create_label(), asm.create_label());
            asm.mov(edi, counter(vector))?;
            asm.set_label(&mut again)?;
            // STI takes effect after HLT began, so that no interrupt comes between look and halt.
            asm.cli()?;
            asm.cmp(dword_ptr(edi).fs(), count)?;
            asm.jae(enough)?;
            asm.sti()?;
            asm.hlt()?;
            asm.jmp(again)?;
            asm.set_label(&mut enough)?;
            asm.sti()
        }
        Step::Repeat(times, ref steps) => {
            let mut again = asm.create_label();
            asm.mov(ecx, times.max(1))?;
            asm.set_label(&mut again)?;
            asm.push(ecx)?;
            for step in steps {
                emit(asm, step)?;
            }
            asm.pop(ecx)?;
            asm.dec(ecx)?;
            asm.jne(again)
        }
        Step::Halt => {
            let mut again = asm.create_label();
            asm.set_label(&mut again)?;
            asm.hlt()?;
            asm.jmp(again)
        }
        Step::Stop => asm.out(u32::from(STOP_PORT), al),
    }
}

/// A guest that writes here stops.
pub const STOP_PORT: u16 = 0xf4;
/// A guest that writes here took the exception whose vector it writes.
pub const FAULT_PORT: u16 = 0xf5;
/// Where the steps start.
pub(super) const ENTRY: u16 = HANDLERS + HANDLER_BYTES * 256;
/// The stack grows down from here, towards the counters.
pub(super) const STACK: u16 = HANDLERS;

const COUNTERS: u32 = 0x400;
const HANDLERS: u16 = 0x1000;
const HANDLER_BYTES: u16 = 32;
const END: usize = 0x1_0000;
/// The local APIC takes messages from this vector on.
const FIRST_INTERRUPT: u8 = 16;
const EOI: u32 = 0xfee0_00b0;
const BITS: u32 = 16;
