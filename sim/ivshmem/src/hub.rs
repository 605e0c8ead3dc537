//! Whom the server tells what (E4). Pure: descriptors are whatever `D` is, and are kept for the clients
//! that there are, never for messages: who has gone leaves nothing behind.

use std::collections::{BTreeMap, VecDeque};

/// The clients there are, their vectors, and what each is still to be told.
#[derive(Debug)]
pub(super) struct Hub<D> {
    memory: D,
    members: BTreeMap<u16, Member<D>>,
    /// Where the search for a free id begins: ids are used again as late as possible.
    next: u16,
}

#[derive(Debug)]
struct Member<D> {
    vectors: Vec<D>,
    due: VecDeque<Due>,
}

/// One thing to tell a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Version,
    OwnId,
    Memory,
    /// The vectors of `peer`, of which the first `told` were told.
    Join {
        peer: u16,
        told: usize,
    },
    /// A peer is gone of whom it was told.
    Leave(u16),
}

impl<D> Hub<D> {
    pub(super) const fn new(memory: D) -> Self {
        Self { memory, members: BTreeMap::new(), next: 0 }
    }

    /// The id of the next client; `None` when all 65536 are taken.
    pub(super) fn free(&self) -> Option<u16> {
        let mut ids = (0..=u16::MAX).map(|offset| self.next.wrapping_add(offset));
        ids.find(|id| !self.members.contains_key(id))
    }

    /// A client is there, with one vector or more. It is to be told of everybody, and everybody of it.
    pub(super) fn join(&mut self, id: u16, vectors: Vec<D>) {
        let join = |peer| Due::Join { peer, told: 0 };
        let mut due = VecDeque::from([Due::Version, Due::OwnId, Due::Memory]);
        due.extend(self.members.keys().copied().map(join));
        due.push_back(join(id));
        self.members.values_mut().for_each(|other| other.due.push_back(join(id)));
        self.members.insert(id, Member { vectors, due });
        self.next = id.wrapping_add(1);
    }

    /// A client is gone. Who was told of it is to be told that too; who was not has nothing to hear.
    pub(super) fn leave(&mut self, id: u16) {
        if self.members.remove(&id).is_none() {
            return;
        }
        for other in self.members.values_mut() {
            let join = |due: &Due| matches!(due, Due::Join { peer, .. } if *peer == id);
            let waiting = other.due.iter().position(join);
            let waiting = waiting.and_then(|at| other.due.remove(at));
            if waiting != Some(Due::Join { peer: id, told: 0 }) {
                other.due.push_back(Due::Leave(id));
            }
        }
    }

    /// The next message to client `to`.
    pub(super) fn due(&self, to: u16) -> Option<(i64, Option<&D>)> {
        Some(match *self.members.get(&to)?.due.front()? {
            Due::Version => (0, None),
            Due::OwnId => (to.into(), None),
            Due::Memory => (super::client::MEMORY, Some(&self.memory)),
            Due::Join { peer, told } => {
                (peer.into(), self.members.get(&peer).and_then(|peer| peer.vectors.get(told)))
            }
            Due::Leave(peer) => (peer.into(), None),
        })
    }

    /// The next message to client `to` went.
    pub(super) fn told(&mut self, to: u16) {
        let vectors = |peer| self.members.get(&peer).map_or(0, |peer| peer.vectors.len());
        let due = self.members.get(&to).and_then(|member| member.due.front().copied());
        let rest = match due {
            Some(Due::Join { peer, told }) if told + 1 < vectors(peer) => {
                Some(Due::Join { peer, told: told + 1 })
            }
            _ => None,
        };
        if let Some(member) = self.members.get_mut(&to) {
            member.due.pop_front();
            if let Some(rest) = rest {
                member.due.push_front(rest);
            }
        }
    }

    /// Clients there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Names = Hub<&'static str>;

    /// The next `most` messages to a client.
    fn some(hub: &mut Names, to: u16, most: usize) -> Vec<(i64, Option<&'static str>)> {
        let mut told = Vec::new();
        while told.len() < most
            && let Some((value, descriptor)) = hub.due(to)
        {
            told.push((value, descriptor.copied()));
            hub.told(to);
        }
        told
    }

    fn all(hub: &mut Names, to: u16) -> Vec<(i64, Option<&'static str>)> {
        some(hub, to, usize::MAX)
    }

    /// Clients 0 and 1, who know each other.
    fn met() -> Names {
        let mut hub = Hub::new("memory");
        hub.join(0, vec!["a0", "a1"]);
        hub.join(1, vec!["b0", "b1"]);
        all(&mut hub, 0);
        all(&mut hub, 1);
        hub
    }

    #[test]
    fn e4_a_newcomer_is_told_of_the_others_and_they_of_it() {
        let mut hub = Hub::new("memory");
        hub.join(0, vec!["a0", "a1"]);
        let own = [(0, Some("a0")), (0, Some("a1"))];
        let greeting = |id| [(0, None), (id, None), (-1, Some("memory"))];
        assert_eq!(all(&mut hub, 0), [&greeting(0)[..], &own].concat());
        hub.join(1, vec!["b0", "b1"]);
        let newcomer = [(1, Some("b0")), (1, Some("b1"))];
        assert_eq!(all(&mut hub, 0), newcomer);
        assert_eq!(all(&mut hub, 1), [&greeting(1)[..], &own, &newcomer].concat());
        hub.leave(0);
        hub.leave(0);
        assert_eq!(all(&mut hub, 1), [(0, None)], "told once");
        hub.leave(1);
        assert_eq!((hub.len(), hub.due(1)), (0, None));
    }

    #[test]
    fn who_comes_and_goes_unseen_leaves_nothing_to_tell() {
        let mut hub = met();
        for id in 2..1000 {
            hub.join(id, vec!["c0", "c1"]);
            hub.leave(id);
        }
        assert_eq!(hub.members[&0].due, []);
        hub.join(1000, vec!["d0"]);
        assert_eq!(all(&mut hub, 0), [(1000, Some("d0"))]);
    }

    #[test]
    fn who_goes_half_told_is_told_to_be_gone_and_its_other_vectors_are_not_told() {
        for before in 1..3 {
            let mut hub = met();
            hub.join(2, vec!["c0", "c1"]);
            hub.join(3, vec!["d0"]);
            assert_eq!(some(&mut hub, 0, before).len(), before);
            hub.leave(2);
            assert_eq!(all(&mut hub, 0), [(3, Some("d0")), (2, None)], "{before}");
            assert_eq!(all(&mut hub, 1), [(3, Some("d0"))]);
        }
    }

    #[test]
    fn an_id_that_is_used_again_is_told_to_be_gone_before_it_is_told_to_be_there() {
        let mut hub = met();
        hub.leave(1);
        hub.join(1, vec!["c0"]);
        assert_eq!(hub.members[&0].due.len(), 2);
        hub.leave(1);
        hub.join(1, vec!["d0"]);
        assert_eq!(all(&mut hub, 0), [(1, None), (1, Some("d0"))]);
    }

    #[test]
    fn ids_increase_wrap_and_skip_those_that_live() {
        let mut hub = Hub::new("memory");
        for expected in [0, 1, 2] {
            let id = hub.free().unwrap();
            assert_eq!(id, expected);
            hub.join(id, vec!["v"]);
        }
        hub.leave(1);
        assert_eq!(hub.free(), Some(3), "not the one that was just given up");
        hub.next = u16::MAX;
        hub.join(u16::MAX, vec!["v"]);
        assert_eq!(hub.free(), Some(1));
        for id in 0..=u16::MAX {
            hub.members.insert(id, Member { vectors: vec![], due: VecDeque::new() });
        }
        assert_eq!(hub.free(), None);
    }
}
