//! Carries out the effects of one function on KVM.
//!
//! A device vector has one eventfd in all modes: MSI-X assigns it to the GSI of the vector, MSI to
//! that of the vector that its events are sent as. So the writer of the eventfd needs to know
//! neither the mode nor the guest's allocation. An event that is written while one of them changes
//! is sent by the GSI that KVM has at that moment, or stays in the eventfd for the next.

mod calls;
mod connected;
mod effects;
mod eventfds;
mod half_written;

use super::deferral::Wait;
use super::eventfd_gate::GatedEventfd;
use super::gsis::GsiTaken;
use super::message::Format;
use super::physical::{IndexState, PhysicalMsix};
use super::routes::Routes;
use super::setup::{EventfdOrigin, FunctionError};
use super::vector_counters::VectorCounters;
use super::vector_set::VectorSet;
use super::waiters::Turn;
use crate::eventfd::{EventSource, take};
use crate::panics::Panics;
pub(super) use calls::{Call, CallQueue};
pub(super) use effects::OfMode;
use msix_core::{Message, Mode, Vector};
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::{fmt, io};
use vmm_sys_util::eventfd::EventFd;

/// A vector's message as the host knows it.
#[derive(Debug, Clone, Copy, Default)]
struct RoutedMessage {
    /// The message of its last Arm, Reroute or Send.
    message: Option<Message>,
    /// The message of its last Arm or Reroute, which KVM has or is about to have.
    told: Option<Message>,
    /// The GSI, kept from the first Arm until the function is dropped (H23).
    gsi: Option<u32>,
    /// Whether the vector is between Arm and Disarm.
    live: bool,
    /// Whether KVM knows the message, so that eventfds may be assigned to the GSI.
    open: bool,
    /// Whether the route of `gsi` is `told` and KVM knows it. It stays so while the GSI is this
    /// vector's, until another message is told.
    committed: bool,
}

/// The state of a vector's eventfd.
#[derive(Debug, Clone, Copy, Default)]
struct EventfdUse {
    /// The GSI for which KVM owns it.
    assigned: Option<u32>,
    /// It is written elsewhere, so it must be read while KVM does not own it.
    external: bool,
    /// The loop has it.
    registered: bool,
    /// What the loop finds in it is taken in.
    watched: bool,
}

/// The messages of MSI or of MSI-X.
#[derive(Debug)]
struct ModeMessages {
    vectors: Vec<RoutedMessage>,
    /// Live vectors with a route that KVM does not know yet.
    waiting: VectorSet,
    /// Vectors with a message that could not be sent, and is sent later.
    unsent: VectorSet,
    /// Live vectors whose message is not what was told: KVM does not deliver them meanwhile.
    half_written: VectorSet,
}

impl ModeMessages {
    fn new(vectors: u16) -> Self {
        Self {
            vectors: vec![RoutedMessage::default(); usize::from(vectors)],
            waiting: VectorSet::none(vectors),
            unsent: VectorSet::none(vectors),
            half_written: VectorSet::none(vectors),
        }
    }

    fn of(&mut self, vector: u16) -> &mut RoutedMessage {
        &mut self.vectors[usize::from(vector)]
    }
}

/// A capability with messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageMode {
    MsiX,
    Msi,
}

impl From<MessageMode> for Mode {
    fn from(mode: MessageMode) -> Self {
        match mode {
            MessageMode::MsiX => Self::MsiX,
            MessageMode::Msi => Self::Msi,
        }
    }
}

/// The host of one function's vectors. It makes no call to the VMM, but queues those that are due.
pub(super) struct VectorHost {
    /// The eventfds, by the device's vectors.
    pub(super) eventfds: Arc<[GatedEventfd]>,
    routes: Arc<Routes>,
    format: Format,
    /// The device behind a passed-through function, and whether it was last enabled.
    physical: Option<(Box<dyn PhysicalMsix>, bool)>,
    /// The function's turn in the next flush.
    pub(super) turn: Turn,
    /// The function's number in the loop.
    id: Option<usize>,
    origin: EventfdOrigin,
    msix: ModeMessages,
    msi: ModeMessages,
    /// The number of MSI vectors that the guest allocated: an event of a device vector is sent as
    /// that vector modulo this.
    allocated: u16,
    /// Whether `allocated` changed while the eventfds are still assigned by its previous value.
    is_reallocated: bool,
    /// The mode that was entered last, to which the events in unassigned eventfds belong.
    owner: MessageMode,
    uses: Vec<EventfdUse>,
    /// Counts by the device's vectors; without [`VectorCounters::given`], which the eventfds have.
    counters: Vec<VectorCounters>,
    /// Eventfds that were made elsewhere, in place of those that are made here.
    connected: Vec<Option<Arc<EventFd>>>,
    /// The GSI of vector 0, where the others follow it; `None` when vectors are given any.
    first_gsi: Option<u32>,
    /// Vectors with an eventfd that KVM refused to deassign.
    stuck: VectorSet,
    /// Vectors with an eventfd that should be watched and could not be.
    unwatched: VectorSet,
    /// Whether eventfds stay in the loop while they are not watched.
    keeps_registered: bool,
    /// Calls to the VMM, in order.
    pub(super) calls: CallQueue,
    /// The number of commits that KVM had taken when `waiting` was last looked through.
    seen: u64,
    /// Whether a load waits for its resume (H15): until then no eventfd belongs to KVM, and none is
    /// read.
    paused: bool,
    /// Whether everything was given back.
    closed: bool,
    /// Panics of the VM, until they can go on. Each of them was a failure so far.
    pub(super) panics: Panics,
}

impl VectorHost {
    /// Makes a host for a function with these numbers of vectors of MSI-X and MSI, which share
    /// their eventfds. GSIs, routes and eventfds are made when first needed.
    pub(super) fn new(
        routes: &Arc<Routes>,
        msix: u16,
        msi: u16,
        format: Format,
    ) -> Result<Self, FunctionError> {
        if routes.lacks_device_id(format) {
            return Err(FunctionError::NoDeviceId);
        }
        let vectors = msix.max(msi);
        Ok(Self {
            eventfds: (0..vectors).map(|_| GatedEventfd::default()).collect(),
            routes: Arc::clone(routes),
            format,
            physical: None,
            turn: Turn::default(),
            id: None,
            origin: EventfdOrigin::Own,
            msix: ModeMessages::new(msix),
            msi: ModeMessages::new(msi),
            allocated: 1,
            is_reallocated: false,
            owner: if msix > 0 { MessageMode::MsiX } else { MessageMode::Msi },
            uses: vec![EventfdUse::default(); usize::from(vectors)],
            counters: vec![VectorCounters::default(); usize::from(vectors)],
            connected: vec![None; usize::from(vectors)],
            first_gsi: None,
            stuck: VectorSet::none(vectors),
            unwatched: VectorSet::none(vectors),
            keeps_registered: false,
            calls: CallQueue::new(msix, msi),
            seen: 0,
            paused: false,
            closed: false,
            panics: Panics::default(),
        })
    }

    /// Puts a device behind the function, before the first effect.
    pub(super) fn set_physical(&mut self, physical: Box<dyn PhysicalMsix>) {
        self.physical = Some((physical, false));
    }

    /// Leaves the device as it is, to another process.
    pub(super) fn leave_physical(&mut self) -> IndexState {
        let physical = self.physical.take();
        physical.map_or(IndexState::Idle, |(mut physical, _)| physical.hand_over())
    }

    /// Returns whether KVM kept an eventfd that it should have let go of.
    pub(super) fn is_stuck(&self) -> bool {
        self.uses.iter().any(|u| u.assigned.is_some())
    }

    /// Returns the eventfds that exist.
    pub(super) fn all_eventfds(&self) -> Vec<(Vector, Arc<EventFd>)> {
        let vectors = (0..).take(self.uses.len());
        let made = vectors.filter_map(|v| Some((Vector::new(v), Arc::clone(self.made(v)?))));
        made.inspect(|(v, _)| {
            self.eventfds[usize::from(v.index())].gate.share(std::thread::yield_now);
        })
        .collect()
    }

    /// Sets the origin of the eventfds, before the first effect.
    pub(super) const fn set_origin(&mut self, origin: EventfdOrigin) {
        self.origin = origin;
    }

    /// Gives the vectors of MSI-X these GSIs and no others, before the first effect.
    pub(super) fn fix_gsis(&mut self, first: u32) -> Result<(), GsiTaken> {
        self.routes.reserve(first, self.msix.vectors.len() as u16)?;
        self.first_gsi = Some(first);
        Ok(())
    }

    /// Makes the loop of the [`Routes`] call `source` when an eventfd should be read, before the
    /// first effect.
    pub(super) fn join(&mut self, source: Weak<dyn EventSource>) {
        self.id = Some(self.routes.events().join(source));
    }

    /// Keeps eventfds in the loop while they are not watched, before the first effect. Whoever handles
    /// what the loop finds calls [`end_watch`](Self::end_watch) then.
    pub(super) const fn keep_registered(&mut self) {
        self.keeps_registered = true;
    }

    /// Makes the device follow the guest's MSI-X Enable. Call it after every input that may have
    /// changed the bit (D7).
    pub(super) fn set_enabled(&mut self, enabled: bool) {
        if let Some((physical, told)) = &mut self.physical
            && *told != enabled
        {
            physical.set_enabled(enabled);
            *told = enabled;
        }
    }

    /// Takes an event from the eventfd of `vector`, unless KVM owns it. Returns whether there was one.
    pub(super) fn take(&mut self, vector: Vector) -> bool {
        let index = vector.index();
        let is_free = self.uses.get(usize::from(index)).is_some_and(|u| u.assigned.is_none());
        is_free && self.made(index).is_some_and(|eventfd| take(eventfd))
    }

    /// Commits and arms what waits, and tries again what failed. Returns the vectors that failed,
    /// because the kernel refuses their routes.
    pub(super) fn flush(&mut self) -> Vec<Vector> {
        let failed = self.flush_routes();
        if !self.paused {
            self.send_all_again();
        }
        failed
    }

    /// Returns what waits for the next [`flush`](Self::flush), if anything does of which that is not told.
    #[inline]
    pub(super) const fn waits(&self) -> Option<Wait> {
        if self.turn.is_told {
            return None;
        }
        if !self.stuck.is_empty() || !self.unwatched.is_empty() {
            return Some(Wait::Retry); // a flush looks after routes as well
        }
        if self.paused {
            return None;
        }
        if !self.msix.unsent.is_empty() || !self.msi.unsent.is_empty() {
            return Some(Wait::Retry);
        }
        if self.of_mode(self.owner).waiting.is_empty() { None } else { Some(Wait::Commit) }
    }

    /// Does the same, but for messages that could not be sent.
    pub(super) fn flush_routes(&mut self) -> Vec<Vector> {
        let mut failed = Vec::new();
        let waits_on = self.paused || self.routes.is_held();
        let owner = self.messages(self.owner);
        if !waits_on && !owner.waiting.is_empty() {
            let waiting = owner.waiting.members();
            let gsis: Vec<u32> = waiting.iter().filter_map(|&v| owner.of(v).gsi).collect();
            match self.attempt(|host| host.routes.commit(gsis)) {
                Ok(generation) => {
                    self.seen = generation;
                    self.arm_current(&mut failed);
                }
                Err(_) => {
                    let waiting = self.messages(self.owner).waiting.take();
                    failed.extend(waiting.into_iter().map(Vector::new));
                }
            }
        }
        for vector in self.stuck.take() {
            self.join_target(vector);
        }
        for vector in self.unwatched.take() {
            self.watch(vector);
        }
        failed
    }

    /// Gives back the GSIs of all vectors that have no irqfd. Nothing may be live. A GSI that KVM
    /// refused to let go of is kept, because its next owner would get this function's events.
    pub(super) fn give_back(&mut self) {
        let assigned: BTreeSet<u32> = self.uses.iter().filter_map(|u| u.assigned).collect();
        let all = self.msix.vectors.iter_mut().chain(&mut self.msi.vectors);
        let free = all.filter(|state| state.gsi.is_some_and(|gsi| !assigned.contains(&gsi)));
        self.routes.give_back(free.filter_map(|state| state.gsi.take()), &mut self.panics);
    }

    /// Makes a call of the VM. A panic of it is a failure, so that nothing is lost; it goes on when the
    /// input is done.
    fn attempt<T>(&mut self, call: impl FnOnce(&Self) -> io::Result<T>) -> io::Result<T> {
        let mut panics = Panics::default();
        let result = panics.attempt(|| call(self));
        self.panics.add(panics);
        result
    }

    /// Takes the panics of the VM so far.
    pub(super) fn take_panics(&mut self) -> Panics {
        std::mem::take(&mut self.panics)
    }

    /// Returns the counts of a vector, for changes.
    pub(super) fn count(&mut self, vector: u16) -> Option<&mut VectorCounters> {
        self.counters.get_mut(usize::from(vector))
    }

    /// Returns the counts of all vectors.
    pub(super) fn counters(&self) -> Vec<VectorCounters> {
        let all = self.counters.iter().zip(&*self.eventfds);
        all.map(|(counters, gated)| VectorCounters { given: gated.gate.taken(), ..*counters })
            .collect()
    }

    /// Returns how many vectors a mode has.
    pub(super) const fn vectors(&self, mode: MessageMode) -> usize {
        self.of_mode(mode).vectors.len()
    }

    /// Returns whether a vector is between Arm and Disarm.
    pub(super) fn is_live(&self, mode: MessageMode, vector: impl Into<usize>) -> bool {
        self.of_mode(mode).vectors.get(vector.into()).is_some_and(|state| state.live)
    }

    /// Returns the mode to which the events in the eventfds belong.
    pub(super) const fn owner(&self) -> MessageMode {
        self.owner
    }

    /// Gives everything back: the device is disabled, KVM and the loop have no eventfd any more, and no
    /// call is queued. Nothing may happen afterwards.
    pub(super) fn close(&mut self) {
        self.closed = true;
        let mut panics = Panics::default();
        panics.catch(|| self.set_enabled(false));
        for vector in (0..).take(self.uses.len()) {
            self.unwatch(vector);
            self.end_watch(vector);
            self.take_back(vector);
        }
        self.give_back();
        if let Some(first) = self.first_gsi.take() {
            self.routes.unreserve(first, self.msix.vectors.len() as u16);
        }
        if let Some(id) = self.id.take() {
            self.routes.events().leave(id);
        }
        while self.calls.pop().is_some() {}
        let physical = self.physical.take();
        panics.catch(|| drop(physical));
        panics.add(self.take_panics());
        panics.resume_in_drop();
    }

    const fn of_mode(&self, mode: MessageMode) -> &ModeMessages {
        match mode {
            MessageMode::MsiX => &self.msix,
            MessageMode::Msi => &self.msi,
        }
    }

    fn messages(&mut self, mode: MessageMode) -> &mut ModeMessages {
        match mode {
            MessageMode::MsiX => &mut self.msix,
            MessageMode::Msi => &mut self.msi,
        }
    }
}

impl Drop for VectorHost {
    fn drop(&mut self) {
        if !self.closed {
            self.close();
        }
    }
}

impl fmt::Debug for VectorHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VectorHost")
            .field("msix", &self.msix.vectors.len())
            .field("msi", &self.msi.vectors.len())
            .finish_non_exhaustive()
    }
}
