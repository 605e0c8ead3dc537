//! What a client makes of the server's messages (E4, E5). Pure: descriptors are whatever `D` is, and
//! what is not handed on is dropped, which closes it.

use super::wire::{OutOfDescriptors, ServerMessage};
use std::collections::BTreeMap;

/// What a message meant.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientEvent<D> {
    /// The protocol's version, or something that needs nothing to be done: the news that a peer is
    /// gone that was never announced.
    Nothing,
    /// This client's own id.
    Id(u16),
    /// The shared memory. With it the setup is complete.
    Memory(D),
    /// The next vector of a peer, or of this client itself.
    Connected {
        /// Whose.
        peer: u16,
        /// 0 and up, in order.
        vector: u16,
        /// Its eventfd, or what claims to be one.
        descriptor: D,
    },
    /// The next vector of a peer, or of this client itself, whose descriptor was lost (E10).
    Lost {
        /// Whose.
        peer: u16,
        /// 0 and up, in order.
        vector: u16,
    },
    /// The shared memory, whose descriptor was lost (E10): the setup cannot be completed.
    MemoryLost,
    /// A vector beyond what this client's device has; its descriptor is closed (E5).
    Surplus {
        /// Whose.
        peer: u16,
    },
    /// A vector of a peer beyond [`Client::with_most_peers`]; its descriptor is closed.
    Refused {
        /// Whose.
        peer: u16,
    },
    /// A peer is gone, with all its vectors.
    Disconnected {
        /// Which.
        peer: u16,
    },
}

/// A message that no server may send. Nothing after it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolViolation {
    /// Another version of the protocol.
    #[error("protocol version {0}, this is version 0")]
    Version(i64),
    /// An id that is none, where this client's own was to come.
    #[error("own id {0}, of 0 to 65535")]
    OwnId(i64),
    /// A descriptor with a version, or with this client's own id when it is told first.
    #[error("a descriptor with message {0}, which has none")]
    UnexpectedDescriptor(i64),
    /// Shared memory without a descriptor.
    #[error("shared memory without a descriptor")]
    NoMemory,
    /// Shared memory again.
    #[error("shared memory twice")]
    MemoryTwice,
    /// Neither an id nor -1.
    #[error("message {0}, of -1 to 65535")]
    Value(i64),
    /// This client is said to be gone, on its own connection.
    #[error("this client, {0}, is said to be gone")]
    OwnEnd(u16),
    /// An earlier message was a violation.
    #[error("the server broke the protocol before")]
    Before,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Version,
    Id,
    Peers { own: u16 },
    Broken,
}

/// A client of the server protocol.
#[derive(Debug)]
pub struct Client {
    /// Vectors of the device behind it.
    vectors: u16,
    stage: Stage,
    has_memory: bool,
    /// How many vectors each peer has announced, surplus ones not counted; `None` for a refused one.
    peers: BTreeMap<u16, Option<u16>>,
    /// Other peers that are not refused.
    others: usize,
    most_others: usize,
}

impl Client {
    /// Creates the client of a device with `vectors` vectors, before the first message.
    #[must_use]
    pub const fn new(vectors: u16) -> Self {
        Self {
            vectors,
            stage: Stage::Version,
            has_memory: false,
            peers: BTreeMap::new(),
            others: 0,
            most_others: usize::MAX,
        }
    }

    /// Refuses peers while `most` others are there. A refused one stays so until it has gone.
    #[must_use]
    pub const fn with_most_peers(mut self, most: usize) -> Self {
        self.most_others = most;
        self
    }

    /// Returns this client's id, once the server has sent it.
    #[must_use]
    pub const fn id(&self) -> Option<u16> {
        match self.stage {
            Stage::Peers { own } => Some(own),
            _ => None,
        }
    }

    /// Returns whether the id and the shared memory have arrived. Peers may come before and after.
    #[must_use]
    pub const fn is_set_up(&self) -> bool {
        self.id().is_some() && self.has_memory
    }

    /// Returns how many vectors of `peer` have come, lost ones among them.
    #[must_use]
    pub fn connected(&self, peer: u16) -> u16 {
        self.peers.get(&peer).copied().flatten().unwrap_or(0)
    }

    /// Takes the next message.
    ///
    /// # Errors
    /// [`ProtocolViolation`]; from then on for every message.
    pub fn receive<D>(
        &mut self,
        message: ServerMessage<D>,
    ) -> Result<ClientEvent<D>, ProtocolViolation> {
        let event = self.understand(message);
        if event.is_err() {
            self.stage = Stage::Broken;
        }
        event
    }

    fn understand<D>(
        &mut self,
        message: ServerMessage<D>,
    ) -> Result<ClientEvent<D>, ProtocolViolation> {
        let ServerMessage { value, descriptor } = message;
        match self.stage {
            Stage::Broken => Err(ProtocolViolation::Before),
            Stage::Version if value != 0 => Err(ProtocolViolation::Version(value)),
            Stage::Version | Stage::Id if descriptor.is_some() => {
                Err(ProtocolViolation::UnexpectedDescriptor(value))
            }
            Stage::Version => {
                self.stage = Stage::Id;
                Ok(ClientEvent::Nothing)
            }
            Stage::Id => {
                let own = u16::try_from(value).map_err(|_| ProtocolViolation::OwnId(value))?;
                self.stage = Stage::Peers { own };
                Ok(ClientEvent::Id(own))
            }
            Stage::Peers { .. } if value == MEMORY => self.memory(descriptor),
            Stage::Peers { own } => {
                let peer = u16::try_from(value).map_err(|_| ProtocolViolation::Value(value))?;
                match descriptor {
                    Some(descriptor) => Ok(self.connect(peer, own, descriptor)),
                    None if peer == own => Err(ProtocolViolation::OwnEnd(own)),
                    None => Ok(self.disconnect(peer)),
                }
            }
        }
    }

    fn memory<D>(
        &mut self,
        descriptor: Option<Result<D, OutOfDescriptors>>,
    ) -> Result<ClientEvent<D>, ProtocolViolation> {
        if self.has_memory {
            return Err(ProtocolViolation::MemoryTwice);
        }
        match descriptor.ok_or(ProtocolViolation::NoMemory)? {
            Ok(memory) => {
                self.has_memory = true;
                Ok(ClientEvent::Memory(memory))
            }
            Err(OutOfDescriptors) => Ok(ClientEvent::MemoryLost),
        }
    }

    fn connect<D>(
        &mut self,
        peer: u16,
        own: u16,
        descriptor: Result<D, OutOfDescriptors>,
    ) -> ClientEvent<D> {
        let is_other = peer != own;
        let has_place = !is_other || self.others < self.most_others;
        let announced = self.peers.entry(peer).or_insert_with(|| {
            self.others += usize::from(is_other && has_place);
            has_place.then_some(0)
        });
        match (announced, descriptor) {
            (None, _) => ClientEvent::Refused { peer },
            (Some(count), _) if *count >= self.vectors => ClientEvent::Surplus { peer },
            (Some(count), descriptor) => {
                let vector = *count;
                *count += 1;
                match descriptor {
                    Ok(descriptor) => ClientEvent::Connected { peer, vector, descriptor },
                    Err(OutOfDescriptors) => ClientEvent::Lost { peer, vector },
                }
            }
        }
    }

    fn disconnect<D>(&mut self, peer: u16) -> ClientEvent<D> {
        match self.peers.remove(&peer) {
            Some(Some(_)) => {
                self.others -= 1;
                ClientEvent::Disconnected { peer }
            }
            Some(None) | None => ClientEvent::Nothing,
        }
    }
}

/// Says that the shared memory comes with it.
pub(super) const MEMORY: i64 = -1;

#[cfg(test)]
mod tests {
    use super::*;

    fn given(
        client: &mut Client,
        value: i64,
        with: bool,
    ) -> Result<ClientEvent<()>, ProtocolViolation> {
        client.receive(ServerMessage { value, descriptor: with.then_some(Ok(())) })
    }

    /// After version 0 and id 5.
    fn known(vectors: u16) -> Client {
        let mut client = Client::new(vectors);
        assert_eq!(given(&mut client, 0, false), Ok(ClientEvent::Nothing));
        assert_eq!(given(&mut client, 5, false), Ok(ClientEvent::Id(5)));
        client
    }

    #[test]
    fn the_setup_is_complete_with_id_and_memory_and_peers_may_come_before() {
        let mut client = Client::new(2);
        assert_eq!((client.id(), client.is_set_up()), (None, false));
        client = known(2);
        assert_eq!((client.id(), client.is_set_up()), (Some(5), false));
        let connected = ClientEvent::Connected { peer: 3, vector: 0, descriptor: () };
        assert_eq!(given(&mut client, 3, true), Ok(connected), "E4: tolerated");
        assert_eq!(given(&mut client, -1, true), Ok(ClientEvent::Memory(())));
        assert!(client.is_set_up());
        let connected = ClientEvent::Connected { peer: 3, vector: 1, descriptor: () };
        assert_eq!(given(&mut client, 3, true), Ok(connected), "counted on");
    }

    #[test]
    fn e5_vectors_beyond_the_devices_are_closed_for_peers_and_for_itself() {
        let mut client = known(2);
        for peer in [5, 9] {
            for vector in 0..2 {
                let connected = ClientEvent::Connected { peer, vector, descriptor: () };
                assert_eq!(given(&mut client, i64::from(peer), true), Ok(connected));
            }
            for _ in 0..3 {
                assert_eq!(
                    given(&mut client, i64::from(peer), true),
                    Ok(ClientEvent::Surplus { peer })
                );
            }
            assert_eq!(client.connected(peer), 2);
        }
    }

    #[test]
    fn a_peer_that_comes_back_begins_again_at_vector_0() {
        let mut client = known(4);
        for _ in 0..3 {
            for vector in 0..3 {
                let connected = ClientEvent::Connected { peer: 65535, vector, descriptor: () };
                assert_eq!(given(&mut client, 65535, true), Ok(connected));
            }
            assert_eq!(
                given(&mut client, 65535, false),
                Ok(ClientEvent::Disconnected { peer: 65535 })
            );
            assert_eq!(given(&mut client, 65535, false), Ok(ClientEvent::Nothing), "gone already");
        }
    }

    #[test]
    fn a_lost_descriptor_counts_and_connects_nothing() {
        let mut client = known(3);
        let lose = |client: &mut Client, value| {
            let message = ServerMessage { value, descriptor: Some(Err(OutOfDescriptors)) };
            client.receive::<()>(message)
        };
        let connected = |peer, vector| ClientEvent::Connected { peer, vector, descriptor: () };
        for peer in [5, 9] {
            assert_eq!(given(&mut client, peer.into(), true), Ok(connected(peer, 0)));
            assert_eq!(lose(&mut client, peer.into()), Ok(ClientEvent::Lost { peer, vector: 1 }));
            assert_eq!(given(&mut client, peer.into(), true), Ok(connected(peer, 2)));
            assert_eq!(lose(&mut client, peer.into()), Ok(ClientEvent::Surplus { peer }));
            assert_eq!(client.connected(peer), 3);
        }
        assert_eq!(lose(&mut client, -1), Ok(ClientEvent::MemoryLost));
        assert!(!client.is_set_up());
        assert_eq!(given(&mut client, -1, true), Ok(ClientEvent::Memory(())), "sent again");
        assert_eq!(given(&mut client, 9, false), Ok(ClientEvent::Disconnected { peer: 9 }));
        let broken = lose(&mut Client::new(1), 0);
        assert_eq!(broken, Err(ProtocolViolation::UnexpectedDescriptor(0)));
    }

    #[test]
    fn peers_beyond_the_limit_are_refused_until_they_come_anew() {
        let mut client = Client::new(2).with_most_peers(1);
        given(&mut client, 0, false).unwrap();
        given(&mut client, 5, false).unwrap();
        let connected = |peer, vector| Ok(ClientEvent::Connected { peer, vector, descriptor: () });
        let refused = Ok(ClientEvent::Refused { peer: 8 });
        assert_eq!(given(&mut client, 7, true), connected(7, 0));
        assert_eq!(given(&mut client, 5, true), connected(5, 0), "itself is no other");
        assert_eq!(given(&mut client, 8, true), refused);
        assert_eq!(given(&mut client, 7, false), Ok(ClientEvent::Disconnected { peer: 7 }));
        assert_eq!(given(&mut client, 8, true), refused, "vector 1 of it is not vector 0");
        assert_eq!(client.connected(8), 0);
        assert_eq!(given(&mut client, 8, false), Ok(ClientEvent::Nothing));
        assert_eq!(given(&mut client, 8, true), connected(8, 0));
        assert_eq!(given(&mut client, 5, true), connected(5, 1));
        assert_eq!(given(&mut client, 7, true), Ok(ClientEvent::Refused { peer: 7 }));
    }

    #[test]
    fn what_no_server_may_send_is_named_and_nothing_is_believed_after_it() {
        let cases: &[(&[(i64, bool)], ProtocolViolation)] = &[
            (&[(1, false)], ProtocolViolation::Version(1)),
            (&[(-1, true)], ProtocolViolation::Version(-1)),
            (&[(i64::MIN, false)], ProtocolViolation::Version(i64::MIN)),
            (&[(0, true)], ProtocolViolation::UnexpectedDescriptor(0)),
            (&[(0, false), (-1, false)], ProtocolViolation::OwnId(-1)),
            (&[(0, false), (65536, false)], ProtocolViolation::OwnId(65536)),
            (&[(0, false), (7, true)], ProtocolViolation::UnexpectedDescriptor(7)),
            (&[(0, false), (7, false), (-1, false)], ProtocolViolation::NoMemory),
            (&[(0, false), (7, false), (-1, true), (-1, true)], ProtocolViolation::MemoryTwice),
            (&[(0, false), (7, false), (-2, true)], ProtocolViolation::Value(-2)),
            (&[(0, false), (7, false), (65536, true)], ProtocolViolation::Value(65536)),
            (&[(0, false), (7, false), (i64::MAX, false)], ProtocolViolation::Value(i64::MAX)),
            (&[(0, false), (7, false), (7, false)], ProtocolViolation::OwnEnd(7)),
        ];
        for (messages, violation) in cases {
            let mut client = Client::new(1);
            let (last, before) = messages.split_last().unwrap();
            for &(value, with) in before {
                given(&mut client, value, with).unwrap();
            }
            assert_eq!(given(&mut client, last.0, last.1), Err(*violation));
            assert!(!violation.to_string().is_empty());
            assert_eq!(given(&mut client, 0, false), Err(ProtocolViolation::Before));
            assert_eq!((client.id(), client.is_set_up()), (None, false));
        }
    }
}
