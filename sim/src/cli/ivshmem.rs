//! `msix ivshmem-server`.

use super::output::Output;
use super::{signals, size};
use clap::Args;
use msix_ivshmem::{Server, ServerOptions, raise_descriptor_limit};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Serve inter-VM shared memory devices.
///
/// Hands out ids, the memory, and everybody's eventfds. Ends at a signal; the clients keep what they were
/// given.
///
/// Whoever can connect to the socket can write the memory and ring every client, and is trusted with
/// that: the folder's permissions decide. A client that does not read is dropped after 10 s. Each client
/// takes one descriptor more than it has vectors, so the limit of descriptors (`ulimit -Hn`) decides how
/// many there can be.
#[derive(Debug, Args)]
pub(super) struct ServerArguments {
    /// Where to listen; there must be no file, or a socket on which nobody listens any more.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Vectors of each client.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=2048))]
    vectors: u16,
    /// Shared memory, a power of two from 16 to 64T. Suffixes: k, M, G, T or KiB, MiB, GiB, TiB.
    #[arg(long, value_name = "BYTES", value_parser = size::bytes)]
    size: u64,
}

/// Runs it.
pub(super) fn server(arguments: &ServerArguments) -> Result<ExitCode, String> {
    let options = ServerOptions::new(arguments.vectors, arguments.size);
    let stop = signals::stop()?;
    // If it cannot be raised it may still be enough.
    let _ = raise_descriptor_limit();
    let mut server = Server::bind(&arguments.socket, options).map_err(|error| error.to_string())?;
    Output::default().line(&format!("listening on {}", arguments.socket.display()))?;
    let mut last = String::new();
    while !stop.load(Ordering::Relaxed) {
        // A signal ends the wait, unless it came just before.
        let turn = server.turn(Some(Duration::from_millis(500)));
        for incident in turn.map_err(|error| error.to_string())? {
            // Some come again and again, as long as a client tries.
            let message = incident.to_string();
            if message != last {
                eprintln!("{message}");
                last = message;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
