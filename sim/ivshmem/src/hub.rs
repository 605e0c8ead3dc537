//! Whom the server tells what (E4). Pure: descriptors are whatever `D` is, shared by cloning.

use std::collections::BTreeMap;

/// One message to one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tell<D> {
    pub(super) to: u16,
    pub(super) value: i64,
    pub(super) descriptor: Option<D>,
}

/// The clients there are, and their vectors.
#[derive(Debug)]
pub(super) struct Hub<D> {
    clients: BTreeMap<u16, Vec<D>>,
    /// Where the search for a free id begins: ids are used again as late as possible.
    next: u16,
}

impl<D: Clone> Hub<D> {
    pub(super) const fn new() -> Self {
        Self { clients: BTreeMap::new(), next: 0 }
    }

    /// The id of the next client; `None` when all 65536 are taken.
    pub(super) fn free(&self) -> Option<u16> {
        let mut ids = (0..=u16::MAX).map(|offset| self.next.wrapping_add(offset));
        ids.find(|id| !self.clients.contains_key(id))
    }

    /// A client is there: what it is told, and what the others are told before it hears of them.
    pub(super) fn join(&mut self, id: u16, memory: D, vectors: Vec<D>) -> Vec<Tell<D>> {
        let plain = |value| Tell { to: id, value, descriptor: None };
        let own = i64::from(id);
        let mut told = vec![plain(0), plain(own)];
        told.push(Tell { to: id, value: super::client::MEMORY, descriptor: Some(memory) });
        let with =
            |to, value, descriptor: &D| Tell { to, value, descriptor: Some(descriptor.clone()) };
        for &other in self.clients.keys() {
            told.extend(vectors.iter().map(|vector| with(other, own, vector)));
        }
        for (&other, theirs) in &self.clients {
            told.extend(theirs.iter().map(|vector| with(id, i64::from(other), vector)));
        }
        told.extend(vectors.iter().map(|vector| with(id, own, vector)));
        self.clients.insert(id, vectors);
        self.next = id.wrapping_add(1);
        told
    }

    /// A client is gone: what the others are told.
    pub(super) fn leave(&mut self, id: u16) -> Vec<Tell<D>> {
        let value = i64::from(id);
        self.clients.remove(&id);
        self.clients.keys().map(|&to| Tell { to, value, descriptor: None }).collect()
    }

    /// Clients there are.
    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(to: u16, value: i64, descriptor: Option<&'static str>) -> Tell<&'static str> {
        Tell { to, value, descriptor }
    }

    #[test]
    fn e4_a_newcomer_is_told_of_the_others_and_they_of_it() {
        let mut hub = Hub::new();
        let told = hub.join(0, "memory", vec!["a0", "a1"]);
        let first = [
            tell(0, 0, None),
            tell(0, 0, None),
            tell(0, -1, Some("memory")),
            tell(0, 0, Some("a0")),
            tell(0, 0, Some("a1")),
        ];
        assert_eq!(told, first);
        let told = hub.join(1, "memory", vec!["b0", "b1"]);
        let second = [
            tell(1, 0, None),
            tell(1, 1, None),
            tell(1, -1, Some("memory")),
            tell(0, 1, Some("b0")),
            tell(0, 1, Some("b1")),
            tell(1, 0, Some("a0")),
            tell(1, 0, Some("a1")),
            tell(1, 1, Some("b0")),
            tell(1, 1, Some("b1")),
        ];
        assert_eq!(told, second);
        assert_eq!(hub.leave(0), [tell(1, 0, None)]);
        assert_eq!(hub.leave(0), [tell(1, 0, None)], "the others know already, and do not mind");
        assert_eq!((hub.leave(1), hub.len()), (vec![], 0));
    }

    #[test]
    fn ids_increase_wrap_and_skip_those_that_live() {
        let mut hub = Hub::<()>::new();
        for expected in [0, 1, 2] {
            let id = hub.free().unwrap();
            assert_eq!(id, expected);
            hub.join(id, (), vec![]);
        }
        hub.leave(1);
        assert_eq!(hub.free(), Some(3), "not the one that was just given up");
        hub.next = u16::MAX;
        hub.join(u16::MAX, (), vec![]);
        assert_eq!(hub.free(), Some(1));
        for id in 0..=u16::MAX {
            hub.clients.insert(id, vec![]);
        }
        assert_eq!(hub.free(), None);
    }
}
