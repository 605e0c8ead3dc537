//! Every message stands for an event, and is as the registers of its vector are.

use crate::input::Call;
use crate::judge::Moment;
use crate::kernel::is_nobodys;
use crate::ledger::charge;
use crate::naive::Mode;
use crate::world::{Violation, World, violated};

type Message = (u64, u32);

impl World {
    /// Charges what was sent since the last input to the events it stands for.
    pub(crate) fn judge_messages(&mut self, before: &Moment) -> Result<(), Violation> {
        let (sent, lost, old) = {
            let mut outside = self.outside.lock();
            let sent = std::mem::take(&mut outside.controller.sent);
            // What KVM would not let go of goes on by its old route.
            let stuck = outside.failed.contains(&Call::Deassign);
            let old: Vec<_> = outside.kernel.routes.values().copied().filter(|_| stuck).collect();
            (sent, outside.kernel.lost, old)
        };
        if lost > 0 {
            return violated("K5: an event was injected without a route");
        }
        let mut sent: Vec<_> = sent.into_iter().map(|m| (m, self.may_be_of(m, before))).collect();
        // First what can be of few.
        sent.sort_by_key(|(_, vectors)| vectors.len());
        let mut fired = self.fired.take();
        for (message, vectors) in sent {
            if old.contains(&message) && self.owed.iter().any(|owed| owed.may > 0) {
                // It may be anybody's.
                self.owed.iter_mut().for_each(|owed| owed.must = false);
            } else {
                let charged = self.charge(message, vectors, fired)?;
                fired = fired.filter(|&v| usize::from(v) != charged);
            }
        }
        let (messages, frame) = (self.messages(), self.setup.frame);
        for (owed, message) in self.owed.iter_mut().zip(messages) {
            owed.must &= !(frame && message.is_some_and(is_nobodys));
        }
        Ok(())
    }

    /// The vectors that have `message`, or had it before the input, while they may send.
    fn may_be_of(&self, message: Message, before: &Moment) -> Vec<usize> {
        let now = self.messages();
        let is_its = |&v: &usize| {
            let may_send = now[v].is_some() || before.messages[v].is_some();
            let is_now = self.registers.message(self.registers.mode(), v as u8) == Some(message);
            !self.loading && may_send && (is_now || before.messages[v] == Some(message))
        };
        (0..self.owed.len()).filter(is_its).collect()
    }

    fn charge(
        &mut self,
        message: Message,
        mut vectors: Vec<usize>,
        fired: Option<u8>,
    ) -> Result<usize, Violation> {
        let is_due = vectors.iter().any(|&v| self.owed[v].may > 0);
        if !is_due && (!vectors.is_empty() || self.unsent_as.contains(&message)) {
            // What was not sent, goes as it would have gone then.
            vectors.extend((0..self.owed.len()).filter(|&v| self.unsent[v]));
        }
        let (address, data) = message;
        if vectors.is_empty() {
            return violated(format!(
                "{data:#x} was sent to {address:#x}, which no vector that may send has now"
            ));
        }
        let places: Vec<u8> = (0..self.setup.vectors).map(|v| self.places(v)).collect();
        let waiting = |v: usize| places[v] + u8::from(self.unsent[v]);
        // It stands for all that go out as it; not for what another mode has, where that tells its
        // vectors apart.
        let is_told_apart =
            self.registers.mode() == Mode::Msi || self.registers.allocated() >= self.setup.vectors;
        let elsewhere: Vec<(usize, bool)> = vectors
            .iter()
            .filter(|&&v| is_told_apart && self.is_pending_in_other_mode(v as u8))
            .map(|&v| (v, self.owed[v].must))
            .collect();
        let Some(charged) = charge(&mut self.owed, &vectors, fired, waiting, &self.unsent) else {
            return violated(format!(
                "{data:#x} was sent to {address:#x} for no event of vectors {vectors:?}"
            ));
        };
        for (vector, must) in elsewhere {
            self.owed[vector].must |= must;
        }
        Ok(charged)
    }
}
