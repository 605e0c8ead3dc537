//! `msix qtest`.

use super::signals;
use crate::qtest::{Front, run};
use crate::replay::Peer;
use clap::Args;
use std::process::ExitCode;

/// Be a machine with ivshmem devices, driven as QEMU's is and started as QEMU is.
///
/// Connects to a harness that listens for the qtest protocol, and ends when that closes the connection.
///
/// Takes these options of QEMU, and refuses all others by name: -qtest, -qmp and -mon (mode=control) with
/// unix:PATH or chardev:ID, -chardev socket, -device ivshmem-doorbell and ivshmem-plain, -object
/// memory-backend-file, -memfd and -ram, -machine pc, q35 or none, -accel tcg or qtest, -m, -S,
/// -nodefaults, -qtest-log, -trace memory_region_ops_write with -D, -L, and -display, -monitor, -serial,
/// -parallel, -vga and -net with none.
///
/// For a harness that starts a program by QEMU's name, make a file of that name with the line
/// exec msix qtest --policy qemu "$@"
#[derive(Debug, Args)]
pub(super) struct QtestArguments {
    /// Whom the devices agree with.
    #[arg(long, value_enum, default_value_t)]
    policy: Peer,
    /// What QEMU would be started with.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS OF QEMU")]
    qemu: Vec<String>,
}

/// Runs it.
pub(super) fn qtest(options: QtestArguments) -> Result<ExitCode, String> {
    let front = Front::from_arguments(&options.qemu, options.policy);
    let front = front.map_err(|error| error.to_string())?;
    run(&front, &*signals::stop()?).map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}
