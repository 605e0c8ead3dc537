//! What a client of the ivshmem server protocol must make of any sequence of messages (E4, E5, E10): as
//! naive as can be, to hold the real one against.

use msix_ivshmem::{Client, ClientEvent, OutOfDescriptors, ServerMessage};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What comes with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    /// Nothing.
    Nothing,
    /// A descriptor.
    Descriptor,
    /// A descriptor that the kernel dropped, because none was free.
    Lost,
}

/// A descriptor that says when it is closed.
#[derive(Debug)]
struct Descriptor {
    number: usize,
    closed: Rc<Cell<u32>>,
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.closed.set(self.closed.get() + 1);
    }
}

/// The state by the rules. A descriptor is the number of its message.
#[derive(Debug)]
struct Model {
    vectors: u16,
    most_peers: usize,
    own: Option<u16>,
    memory: Option<usize>,
    broken: bool,
    /// Peers that are there, this client among them.
    there: BTreeSet<u16>,
    refused: BTreeSet<u16>,
    /// Whose vectors came, those of refused peers and those beyond the device's not counted.
    came: Vec<u16>,
    /// What is open: whose it is.
    held: BTreeMap<usize, u16>,
}

impl Model {
    fn take(&mut self, step: usize, value: i64, with: With) -> Option<ClientEvent<usize>> {
        let id = u16::try_from(value).ok();
        let some = with != With::Nothing;
        let is_legal = !self.broken
            && match (step, self.own) {
                (0, _) => value == 0 && !some,
                (_, None) => id.is_some() && !some,
                (_, Some(_)) if value == -1 => some && self.memory.is_none(),
                (_, Some(own)) => id.is_some_and(|id| some || id != own),
            };
        if !is_legal {
            self.broken = true;
            return None;
        }
        Some(match (step, self.own, id) {
            (0, ..) => ClientEvent::Nothing,
            (_, None, Some(id)) => {
                self.own = Some(id);
                ClientEvent::Id(id)
            }
            (_, Some(own), Some(peer)) if some => self.vector(step, own, peer, with),
            (_, _, Some(peer)) => {
                self.refused.remove(&peer);
                self.came.retain(|of| *of != peer);
                self.held.retain(|_, of| *of != peer);
                let was_there = self.there.remove(&peer);
                if was_there { ClientEvent::Disconnected { peer } } else { ClientEvent::Nothing }
            }
            (_, _, None) if with == With::Lost => ClientEvent::MemoryLost,
            (_, _, None) => {
                self.memory = Some(step);
                ClientEvent::Memory(step)
            }
        })
    }

    fn vector(&mut self, step: usize, own: u16, peer: u16, with: With) -> ClientEvent<usize> {
        let others = self.there.iter().filter(|id| **id != own).count();
        if !self.there.contains(&peer) && peer != own && others >= self.most_peers {
            self.refused.insert(peer);
        }
        if self.refused.contains(&peer) {
            return ClientEvent::Refused { peer };
        }
        self.there.insert(peer);
        let vector = self.connected(peer);
        if vector == self.vectors {
            return ClientEvent::Surplus { peer };
        }
        self.came.push(peer);
        if with == With::Lost {
            return ClientEvent::Lost { peer, vector };
        }
        self.held.insert(step, peer);
        ClientEvent::Connected { peer, vector, descriptor: step }
    }

    fn connected(&self, peer: u16) -> u16 {
        self.came.iter().filter(|of| **of == peer).count() as u16
    }
}

/// Gives `messages` to a client of a device with `vectors` vectors, which takes `most_peers` others, and
/// compares all that can be seen with what the rules say.
///
/// # Errors
/// What differs.
pub fn check(vectors: u16, most_peers: usize, messages: &[(i64, With)]) -> Result<(), String> {
    let mut client = Client::new(vectors).with_most_peers(most_peers);
    let mut model = Model {
        vectors,
        most_peers,
        own: None,
        memory: None,
        broken: false,
        there: BTreeSet::new(),
        refused: BTreeSet::new(),
        came: Vec::new(),
        held: BTreeMap::new(),
    };
    let mut closed = Vec::new();
    let mut kept: BTreeMap<usize, Descriptor> = BTreeMap::new();
    for (step, &(value, with)) in messages.iter().enumerate() {
        let counter = Rc::new(Cell::new(0));
        closed.push(Rc::clone(&counter));
        let descriptor = match with {
            With::Nothing => None,
            With::Descriptor => Some(Ok(Descriptor { number: step, closed: counter })),
            With::Lost => Some(Err(OutOfDescriptors)),
        };
        let before = model.held.clone();
        let expected = model.take(step, value, with);
        // What the client hands on is kept as a device keeps it.
        let event = client.receive(ServerMessage { value, descriptor }).ok().map(|event| {
            let (event, descriptor) = numbered(event);
            if let ClientEvent::Disconnected { peer } = event {
                kept.retain(|number, _| before.get(number) != Some(&peer));
            }
            kept.extend(descriptor.map(|descriptor| (step, descriptor)));
            event
        });
        if event != expected {
            return Err(format!("step {step}: {event:?} instead of {expected:?}"));
        }
        if client.id() != model.own.filter(|_| !model.broken) {
            return Err(format!("step {step}: id {:?} instead of {:?}", client.id(), model.own));
        }
        let is_set_up = model.memory.is_some() && model.own.is_some() && !model.broken;
        if client.is_set_up() != is_set_up {
            return Err(format!("step {step}: setup"));
        }
        if let Ok(peer) = u16::try_from(value)
            && client.connected(peer) != model.connected(peer)
        {
            return Err(format!("step {step}: {} vectors of {peer}", client.connected(peer)));
        }
    }
    // Exactly those that are held are open, and none was closed twice.
    for (number, (count, (_, with))) in closed.iter().zip(messages).enumerate() {
        let open = model.held.contains_key(&number) || model.memory == Some(number);
        let expected = u32::from(*with == With::Descriptor && !open);
        if count.get() != expected {
            return Err(format!("descriptor {number} closed {} times", count.get()));
        }
    }
    Ok(())
}

/// An event, and the descriptor that came with it.
fn numbered(event: ClientEvent<Descriptor>) -> (ClientEvent<usize>, Option<Descriptor>) {
    let event = match event {
        ClientEvent::Memory(descriptor) => {
            return (ClientEvent::Memory(descriptor.number), Some(descriptor));
        }
        ClientEvent::Connected { peer, vector, descriptor } => {
            let number = descriptor.number;
            return (ClientEvent::Connected { peer, vector, descriptor: number }, Some(descriptor));
        }
        ClientEvent::Nothing => ClientEvent::Nothing,
        ClientEvent::Id(id) => ClientEvent::Id(id),
        ClientEvent::Lost { peer, vector } => ClientEvent::Lost { peer, vector },
        ClientEvent::MemoryLost => ClientEvent::MemoryLost,
        ClientEvent::Surplus { peer } => ClientEvent::Surplus { peer },
        ClientEvent::Refused { peer } => ClientEvent::Refused { peer },
        ClientEvent::Disconnected { peer } => ClientEvent::Disconnected { peer },
    };
    (event, None)
}
