//! A guest of a few instructions, in real mode: it does to the device what a driver does, takes its
//! interrupts, and says on the console what it counted.

use crate::Outcome;
use crate::cpu::Cpu;
use crate::machine::Machine;
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use kvm_bindings::{kvm_regs, kvm_segment};
use std::io::Write;
use vm_memory::{Bytes as _, GuestAddress};

/// Runs it on a machine of its own, until it resets the machine.
pub(crate) fn run(console: Box<dyn Write + Send>) -> Outcome {
    let mut machine = Machine::new(2 << 20, 1, console)?;
    machine.memory.write_slice(&program()?, GuestAddress(ENTRY.into()))?;
    machine.memory.write_slice(&handler()?, GuestAddress(HANDLER.into()))?;
    // Offset and segment of the interrupt's handler.
    machine.memory.write_obj(HANDLER, GuestAddress(4 * u64::from(INTERRUPT)))?;
    machine.run(enter)
}

/// Puts a processor at the program, with all 4 GiB in reach of FS.
fn enter(cpu: &Cpu) -> Outcome {
    let mut special = cpu.fd.get_sregs()?;
    let low = |segment| kvm_segment { base: 0, selector: 0, ..segment };
    (special.cs, special.ds, special.ss) = (low(special.cs), low(special.ds), low(special.ss));
    special.fs = kvm_segment { limit: u32::MAX, g: 1, ..low(special.fs) };
    cpu.fd.set_sregs(&special)?;
    let regs = kvm_regs {
        rip: ENTRY.into(),
        rsp: HANDLER.into(), // the stack ends there
        rflags: 2,           // a bit that is always set
        ..Default::default()
    };
    Ok(cpu.fd.set_regs(&regs)?)
}

/// Counts the interrupt, and ends it at the local APIC.
fn handler() -> Result<Vec<u8>, IcedError> {
    let mut asm = CodeAssembler::new(16)?;
    asm.push(edi)?;
    asm.mov(edi, COUNT)?;
    asm.inc(dword_ptr(edi).fs())?;
    asm.mov(edi, LOCAL_APIC + 0xb0)?;
    asm.mov(dword_ptr(edi).fs(), 0)?;
    asm.pop(edi)?;
    asm.iret()?;
    asm.assemble(HANDLER.into())
}

fn program() -> Result<Vec<u8>, IcedError> {
    let mut guest = Program { asm: CodeAssembler::new(16)?, wrong: CodeLabel::default() };
    guest.wrong = guest.asm.create_label();

    guest.write(LOCAL_APIC + 0xf0, 0x1ff)?; // on
    guest.write_config(0x10, BAR)?;
    guest.write_config(0x04, 0x6)?; // memory, bus master
    guest.write_config(0x40, 0x8000_0000)?; // MSI-X enable
    guest.write(ENTRY_1, LOCAL_APIC)?;
    guest.write(ENTRY_1 + 8, INTERRUPT.into())?;
    guest.write(ENTRY_1 + 12, 0)?;
    guest.asm.sti()?;

    for times in 1..=5 {
        guest.write(OUTSIDE, 1)?;
        guest.wait(COUNT, times)?;
    }
    guest.say("5 events, 5 interrupts\n")?;

    guest.write(ENTRY_1 + 12, 1)?;
    guest.write(OUTSIDE, 3)?;
    guest.wait(OUTSIDE, 8)?;
    guest.expect(PENDING, 0b10)?;
    guest.expect(COUNT, 5)?;
    guest.write(ENTRY_1 + 12, 0)?;
    guest.wait(COUNT, 6)?;
    guest.expect(PENDING, 0)?;
    guest.say("3 events while the vector is masked, 1 interrupt\n")?;

    guest.write_config(0x40, 0xc000_0000)?; // function mask
    guest.write(OUTSIDE, 4)?;
    guest.wait(OUTSIDE, 12)?;
    guest.expect(PENDING, 0b10)?;
    guest.expect(COUNT, 6)?;
    guest.write_config(0x40, 0x8000_0000)?;
    guest.wait(COUNT, 7)?;
    guest.say("4 events while the function is masked, 1 interrupt\n")?;

    guest.write(OUTSIDE, 1)?;
    guest.wait(COUNT, 8)?; // and none came twice
    guest.say("12 events, 8 interrupts\n")?;
    let mut end = guest.asm.create_label();
    guest.asm.jmp(end)?;
    guest.asm.set_label(&mut guest.wrong.clone())?;
    guest.say("a count is wrong\n")?;
    guest.asm.set_label(&mut end)?;
    guest.asm.mov(al, 0xfe)?;
    guest.asm.out(0x64, al)?; // reset
    guest.asm.assemble(ENTRY.into())
}

/// The guest's instructions. A word is four bytes, of memory and of the device alike.
struct Program {
    asm: CodeAssembler,
    /// Where it goes when something is wrong.
    wrong: CodeLabel,
}

impl Program {
    fn write(&mut self, at: u32, value: u32) -> Result<(), IcedError> {
        self.asm.mov(edi, at)?;
        self.asm.mov(dword_ptr(edi).fs(), value)
    }

    /// Writes configuration space of device 1.
    fn write_config(&mut self, register: u32, value: u32) -> Result<(), IcedError> {
        for (port, value) in [(0xcf8, 0x8000_0800 | register), (0xcfc, value)] {
            self.asm.mov(dx, port)?;
            self.asm.mov(eax, value)?;
            self.asm.out(dx, eax)?;
        }
        Ok(())
    }

    /// Waits until a word has a value.
    fn wait(&mut self, at: u32, value: u32) -> Result<(), IcedError> {
        let mut again = self.asm.create_label();
        self.asm.mov(edi, at)?;
        self.asm.set_label(&mut again)?;
        self.asm.pause()?;
        self.asm.cmp(dword_ptr(edi).fs(), value)?;
        self.asm.jne(again)
    }

    /// Goes on only if a word has a value.
    fn expect(&mut self, at: u32, value: u32) -> Result<(), IcedError> {
        self.asm.mov(edi, at)?;
        self.asm.cmp(dword_ptr(edi).fs(), value)?;
        self.asm.jne(self.wrong)
    }

    /// Writes to the console.
    fn say(&mut self, text: &str) -> Result<(), IcedError> {
        self.asm.mov(dx, 0x3f8)?;
        for byte in text.bytes() {
            self.asm.mov(al, u32::from(byte))?;
            self.asm.out(dx, al)?;
        }
        Ok(())
    }
}

const ENTRY: u16 = 0x1000;
const HANDLER: u32 = 0x800;
/// Where the handler counts.
const COUNT: u32 = 0x500;
const INTERRUPT: u8 = 0x41;
const LOCAL_APIC: u32 = 0xfee0_0000;
/// Where the guest puts BAR 0, and what it has of it.
const BAR: u32 = 0xe000_0000;
const OUTSIDE: u32 = BAR + 0x2000;
const ENTRY_1: u32 = BAR + 0x4010;
const PENDING: u32 = BAR + 0x4020;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Console(Arc<Mutex<Vec<u8>>>);

    impl Write for Console {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_guest_counts_each_event_once() {
        if kvm_ioctls::Kvm::new().is_err() {
            assert!(std::env::var_os("MSIX_REQUIRE_ALL").is_none(), "no /dev/kvm");
            eprintln!("skipped: no /dev/kvm");
            return;
        }
        let console = Console::default();
        run(Box::new(console.clone())).unwrap();
        let text = String::from_utf8(console.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "5 events, 5 interrupts\n\
             3 events while the vector is masked, 1 interrupt\n\
             4 events while the function is masked, 1 interrupt\n\
             12 events, 8 interrupts\n"
        );
    }
}
