//! Histories of a function on KVM in a world of models: [`msix_fuzz::world`].
//! With a stable compiler, a program that runs the files named as arguments.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| msix_fuzz::world(data));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    msix_fuzz::run_files(msix_fuzz::world)
}
