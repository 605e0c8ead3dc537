//! Functions that are passed through: [`msix_fuzz::assign`].
//! With a stable compiler, a program that runs the files named as arguments.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| msix_fuzz::assign(data));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    msix_fuzz::run_files(msix_fuzz::assign)
}
