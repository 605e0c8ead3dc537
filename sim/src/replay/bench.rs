//! The devices of a log, each with its engine, and what became of every message that is due. Whatever
//! wrote the log, its front gives the devices inputs and sets messages against this.

use super::backend::Backend;
use super::device::{Device, Sent, Takers};
use super::entries::{Entries, Held};
use super::ledger::{Cause, Deferred, Expected, Ledger};
use crate::report::{
    DeviceReport, MAX_LISTED, Mismatch, ReplayReport, Unattributed, Unit, Warnings,
};
use crate::timeline::{Mark, Moment, Timeline};
use msix_backends::Route;
use msix_core::{Message, Vector};
use msix_explorer::Peer;
use std::io;

/// How a log shows messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct MessageFormat {
    /// What a log shows of a message, as the only message that it shows so.
    pub(super) shown: fn(Message) -> Message,
    /// For people.
    pub(super) text: fn(Message) -> String,
    /// Microseconds that must pass before a message is lost, besides [`super::WINDOW`] lines, where
    /// the log has times.
    pub(super) patience: u64,
}

/// The devices and what is compared.
pub(super) struct Bench {
    peer: Peer,
    unit: Unit,
    pub(super) format: MessageFormat,
    pub(super) devices: Vec<Device>,
    pub(super) backend: Option<Box<dyn Backend>>,
    /// How the backend failed.
    pub(super) failed: Option<io::Error>,
    pub(super) entries: Entries,
    pub(super) ledger: Ledger,
    mismatches: u64,
    mismatch_list: Vec<Mismatch>,
    pub(super) not_ours: u64,
    pub(super) unattributed: Unattributed,
    pub(super) warnings: Warnings,
    pub(super) timeline: Option<Timeline>,
    pub(super) now: Moment,
}

impl Bench {
    /// Nothing is known of any of `functions`.
    pub(super) fn new(
        peer: Peer,
        unit: Unit,
        format: MessageFormat,
        watch: bool,
        mut backend: Option<Box<dyn Backend>>,
        functions: impl Iterator<Item = DeviceReport>,
    ) -> Self {
        let (_, policy) = peer.policy();
        let takers = Takers { changes: watch, inputs: backend.is_some() };
        let mut devices = Vec::new();
        let mut failed = None;
        for report in functions {
            let vectors = report.vectors;
            let Some(device) = Device::new(report, policy, takers) else { continue };
            if let (Some(backend), None) = (&mut backend, &failed) {
                failed = backend.add(vectors, policy).err();
            }
            devices.push(device);
        }
        let titles = devices.iter().map(|device| (device.title(), device.vectors()));
        Self {
            peer,
            unit,
            format,
            timeline: watch.then(|| Timeline::new(unit, titles)),
            devices,
            backend,
            failed,
            entries: Entries::default(),
            ledger: Ledger::default(),
            mismatches: 0,
            mismatch_list: Vec::new(),
            not_ours: 0,
            unattributed: Unattributed::default(),
            warnings: Warnings::default(),
            now: Moment { line: 0, at: 0 },
        }
    }

    /// Runs one input of a device, then collects what it sent and what changed. `cause` is why a
    /// message would be due.
    pub(super) fn input<T>(
        &mut self,
        index: usize,
        cause: Cause,
        input: impl FnOnce(&mut Device, Moment) -> T,
    ) -> Option<T> {
        let now = self.now;
        let device = self.devices.get_mut(index)?;
        let answer = input(device, now);
        let inputs = device.take_inputs();
        for (vector, bearing) in device.take_turned() {
            self.entries.turn(index, vector, bearing);
        }
        let mut routes = Vec::new();
        for sent in device.take_sent() {
            device.report.messages.expected += 1;
            routes.push(Route { vector: Vector::new(sent.vector), message: sent.message });
            let sent = Sent { message: (self.format.shown)(sent.message), ..sent };
            self.ledger.expect(index, sent, now, cause);
        }
        if let Some(timeline) = &mut self.timeline {
            for (vector, shown) in device.take_changes() {
                timeline.state(index, vector, shown, now);
            }
            timeline.band(index, device.band(), now);
        }
        if !inputs.is_empty() {
            self.follow(index, &inputs, &routes);
        }
        Some(answer)
    }

    pub(super) fn mismatch(
        &mut self,
        device: usize,
        vector: Option<u16>,
        when: Moment,
        [expected, got]: [String; 2],
    ) {
        self.mismatches += 1;
        if let Some(timeline) = &mut self.timeline {
            let text = format!("expected {expected}, got {got}");
            timeline.mark(device, vector, Mark::Mismatch, when, text);
        }
        if self.mismatch_list.len() < MAX_LISTED {
            let device = self.devices.get(device).map(Device::title).unwrap_or_default();
            let line = when.line;
            self.mismatch_list.push(Mismatch { line, device, vector, expected, got });
        }
    }

    pub(super) fn restart(&mut self, index: usize, how: impl FnOnce(&mut Device, Moment)) {
        self.entries.forget(index);
        self.input(index, Cause::Release, how);
    }

    /// A write touched these entries of a device.
    pub(super) fn touched(&mut self, index: usize, vectors: impl IntoIterator<Item = Option<u16>>) {
        let Some(of) = self.devices.get(index) else { return };
        for vector in vectors.into_iter().flatten() {
            let held = of.held(vector);
            let held = held.map(|held| Held { message: (self.format.shown)(held.message), ..held });
            self.entries.update(index, vector, held);
        }
    }

    pub(super) fn matched(&mut self, met: &Expected) {
        if let Some(device) = self.devices.get_mut(met.device) {
            device.report.messages.matched += 1;
            device.saw_message();
        }
        if let Some(timeline) = &mut self.timeline {
            let text = format!("message {}", (self.format.text)(met.sent.message));
            timeline.mark(met.device, Some(met.sent.vector), Mark::Message, self.now, text);
        }
    }

    /// A message may have been for what is due, or not: it is not due any more.
    pub(super) fn excuse(&mut self, message: Message) {
        if let Some(expected) = self.ledger.meet(message) {
            self.unmet(&expected, false, NONE);
        }
    }

    /// Settles what is overdue.
    pub(super) fn expire(&mut self) {
        let (overdue, undecided) = self.ledger.overdue(self.now, self.format.patience);
        for expected in overdue {
            self.unmet(&expected, expected.sent.firm, NONE);
        }
        for deferred in undecided {
            self.undecided_raise(&deferred);
        }
    }

    /// Settles what still waits when the log ends after line `last`: a message the log had no
    /// line for is not lost.
    fn settle_at_end(&mut self, last: u64) {
        let ever = Moment { line: u64::MAX, at: u64::MAX };
        let (overdue, undecided) = self.ledger.overdue(ever, 0);
        for expected in overdue {
            let end = Moment { line: last, ..self.now };
            let lost = expected.sent.firm && expected.had_room(end, self.format.patience);
            self.unmet(&expected, lost, "none before the log ends");
        }
        for deferred in undecided {
            self.undecided_raise(&deferred);
        }
    }

    fn unmet(&mut self, expected: &Expected, lost: bool, got: &str) {
        let Some(device) = self.devices.get_mut(expected.device) else { return };
        if !lost {
            device.report.messages.expected -= 1;
            device.report.undecided.messages += 1;
            if let Some(timeline) = &mut self.timeline {
                let text =
                    format!("message {} may be missing", (self.format.text)(expected.sent.message));
                let vector = Some(expected.sent.vector);
                timeline.mark(expected.device, vector, Mark::Undecided, expected.when, text);
            }
            return;
        }
        device.report.messages.lost += 1;
        let why = match expected.cause {
            Cause::Raise => "of the raise",
            Cause::Release => "that was pending until here",
        };
        let wanted = format!("message {} {why}", (self.format.text)(expected.sent.message));
        let (index, vector) = (expected.device, expected.sent.vector);
        self.mismatch(index, Some(vector), expected.when, [wanted, got.to_owned()]);
    }

    fn undecided_raise(&mut self, deferred: &Deferred) {
        match deferred.device.and_then(|index| self.devices.get_mut(index)) {
            Some(device) => device.report.undecided.raises += 1,
            None => self.unattributed.raises += 1,
        }
    }
    /// The log ends after line `last`; `before` is what to warn of first.
    pub(super) fn finish(
        mut self,
        last: u64,
        before: Vec<String>,
    ) -> (ReplayReport, Option<Timeline>) {
        self.settle_at_end(last);
        let timed = self.unit == Unit::Seconds;
        let now = Moment { line: last.max(self.now.line), ..self.now };
        let now = if timed { now } else { Moment { at: now.line, ..now } };
        for device in &mut self.devices {
            device.end(now);
        }
        let mut devices: Vec<DeviceReport> = self.devices.into_iter().map(|d| d.report).collect();
        if timed {
            for masked in devices.iter_mut().filter_map(|d| d.longest_masked.as_mut()) {
                masked.length /= 1e6;
            }
        }
        let report = ReplayReport {
            policy: self.peer.policy().0,
            devices,
            mismatches: self.mismatches,
            mismatch_list: self.mismatch_list,
            messages_not_ours: self.not_ours,
            unattributed: self.unattributed,
            unit: self.unit,
            lines: last,
            interrupted: false,
            warnings: [before, self.warnings.list()].concat(),
            kernel: None,
            backend: None,
        };
        (report, self.timeline.map(|timeline| timeline.end(now)))
    }
}

const NONE: &str = "none within 64 lines";
const _: () = assert!(super::WINDOW == 64, "NONE says so");
