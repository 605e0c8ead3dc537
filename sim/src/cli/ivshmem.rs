//! `msix ivshmem-server`.

use super::output::Output;
use super::signals;
use clap::Args;
use msix_ivshmem::{Server, ServerOptions};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The server of inter-VM shared memory devices: hands out ids, the memory, and everybody's eventfds.
/// Ends at a signal; the clients keep what they were given.
#[derive(Debug, Args)]
pub(super) struct ServerArguments {
    /// Where to listen; there must be no file.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Vectors of each client.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=2048))]
    vectors: u16,
    /// Shared memory, a power of two.
    #[arg(long, value_name = "BYTES")]
    size: u64,
}

/// Runs it.
pub(super) fn server(arguments: &ServerArguments) -> Result<ExitCode, String> {
    let options = ServerOptions::new(arguments.vectors, arguments.size);
    let stop = signals::stop()?;
    let mut server = Server::bind(&arguments.socket, options).map_err(|error| error.to_string())?;
    Output::default().line(&format!("listening on {}", arguments.socket.display()))?;
    while !stop.load(Ordering::Relaxed) {
        // A signal ends the wait, unless it came just before.
        server.turn(Some(Duration::from_millis(500))).map_err(|error| error.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
