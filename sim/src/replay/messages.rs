//! Raises, messages, and how one is set against the other.

use super::entries::{Bearing, Owners};
use super::ledger::{Cause, Deferred};
use super::queues::Place;
use super::second_pass::{Replay, WINDOW};
use crate::timeline::{Mark, Moment};
use msix_core::{Delivery, Message};
use msix_peers::trace::{MemoryAccess, RaiseEvent};

/// What can be made of a message that is not due.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    /// For a raise of this vector that is not fed yet: one that was named and undecided until
    /// now, or one that the log did not name.
    Raise {
        index: usize,
        vector: u16,
        named: bool,
    },
    /// The device must not have sent it.
    Unexpected(usize, u16, &'static str),
    /// It cannot be told; of this device, if it is any device's.
    Undecided(Option<usize>),
    NotOurs,
}

impl<P: FnMut(u64) -> bool> Replay<'_, P> {
    /// A device model named the vector it raises.
    pub(super) fn raise(&mut self, event: &'static RaiseEvent, vector: u32) {
        let line = self.bench.now.line;
        let names = RaiseEvent::ALL.iter().position(|known| known == event);
        let able: Vec<usize> = (0..)
            .zip(&self.bench.devices)
            .filter(|(_, device)| device.names() == names && vector < u32::from(device.vectors()))
            .map(|(index, _)| index)
            .collect();
        let Ok(vector) = u16::try_from(vector) else {
            self.bench.unattributed.raises += 1;
            return;
        };
        match *able {
            [] => self.bench.unattributed.raises += 1,
            [only]
                if self.bench.devices.get(only).is_some_and(|device| device.can_raise(vector)) =>
            {
                self.named(only, vector);
            }
            _ => {
                let device = if let [only] = *able { Some(only) } else { None };
                for &index in &able {
                    if let Some(device) = self.bench.devices.get_mut(index) {
                        device.doubt_pending(vector);
                    }
                }
                self.bench.ledger.defer(Deferred { event, vector, line, device });
            }
        }
    }

    fn named(&mut self, index: usize, vector: u16) {
        let delivery = self.bench.input(index, Cause::Raise, |device, now| {
            device.report.raises.named += 1;
            device.raise(vector, now)
        });
        if let (Some(Some(Delivery::Pending | Delivery::Coalesced)), Some(timeline)) =
            (delivery, &mut self.bench.timeline)
        {
            timeline.mark(
                index,
                Some(vector),
                Mark::Latched,
                self.bench.now,
                "raised while masked".into(),
            );
        }
    }

    /// A queue of a virtio device has something for the driver.
    pub(super) fn queue(&mut self, queue: u64) {
        let now = self.bench.now;
        let Some((index, vector)) = self.queues.notified(queue, now.line) else { return };
        self.hinted.insert(index);
        if self.bench.devices.get(index).is_some_and(|device| device.is_live(vector)) {
            self.queues.expect((index, vector), now);
        }
    }

    /// No message followed a queue's event.
    pub(super) fn perhaps_lost(&mut self, ((index, vector), when): (Place, Moment)) {
        let Some(device) = self.bench.devices.get_mut(index) else { return };
        device.report.undecided.messages += 1;
        let title = device.title();
        let text = "a queue of it has something for the driver";
        self.bench.warnings.push(format!(
            "line {}: {title} vector {vector}: {text}, and no message within {WINDOW} lines: perhaps lost",
            when.line
        ));
        if let Some(timeline) = &mut self.bench.timeline {
            let text = format!("{text}, and no message follows");
            timeline.mark(index, Some(vector), Mark::Undecided, when, text);
        }
    }

    /// A write to 'apic-msi'.
    pub(super) fn message(&mut self, access: &MemoryAccess) {
        let Ok(data) = u32::try_from(access.value) else {
            self.bench.not_ours += 1;
            return;
        };
        let message = Message { address: access.address, data };
        if let Some(met) = self.bench.ledger.meet(message) {
            self.bench.matched(&met);
            self.queues.message((met.device, met.sent.vector), self.bench.now.line);
            return;
        }
        match self.read_message(message) {
            Reading::NotOurs => self.bench.not_ours += 1,
            Reading::Undecided(None) => self.bench.unattributed.messages += 1,
            Reading::Undecided(Some(index)) => {
                if let Some(device) = self.bench.devices.get_mut(index) {
                    device.report.undecided.messages += 1;
                }
            }
            Reading::Unexpected(index, vector, why) => {
                if let Some(device) = self.bench.devices.get_mut(index) {
                    device.report.messages.unexpected += 1;
                }
                let got = format!("message {}", shown(message));
                self.bench.mismatch(index, Some(vector), self.bench.now, [why.to_owned(), got]);
            }
            Reading::Raise { index, vector, named } => {
                self.bench.input(index, Cause::Raise, |device, now| {
                    let raises = &mut device.report.raises;
                    *(if named { &mut raises.named } else { &mut raises.inferred }) += 1;
                    device.raise(vector, now)
                });
                if let Some(met) = self.bench.ledger.meet(message) {
                    self.bench.matched(&met);
                }
                self.queues.message((index, vector), self.bench.now.line);
            }
        }
    }

    /// Decides by what is known of the entries that hold the message, and never by likelihood.
    fn read_message(&mut self, message: Message) -> Reading {
        let entries = &self.bench.entries;
        let owner = match entries.owners(message) {
            Owners::None => return Reading::NotOurs,
            Owners::One(owner) => Some(owner),
            Owners::Several => None,
        };
        let named = self.bench.ledger.decide(|deferred| {
            let names = RaiseEvent::ALL.iter().position(|event| event == deferred.event);
            entries.only_live(message, names, deferred.vector)
        });
        if let Some((deferred, index)) = named {
            return Reading::Raise { index, vector: deferred.vector, named: true };
        }
        let mut live = entries.bearing(message, Bearing::Live);
        let live = (live.next(), live.next());
        if entries.bearing(message, Bearing::Open).next().is_some() {
            return Reading::Undecided(owner);
        }
        match live {
            (Some((index, vector)), None) => {
                if self.names_all(index) && !self.may_owe(index, vector) {
                    Reading::Unexpected(index, vector, "no message without a raise before it")
                } else {
                    Reading::Raise { index, vector, named: false }
                }
            }
            (None, _) => match entries.bearing(message, Bearing::Pending).next() {
                Some((index, vector)) => {
                    Reading::Unexpected(index, vector, "no message while it is masked")
                }
                None => Reading::Undecided(owner),
            },
            _ => Reading::Undecided(owner),
        }
    }

    fn may_owe(&self, index: usize, vector: u16) -> bool {
        self.bench.devices.get(index).is_none_or(|device| device.may_owe(vector, self.bench.now))
    }

    /// Whether the log shows that this device names all its raises.
    pub(super) fn names_all(&self, index: usize) -> bool {
        let Some(device) = self.bench.devices.get(index) else { return false };
        let traced = RaiseEvent::ALL.iter().zip(self.contents.traced.raises);
        let named = device.names().and_then(|names| traced.into_iter().nth(names));
        named.is_some_and(|(event, traced)| traced && event.complete)
    }
}

pub(super) fn shown(Message { address, data }: Message) -> String {
    format!("{data:#x} to {address:#x}")
}
