//! The guest in the guest: code for arm64, assembled with this program and copied to the guest's memory.
//!
//! Every processor sleeps, and counts the interrupts that it takes, by their numbers. Processor 0 also does
//! accesses that the host writes down for it: registers are the guest's to write.

#![expect(unsafe_code, reason = "code for another machine, and its first and last byte")]

use std::arch::global_asm;

/// Where memory and code begin.
pub(crate) const RAM: u64 = 0x4000_0000;
/// How much there is.
pub(crate) const SIZE: usize = 0x20_0000;
/// Not 0 while accesses are to be done.
pub(crate) const MAILBOX: u64 = RAM + 0x1000;
/// Not 0 with a GICv2.
pub(crate) const IS_V2: u64 = RAM + 0x1100;
/// Counters of LPIs, from 8192 on; those of processor 1 follow a page behind.
pub(crate) const LPI_COUNTS: u64 = RAM + 0x2000;
/// Counters of all other interrupts; those of processor 1 follow a page behind.
pub(crate) const SPI_COUNTS: u64 = RAM + 0x8000;
/// Accesses: address, value, kind.
pub(crate) const SCRIPT: u64 = RAM + 0x1_0000;
/// Where LPIs are configured, and where they pend: of processor 0, and of processor 1 a page of 64 KiB behind.
pub(crate) const PROPERTIES: u64 = RAM + 0x2_0000;
pub(crate) const PENDING: u64 = RAM + 0x10_0000;
/// The ITS's tables of devices and of collections, its commands, and its tables of events.
pub(crate) const DEVICES: u64 = RAM + 0x4_0000;
pub(crate) const COLLECTIONS: u64 = RAM + 0x5_0000;
pub(crate) const COMMANDS: u64 = RAM + 0x6_0000;
pub(crate) const EVENTS: u64 = RAM + 0x7_0000;
/// What the handler of the level [`LEVEL`] writes to, before the end of the interrupt.
pub(crate) const SATISFY: u64 = 0x0a00_0008;
/// Where the guest writes to raise it.
pub(crate) const RAISE: u64 = 0x0a00_0004;
/// Where the guest writes what it cannot go on after: two words.
pub(crate) const EXCEPTION: u64 = 0x0a00_0010;
/// Not 0 when all processors are to leave the guest, by a write of [`LEFT`].
pub(crate) const STOP: u64 = RAM + 0x1200;
pub(crate) const LEFT: u64 = 0x0a00_0000;
/// The SPI, as an interrupt's number, that has a level.
pub(crate) const LEVEL: u32 = 35;

global_asm!(
    r#"
    .section .rodata.guest, "a"
    .balign 4096
    .global guest_code
guest_code:
    nop                         // skipped by KVM after the write that left the guest
    ldr x0, =0x40000800
    msr vbar_el1, x0
    mrs x19, mpidr_el1
    and x19, x19, #0xff         // which processor
    ldr x9, =0x08010000         // a GICv2's interface
    ldr x20, =0x40001100
    ldr w20, [x20]
    cbnz w20, 1f
    mov x0, #0xff
    msr S3_0_C4_C6_0, x0        // ICC_PMR_EL1
    mov x0, #1
    msr S3_0_C12_C12_7, x0      // ICC_IGRPEN1_EL1
    b 2f
1:  mov w0, #0xff
    str w0, [x9, #4]            // GICC_PMR
    mov w0, #1
    str w0, [x9]                // GICC_CTLR
2:  isb
main:
    msr daifset, #2
    ldr x1, =0x40001200
    ldr w2, [x1]
    cbz w2, 1f
    ldr x1, =0x0a000000
    str wzr, [x1]
1:  cbnz x19, 9f
    ldr x1, =0x40001000         // the mailbox
    ldr w2, [x1]
    cbz w2, 9f
    ldr x3, =0x40010000         // the accesses
1:  ldr x5, [x3, #16]
    cbz x5, 8f
    ldp x4, x6, [x3]
    cmp x5, #1
    b.eq 3f
    cmp x5, #2
    b.eq 4f
    ldr x6, [x4]                // 3: read 64 bits
    str x6, [x3, #8]
    b 7f
3:  str w6, [x4]                // 1: write 32 bits
    b 7f
4:  str x6, [x4]                // 2: write 64 bits
7:  add x3, x3, #24
    dsb sy
    b 1b
8:  str wzr, [x1]
    dsb sy
    b main
9:  wfi
    msr daifclr, #2
    isb
    b main
    .ltorg
    .org guest_code + 0x800
    .rept 5
    b bad
    .balign 128
    .endr
    b irq                       // from the level that this runs at
    .balign 128
    .rept 10
    b bad
    .balign 128
    .endr
bad:
    ldr x10, =0x0a000010
    mrs x11, esr_el1
    str x11, [x10]
    mrs x11, elr_el1
    str x11, [x10, #8]
    b .
irq:
    cbnz w20, 1f
    mrs x10, S3_0_C12_C12_0     // ICC_IAR1_EL1
    b 2f
1:  ldr w10, [x9, #12]          // GICC_IAR
2:  dsb sy
    mov x13, #8192
    subs x14, x10, x13
    ldr x12, =0x40002000
    b.hs 4f
    cmp x10, #1020
    b.hs 9f                     // there is none any more
    mov x14, x10
    ldr x12, =0x40008000
    cmp x10, #35
    b.ne 4f
    ldr x13, =0x0a000008
    str w10, [x13]
4:  add x12, x12, x19, lsl #12
    add x12, x12, x14, lsl #2
    ldr w15, [x12]
    add w15, w15, #1
    str w15, [x12]
    dsb sy
    cbnz w20, 5f
    msr S3_0_C12_C12_1, x10     // ICC_EOIR1_EL1
    isb
    b 9f
5:  str w10, [x9, #16]          // GICC_EOIR
    dsb sy
9:  eret
    .ltorg
    .global guest_code_end
guest_code_end:
    .text
"#
);

unsafe extern "C" {
    static guest_code: u8;
    static guest_code_end: u8;
}

/// The code, which is to run where memory begins.
pub(crate) fn code() -> &'static [u8] {
    // SAFETY: both are in one section that is never written, the second behind the first.
    unsafe {
        let (begin, end) = (&raw const guest_code, &raw const guest_code_end);
        std::slice::from_raw_parts(begin, end.offset_from_unsigned(begin))
    }
}
