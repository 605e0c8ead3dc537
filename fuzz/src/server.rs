//! A hostile ivshmem server: any messages, as a client of the protocol gets them, and any bytes with
//! any descriptors, as its socket does.

use msix_ivshmem::{ReceiveError, Receiver};
use msix_tests::server_model::{With, check};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// The bytes: how many vectors the device has (1), then chunks of a stream. A chunk: bits 3:0 how many
/// bytes follow, bits 6:4 how many descriptors come with them.
///
/// # Panics
/// When a client or its socket does what the rules do not say.
pub fn ivshmem_server(data: &[u8]) {
    let Some((&vectors, chunks)) = data.split_first() else { return };
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    ours.set_nonblocking(true).expect("a socket");
    let mut receiver = Receiver::default();
    let mut expected = Stream::default();
    let mut messages = Vec::new();
    let mut rest = chunks;
    'stream: while let Some((&head, after)) = rest.split_first() {
        let (bytes, after) = after.split_at(usize::from(head & 15).min(after.len()));
        rest = after;
        if bytes.is_empty() {
            continue; // nothing can be sent without a byte
        }
        let descriptors = usize::from(head >> 4 & 7);
        send(&theirs, bytes, descriptors);
        expected.push(bytes, descriptors);
        loop {
            match receiver.receive(&ours) {
                Ok(None) => break,
                Ok(Some(message)) => {
                    let descriptor = message.descriptor.transpose().expect("one is free");
                    let got = (message.value, descriptor.is_some());
                    assert_eq!(Some(got), expected.next());
                    let with = if got.1 { With::Descriptor } else { With::Nothing };
                    messages.push((got.0, with));
                }
                Err(error) => {
                    assert!(matches!(error, ReceiveError::Descriptors), "{error}");
                    assert!(expected.is_crowded());
                    break 'stream;
                }
            }
        }
        assert!(expected.is_short(), "a whole message is there");
    }
    if let Err(difference) = check(vectors.into(), usize::MAX, &messages) {
        panic!("{difference}: {messages:?}");
    }
}

/// What was sent and not taken.
#[derive(Default)]
struct Stream {
    /// Each byte, and how many descriptors came with it.
    bytes: Vec<(u8, usize)>,
}

impl Stream {
    fn push(&mut self, bytes: &[u8], descriptors: usize) {
        let first = self.bytes.len();
        self.bytes.extend(bytes.iter().map(|byte| (*byte, 0)));
        self.bytes[first].1 = descriptors;
    }

    fn is_short(&self) -> bool {
        self.bytes.len() < 8
    }

    fn next(&mut self) -> Option<(i64, bool)> {
        let message: [(u8, usize); 8] = *self.bytes.first_chunk()?;
        self.bytes.drain(..8);
        let with: usize = message.iter().map(|(_, descriptors)| descriptors).sum();
        assert!(with <= 1, "taken with {with} descriptors");
        Some((i64::from_le_bytes(message.map(|(byte, _)| byte)), with == 1))
    }

    /// Whether the first message has too many descriptors.
    fn is_crowded(&self) -> bool {
        self.bytes.iter().take(8).map(|(_, descriptors)| descriptors).sum::<usize>() > 1
    }
}

fn send(stream: &UnixStream, bytes: &[u8], count: usize) {
    let descriptors: Vec<BorrowedFd<'_>> = (0..count).map(|_| stream.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(7))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if count > 0 {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let sent = sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::empty());
    assert_eq!(sent.expect("there is room"), bytes.len());
}
