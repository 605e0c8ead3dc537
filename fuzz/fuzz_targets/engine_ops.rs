//! Guest and host inputs to an engine that checks itself: [`msix_fuzz::engine_ops`].
//! With a stable compiler, a program that runs the files named as arguments.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| msix_fuzz::engine_ops(data));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    msix_fuzz::run_files(msix_fuzz::engine_ops)
}
