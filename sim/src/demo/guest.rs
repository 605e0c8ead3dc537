//! The guest: real mode, FS reaches all 4 GiB, and everything else is below 64 KiB.

#![expect(unsafe_code, reason = "the program is assembled into this one")]

use std::arch::global_asm;

/// Where the program is loaded.
pub(super) const PROGRAM: u16 = 0x1000;
/// The interrupt vector of its handler.
pub(super) const VECTOR: u8 = 0x40;
/// Its stack ends here.
pub(super) const STACK: u16 = 0x7000;

/// Words of its memory: what it is told.
pub(super) const FIRST: u32 = 0x500;
/// Rings that wait for an answer.
pub(super) const TURNS: u32 = 0x504;
/// Rings that do not.
pub(super) const FLOOD: u32 = 0x508;
/// All rings of the other.
pub(super) const TOTAL: u32 = 0x50c;
/// What it writes to the doorbell.
pub(super) const RING: u32 = 0x510;
/// Address of its count in the shared memory.
pub(super) const OWN: u32 = 0x514;
/// Address of the other's.
pub(super) const OTHER: u32 = 0x518;
/// What it counts itself: rings.
pub(super) const SENT: u32 = 0x520;
/// Interrupts.
pub(super) const TAKEN: u32 = 0x524;
/// The other's count, as last seen.
pub(super) const ACCOUNTED: u32 = 0x528;

/// Round trips in ticks of the time-stamp counter, 32 bits each.
pub(super) const TRIPS: u32 = 0x10_0000;
/// Bytes of its memory.
pub(super) const MEMORY: usize = 0x90_0000;

/// The guest has set itself up.
pub(super) const START_PORT: u16 = 0xf4;
/// It is done.
pub(super) const STOP_PORT: u16 = 0xf5;

/// BARs, where firmware put them.
pub(super) const REGISTERS: u32 = 0xe000_0000;
/// Table and PBA.
pub(super) const TABLE: u32 = 0xe010_0000;
/// Shared memory.
pub(super) const SHARED: u32 = 0xe080_0000;

global_asm!(
    ".pushsection .rodata.msix_demo_guest, \"a\"",
    ".code16",
    ".globl msix_demo_guest, msix_demo_handler, msix_demo_end",
    "msix_demo_guest:",
    // The entry of vector 0, as any driver writes it, then Enable, then the mask.
    "mov edi, {TABLE}",
    "mov dword ptr fs:[edi], 0xfee00000",
    "mov dword ptr fs:[edi + 4], 0",
    "mov dword ptr fs:[edi + 8], {VECTOR}",
    "mov dx, 0xcf8",
    "mov eax, 0x80002040",
    "out dx, eax",
    "mov dx, 0xcfe",
    "mov ax, 0x8000",
    "out dx, ax",
    "mov dword ptr fs:[edi + 12], 0",
    "out {START_PORT}, al",
    // In turns.
    "xor esi, esi",
    "cmp dword ptr [{FIRST}], 0",
    "je 20f",
    "10:",
    "cmp esi, dword ptr [{TURNS}]",
    "jae 30f",
    "inc esi",
    "rdtsc",
    "mov ebx, eax",
    "call 70f",
    "call 80f",
    "rdtsc",
    "sub eax, ebx",
    "mov edi, esi",
    "shl edi, 2",
    "mov dword ptr fs:[edi + {TRIPS} - 4], eax",
    "jmp 10b",
    "20:",
    "cmp esi, dword ptr [{TURNS}]",
    "jae 30f",
    "inc esi",
    "call 80f",
    "call 70f",
    "jmp 20b",
    // As fast as it can.
    "30:",
    "sti",
    "mov ecx, dword ptr [{FLOOD}]",
    "31:",
    "jecxz 40f",
    "call 70f",
    "dec ecx",
    "jmp 31b",
    // Until all of the other's rings are accounted for.
    "40:",
    "cli",
    "mov eax, dword ptr [{ACCOUNTED}]",
    "cmp eax, dword ptr [{TOTAL}]",
    "jae 41f",
    "sti", // takes effect after HLT began: no interrupt comes between look and halt
    "hlt",
    "jmp 40b",
    "41:",
    "out {STOP_PORT}, al",
    "hlt",
    // Rings.
    "70:",
    "mov edi, dword ptr [{OWN}]",
    "inc dword ptr fs:[edi]",
    "inc dword ptr [{SENT}]",
    "mov edi, {DOORBELL}",
    "mov eax, dword ptr [{RING}]",
    "mov dword ptr fs:[edi], eax",
    "ret",
    // Waits until it has taken ESI interrupts.
    "80:",
    "cli",
    "cmp dword ptr [{TAKEN}], esi",
    "jae 81f",
    "sti",
    "hlt",
    "jmp 80b",
    "81:",
    "ret",
    "msix_demo_handler:",
    "push eax",
    "push edi",
    "inc dword ptr [{TAKEN}]",
    "mov edi, dword ptr [{OTHER}]",
    "mov eax, dword ptr fs:[edi]",
    "mov dword ptr [{ACCOUNTED}], eax",
    "mov edi, 0xfee000b0", // EOI
    "mov dword ptr fs:[edi], 0",
    "pop edi",
    "pop eax",
    "iret",
    "msix_demo_end:",
    ".code64",
    ".popsection",
    TABLE = const TABLE,
    VECTOR = const VECTOR as u32,
    START_PORT = const START_PORT,
    STOP_PORT = const STOP_PORT,
    DOORBELL = const REGISTERS + 12,
    FIRST = const FIRST,
    TURNS = const TURNS,
    FLOOD = const FLOOD,
    TOTAL = const TOTAL,
    RING = const RING,
    OWN = const OWN,
    OTHER = const OTHER,
    SENT = const SENT,
    TAKEN = const TAKEN,
    ACCOUNTED = const ACCOUNTED,
    TRIPS = const TRIPS,
);

unsafe extern "C" {
    static msix_demo_guest: u8;
    static msix_demo_handler: u8;
    static msix_demo_end: u8;
}

/// The program as it lies at [`PROGRAM`], and the address of its handler.
pub(super) fn program() -> (&'static [u8], u16) {
    let [start, handler, end] =
        [&raw const msix_demo_guest, &raw const msix_demo_handler, &raw const msix_demo_end];
    // SAFETY: the bytes between the two symbols are in one read-only section.
    let program = unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) };
    (program, PROGRAM + (handler.addr() - start.addr()) as u16)
}
