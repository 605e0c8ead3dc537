//! What a client of the ivshmem server protocol must make of any sequence of messages (E4, E5): as
//! naive as can be, to hold the real one against.

use msix_ivshmem::{Client, ClientEvent, ServerMessage};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A descriptor that says when it is closed.
#[derive(Debug)]
pub struct Descriptor {
    number: usize,
    closed: Rc<Cell<u32>>,
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.closed.set(self.closed.get() + 1);
    }
}

/// Gives `messages` (a value, and whether a descriptor comes with it) to a client of a device with
/// `vectors` vectors, and compares all that can be seen with what the rules say.
///
/// # Errors
/// What differs.
pub fn check(vectors: u16, messages: &[(i64, bool)]) -> Result<(), String> {
    let mut client = Client::new(vectors);
    let mut closed = Vec::new();
    // Whose descriptor `number` is by the rules; what is not in here is closed.
    let mut held: BTreeMap<usize, (u16, u16)> = BTreeMap::new();
    let mut memory = None;
    let mut own = None;
    let mut broken = false;
    let mut kept: BTreeMap<usize, Descriptor> = BTreeMap::new();
    for (step, &(value, with)) in messages.iter().enumerate() {
        let counter = Rc::new(Cell::new(0));
        closed.push(Rc::clone(&counter));
        let descriptor = with.then(|| Descriptor { number: step, closed: counter });
        // By the rules.
        let id = u16::try_from(value).ok();
        let is_legal = !broken
            && match (step, own) {
                (0, _) => value == 0 && !with,
                (_, None) => id.is_some() && !with,
                (_, Some(_)) if value == -1 => with && memory.is_none(),
                (_, Some(own)) => id.is_some_and(|id| with || id != own),
            };
        let before = held.clone();
        match (step, own, id) {
            _ if !is_legal => broken = true,
            (0, ..) => {}
            (_, None, Some(id)) => own = Some(id),
            _ if value == -1 => memory = Some(step),
            (_, _, Some(id)) if with => {
                let count = held.values().filter(|(peer, _)| *peer == id).count();
                if count < usize::from(vectors) {
                    held.insert(step, (id, count as u16));
                }
            }
            (_, _, Some(id)) => held.retain(|_, (peer, _)| *peer != id),
            _ => {}
        }
        // By the client; what it hands on is kept as a device keeps it.
        let answer = client.receive(ServerMessage { value, descriptor });
        if answer.is_ok() != is_legal {
            return Err(format!("step {step}: {answer:?}, legal: {is_legal}"));
        }
        match answer {
            Ok(ClientEvent::Memory(descriptor)) => {
                if memory != Some(descriptor.number) {
                    return Err(format!("step {step}: memory {}", descriptor.number));
                }
                kept.insert(step, descriptor);
            }
            Ok(ClientEvent::Connected { peer, vector, descriptor }) => {
                if held.get(&descriptor.number) != Some(&(peer, vector)) {
                    return Err(format!("step {step}: vector {vector} of {peer}"));
                }
                kept.insert(step, descriptor);
            }
            Ok(ClientEvent::Disconnected { peer }) => {
                if !before.values().any(|(of, _)| *of == peer) && vectors > 0 {
                    return Err(format!("step {step}: {peer} is gone, who was not there"));
                }
                kept.retain(|number, _| before.get(number).is_none_or(|(of, _)| *of != peer));
            }
            Ok(ClientEvent::Id(id)) if own != Some(id) => {
                return Err(format!("step {step}: id {id}"));
            }
            Ok(ClientEvent::Id(_) | ClientEvent::Nothing | ClientEvent::Surplus { .. })
            | Err(_) => {}
        }
        if client.id() != own.filter(|_| !broken) {
            return Err(format!("step {step}: id {:?} instead of {own:?}", client.id()));
        }
        if client.is_set_up() != (memory.is_some() && own.is_some() && !broken) {
            return Err(format!("step {step}: setup"));
        }
    }
    // Exactly those that are held are open, and none was closed twice.
    for (number, (count, (_, with))) in closed.iter().zip(messages).enumerate() {
        let open = held.contains_key(&number) || memory == Some(number);
        let expected = u32::from(*with && !open);
        if count.get() != expected {
            return Err(format!("descriptor {number} closed {} times", count.get()));
        }
    }
    Ok(())
}
