//! Carries out the effects of one mode.

use super::{Call, MessageMode, RoutedMessage, VectorHost};
use crate::kvm::deferral::Wait;
use crate::kvm::message::Encoded;
use crate::kvm::routes::RoutePlace;
use crate::panics::Panics;
use crate::{Host, Route};
use msix_core::{Message, Vector, Vectors};
use smallvec::SmallVec;

/// The host as one mode of a whole function sees it.
pub(in crate::kvm) struct OfMode<'a>(
    pub(in crate::kvm) &'a mut VectorHost,
    pub(in crate::kvm) MessageMode,
);

impl Host for OfMode<'_> {
    fn arm(&mut self, routes: &[Route]) -> Vec<Vector> {
        self.0.arm_of(self.1, routes)
    }

    fn disarm(&mut self, vectors: &[Vectors]) {
        self.0.disarm_of(self.1, vectors);
    }

    fn reroute(&mut self, routes: &[Route]) -> Vec<Vector> {
        self.0.reroute_of(self.1, routes)
    }

    fn send(&mut self, route: Route) {
        self.0.send_of(self.1, route);
    }

    fn poll(&mut self, vectors: &[Vectors]) -> Vec<Vectors> {
        self.0.take_held(self.1, vectors)
    }

    fn drain(&mut self, vectors: &[Vectors]) {
        self.0.take_held(self.1, vectors);
    }

    fn snoop(&mut self, route: Route) {
        self.0.calls.push(Call::Snoop(route));
    }

    fn intx_deassert(&mut self) {
        unreachable!("the messages of a function leave INTx to its pin");
    }

    fn intx_reevaluate(&mut self) {
        unreachable!("the messages of a function leave INTx to its pin");
    }
}

impl VectorHost {
    pub(super) fn arm_of(&mut self, mode: MessageMode, routes: &[Route]) -> Vec<Vector> {
        self.owner = mode; // whatever the other mode had was disarmed before (D2)
        let mut failed = Vec::new();
        // What waits may be current by now, which the table says.
        let is_empty = self.messages(mode).waiting.is_empty();
        if is_empty && routes.iter().all(|route| self.is_committed(mode, *route)) {
            for route in routes {
                if !self.give_committed(mode, *route) {
                    failed.push(route.vector);
                }
            }
        } else {
            self.give_routed(mode, routes, &mut failed);
        }
        for vector in routes.iter().map(|route| route.vector.index()) {
            self.for_reaching(mode, vector, |host, reaching| host.watch(reaching));
            self.send_again(mode, vector);
        }
        if mode == MessageMode::MsiX && self.physical.is_some() {
            failed.extend(self.bind(routes));
        }
        failed
    }

    /// Returns whether KVM knows this route of a vector already.
    fn is_committed(&self, mode: MessageMode, route: Route) -> bool {
        let state = &self.of_mode(mode).vectors[usize::from(route.vector.index())];
        state.committed && state.told == Some(route.message) && state.gsi.is_some()
    }

    /// Gives KVM the eventfd of a vector with a route that it knows. Returns whether KVM has it.
    fn give_committed(&mut self, mode: MessageMode, route: Route) -> bool {
        let vector = route.vector.index();
        let messages = self.messages(mode);
        messages.half_written.remove(vector);
        let state = messages.of(vector);
        state.live = true;
        state.message = Some(route.message);
        match state.gsi {
            Some(gsi) => self.give(mode, vector, gsi),
            None => true,
        }
    }

    /// Puts routes into the table, and gives KVM the eventfds of those that it knows by then.
    // Apart from the short way, which needs no room for this.
    #[inline(never)]
    fn give_routed(&mut self, mode: MessageMode, routes: &[Route], failed: &mut Vec<Vector>) {
        let Self { routes: table, format, first_gsi, msix, msi, panics, turn, .. } = self;
        let messages = match mode {
            MessageMode::MsiX => msix,
            MessageMode::Msi => msi,
        };
        let (mut batch, mut any_current) = (table.batch(panics), false);
        for route in routes {
            let vector = route.vector.index();
            messages.half_written.remove(vector);
            let state = messages.of(vector);
            state.live = true;
            (state.message, state.told) = (Some(route.message), Some(route.message));
            let fixed = first_gsi.map(|first| first + u32::from(vector));
            // Without a target it is nobody's, or a write to memory, which userspace does.
            let target = format.encode(route.message).target();
            let place = target.map(|target| batch.want(&mut state.gsi, fixed, target));
            state.committed = place == Some(RoutePlace::Current);
            match place {
                Some(RoutePlace::Current) => any_current = true,
                Some(RoutePlace::Waiting) => _ = messages.waiting.insert(vector),
                Some(RoutePlace::Refused) | None => failed.push(route.vector),
            }
        }
        let ended = batch.end(turn);
        let maybe_current = if any_current { routes } else { &[] };
        for route in maybe_current {
            let vector = route.vector.index();
            let state = self.messages(mode).of(vector);
            if state.committed
                && let Some(gsi) = state.gsi
                && !self.give(mode, vector, gsi)
            {
                failed.push(route.vector);
            }
        }
        match ended {
            Ok(generation) if generation == self.seen => {}
            Ok(generation) => {
                self.seen = generation;
                self.arm_current(failed);
            }
            Err(_) => {
                let refused = |vector: &Vector| self.messages(mode).waiting.remove(vector.index());
                failed.extend(routes.iter().map(|route| route.vector).filter(refused));
            }
        }
    }

    pub(super) fn disarm_of(&mut self, mode: MessageMode, vectors: &[Vectors]) {
        for set in vectors {
            set.iter().for_each(|vector| self.disarm_one(mode, vector.index()));
        }
        if mode == MessageMode::MsiX
            && let Some((physical, _)) = &mut self.physical
        {
            physical.unused(&each(vectors).collect::<Vec<_>>());
        }
    }

    fn disarm_one(&mut self, mode: MessageMode, vector: u16) {
        let messages = self.messages(mode);
        messages.waiting.remove(vector);
        messages.half_written.remove(vector);
        let state = messages.of(vector);
        (state.live, state.open) = (false, false);
        self.for_reaching(mode, vector, |host, reaching| {
            if !host.routes.userspace {
                host.unwatch(reaching);
            }
            host.take_back(reaching);
        });
    }

    pub(super) fn reroute_of(&mut self, mode: MessageMode, routes: &[Route]) -> Vec<Vector> {
        let format = self.format;
        let mut failed = Vec::new();
        let (mut armed, mut revived) = (Vec::new(), false);
        for route in routes {
            let index = route.vector.index();
            let was_half_written = self.messages(mode).half_written.remove(index);
            let state = self.messages(mode).of(index);
            (state.message, state.told) = (Some(route.message), Some(route.message));
            state.committed = false; // at the next Arm the table says
            match (format.encode(route.message).target(), state.gsi) {
                (Some(target), Some(gsi)) => {
                    self.routes.set(gsi, target);
                    let mut is_assigned = false;
                    self.for_reaching(mode, index, |host, v| {
                        is_assigned |= host.uses[usize::from(v)].assigned == Some(gsi);
                    });
                    if is_assigned {
                        armed.push((route.vector, gsi));
                    } else if was_half_written {
                        revived = true;
                        self.messages(mode).waiting.insert(index);
                        armed.push((route.vector, gsi));
                    } else if std::mem::take(&mut self.messages(mode).of(index).open) {
                        // No eventfd needs the route yet; the next one waits for it.
                        self.wait_for_route(mode, index);
                    }
                }
                _ => failed.push(route.vector),
            }
        }
        // In place, under a live irqfd (K6). Waiting routes go on waiting.
        match self.attempt(|host| host.routes.commit(armed.iter().map(|&(_, gsi)| gsi))) {
            Ok(_) if revived => self.arm_current(&mut failed),
            Ok(_) => {}
            Err(_) => failed.extend(armed.into_iter().map(|(vector, _)| vector)),
        }
        failed.iter().for_each(|vector| self.withhold(mode, vector.index()));
        failed
    }

    pub(super) fn send_of(&mut self, mode: MessageMode, route: Route) {
        let vector = route.vector.index();
        self.messages(mode).of(vector).message = Some(route.message);
        self.deliver(mode, vector, route.message);
    }

    /// Takes the events held for these, in the eventfd or as a message that was not sent. Those in
    /// the eventfds belong to the mode that was entered last.
    pub(super) fn take_held(&mut self, mode: MessageMode, sets: &[Vectors]) -> Vec<Vectors> {
        let others = if self.owner == mode { 0 } else { self.vectors(self.owner) };
        let take = |vector: &Vector| {
            let index = vector.index();
            let unsent = self.messages(mode).unsent.remove(index);
            let is_own = usize::from(index) >= others;
            is_own && self.take(*vector) || unsent
        };
        each(sets).filter(take).map(Vectors::one).collect()
    }

    /// Sends a message that could not be sent before, unless the vector is masked by now: then it
    /// is a held event that a poll will find.
    pub(super) fn send_again(&mut self, mode: MessageMode, vector: u16) {
        let messages = self.messages(mode);
        if messages.unsent.contains(vector)
            && let RoutedMessage { live: true, message: Some(message), .. } = *messages.of(vector)
        {
            messages.unsent.remove(vector);
            self.deliver(mode, vector, message);
        }
    }

    /// Sends again what could not be sent before, of all modes.
    pub(super) fn send_all_again(&mut self) {
        for mode in [MessageMode::MsiX, MessageMode::Msi] {
            for vector in self.messages(mode).unsent.members() {
                self.send_again(mode, vector);
            }
        }
    }

    /// Takes what could not be sent, of all modes.
    pub(in crate::kvm) fn take_unsent(&mut self) -> Vec<(MessageMode, u16)> {
        let mut all = Vec::new();
        for mode in [MessageMode::MsiX, MessageMode::Msi] {
            let unsent = self.messages(mode).unsent.take();
            all.extend(unsent.into_iter().map(|vector| (mode, vector)));
        }
        all
    }

    /// Sends a message, now or later.
    fn deliver(&mut self, mode: MessageMode, vector: u16, message: Message) {
        let sent = match self.format.encode(message) {
            Encoded::Write => {
                self.calls.push(Call::WriteMemory(mode, vector, message));
                true
            }
            Encoded::Nobodys => true,
            Encoded::Interrupt(target) => self.attempt(|host| host.routes.send(target)).is_ok(),
        };
        if !sent {
            self.messages(mode).unsent.insert(vector);
            self.routes.call_again(Wait::Retry);
        }
        if let Some(counters) = self.count(vector) {
            let count = if sent { &mut counters.sent } else { &mut counters.refused };
            *count = count.saturating_add(1);
        }
    }

    /// Binds the device to these vectors' eventfds. Returns those that failed.
    fn bind(&mut self, routes: &[Route]) -> Vec<Vector> {
        let Some((mut physical, _)) = self.physical.take() else { return Vec::new() };
        let vectors: SmallVec<[Vector; 1]> = routes.iter().map(|route| route.vector).collect();
        let mut panics = Panics::default();
        let failed = panics.catch(|| physical.bind(&vectors, &mut |vector| self.eventfd(vector)));
        self.physical = Some((physical, true));
        self.panics.add(panics);
        failed.unwrap_or_else(|| vectors.into_vec())
    }

    /// Calls `act` with the device vectors with events that are sent as `vector`, or were before the
    /// allocation changed.
    #[inline]
    pub(super) fn for_reaching(
        &mut self,
        mode: MessageMode,
        vector: u16,
        mut act: impl FnMut(&mut Self, u16),
    ) {
        match mode {
            MessageMode::MsiX => act(self, vector),
            MessageMode::Msi => {
                let gsi = self.msi.vectors[usize::from(vector)].gsi;
                for other in (0..).take(self.vectors(MessageMode::Msi)) {
                    let assigned = self.uses[usize::from(other)].assigned;
                    if other % self.allocated.max(1) == vector
                        || assigned.is_some() && assigned == gsi
                    {
                        act(self, other);
                    }
                }
            }
        }
    }
}

fn each(sets: &[Vectors]) -> impl Iterator<Item = Vector> {
    sets.iter().flat_map(|set| set.iter())
}
