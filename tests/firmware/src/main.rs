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
mod function;
mod pool;
mod ports;
mod record;
mod stack;

use core::panic::PanicInfo;
use device::{Firmware, Memory, Path};
use function::FirmwareFunction;
use msix_conformance::{
    CASES, FUNCTION_CASES, FunctionSubject as _, Subject as _, Verdict, judge, judge_function,
};
use ports::{exit, say};

/// The cases that MSI-X and the function fail alone, by design, where a backend delivers by itself (H4): a
/// rewrite is told when it is complete.
const ALONE: [&str; 2] = ["C49", "M17"];

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
    let memories = [Memory::Inline, Memory::Static];
    let is_small = command_line.split(' ').any(|word| word == "inline");
    let mut verdicts = Verdicts { only, unexpected: 0 };
    for path in [Path::Engine, Path::Backend] {
        for memory in memories.into_iter().take(if is_small { 1 } else { 2 }) {
            let subject = Firmware(memory, path);
            say!("{}", subject.name());
            CASES.iter().for_each(|case| verdicts.take(path, case.id, || judge(&subject, case)));
        }
        let subject = FirmwareFunction(path);
        say!("{}", subject.name());
        for case in &FUNCTION_CASES {
            verdicts.take(path, case.id, || judge_function(&subject, case));
        }
    }
    let unexpected = verdicts.unexpected;
    let [inline, lent] = device::BYTES;
    say!("memory of 64 vectors inline: {inline} bytes");
    say!("memory of 2048 vectors, static: {lent} bytes");
    say!("worst stack of engine and backend: {} bytes of {}", stack::most(), stack::SIZE);
    say!("most memory of the cases: {} bytes", arena::most());
    say!("unexpected verdicts: {unexpected}");
    exit(u8::from(unexpected > 0 || stack::most() == stack::SIZE))
}

/// Counts the verdicts that are not as they should be.
struct Verdicts<'a> {
    /// The cases to judge by, if not all.
    only: Option<&'a str>,
    unexpected: usize,
}

impl Verdicts<'_> {
    /// Says the verdict of a case.
    fn take(&mut self, path: Path, id: &str, judge: impl FnOnce() -> Verdict) {
        if self.only.is_some_and(|only| !only.split(',').any(|wanted| wanted == id)) {
            return;
        }
        let fails = path == Path::Backend && ALONE.contains(&id);
        match judge() {
            Verdict::Passed { .. } => {
                say!("  {id} passed");
                self.unexpected += usize::from(fails);
            }
            Verdict::Failed { did, expected, got } => {
                let note = if fails { " as known" } else { "" };
                say!("  {id} failed{note}: {did}: expected {expected}, got {got}");
                self.unexpected += usize::from(!fails);
            }
            Verdict::NotObservable { why } => say!("  {id} not observable: {why}"),
        }
    }
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    arena::open();
    say!("{info}");
    exit(2)
}
