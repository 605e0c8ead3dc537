//! The server of one ivshmem device that is alone (rule E4).

use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// What the device needs as long as it is there.
pub(crate) struct Server {
    /// Closing it would tell the device that its server is gone.
    _stream: UnixStream,
    _events: Vec<OwnedFd>,
}

impl Server {
    /// Tells the device its id, its memory and the eventfds of its own vectors, through which its
    /// doorbell rings itself.
    pub(crate) fn serve(stream: UnixStream, vectors: u16) -> io::Result<Self> {
        let memory = tempfile::tempfile()?;
        memory.set_len(MEMORY_LEN)?;
        send(&stream, VERSION, None)?;
        send(&stream, OWN_ID, None)?;
        send(&stream, SHARED_MEMORY, Some(memory.as_fd()))?;
        let mut events = Vec::new();
        for _ in 0..vectors {
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            send(&stream, OWN_ID, Some(event.as_fd()))?;
            events.push(event);
        }
        Ok(Self { _stream: stream, _events: events })
    }
}

fn send(stream: &UnixStream, value: i64, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let bytes = value.to_le_bytes();
    let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let sent = sendmsg(stream, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

const VERSION: i64 = 0;
/// Id of the device, which is alone.
const OWN_ID: i64 = 0;
/// The message that carries the shared memory.
const SHARED_MEMORY: i64 = -1;
/// Size of the shared memory, bytes; nothing here looks into it.
const MEMORY_LEN: u64 = 1 << 20;
