//! What can go wrong with a QEMU.

use std::io;
use std::time::Duration;

/// Longest wait for any one answer of QEMU.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Why QEMU cannot be talked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QemuError {
    /// The program cannot be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended; its error output is quoted.
    #[error("QEMU ended ({status}): {stderr}")]
    Ended {
        /// Exit status.
        status: String,
        /// The end of its error output.
        stderr: String,
    },
    /// It did not answer in time.
    #[error("QEMU did not answer to `{sent}` within {} s", PATIENCE.as_secs())]
    Silent {
        /// What it was asked.
        sent: String,
    },
    /// It closed a connection.
    #[error("QEMU closed the connection when asked `{sent}`")]
    Closed {
        /// What it was asked.
        sent: String,
    },
    /// Its answer makes no sense.
    #[error("QEMU answered `{got}` to `{sent}`")]
    Garbled {
        /// What it was asked.
        sent: String,
        /// What it answered.
        got: String,
    },
    /// The device is not what it should be.
    #[error("{0}")]
    Device(String),
    /// A file, socket or descriptor of this side failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl QemuError {
    /// Makes a [`System`](Self::System) error of what the system said to `what`.
    pub fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
