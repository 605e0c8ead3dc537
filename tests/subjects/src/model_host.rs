//! A host made for the suite: remembers its calls, fails on demand, and holds events as an
//! eventfd does.

use super::suite_host::SuiteHost;
use msix_backends::{Host, Route};
use msix_conformance::{BackendLog, HostCall, IntxCall, Message};
use msix_core::{Vector, Vectors};
use std::collections::{BTreeMap, BTreeSet};

/// The path of a device's events to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventPath {
    /// The device tells the engine, which sends.
    Userspace,
    /// The device writes an eventfd that the host delivers while the vector is armed (an irqfd),
    /// and holds otherwise.
    Irqfd,
}

/// The host.
#[derive(Debug, Default)]
pub struct ModelHost {
    /// Calls since they were taken.
    pub calls: Vec<HostCall>,
    /// INTx calls since they were taken.
    pub intx: Vec<IntxCall>,
    /// Messages since they were taken.
    pub messages: Vec<Message>,
    /// Vectors it delivers by itself, with their message (K6).
    armed: BTreeMap<u16, Message>,
    /// Vectors with a counter that is not 0 (K8).
    held: BTreeSet<u16>,
    /// Vectors that cannot be armed.
    failing: BTreeSet<u16>,
}

impl ModelHost {
    /// Delivers a vector from now on, what it holds included (K7).
    pub fn arm_one(&mut self, vector: u16, message: Message) -> bool {
        self.calls.push(HostCall::Arm { vector, message });
        if self.failing.contains(&vector) {
            return false;
        }
        self.armed.insert(vector, message);
        if self.held.remove(&vector) {
            self.messages.push(message);
        }
        true
    }

    /// Whether it delivers any vector.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        !self.armed.is_empty()
    }

    /// The vectors with events that it holds.
    #[must_use]
    pub fn held(&self) -> Vec<u16> {
        self.held.iter().copied().collect()
    }

    /// Delivers a vector no more.
    pub fn disarm_one(&mut self, vector: u16) {
        self.calls.push(HostCall::Disarm { vector });
        self.armed.remove(&vector);
    }

    /// Changes the message of a vector. Returns whether it could.
    pub fn reroute_one(&mut self, vector: u16, message: Message) -> bool {
        self.calls.push(HostCall::Reroute { vector, message });
        if self.failing.contains(&vector) {
            self.armed.remove(&vector);
            return false;
        }
        if let Some(armed) = self.armed.get_mut(&vector) {
            *armed = message;
        }
        true
    }

    /// Sends a message.
    pub fn send_one(&mut self, vector: u16, message: Message) {
        self.calls.push(HostCall::Send { vector, message });
        self.messages.push(message);
    }

    /// Whether it held an event, which it gives up (H13).
    pub fn poll_one(&mut self, vector: u16) -> bool {
        self.calls.push(HostCall::Poll { vector });
        self.held.remove(&vector)
    }

    /// Gives up an event that it held.
    pub fn drain_one(&mut self, vector: u16) {
        self.calls.push(HostCall::Drain { vector });
        self.held.remove(&vector);
    }
}

impl Host for ModelHost {
    fn arm(&mut self, routes: &[Route]) -> Vec<Vector> {
        failed_of(routes, |route| self.arm_one(route.vector.index(), route.message))
    }

    fn disarm(&mut self, vectors: &[Vectors]) {
        each(vectors).for_each(|vector| self.disarm_one(vector.index()));
    }

    fn reroute(&mut self, routes: &[Route]) -> Vec<Vector> {
        failed_of(routes, |route| self.reroute_one(route.vector.index(), route.message))
    }

    fn send(&mut self, route: Route) {
        self.send_one(route.vector.index(), route.message);
    }

    fn poll(&mut self, vectors: &[Vectors]) -> Vec<Vectors> {
        each(vectors).filter(|vector| self.poll_one(vector.index())).map(Vectors::one).collect()
    }

    fn drain(&mut self, vectors: &[Vectors]) {
        each(vectors).for_each(|vector| self.drain_one(vector.index()));
    }

    fn snoop(&mut self, _route: Route) {}

    fn intx_deassert(&mut self) {
        self.intx.push(IntxCall::Deassert);
    }

    fn intx_reevaluate(&mut self) {
        self.intx.push(IntxCall::Reevaluate);
    }
}

impl SuiteHost for ModelHost {
    fn calls(&mut self) -> Vec<HostCall> {
        std::mem::take(&mut self.calls)
    }

    fn intx(&mut self) -> Vec<IntxCall> {
        std::mem::take(&mut self.intx)
    }

    fn messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.messages)
    }

    fn fail_arm(&mut self, vector: u16, fail: bool) {
        if fail {
            self.failing.insert(vector);
        } else {
            self.failing.remove(&vector);
        }
    }

    fn signal(&mut self, vector: u16) {
        match self.armed.get(&vector) {
            Some(message) => self.messages.push(*message),
            None => _ = self.held.insert(vector),
        }
    }

    fn take_held(&mut self, wanted: &dyn Fn(u16) -> bool) -> Vec<u16> {
        let taken: Vec<u16> = self.held.iter().copied().filter(|v| wanted(*v)).collect();
        taken.iter().for_each(|vector| _ = self.held.remove(vector));
        taken
    }

    fn backend_log(&mut self) -> Option<&mut dyn BackendLog> {
        None // there is no kernel under it
    }

    fn detached(&mut self) {}
}

fn each(sets: &[Vectors]) -> impl Iterator<Item = Vector> {
    sets.iter().flat_map(|set| set.iter())
}

/// Those whose route `works` says no to.
fn failed_of(routes: &[Route], mut works: impl FnMut(&Route) -> bool) -> Vec<Vector> {
    routes.iter().filter(|route| !works(route)).map(|route| route.vector).collect()
}
