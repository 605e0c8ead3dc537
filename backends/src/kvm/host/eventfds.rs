//! Gives the eventfds to KVM, to the loop, or to neither.

use super::{MessageMode, VectorHost};
use crate::happening::failed;
use crate::kvm::deferral::Wait;
use crate::kvm::setup::EventfdOrigin;
use msix_core::Vector;

impl VectorHost {
    /// Sets how many MSI vectors the guest allocated, before the effects of the input that changed
    /// it; [`join_targets`](Self::join_targets) must follow the effects.
    pub(in crate::kvm) const fn set_allocated(&mut self, allocated: u16) {
        self.is_reallocated |= self.allocated != allocated;
        self.allocated = allocated;
    }

    /// Sets the mode that the guest is in, after the effects of the input that changed it.
    pub(in crate::kvm) const fn set_owner(&mut self, mode: MessageMode) {
        self.owner = mode;
    }

    /// Returns whether the loop should read the eventfd: with routes, not while the vector is
    /// masked, because the eventfd then holds the event (K8).
    pub(in crate::kvm) fn is_watched(&self, vector: Vector) -> bool {
        self.uses.get(usize::from(vector.index())).is_some_and(|u| u.watched)
    }

    /// Takes all eventfds back and leaves them alone until [`unpause`](Self::unpause). What a load
    /// changed must not be told before the resume (H15), and an event must not be sent by a route
    /// from before the load. The resume arms everything afresh.
    pub(in crate::kvm) fn pause(&mut self) {
        self.paused = true;
        for vector in (0..).take(self.uses.len()) {
            self.unwatch(vector);
            self.take_back(vector);
        }
    }

    /// Ends a [`pause`](Self::pause), before the effects of the input that ends it. Returns whether
    /// there was one.
    pub(in crate::kvm) fn unpause(&mut self) -> bool {
        let paused = std::mem::take(&mut self.paused);
        if paused {
            (0..).take(self.uses.len()).for_each(|vector| self.watch(vector));
        }
        paused
    }

    /// Takes a vector from KVM, although it stays live: its events go through userspace from now on.
    pub(super) fn withhold(&mut self, mode: MessageMode, vector: u16) {
        let messages = self.messages(mode);
        messages.waiting.remove(vector);
        messages.of(vector).open = false;
        self.for_reaching(mode, vector, |host, reaching| {
            host.take_back(reaching);
            host.watch(reaching);
        });
    }

    /// Assigns the eventfd of every device vector to the vector that its events are sent as now, if
    /// the number of allocated vectors changed since the last call.
    pub(in crate::kvm) fn join_targets(&mut self) {
        if !std::mem::take(&mut self.is_reallocated) || self.owner != MessageMode::Msi {
            return; // entering MSI assigns all
        }
        for vector in (0..).take(self.uses.len()) {
            self.join_target(vector);
        }
    }

    /// Connects the device vector's own eventfd to the guest from now on, if it exists or this
    /// function makes it. For a vector with an event that came through the lock.
    pub(in crate::kvm) fn shorten(&mut self, vector: Vector) {
        let index = vector.index();
        let is_folded = self.owner == MessageMode::Msi && index >= self.allocated;
        let Some(target) = self.target(index).filter(|_| is_folded) else { return };
        if self.messages(MessageMode::Msi).of(target).open
            && (self.origin == EventfdOrigin::Connected || self.get_or_make(index).is_ok())
        {
            self.join_target(index);
        }
    }

    /// Assigns an eventfd that exists to the GSI of the vector that its events are sent as, or
    /// makes the loop read it.
    pub(super) fn join_target(&mut self, vector: u16) {
        let mode = self.owner;
        let target = self.target(vector).map(|target| *self.messages(mode).of(target));
        if let Some(target) = target.filter(|_| !self.paused)
            && let (true, Some(gsi)) = (target.open, target.gsi)
            && self.made(vector).is_some()
        {
            self.assign(vector, gsi);
        } else if self.uses[usize::from(vector)].assigned.is_some() {
            self.take_back(vector);
        }
        self.watch(vector);
    }

    /// Returns the vector of the owning mode that events of a device vector are sent as.
    pub(super) fn target(&self, vector: u16) -> Option<u16> {
        let target = match self.owner {
            MessageMode::MsiX => vector,
            MessageMode::Msi => vector % self.allocated.max(1),
        };
        (usize::from(vector) < self.vectors(self.owner)).then_some(target)
    }

    /// Arms those that wait and have a route that KVM knows by now.
    pub(super) fn arm_current(&mut self, failed: &mut Vec<Vector>) {
        if self.paused {
            return;
        }
        let mode = self.owner;
        let messages = self.messages(mode);
        let waiting = messages.waiting.members().into_iter();
        let waiting = waiting.filter_map(|v| Some((v, messages.of(v).gsi?))).collect();
        for (vector, gsi) in self.routes.current(waiting) {
            let messages = self.messages(mode);
            messages.waiting.remove(vector);
            messages.of(vector).committed = true;
            if !self.give(mode, vector, gsi) {
                failed.push(Vector::new(vector));
                self.watch(vector);
            }
        }
    }

    /// Gives KVM the eventfds of those device vectors that are sent as `vector`. Returns whether
    /// KVM has the one of that number.
    #[inline]
    pub(super) fn give(&mut self, mode: MessageMode, vector: u16, gsi: u32) -> bool {
        let own = self.assign(vector, gsi);
        self.messages(mode).of(vector).open = own;
        if own && mode == MessageMode::Msi {
            for folded in (0..).take(self.vectors(mode)) {
                if folded != vector && self.target(folded) == Some(vector) {
                    self.join_target(folded);
                }
            }
        }
        own
    }

    /// Gives KVM an eventfd, for `gsi`. Nothing else reads it then (K7). Before the eventfd is
    /// connected, nothing is assigned, and that is no failure (E8).
    fn assign(&mut self, vector: u16, gsi: u32) -> bool {
        self.unwatch(vector);
        let index = usize::from(vector);
        if self.origin == EventfdOrigin::Connected && self.made(vector).is_none() {
            return true;
        }
        if self.uses[index].assigned.is_some_and(|other| other != gsi) {
            self.take_back(vector);
        }
        match self.uses[index].assigned {
            None => {
                let assigned = self.attempt(|host| {
                    let eventfd = host.get_or_make(vector).inspect_err(failed("eventfd2"))?;
                    host.routes.assign(eventfd, gsi)
                });
                if assigned.is_err() {
                    return false;
                }
                self.uses[index].assigned = Some(gsi);
            }
            Some(other) if other != gsi => return false, // KVM kept it
            Some(_) => {}
        }
        self.stuck.remove(vector);
        self.eventfds[index].gate.open(self.owner == MessageMode::Msi);
        true
    }

    /// Takes the eventfd back from KVM. When the kernel refuses, the vector's own events reach the
    /// engine all the same, and the deassign is tried again.
    pub(super) fn take_back(&mut self, vector: u16) {
        let index = usize::from(vector);
        if let Some(gsi) = self.uses[index].assigned {
            self.eventfds[index].gate.close();
            let deassign = |host: &Self| match host.made(vector) {
                Some(eventfd) => host.routes.deassign(eventfd, gsi),
                None => Ok(()),
            };
            if self.attempt(deassign).is_ok() {
                self.uses[index].assigned = None;
            } else {
                self.stuck.insert(vector);
                self.routes.call_again(Wait::Retry);
            }
        }
    }

    /// Makes the loop read an eventfd that reaches a live vector, if it is written elsewhere;
    /// without routes, any. One that stayed in the loop takes no call for that: an event in it is one that
    /// the loop has still to find, or has found and is about to read, for [`end_watch`](Self::end_watch)
    /// took out what it found while nobody watched.
    #[inline]
    pub(super) fn watch(&mut self, vector: u16) {
        let state = &self.uses[usize::from(vector)];
        if state.external && state.assigned.is_none() && !state.watched {
            self.watch_unassigned(vector);
        }
    }

    // Apart: KVM has most of them.
    #[inline(never)]
    fn watch_unassigned(&mut self, vector: u16) {
        let is_live = self.target(vector).is_some_and(|target| self.is_live(self.owner, target));
        if self.paused || !(is_live || self.routes.userspace) {
            return;
        }
        if self.made(vector).is_none() || self.id.is_none() {
            return;
        }
        if !self.register(vector) {
            self.unwatched.insert(vector);
            self.routes.call_again(Wait::Retry);
            return;
        }
        self.uses[usize::from(vector)].watched = true;
    }

    /// Puts an eventfd that exists into the loop, which says so if it holds an event. Returns whether it
    /// is in there.
    pub(super) fn register(&mut self, vector: u16) -> bool {
        let state = self.uses[usize::from(vector)];
        let (Some(eventfd), Some(id)) = (self.made(vector), self.id) else { return false };
        let registered = state.registered || {
            let watched = self.routes.events().watch(id, Vector::new(vector), &**eventfd);
            watched.inspect_err(failed("epoll_ctl")).is_ok()
        };
        self.uses[usize::from(vector)].registered = registered;
        registered
    }

    /// Makes the loop leave an eventfd alone.
    #[inline]
    pub(super) fn unwatch(&mut self, vector: u16) {
        if std::mem::take(&mut self.uses[usize::from(vector)].watched) && !self.keeps_registered {
            self.end_watch(vector);
        }
    }

    /// Takes an eventfd that is not watched out of the loop, which would find it readable for nothing.
    pub(in crate::kvm) fn end_watch(&mut self, vector: u16) {
        if let Some(state) = self.uses.get_mut(usize::from(vector))
            && std::mem::take(&mut state.registered)
            && let Some(eventfd) = self.made(vector)
        {
            // It was watched: this cannot fail.
            let _ = self.routes.events().unwatch(&**eventfd);
        }
    }
}
