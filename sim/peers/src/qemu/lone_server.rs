//! The server side of one ivshmem connection, as far as a lone device needs it (rule E4).

use super::error::{PATIENCE, QemuError};
use msix_ivshmem::send_whole;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Protocol version (E4).
const VERSION: i64 = 0;
/// Id of the lone device.
const OWN_ID: i64 = 0;
/// The message that carries the shared memory (E4).
const SHARED_MEMORY: i64 = -1;
/// Size of the shared memory, bytes; nothing here looks into it.
const MEMORY_LEN: u64 = 1 << 20;

/// The connection and the eventfds of the device's own vectors.
#[derive(Debug)]
pub struct LoneServer {
    /// Closing it would tell the device that its server is gone.
    stream: UnixStream,
    events: Vec<OwnedFd>,
}

impl LoneServer {
    /// Sends a device what it waits for while it is made. Its vectors come later, because QEMU
    /// reads them only once all devices are there.
    ///
    /// # Errors
    /// Of the socket, or of a file in `folder`, which becomes the shared memory.
    pub fn serve(stream: UnixStream, folder: &Path) -> io::Result<Self> {
        stream.set_write_timeout(Some(PATIENCE))?;
        let memory = std::fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(folder.join("shared-memory"))?;
        memory.set_len(MEMORY_LEN)?;
        send_whole(&stream, VERSION, None)?;
        send_whole(&stream, OWN_ID, None)?;
        send_whole(&stream, SHARED_MEMORY, Some(memory.as_fd()))?;
        Ok(Self { stream, events: Vec::new() })
    }

    /// Connects the device's own vectors, through which its doorbell rings itself.
    ///
    /// # Errors
    /// Of the socket, or of `eventfd2`.
    pub fn connect(&mut self, vectors: u16) -> io::Result<()> {
        for _ in 0..vectors {
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            send_whole(&self.stream, OWN_ID, Some(event.as_fd()))?;
            self.events.push(event);
        }
        Ok(())
    }

    /// Raises an event of `vector`.
    pub(super) fn ring(&self, vector: u16) -> Result<(), QemuError> {
        rustix::io::write(self.event(vector)?, &1_u64.to_ne_bytes())
            .map(drop)
            .map_err(|error| QemuError::System { what: "eventfd", source: error.into() })
    }

    /// Waits until QEMU has taken what the eventfd of `vector` held.
    pub(super) fn await_taken(&self, vector: u16, patience: Duration) -> Result<(), QemuError> {
        let event = self.event(vector)?;
        let deadline = Instant::now() + patience;
        while is_readable(event)? {
            if Instant::now() > deadline {
                return Err(QemuError::Silent { sent: format!("an event of vector {vector}") });
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    fn event(&self, vector: u16) -> Result<&OwnedFd, QemuError> {
        let missing = || QemuError::Device(format!("vector {vector} has no eventfd"));
        self.events.get(usize::from(vector)).ok_or_else(missing)
    }
}

/// Whether nobody has taken the event yet.
fn is_readable(event: &OwnedFd) -> Result<bool, QemuError> {
    let mut polled = [PollFd::new(event, PollFlags::IN)];
    let ready = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))
        .map_err(|error| QemuError::System { what: "poll", source: error.into() })?;
    Ok(ready > 0)
}
