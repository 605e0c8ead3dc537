//! Messages that the kernel took apart, and what can be made of them.

use super::encoded;
use super::judge::KernelReplay;
use super::past::Relic;
use crate::replay::device::Device;
use crate::replay::entries::{Bearing, Owners};
use crate::replay::ledger::Cause;
use crate::replay::unusable::Unusable;
use crate::timeline::Moment;
use msix_core::Message;
use msix_peers::kernel_trace::DecodedMessage;

/// A message that was taken apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    message: Message,
    when: Moment,
    reading: Reading,
}

/// What can be made of a message that is not due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// It is an event of a live vector.
    Raise(usize, u16),
    /// It must not have been delivered.
    Wrong(usize, Option<u16>, &'static str),
    /// It cannot be told; of this device, if it is any device's.
    Undecided(Option<usize>),
    NotOurs,
}

impl<P: FnMut(u64) -> bool> KernelReplay<'_, P> {
    /// `kvm_msi_set_irq`.
    pub(super) fn message(&mut self, thread: u32, message: DecodedMessage) -> Result<(), Unusable> {
        let message = encoded(message);
        let candidate = Candidate { message, when: self.bench.now, reading: self.reading(message) };
        if !self.contents.accepts {
            self.delivered(&candidate);
            return Ok(());
        }
        if self.candidates.len() >= MAX_THREADS && !self.candidates.contains_key(&thread) {
            let (line, what) = (self.bench.now.line, "threads with a message on its way");
            return Err(Unusable::TooMany { line, what, limit: MAX_THREADS });
        }
        if let Some(before) = self.candidates.insert(thread, candidate) {
            self.looked_at(&before);
        }
        Ok(())
    }

    /// `kvm_apic_accept_irq`.
    pub(super) fn accepted(&mut self, thread: u32, vector: u8) {
        let Some(candidate) = self.candidates.get(&thread) else { return };
        if candidate.message.data.to_le_bytes()[0] == vector
            && let Some(candidate) = self.candidates.remove(&thread)
        {
            self.delivered(&candidate);
        }
    }

    /// A message was taken apart, and no local APIC took it: KVM only looked at its route, or it has
    /// to try again, or nobody is there to take it.
    pub(super) fn looked_at(&mut self, candidate: &Candidate) {
        self.looked += 1;
        self.bench.excuse(candidate.message);
    }

    fn delivered(&mut self, &Candidate { message, when, reading }: &Candidate) {
        if let Some(met) = self.bench.ledger.meet(message) {
            self.bench.matched(&met);
            return;
        }
        match reading {
            Reading::NotOurs => self.bench.not_ours += 1,
            Reading::Undecided(None) => self.bench.unattributed.messages += 1,
            Reading::Undecided(Some(index)) => self.undecided(index),
            Reading::Wrong(index, vector, expected) => {
                if let Some(device) = self.bench.devices.get_mut(index) {
                    device.report.messages.unexpected += 1;
                }
                let got = format!("delivery to {}", super::text(message));
                self.bench.mismatch(index, vector, when, [expected.to_owned(), got]);
                if let Some(vector) = vector {
                    self.bench.input(index, Cause::Raise, |device, now| {
                        if !device.is_live(vector) {
                            device.raise_delivered(vector, now);
                        }
                    });
                }
            }
            // It may have been blocked between the two lines.
            Reading::Raise(index, vector) if !self.is_live(index, vector) => self.undecided(index),
            Reading::Raise(index, vector) => {
                self.bench.input(index, Cause::Raise, |device, now| {
                    device.report.raises.inferred += 1;
                    device.raise(vector, now)
                });
                if let Some(met) = self.bench.ledger.meet(message) {
                    self.bench.matched(&met);
                }
            }
        }
    }

    fn is_live(&self, index: usize, vector: u16) -> bool {
        self.bench.devices.get(index).is_some_and(|device| device.is_live(vector))
    }

    fn undecided(&mut self, index: usize) {
        if let Some(device) = self.bench.devices.get_mut(index) {
            device.report.undecided.messages += 1;
        }
    }

    /// Decides by what is known of the entries that hold the message, and never by likelihood.
    fn reading(&self, message: Message) -> Reading {
        let entries = &self.bench.entries;
        let owner = match entries.owners(message) {
            Owners::None => return self.relic(message),
            Owners::One(owner) => Some(owner),
            Owners::Several => None,
        };
        if entries.bearing(message, Bearing::Open).next().is_some() {
            return Reading::Undecided(owner);
        }
        let mut live = entries.bearing(message, Bearing::Live);
        match (live.next(), live.next()) {
            (Some((index, vector)), None) => return Reading::Raise(index, vector),
            (Some(_), Some(_)) => return Reading::Undecided(owner),
            (None, _) => {}
        }
        let blocked = || {
            let pending = entries.bearing(message, Bearing::Pending);
            pending.chain(entries.bearing(message, Bearing::Blocked))
        };
        let Some(index) = owner else { return Reading::Undecided(None) };
        if blocked().any(|(index, vector)| self.flights.over(index, vector)) || !self.is_certain() {
            return Reading::Undecided(owner);
        }
        if self.sources.may_send(message) {
            return Reading::NotOurs;
        }
        let mut blocked = blocked();
        let (first, second) = (blocked.next(), blocked.next());
        let Some((_, vector)) = first else { return Reading::Undecided(owner) };
        let device = self.bench.devices.get(index);
        let why = device.map_or("now", |device| device.blocked_by(vector));
        Reading::Wrong(index, second.is_none().then_some(vector), expected(why))
    }

    /// Of a message that no entry holds.
    fn relic(&self, message: Message) -> Reading {
        let mut found = self.past.of(message);
        let Some((index, vector, relic)) = found.next() else { return Reading::NotOurs };
        if self.sources.may_send(message) {
            return Reading::NotOurs;
        }
        if found.any(|(other, ..)| other != index) {
            return Reading::Undecided(None);
        }
        if self.flights.over(index, vector) || !self.is_certain() {
            return Reading::Undecided(Some(index));
        }
        Reading::Wrong(
            index,
            Some(vector),
            match relic {
                Relic::Stale => {
                    "the message of its entry, not the one from before that was rewritten"
                }
                Relic::Torn => "the message of its entry, not half of the one from before",
            },
        )
    }

    /// Whether no interrupt that the recording does not tell can be meant.
    fn is_certain(&self) -> bool {
        self.complete && !self.bench.devices.iter().any(Device::is_opaque)
    }
}

/// As a message that is expected.
fn expected(why: &'static str) -> &'static str {
    match why {
        "while MSI-X is disabled" => "no message while MSI-X is disabled",
        "while the function is masked" => "no message while the function is masked",
        "while it is masked" => "no message while it is masked",
        _ => "no message while the function does not master the bus",
    }
}

/// Processors that can be in the middle of a delivery.
const MAX_THREADS: usize = 1 << 16;
