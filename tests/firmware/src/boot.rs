//! From the loader to Rust: a PVH loader starts the image in 32-bit mode without paging, at the address in
//! its note (QEMU's `-kernel`, and KVM in the tests). It maps the first GiB to itself and enters 64-bit mode.

#![expect(unsafe_code, reason = "a processor is started by its registers")]

use core::arch::global_asm;
use core::ffi::CStr;

global_asm!(
    r#"
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long start

    .section .text.boot, "ax", @progbits
    .code32
    .global start
start:
    cli
    cld
    mov $tables, %edi
    lea 0x1003(%edi), %eax /* present, writable */
    mov %eax, (%edi)
    lea 0x2003(%edi), %eax
    mov %eax, 0x1000(%edi)
    lea 0x2000(%edi), %edi
    mov $0x83, %eax /* and 2 MiB large */
    mov $512, %ecx
2:  mov %eax, (%edi)
    add $0x200000, %eax
    add $8, %edi
    dec %ecx
    jnz 2b
    mov $tables, %eax
    mov %eax, %cr3
    mov %cr4, %eax
    or $0x20, %eax /* PAE */
    mov %eax, %cr4
    mov $0xc0000080, %ecx /* EFER */
    rdmsr
    or $0x100, %eax /* LME */
    wrmsr
    mov %cr0, %eax
    or $0x80000001, %eax /* PG, PE */
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $8, $5f
    .code64
5:  mov $16, %eax
    mov %eax, %ss
    mov %eax, %ds
    mov %eax, %es
    mov $stack_end, %rsp
    mov %ebx, %edi /* what the loader says */
    call {main}
    ud2

    .balign 8
gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
    .word . - gdt - 1
    .long gdt

    .section .bss.boot, "aw", @nobits
    .balign 4096
tables:
    .skip 3 * 4096
    .global stack_start, stack_end
stack_start:
    .skip {stack}
stack_end:
    "#,
    main = sym super::started,
    stack = const STACK,
    options(att_syntax),
);

/// Bytes of stack for all but the engine: the cases.
const STACK: usize = 128 << 10;

/// Returns the command line that a PVH loader passed.
///
/// # Safety
/// `start_info` is what the loader had in EBX.
pub(crate) unsafe fn command_line(start_info: *const u64) -> Option<&'static CStr> {
    // SAFETY: the caller's promise; the fourth word of the structure is the address, or 0.
    let line = unsafe { start_info.add(3).read() } as *const core::ffi::c_char;
    // SAFETY: as above.
    (!line.is_null()).then(|| unsafe { CStr::from_ptr(line) })
}
