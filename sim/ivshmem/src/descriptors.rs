//! How many descriptors a process may have.

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::os::fd::OwnedFd;

/// Raises the soft limit of this process's descriptors (`RLIMIT_NOFILE`) to its hard limit. A program
/// that is a server does this first; [`Server::bind`](crate::Server::bind) leaves the limit alone.
///
/// # Errors
/// Of `setrlimit`; the limit is then as before.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(())
}

/// Descriptors that this process may have; `u64::MAX` without a limit.
pub(super) fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Creates the eventfds of a client. `Err` is how many there could be.
pub(super) fn eventfds(count: usize) -> Result<Vec<OwnedFd>, (usize, Errno)> {
    let mut made = Vec::with_capacity(count);
    while made.len() < count {
        match eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK) {
            Ok(eventfd) => made.push(eventfd),
            Err(error) => return Err((made.len(), error)),
        }
    }
    Ok(made)
}
