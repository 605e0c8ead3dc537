//! The effects of one function, carried out on KVM.

use super::line::Line;
use super::message::Format;
use super::physical::Physical;
use super::routes::{Place, Routes, Want};
use super::set::Set;
use crate::eventfd::Source;
use crate::{Host, Route};
use msix_core::{Message, Vector, Vectors};
use smallvec::SmallVec;
use std::sync::{Arc, Weak};
use std::{fmt, io};
use vmm_sys_util::eventfd::EventFd;

/// What a function needs of the VMM around it.
pub trait Platform: Send {
    /// A message whose address is no interrupt's: the device writes `data` to guest memory, as a bus
    /// master would (K11).
    fn write_memory(&mut self, address: u64, data: u32);
    /// Lower the INTx line: MSI-X was enabled (A10).
    fn intx_deassert(&mut self);
    /// Drive the INTx line as the device's status says: MSI-X was disabled (A10, H17).
    fn intx_reevaluate(&mut self);
    /// An entry was written (Xen, G2).
    fn snoop(&mut self, route: Route);
}

/// A vector as the host was told of it.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// The message of its last Arm, Reroute or Send.
    message: Option<Message>,
    /// Kept from the first Arm until the function goes (H23).
    gsi: Option<u32>,
    /// Between Arm and Disarm.
    live: bool,
    /// KVM owns the eventfd.
    assigned: bool,
    /// Somebody else writes the eventfd, so somebody must read it while KVM does not own it.
    external: bool,
    /// The loop reads it.
    watched: bool,
}

/// The host of one function: what [`Function`](super::Function) has under its lock, for a VMM that
/// has a lock of its own around its devices.
pub struct KvmHost<P: Platform> {
    /// The VMM's own part.
    pub platform: P,
    pub(super) lines: Arc<[Line]>,
    routes: Arc<Routes>,
    format: Format,
    /// The device behind a passed-through function, and whether it was told to be enabled.
    physical: Option<(Box<dyn Physical>, bool)>,
    /// The function's number in the loop.
    id: Option<usize>,
    /// Eventfds are connected by somebody else, not made here.
    connected: bool,
    vectors: Vec<State>,
    /// Live vectors whose route KVM does not know yet.
    waiting: Set,
    /// Vectors with a message that could not be sent, and is sent later.
    unsent: Set,
    /// Vectors whose eventfd KVM would not let go of.
    stuck: Set,
    /// Live vectors whose eventfd could not be watched.
    unwatched: Set,
    /// Commits that KVM had taken when `waiting` was looked through.
    seen: u64,
}

impl<P: Platform> KvmHost<P> {
    /// For a function with `vectors` vectors, 1 to 2048. GSIs, routes and eventfds are made at the
    /// first need.
    #[must_use]
    pub fn new(routes: &Arc<Routes>, vectors: u16, format: Format, platform: P) -> Self {
        Self {
            platform,
            lines: (0..vectors).map(|_| Line::default()).collect(),
            routes: Arc::clone(routes),
            format,
            physical: None,
            id: None,
            connected: false,
            vectors: vec![State::default(); usize::from(vectors)],
            waiting: Set::none(vectors),
            unsent: Set::none(vectors),
            stuck: Set::none(vectors),
            unwatched: Set::none(vectors),
            seen: 0,
        }
    }

    /// Puts a device behind the function: its interrupts arrive at the vectors' eventfds. Before the
    /// first effect.
    #[must_use]
    pub fn with_physical(mut self, physical: Box<dyn Physical>) -> Self {
        self.physical = Some((physical, false));
        self
    }

    /// Has no eventfds made: somebody else makes them, and [`connect`](Self::connect) is called for
    /// those there are. Before the first effect.
    #[must_use]
    pub const fn with_connected_eventfds(mut self) -> Self {
        self.connected = true;
        self
    }

    /// Connects `vector` to an eventfd that somebody else made and writes, at any time: a guest that
    /// has unmasked it already gets the events from now on, and those that the eventfd holds. Vectors
    /// that the engine should know to have failed ([`msix_core::Msix::report_failed`]).
    ///
    /// # Errors
    /// `InvalidInput` past the table; `AlreadyExists` when it has an eventfd. `eventfd` is then closed.
    pub fn connect(&mut self, vector: Vector, eventfd: EventFd) -> io::Result<Vec<Vector>> {
        let index = vector.index();
        let line = self.lines.get(usize::from(index)).ok_or(io::ErrorKind::InvalidInput)?;
        line.connect(eventfd)?;
        let state = &mut self.vectors[usize::from(index)];
        state.external = true;
        let routed = state.message.and_then(|message| self.format.encode(message)).is_some();
        if state.live && state.gsi.is_some() && routed {
            self.waiting.insert(index);
        }
        let mut failed = Vec::new();
        self.arm_current(&mut failed);
        if !self.waiting.is_empty() {
            self.routes.call_again();
        }
        self.watch(index);
        Ok(failed)
    }

    /// The guest's MSI-X Enable, after every input that may have changed it: the device's follows
    /// (D7).
    pub fn set_enabled(&mut self, enabled: bool) {
        if let Some((physical, told)) = &mut self.physical
            && *told != enabled
        {
            *told = enabled;
            physical.set_enabled(enabled);
        }
    }

    /// Has the loop of the [`Routes`] tell `source` when an eventfd should be read. Before the first
    /// effect; without, the VMM watches the eventfds itself.
    pub fn join(&mut self, source: Weak<dyn Source>) {
        self.id = Some(self.routes.events().join(source));
    }

    /// The eventfd of `vector`. Somebody else may write it from now on: while KVM does not own it,
    /// the VMM reads it ([`take`](Self::take)), and tells the engine.
    ///
    /// # Errors
    /// Of `eventfd2`; `InvalidInput` past the table.
    pub fn eventfd(&mut self, vector: Vector) -> io::Result<Arc<EventFd>> {
        let index = vector.index();
        let line = self.lines.get(usize::from(index)).ok_or(io::ErrorKind::InvalidInput)?;
        let eventfd = Arc::clone(line.eventfd()?);
        self.vectors[usize::from(index)].external = true;
        self.watch(index);
        Ok(eventfd)
    }

    /// Whether the eventfd of `vector`, which is not KVM's, held an event. It does no more. An event
    /// of a live vector is the engine's ([`msix_core::Msix::notify`]); that of a masked one stays where
    /// it is until a poll asks for it (K8).
    pub fn take(&mut self, vector: Vector) -> bool {
        let index = usize::from(vector.index());
        self.vectors.get(index).is_some_and(|state| !state.assigned) && self.lines[index].take()
    }

    /// Whether the loop should read the eventfd: with routes not while the vector is masked, for then
    /// it is the eventfd that holds the event (K8).
    pub(super) fn is_watched(&self, vector: Vector) -> bool {
        self.vectors.get(usize::from(vector.index())).is_some_and(|state| state.watched)
    }

    /// Commits and arms what waits, and tries again what failed. Vectors whose route the kernel
    /// refuses, and the engine should know to have failed ([`msix_core::Msix::report_failed`]).
    pub fn flush(&mut self) -> Vec<Vector> {
        let mut failed = Vec::new();
        if !self.waiting.is_empty() {
            let waiting = self.waiting.members();
            let gsis = waiting.iter().filter_map(|&v| self.vectors[usize::from(v)].gsi);
            match self.routes.commit(gsis) {
                Ok(generation) => {
                    self.seen = generation;
                    self.arm_current(&mut failed);
                }
                Err(_) => failed.extend(self.waiting.take().into_iter().map(Vector::new)),
            }
        }
        for vector in self.stuck.take() {
            self.take_back(vector);
            self.watch(vector);
        }
        for vector in self.unwatched.take() {
            self.watch(vector);
        }
        for vector in self.unsent.members() {
            self.send_again(vector);
        }
        failed
    }

    /// Sends what could not be sent before, unless the vector is masked by now: then it is a pending
    /// bit that a poll will find.
    fn send_again(&mut self, vector: u16) {
        let state = self.vectors[usize::from(vector)];
        if let (true, Some(message)) = (state.live, state.message)
            && self.unsent.remove(vector)
        {
            self.deliver(vector, message);
        }
    }

    /// Gives the GSIs back of all vectors that have no irqfd. Nothing may be live; where KVM would not
    /// let go, the next owner of the GSI would get this function's events.
    pub fn give_back(&mut self) {
        let disarmed = self.vectors.iter_mut().filter(|state| !state.assigned);
        self.routes.give_back(disarmed.filter_map(|state| state.gsi.take()));
    }

    /// Has the device send to these vectors' eventfds. Those that it does not.
    fn bind(&mut self, routes: &[Route]) -> Vec<Vector> {
        let Some((mut physical, _)) = self.physical.take() else { return Vec::new() };
        let vectors: SmallVec<[Vector; 1]> = routes.iter().map(|route| route.vector).collect();
        let failed = physical.bind(&vectors, &mut |vector| self.eventfd(vector));
        self.physical = Some((physical, true));
        failed
    }

    /// Arms those that wait and whose routes KVM knows by now.
    fn arm_current(&mut self, failed: &mut Vec<Vector>) {
        let gsi = |vector| Some((vector, self.vectors[usize::from(vector)].gsi?));
        let waiting = self.waiting.members().into_iter().filter_map(gsi).collect();
        for (vector, gsi) in self.routes.current(waiting) {
            self.waiting.remove(vector);
            if !self.give(vector, gsi) {
                failed.push(Vector::new(vector));
                self.watch(vector);
            }
        }
    }

    /// Makes the eventfd KVM's. Nobody else reads it then (K7).
    fn give(&mut self, vector: u16, gsi: u32) -> bool {
        self.unwatch(vector);
        let line = &self.lines[usize::from(vector)];
        if self.connected && line.made().is_none() {
            return true; // nothing is armed before somebody connects it (E8)
        }
        let state = &mut self.vectors[usize::from(vector)];
        if !self.stuck.remove(vector) {
            let eventfd = line.eventfd();
            state.assigned = eventfd.and_then(|fd| self.routes.assign(fd, gsi)).is_ok();
        }
        if state.assigned {
            line.gate.open();
        }
        state.assigned
    }

    /// Takes the eventfd back from KVM. When the kernel refuses, the vector's own events reach the
    /// engine all the same, and it is tried again.
    fn take_back(&mut self, vector: u16) {
        let state = &mut self.vectors[usize::from(vector)];
        let line = &self.lines[usize::from(vector)];
        if let (true, Some(eventfd), Some(gsi)) = (state.assigned, line.made(), state.gsi) {
            line.gate.close();
            state.assigned = self.routes.deassign(eventfd, gsi).is_err();
            if state.assigned {
                self.stuck.insert(vector);
                self.routes.call_again();
            }
        }
    }

    /// Reads the eventfd of a live vector, if somebody else writes it; without routes, of any vector.
    fn watch(&mut self, vector: u16) {
        let state = &mut self.vectors[usize::from(vector)];
        let wanted = state.live || self.routes.userspace;
        if !state.external || !wanted || state.assigned || state.watched {
            return;
        }
        let (Some(eventfd), Some(id)) = (self.lines[usize::from(vector)].made(), self.id) else {
            return;
        };
        state.watched = self.routes.events().watch(id, Vector::new(vector), &**eventfd).is_ok();
        if !state.watched {
            self.unwatched.insert(vector);
            self.routes.call_again();
        }
    }

    fn unwatch(&mut self, vector: u16) {
        self.unwatched.remove(vector);
        let state = &mut self.vectors[usize::from(vector)];
        if std::mem::take(&mut state.watched)
            && let Some(eventfd) = self.lines[usize::from(vector)].made()
        {
            // It was watched: this cannot fail.
            let _ = self.routes.events().unwatch(&**eventfd);
        }
    }

    /// Sends a message, now or later.
    fn deliver(&mut self, vector: u16, message: Message) {
        match self.format.encode(message) {
            None => self.platform.write_memory(message.address, message.data),
            Some(msi) => {
                if self.routes.signal(msi).is_err() {
                    self.unsent.insert(vector);
                    self.routes.call_again();
                }
            }
        }
    }

    /// Takes back what was held for these, by the eventfd or for a message that was not sent.
    fn take_held(&mut self, sets: &[Vectors]) -> Vec<Vectors> {
        let take = |vector: &Vector| {
            let index = vector.index();
            let unsent = self.unsent.remove(index);
            self.take(*vector) || unsent
        };
        each(sets).filter(take).map(Vectors::one).collect()
    }
}

fn each(sets: &[Vectors]) -> impl Iterator<Item = Vector> {
    sets.iter().flat_map(|set| set.iter())
}

impl<P: Platform> Host for KvmHost<P> {
    fn arm(&mut self, routes: &[Route]) -> Vec<Vector> {
        let mut failed = Vec::new();
        let mut wants: SmallVec<[Want; 1]> = SmallVec::new();
        let mut vectors: SmallVec<[Vector; 1]> = SmallVec::new();
        for route in routes {
            let state = &mut self.vectors[usize::from(route.vector.index())];
            state.live = true;
            state.message = Some(route.message);
            match self.format.encode(route.message) {
                Some(msi) => {
                    wants.push(Want { gsi: state.gsi, msi, place: Place::Waiting });
                    vectors.push(route.vector);
                }
                None => failed.push(route.vector), // a write to memory, which userspace does
            }
        }
        let generation = self.routes.want(&mut wants);
        for (want, vector) in wants.iter().zip(&vectors) {
            let index = vector.index();
            self.vectors[usize::from(index)].gsi = want.gsi;
            match (want.place, want.gsi) {
                (Place::Current, Some(gsi)) if self.give(index, gsi) => {}
                (Place::Waiting, Some(_)) => self.waiting.insert(index),
                _ => failed.push(*vector),
            }
        }
        if generation != self.seen {
            self.seen = generation;
            self.arm_current(&mut failed);
        }
        for route in routes {
            self.watch(route.vector.index());
            self.send_again(route.vector.index());
        }
        failed.extend(self.bind(routes));
        failed
    }

    fn disarm(&mut self, vectors: &[Vectors]) {
        for vector in each(vectors).map(Vector::index) {
            self.vectors[usize::from(vector)].live = false;
            self.waiting.remove(vector);
            if !self.routes.userspace {
                self.unwatch(vector);
            }
            self.take_back(vector);
        }
        if let Some((physical, _)) = &mut self.physical {
            physical.unused(&each(vectors).collect::<Vec<_>>());
        }
    }

    fn reroute(&mut self, routes: &[Route]) -> Vec<Vector> {
        let mut failed = Vec::new();
        let mut armed = Vec::new();
        for route in routes {
            let index = route.vector.index();
            self.vectors[usize::from(index)].message = Some(route.message);
            let state = self.vectors[usize::from(index)];
            match (self.format.encode(route.message), state.gsi) {
                (Some(msi), Some(gsi)) => {
                    self.routes.set(gsi, msi);
                    if state.assigned {
                        armed.push((route.vector, gsi));
                    }
                }
                _ => failed.push(route.vector),
            }
        }
        // In place, under a live irqfd (K6). What waits, goes on waiting.
        if self.routes.commit(armed.iter().map(|&(_, gsi)| gsi)).is_err() {
            failed.extend(armed.into_iter().map(|(vector, _)| vector));
        }
        for vector in failed.iter().map(|vector| vector.index()) {
            self.waiting.remove(vector);
            self.take_back(vector);
            self.watch(vector);
        }
        failed
    }

    fn send(&mut self, route: Route) {
        let vector = route.vector.index();
        self.vectors[usize::from(vector)].message = Some(route.message);
        self.deliver(vector, route.message);
    }

    fn poll(&mut self, vectors: &[Vectors]) -> Vec<Vectors> {
        self.take_held(vectors)
    }

    fn drain(&mut self, vectors: &[Vectors]) {
        self.take_held(vectors);
    }

    fn snoop(&mut self, route: Route) {
        self.platform.snoop(route);
    }

    fn intx_deassert(&mut self) {
        self.platform.intx_deassert();
    }

    fn intx_reevaluate(&mut self) {
        self.platform.intx_reevaluate();
    }
}

impl<P: Platform> Drop for KvmHost<P> {
    fn drop(&mut self) {
        self.set_enabled(false);
        for vector in (0..).take(self.vectors.len()) {
            self.unwatch(vector);
            self.take_back(vector);
        }
        self.give_back();
        if let Some(id) = self.id {
            self.routes.events().leave(id);
        }
    }
}

impl<P: Platform> fmt::Debug for KvmHost<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvmHost").field("vectors", &self.vectors.len()).finish_non_exhaustive()
    }
}
