//! Any adapter beside the naive model: [`msix_fuzz::adapter`].
//! With a stable compiler, a program that runs the files named as arguments.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| msix_fuzz::adapter(data));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    msix_fuzz::run_files(msix_fuzz::adapter)
}
