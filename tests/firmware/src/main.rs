//! The engine in firmware: an image without an operating system that judges it by the conformance cases,
//! says the verdicts on the debug console, and ends with 0 if all are as they should be.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "boot code passes what the loader says")]

extern crate alloc;

mod arena;
mod backend;
mod boot;
mod device;
mod embedded;
mod pool;
mod ports;
mod record;
mod stack;

use core::panic::PanicInfo;
use device::{Firmware, Memory, Path};
use msix_conformance::{CASES, Verdict, judge};
use ports::{exit, say};

/// The case that MSI-X alone fails by design where a backend delivers by itself (H4): a rewrite is told
/// when it is complete.
const ALONE: &str = "C49";

/// Called by the boot code.
extern "sysv64" fn started(start_info: *const u64) -> ! {
    // SAFETY: the loader's promise, as PVH says.
    let command_line = unsafe { boot::command_line(start_info) };
    let command_line = command_line.and_then(|line| line.to_str().ok()).unwrap_or("");
    if command_line.split(' ').any(|word| word == "seeded-defect") {
        backend::seed_defect();
    }
    let only = command_line.split(' ').find_map(|word| word.strip_prefix("only="));
    stack::clean();
    let mut unexpected = 0;
    let memories = [Memory::Inline, Memory::Static];
    let is_small = command_line.split(' ').any(|word| word == "inline");
    for memory in memories.into_iter().take(if is_small { 1 } else { 2 }) {
        for path in [Path::Engine, Path::Backend] {
            unexpected += run(&Firmware(memory, path), path, only);
        }
    }
    let [inline, lent] = device::BYTES;
    say!("memory of 64 vectors inline: {inline} bytes");
    say!("memory of 2048 vectors, static: {lent} bytes");
    say!("worst stack of engine and backend: {} bytes of {}", stack::most(), stack::SIZE);
    say!("most memory of the cases: {} bytes", arena::most());
    say!("unexpected verdicts: {unexpected}");
    exit(u8::from(unexpected > 0 || stack::most() == stack::SIZE))
}

/// Judges by every case, or by those that `only` names, says each verdict, and returns how many are not as they should be.
fn run(subject: &Firmware, path: Path, only: Option<&str>) -> usize {
    use msix_conformance::Subject as _;
    say!("{}", subject.name());
    let mut unexpected = 0;
    let is_wanted = |id| only.is_none_or(|only| only.split(',').any(|wanted| wanted == id));
    for case in CASES.iter().filter(|case| is_wanted(case.id)) {
        let fails = path == Path::Backend && case.id == ALONE;
        match judge(subject, case) {
            Verdict::Passed { .. } => {
                say!("  {} passed", case.id);
                unexpected += usize::from(fails);
            }
            Verdict::Failed { did, expected, got } => {
                let note = if fails { " as known" } else { "" };
                say!("  {} failed{note}: {did}: expected {expected}, got {got}", case.id);
                unexpected += usize::from(!fails);
            }
            Verdict::NotObservable { why } => say!("  {} not observable: {why}", case.id),
        }
    }
    unexpected
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    arena::open();
    say!("{info}");
    exit(2)
}
