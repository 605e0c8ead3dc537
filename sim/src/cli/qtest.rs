//! `msix qtest`.

use super::signals;
use crate::qtest::{Front, run};
use crate::replay::Peer;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Be a stopped machine with an ivshmem device, driven by QEMU's qtest protocol.
///
/// Connects to a harness that listens for the protocol, and ends when that closes the connection.
#[derive(Debug, Args)]
pub(super) struct QtestArguments {
    /// Where the harness listens for qtest.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Where the ivshmem server listens.
    #[arg(long, value_name = "PATH")]
    ivshmem_socket: PathBuf,
    /// Vectors of the device.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=2048))]
    vectors: u16,
    /// Whom the device agrees with.
    #[arg(long, value_enum, default_value_t)]
    policy: Peer,
    /// PCI slot of the device.
    #[arg(long, default_value_t = 4, value_name = "SLOT",
          value_parser = clap::value_parser!(u8).range(1..=31))]
    addr: u8,
    /// Where the harness listens for QMP.
    #[arg(long, value_name = "PATH")]
    qmp: Option<PathBuf>,
    /// Log every message to the end of this file, as QEMU's trace does. A link is not followed.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

/// Runs it.
pub(super) fn qtest(options: QtestArguments) -> Result<ExitCode, String> {
    let front = Front {
        socket: options.socket,
        qmp: options.qmp,
        ivshmem: options.ivshmem_socket,
        vectors: options.vectors,
        slot: options.addr,
        policy: options.policy,
        trace: options.trace,
    };
    run(&front, &*signals::stop()?).map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}
