//! What the fuzz targets do with their bytes, as functions that panic when something is wrong.
//!
//! - [`adapter`](fn@adapter): the fuzzer of adapters, on the engine's under every choice
//! - [`assign`](fn@assign): the config space, BARs and options of a function that is passed through
//! - [`engine_ops`]: the same as `guest_ops`, an engine alone, and many more of them
//! - [`guest_ops`]: guest accesses, device events and host answers, engine against reference model
//! - [`config_bytes`]: a device's capability from outside, and guest accesses to it
//! - [`ivshmem_device`]: guests, peers and resets of the ivshmem device
//! - [`ivshmem_server`]: bytes and descriptors that nobody has checked, as an ivshmem server's
//! - [`layout`](fn@layout): layouts that a caller asks for
//! - [`modes`](fn@modes): INTx, MSI, MSI-X and the switching between them, function against naive model
//! - [`snapshot_load`]: bytes that nobody has checked, as a snapshot of a function in mid-life
//! - [`trace_import`]: bytes that nobody has checked, as a trace log to replay
//! - [`world`](fn@world): histories of a function on KVM, between a modelled kernel, device and guest
//!
//! `cargo +nightly fuzz run TARGET SCRATCH fuzz/corpus/TARGET` looks for failures, and keeps what it
//! finds interesting in the folder SCRATCH instead of among the committed files. The same programs
//! built with a stable compiler run the files named as arguments, so that a failure can be looked at without nightly:
//! `cargo run -p msix-fuzz --bin guest_ops -- FILE...`. `cargo test -p msix-fuzz` runs every
//! committed file of `corpus/`.

mod adapter;
mod assign;
#[cfg(test)]
mod assign_corpus;
#[cfg(test)]
mod corpus;
#[cfg(feature = "kvm")]
mod device;
mod guest;
mod layout;
mod modes;
#[cfg(test)]
mod modes_corpus;
mod server;
mod snapshot;
mod trace;
#[cfg(feature = "kvm")]
mod world;

pub use adapter::adapter;
pub use assign::assign;
#[cfg(feature = "kvm")]
pub use device::ivshmem_device;
pub use guest::{engine_ops, guest_ops};
pub use layout::{config_bytes, layout};
pub use modes::modes;
pub use server::ivshmem_server;
pub use snapshot::snapshot_load;
pub use trace::trace_import;
#[cfg(feature = "kvm")]
pub use world::world;

use msix_core::Policy;
use msix_tests::policies::{Behaviour, mixed};
use std::process::ExitCode;

/// Runs `target` on every file named as an argument of the program.
pub fn run_files(target: fn(&[u8])) -> ExitCode {
    let mut files = 0;
    for path in std::env::args_os().skip(1) {
        match std::fs::read(&path) {
            Ok(bytes) => target(&bytes),
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        }
        files += 1;
    }
    if files == 0 {
        eprintln!("name the files to run");
        return ExitCode::FAILURE;
    }
    println!("{files} files, no failure");
    ExitCode::SUCCESS
}

/// SPEC and QEMU by the two highest values of the top bits, else a mix of all fields.
fn behaviour(choice: u32) -> Behaviour {
    match choice >> 30 {
        3 => Policy::QEMU.into(),
        2 => Policy::SPEC.into(),
        _ => mixed(choice),
    }
}
