//! Messages of the server protocol on a Unix stream: 8 bytes, little-endian, and at most one
//! descriptor (E4).

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes of a message.
pub(super) const LEN: usize = 8;
/// Descriptors that are taken at once, to be told from one. What is beyond is closed by the kernel.
const MOST_DESCRIPTORS: usize = 4;

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerMessage<D = OwnedFd> {
    /// A version, an id, or -1.
    pub value: i64,
    /// What came with it, if something did.
    pub descriptor: Option<Result<D, OutOfDescriptors>>,
}

/// A descriptor came, and the kernel dropped it, because none was free in this process (E10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no descriptor was free to receive it (RLIMIT_NOFILE)")]
pub struct OutOfDescriptors;

/// Why there is no next message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The other side has closed the connection.
    #[error("the server closed the connection{}", if *.inside { " inside a message" } else { "" })]
    Closed {
        /// After some bytes of a message.
        inside: bool,
    },
    /// More than one descriptor with one message.
    #[error("a message with more than one descriptor")]
    Descriptors,
    /// The socket failed.
    #[error("the socket of the server: {0}")]
    Socket(#[source] io::Error),
}

/// Puts messages together from what the stream gives.
#[derive(Debug, Default)]
pub struct Receiver {
    bytes: [u8; LEN],
    have: usize,
    descriptor: Option<Result<OwnedFd, OutOfDescriptors>>,
}

impl Receiver {
    /// Receives the next message. On a socket that does not block, `None` means that the rest of it is
    /// still to come. A signal does not end the wait.
    ///
    /// # Errors
    /// [`ReceiveError`]. Descriptors that came with an unfinished message are closed with this.
    pub fn receive(&mut self, stream: impl AsFd) -> Result<Option<ServerMessage>, ReceiveError> {
        while self.have < LEN {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut rest = [IoSliceMut::new(&mut self.bytes[self.have..])];
            // Never past this message: the descriptor of the next one would be lost in it.
            let received = recvmsg(&stream, &mut rest, &mut control, RecvFlags::CMSG_CLOEXEC);
            let received = match received {
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::CONNRESET) => return Err(self.closed()),
                other => other.map_err(|error| ReceiveError::Socket(error.into()))?,
            };
            for message in control.drain() {
                let RecvAncillaryMessage::ScmRights(descriptors) = message else { continue };
                for descriptor in descriptors {
                    if self.descriptor.replace(Ok(descriptor)).is_some() {
                        return Err(ReceiveError::Descriptors);
                    }
                }
            }
            // There was room for more than one: if one was dropped, none was free.
            if received.flags.contains(ReturnFlags::CTRUNC)
                && self.descriptor.replace(Err(OutOfDescriptors)).is_some()
            {
                return Err(ReceiveError::Descriptors);
            }
            if received.bytes == 0 {
                return Err(self.closed());
            }
            self.have += received.bytes;
        }
        self.have = 0;
        let value = i64::from_le_bytes(self.bytes);
        Ok(Some(ServerMessage { value, descriptor: self.descriptor.take() }))
    }

    const fn closed(&self) -> ReceiveError {
        ReceiveError::Closed { inside: self.have > 0 }
    }
}

/// Sends what is left of a message after its first `sent` bytes. Returns how many bytes went. The descriptor
/// goes with the first of them.
///
/// # Errors
/// Of `sendmsg`; a signal is none.
pub(super) fn send(
    stream: impl AsFd,
    value: i64,
    descriptor: Option<BorrowedFd<'_>>,
    sent: usize,
) -> io::Result<usize> {
    let bytes = value.to_le_bytes();
    let descriptors: Vec<BorrowedFd<'_>> = descriptor.filter(|_| sent == 0).into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    loop {
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        let rest = [IoSlice::new(&bytes[sent..])];
        match sendmsg(&stream, &rest, &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Sends a whole message on a socket that blocks.
///
/// # Errors
/// Of `sendmsg`.
pub fn send_whole(
    stream: impl AsFd,
    value: i64,
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut sent = 0;
    while sent < LEN {
        sent += send(&stream, value, descriptor, sent)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    fn nonblocking() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours, theirs)
    }

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn a_message_that_comes_byte_by_byte_is_put_together_with_its_descriptor() {
        for with in 0..8 {
            let (ours, mut theirs) = nonblocking();
            let mut receiver = Receiver::default();
            let descriptor = null();
            for (at, byte) in (-2_i64).to_le_bytes().into_iter().enumerate() {
                assert!(receiver.receive(&ours).unwrap().is_none());
                if at == with {
                    let descriptors = [descriptor.as_fd()];
                    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                    let mut control = SendAncillaryBuffer::new(&mut space);
                    control.push(SendAncillaryMessage::ScmRights(&descriptors));
                    let byte = [byte];
                    let bytes = [IoSlice::new(&byte)];
                    sendmsg(&theirs, &bytes, &mut control, SendFlags::empty()).unwrap();
                } else {
                    theirs.write_all(&[byte]).unwrap();
                }
            }
            let message = receiver.receive(&ours).unwrap().unwrap();
            assert_eq!((message.value, message.descriptor.is_some()), (-2, true), "{with}");
        }
    }

    #[test]
    fn every_message_keeps_its_own_descriptor() {
        let (ours, theirs) = nonblocking();
        let descriptor = null();
        for value in 0..10 {
            let with = (value % 2 == 0).then(|| descriptor.as_fd());
            send_whole(&theirs, value, with).unwrap();
        }
        let mut receiver = Receiver::default();
        for value in 0..10 {
            let message = receiver.receive(&ours).unwrap().unwrap();
            assert_eq!((message.value, message.descriptor.is_some()), (value, value % 2 == 0));
        }
        assert!(receiver.receive(&ours).unwrap().is_none());
    }

    #[test]
    fn more_than_one_descriptor_is_an_error_and_none_stays_open() {
        for count in [2, 4, 5, 20] {
            let (ours, theirs) = nonblocking();
            let pipe = UnixStream::pair().unwrap();
            let copies: Vec<OwnedFd> =
                (0..count).map(|_| pipe.1.try_clone().unwrap().into()).collect();
            let descriptors: Vec<BorrowedFd<'_>> = copies.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(20))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
            let bytes = 7_i64.to_le_bytes();
            sendmsg(&theirs, &[IoSlice::new(&bytes)], &mut control, SendFlags::empty()).unwrap();
            let mut receiver = Receiver::default();
            let error = receiver.receive(&ours).unwrap_err();
            assert!(matches!(error, ReceiveError::Descriptors), "{error}");
            drop((receiver, copies, pipe.1));
            // The end of the stream shows that nobody has the other end any more.
            let (ended, mut byte) = (pipe.0, [0]);
            assert_eq!(io::Read::read(&mut &ended, &mut byte).unwrap(), 0, "{count}");
        }
    }

    #[test]
    fn the_end_of_the_stream_is_told_at_every_byte() {
        for len in 0..8 {
            let (ours, mut theirs) = nonblocking();
            theirs.write_all(&[0; 8][..len]).unwrap();
            drop(theirs);
            let error = Receiver::default().receive(&ours).unwrap_err();
            let inside = len > 0;
            assert!(matches!(error, ReceiveError::Closed { inside: i } if i == inside), "{error}");
            assert!(error.to_string().starts_with("the server closed"), "{error}");
        }
    }
}
