//! The two ports that the image reports through: QEMU's `isa-debugcon` and `isa-debug-exit`.

#![expect(unsafe_code, reason = "ports")]

use core::arch::asm;
use core::fmt;

const CONSOLE: u16 = 0xe9;
const EXIT: u16 = 0xf4;

/// The debug console.
pub(crate) struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| out(CONSOLE, byte));
        Ok(())
    }
}

/// Writes a line to the debug console.
macro_rules! say {
    ($($words:tt)*) => {{
        use core::fmt::Write as _;
        let _ = writeln!($crate::ports::Console, $($words)*);
    }};
}
pub(crate) use say;

/// Ends the machine with a result: 0 when all is well.
pub(crate) fn exit(result: u8) -> ! {
    out(EXIT, result);
    loop {
        // SAFETY: nothing wakes the processor, which is the intent.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
    }
}

fn out(port: u16, value: u8) {
    // SAFETY: both ports are those of the debugging devices, which touch no memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) }
}
