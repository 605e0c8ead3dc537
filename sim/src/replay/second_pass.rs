//! The second pass: every access and event of the log goes through the engine, and what the
//! device did is compared with what the engine would have done.

use super::backend::Backend;
use super::device::{Compared, Device, Takers};
use super::entries::Entries;
use super::first_pass::{Express, LogContents, Place};
use super::functions::LastWrite;
use super::ledger::{Cause, Ledger};
use super::placed_bars::{Change, PlacedBars};
use super::unusable::Unusable;
use crate::report::{
    DeviceReport, MAX_LISTED, Mismatch, ReplayReport, Unattributed, Unit, Warnings,
};
use crate::timeline::{Mark, Moment, Timeline};
use msix_backends::Route;
use msix_core::Vector;
use msix_explorer::Peer;
use msix_peers::trace::{ConfigAccess, LogVisitor, MemoryAccess, TraceEvent, TracedRegion, What};
use std::collections::HashMap;
use std::io;

/// Lines within which a message follows its cause. In the embedded recording it is always the
/// next line; threads of a real machine may print some between.
pub const WINDOW: u64 = 64;

pub(super) struct Replay<'a, P> {
    pub(super) contents: &'a LogContents,
    pub(super) go_on: P,
    pub(super) peer: Peer,
    pub(super) bars: Vec<PlacedBars>,
    /// Index into `devices`, by function.
    pub(super) device_of: Vec<Option<usize>>,
    pub(super) places: HashMap<u64, Place>,
    pub(super) devices: Vec<Device>,
    pub(super) backend: Option<Box<dyn Backend>>,
    /// How the backend failed.
    pub(super) failed: Option<io::Error>,
    pub(super) entries: Entries,
    pub(super) ledger: Ledger,
    pub(super) last_write: Option<LastWrite>,
    pub(super) writes: u64,
    pub(super) mismatches: u64,
    pub(super) mismatch_list: Vec<Mismatch>,
    pub(super) not_ours: u64,
    pub(super) unattributed: Unattributed,
    pub(super) warnings: Warnings,
    pub(super) timeline: Option<Timeline>,
    pub(super) now: Moment,
}

impl<'a, P: FnMut(u64) -> bool> Replay<'a, P> {
    pub(super) fn new(
        contents: &'a LogContents,
        peer: Peer,
        watch: bool,
        mut backend: Option<Box<dyn Backend>>,
        go_on: P,
    ) -> Self {
        let (_, policy) = peer.policy();
        let mut order: Vec<_> = (0..).zip(contents.functions.iter()).collect();
        order.sort_by(|(_, one), (_, other)| (one.bdf, &one.name).cmp(&(other.bdf, &other.name)));
        let takers = Takers { changes: watch, inputs: backend.is_some() };
        let mut devices = Vec::new();
        let mut failed = None;
        let mut device_of = vec![None; order.len()];
        for (index, function) in order {
            let index: usize = index;
            let Some(vectors) = function.of.vectors else { continue };
            let bdf = function.bdf.map(|bdf| bdf.to_string()).unwrap_or_default();
            let report =
                DeviceReport { name: function.name.clone(), bdf, vectors, ..Default::default() };
            let (Some(device), Some(place)) =
                (Device::new(report, policy, takers), device_of.get_mut(index))
            else {
                continue;
            };
            *place = Some(devices.len());
            if let (Some(backend), None) = (&mut backend, &failed) {
                failed = backend.add(vectors, policy).err();
            }
            devices.push(device);
        }
        let places = contents.tables.iter().filter_map(|table| Some((table.mr, table.place?)));
        let titles = devices.iter().map(|device| (device.title(), device.vectors()));
        let unit = contents.started.map_or(Unit::Lines, |_| Unit::Seconds);
        Self {
            contents,
            go_on,
            peer,
            bars: contents.functions.iter().map(|function| function.of.bars.clone()).collect(),
            device_of,
            places: places.collect(),
            timeline: watch.then(|| Timeline::new(unit, titles)),
            devices,
            backend,
            failed,
            entries: Entries::default(),
            ledger: Ledger::default(),
            last_write: None,
            writes: 0,
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

    fn config_write(&mut self, write: &ConfigAccess<'_>) {
        let Some(function) = self.contents.functions.find(write.name, Some(write.bdf)) else {
            return;
        };
        let (offset, value, line) = (write.offset, write.value, self.now.line);
        self.writes += 1;
        self.last_write = Some(LastWrite { function, offset, value, line });
        let Some(bars) = self.bars.get_mut(function) else { return };
        let change = bars.write(offset, value, self.writes);
        let Some(device) = self.device_of.get(function).copied().flatten() else { return };
        if let Change::Fresh(bar) = change
            && self.places.values().any(|p| p.function == function && p.bar == Some(bar))
        {
            self.restart(device, Device::reset);
        }
        if offset == COMMAND {
            let on = value & BUS_MASTER != 0;
            self.input(device, Cause::Release, |device, now| device.set_bus_master(on, now));
        }
        match self.resets(function, offset, value) {
            Some(true) => self.restart(device, Device::reset),
            None => self.restart(device, Device::forget),
            Some(false) => {}
        }
        if !self.contents.traced.control {
            self.control_untraced(function, device);
        }
    }

    fn restart(&mut self, index: usize, how: impl FnOnce(&mut Device, Moment)) {
        self.entries.forget(index);
        self.input(index, Cause::Release, how);
    }

    /// Whether the write is a function level reset (PCI Express capability, Device Control bit
    /// 15); `None` if it may be one.
    fn resets(&self, function: usize, offset: u16, value: u32) -> Option<bool> {
        let facts = &self.contents.functions.get(function)?.of;
        let bit = value & 0x8000 != 0;
        match facts.express {
            Express::At(at) => {
                Some(offset == at + 8 && bit || offset == at + 9 && value & 0x80 != 0)
            }
            Express::Absent => Some(false),
            Express::Unknown => {
                let capability = (0x40..0x100).contains(&offset) && offset.is_multiple_of(4);
                let word = value <= 0xffff && bit;
                let ours = facts.msix == Some(offset);
                if capability && word && !ours { None } else { Some(false) }
            }
        }
    }

    /// Without `msix_write_config` the configuration writes alone tell, where a traced read told
    /// where the capability is.
    fn control_untraced(&mut self, function: usize, device: usize) {
        let capability = self.contents.functions.get(function).and_then(|f| f.of.msix);
        let Some(write) = self.last_write.filter(|w| Some(w.capability()) == capability) else {
            return;
        };
        let (offset, bytes) = write.control_bytes();
        let byte = 3_usize.checked_sub(offset).and_then(|at| bytes.get(at)).copied();
        let Some(byte) = byte.filter(|_| offset != 1) else { return };
        let bits = (byte & 0x80 != 0, byte & 0x40 != 0);
        self.input(device, Cause::Release, |device, now| device.control(Some(write), bits, now));
    }

    fn control(&mut self, name: &str, enabled: bool, masked: bool) {
        let functions = &self.contents.functions;
        let cause = self.last_write.take();
        let cause = cause.filter(|last| last.explains(functions, name, self.now.line));
        let function = cause.map(|last| last.function).or_else(|| functions.only_named(name));
        let capability = function.and_then(|f| functions.get(f)).and_then(|f| f.of.msix);
        let cause = cause.filter(|last| Some(last.capability()) == capability);
        let device = match function.map(|f| self.device_of.get(f).copied().flatten()) {
            Some(None) => return, // nothing else of its MSI-X is in the log
            Some(device) => device,
            None => None,
        };
        let Some(device) = device else {
            let line = self.now.line;
            self.warnings.push(format!(
                "line {line}: no configuration write before it tells which {name} \
                 msix_write_config speaks of: the control bits of all of them are unknown"
            ));
            let named = |device: &Device| device.report.name == name;
            let all: Vec<usize> =
                (0..).zip(&self.devices).filter(|(_, d)| named(d)).map(|(i, _)| i).collect();
            for device in all {
                self.restart(device, Device::forget);
            }
            return;
        };
        let answer = self.input(device, Cause::Release, |device, now| {
            device.control(cause, (enabled, masked), now)
        });
        if let Some(Err(made)) = answer {
            if let Some(device) = self.devices.get_mut(device) {
                device.report.control_mismatched += 1;
            }
            let bits = |(enabled, masked): (bool, bool)| {
                format!("enabled {} masked {}", u8::from(enabled), u8::from(masked))
            };
            let both = [bits(made), bits((enabled, masked))];
            self.mismatch(device, None, self.now, both);
        }
    }

    /// The device whose table the access is in, and the offset in the table.
    fn located(&self, access: &MemoryAccess) -> Option<(usize, u64)> {
        let place = self.places.get(&access.mr)?;
        let bar = place.bar.and_then(|bar| self.bars.get(place.function)?.base(bar));
        let begin = bar.unwrap_or(place.first_base).checked_add(place.offset)?;
        let offset = access.address.checked_sub(begin)?;
        let device = self.device_of.get(place.function).copied().flatten()?;
        let vectors = self.devices.get(device)?.vectors();
        (offset < u64::from(vectors) * 16).then_some((device, offset))
    }

    fn table_write(&mut self, access: &MemoryAccess) {
        let Some((device, offset)) = self.located(access) else {
            self.unattributed.writes += 1;
            return;
        };
        let value = access.value.to_le_bytes();
        let bytes = value.get(..usize::from(access.size)).unwrap_or_default();
        let touched =
            self.input(device, Cause::Release, |device, now| device.write(offset, bytes, now));
        let Some(of) = self.devices.get(device) else { return };
        for vector in touched.into_iter().flatten().flatten() {
            self.entries.update(device, vector, of.held(vector));
        }
    }

    fn table_read(&mut self, access: &MemoryAccess) {
        let Some((index, offset)) = self.located(access) else {
            self.unattributed.reads += 1;
            return;
        };
        let value = access.value.to_le_bytes();
        let bytes = value.get(..usize::from(access.size)).unwrap_or_default();
        let Some(device) = self.devices.get_mut(index) else { return };
        if let Compared::Differs { vector, offset, expected } = device.read(offset, bytes) {
            let expected = format!("{expected:#x} read at +{offset:#x} of the entry");
            let both = [expected, format!("{:#x}", access.value)];
            self.mismatch(index, Some(vector), self.now, both);
        }
    }

    pub(super) fn finish(mut self, last: u64) -> (ReplayReport, Option<Timeline>) {
        self.settle_at_end(last);
        let now = Moment { line: last.max(self.now.line), ..self.now };
        let now =
            if self.contents.started.is_some() { now } else { Moment { at: now.line, ..now } };
        for device in &mut self.devices {
            device.end(now);
        }
        let unit = self.contents.started.map_or(Unit::Lines, |_| Unit::Seconds);
        let mut warnings = Warnings::default();
        if let Some(reason) = &self.contents.end.dropped {
            warnings.push(format!("line {}: cut short and dropped: {reason}", last + 1));
        }
        let lists = [warnings.list(), self.contents.warnings.list(), self.warnings.list()];
        let mut devices: Vec<DeviceReport> = self.devices.into_iter().map(|d| d.report).collect();
        if unit == Unit::Seconds {
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
            unit,
            lines: last,
            interrupted: false,
            warnings: lists.concat(),
            backend: None,
        };
        (report, self.timeline.map(|timeline| timeline.end(now)))
    }
}

impl<P: FnMut(u64) -> bool> LogVisitor for Replay<'_, P> {
    type Error = Unusable;

    fn event(&mut self, line: u64, event: &TraceEvent<'_>) -> Result<(), Unusable> {
        let since = self.contents.started.zip(event.time);
        let at = since.map_or(line, |(started, time)| time.saturating_sub(started));
        self.now = Moment { line, at };
        self.expire(line);
        match &event.what {
            What::ConfigWrite(write) => self.config_write(write),
            What::ConfigRead(_) => {}
            What::Control { name, enabled, masked } => self.control(name, *enabled, *masked),
            What::Write(access) => match access.region {
                TracedRegion::Table => self.table_write(access),
                TracedRegion::Messages => self.message(access),
                TracedRegion::Other | TracedRegion::Unnamed => {}
            },
            What::Read(access) if access.region == TracedRegion::Table => self.table_read(access),
            What::Read(_) => {}
            What::Raise { event, vector } => self.raise(event, *vector),
        }
        match self.failed.take() {
            Some(source) => Err(Unusable::Backend { line, source }),
            None => Ok(()),
        }
    }

    fn progress(&mut self, lines: u64, bytes: u64) -> Result<(), Unusable> {
        if (self.go_on)(bytes) { Ok(()) } else { Err(Unusable::Interrupted { line: lines }) }
    }
}

/// Offset of the COMMAND register.
const COMMAND: u16 = 4;
/// Bus Master Enable in COMMAND.
const BUS_MASTER: u32 = 4;
