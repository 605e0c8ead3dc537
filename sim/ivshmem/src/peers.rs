//! Whom the doorbell can ring.

use msix_backends::kvm::Doorbell;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// The eventfds of all peers, the device itself among them, and the register that writes them.
#[derive(Debug)]
pub(super) struct Peers {
    by_id: BTreeMap<u16, Vec<Option<Arc<EventFd>>>>,
    /// With KVM: rings without an exit.
    doorbell: Option<Doorbell>,
}

impl Peers {
    pub(super) const fn new(doorbell: Option<Doorbell>) -> Self {
        Self { by_id: BTreeMap::new(), doorbell }
    }

    /// The next vector of `peer`; without an eventfd it cannot be rung.
    pub(super) fn connect(&mut self, peer: u16, eventfd: Option<EventFd>) {
        let vectors = self.by_id.entry(peer).or_default();
        let eventfd = eventfd.map(Arc::new);
        if let (Some(doorbell), Some(eventfd), Ok(vector)) =
            (&mut self.doorbell, &eventfd, u16::try_from(vectors.len()))
        {
            doorbell.connect(value(peer, vector), Arc::clone(eventfd));
        }
        vectors.push(eventfd);
    }

    /// `peer` is gone. A later one with its id begins anew (E8).
    pub(super) fn disconnect(&mut self, peer: u16) {
        let vectors = self.by_id.remove(&peer).unwrap_or_default();
        if let Some(doorbell) = &mut self.doorbell {
            (0..=u16::MAX).zip(&vectors).for_each(|(v, _)| doorbell.disconnect(value(peer, v)));
        }
    }

    /// The guest wrote `value`: peer in 31:16, vector in 15:0 (E2). Whether anybody was rung.
    pub(super) fn ring(&self, value: u32) -> bool {
        let (peer, vector) = ((value >> 16) as u16, value as u16);
        let vectors = self.by_id.get(&peer);
        let Some(Some(eventfd)) = vectors.and_then(|v| v.get(usize::from(vector))) else {
            return false;
        };
        match eventfd.write(1) {
            Ok(()) => true,
            // It is full: an event is in it already (A12).
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    /// The guest has placed the register, or switched it off.
    pub(super) fn place(&mut self, address: Option<u64>) {
        if let Some(doorbell) = &mut self.doorbell {
            doorbell.place(address);
        }
    }

    /// Vectors that `peer` has connected.
    pub(super) fn vectors(&self, peer: u16) -> usize {
        self.by_id.get(&peer).map_or(0, |vectors| vectors.iter().flatten().count())
    }

    /// Peers there are, the device itself included.
    pub(super) fn ids(&self) -> impl Iterator<Item = u16> + '_ {
        self.by_id.keys().copied()
    }

    /// Rings that take no exit.
    pub(super) fn armed(&self) -> usize {
        self.doorbell.as_ref().map_or(0, Doorbell::armed)
    }
}

const fn value(peer: u16, vector: u16) -> u32 {
    (peer as u32) << 16 | vector as u32
}
