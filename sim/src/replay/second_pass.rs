//! The second pass: every access and event of the log goes through the engine, and what the
//! device did is compared with what the engine would have done.

use super::backend::Backend;
use super::bench::{Bench, MessageFormat};
use super::device::{Compared, Device};
use super::first_pass::{Express, LogContents, Place};
use super::functions::LastWrite;
use super::ledger::Cause;
use super::placed_bars::{Change, PlacedBars};
use super::queues::Queues;
use super::unusable::Unusable;
use crate::report::{DeviceReport, LostShows, ReplayReport, Unit, Warnings};
use crate::timeline::{Moment, Timeline};
use msix_explorer::Peer;
use msix_peers::trace::{
    ConfigAccess, LogVisitor, MemoryAccess, QemuTrace, TraceEvent, TracedRegion, What,
};
use std::collections::{BTreeSet, HashMap};

/// Lines within which a message follows its cause. In the embedded recording it is always the
/// next line; threads of a real machine may print some between.
pub const WINDOW: u64 = 64;

pub(super) struct Replay<'a, P> {
    pub(super) contents: &'a LogContents,
    pub(super) go_on: P,
    pub(super) bench: Bench,
    pub(super) bars: Vec<PlacedBars>,
    /// Index into `devices`, by function.
    pub(super) device_of: Vec<Option<usize>>,
    pub(super) places: HashMap<u64, Place>,
    pub(super) last_write: Option<LastWrite>,
    pub(super) writes: u64,
    /// What the events of virtio queues tell.
    pub(super) queues: Queues,
    /// Devices with a queue whose vector was known.
    pub(super) hinted: BTreeSet<usize>,
}

impl<'a, P: FnMut(u64) -> bool> Replay<'a, P> {
    pub(super) fn new(
        contents: &'a LogContents,
        peer: Peer,
        watch: bool,
        backend: Option<Box<dyn Backend>>,
        go_on: P,
    ) -> Self {
        let mut order: Vec<_> = (0..).zip(contents.functions.iter()).collect();
        order.sort_by(|(_, one), (_, other)| (one.bdf, &one.name).cmp(&(other.bdf, &other.name)));
        let mut device_of = vec![None; order.len()];
        let mut reports = Vec::new();
        for (index, function) in order {
            let index: usize = index;
            let Some(vectors) = function.of.vectors else { continue };
            let bdf = function.bdf.map(|bdf| bdf.to_string()).unwrap_or_default();
            if let Some(place) = device_of.get_mut(index) {
                *place = Some(reports.len());
                let name = function.name.clone();
                reports.push(DeviceReport { name, bdf, vectors, ..Default::default() });
            }
        }
        let places = contents.tables.iter().filter_map(|table| Some((table.mr, table.place?)));
        let unit = contents.started.map_or(Unit::Lines, |_| Unit::Seconds);
        Self {
            contents,
            go_on,
            bench: Bench::new(peer, unit, FORMAT, watch, backend, reports.into_iter()),
            bars: contents.functions.iter().map(|function| function.of.bars.clone()).collect(),
            device_of,
            places: places.collect(),
            last_write: None,
            writes: 0,
            queues: Queues::default(),
            hinted: BTreeSet::new(),
        }
    }

    pub(super) fn finish(mut self, last: u64) -> (ReplayReport, Option<Timeline>) {
        for index in 0..self.bench.devices.len() {
            let names_all = self.names_all(index);
            let Some(device) = self.bench.devices.get_mut(index) else { continue };
            let raises = device.report.raises;
            device.report.lost_shows = match (names_all, raises.inferred, raises.named) {
                (true, 0, _) => LostShows::Yes,
                (false, _, 0) if !self.hinted.contains(&index) => LostShows::No,
                _ => LostShows::Some,
            };
        }
        let mut warnings = Warnings::default();
        if let Some(reason) = &self.contents.end.dropped {
            warnings.push(format!("line {}: cut short and dropped: {reason}", last + 1));
        }
        let before = [warnings.list(), self.contents.warnings.list()].concat();
        self.bench.finish(last, before)
    }

    fn config_write(&mut self, write: &ConfigAccess<'_>) {
        let Some(function) = self.contents.functions.find(write.name, Some(write.bdf)) else {
            return;
        };
        let (offset, value, line) = (write.offset, write.value, self.bench.now.line);
        self.writes += 1;
        self.last_write = Some(LastWrite { function, offset, value, line });
        let Some(bars) = self.bars.get_mut(function) else { return };
        let change = bars.write(offset, value, self.writes);
        let Some(device) = self.device_of.get(function).copied().flatten() else { return };
        if let Change::Fresh(bar) = change
            && self.places.values().any(|p| p.function == function && p.bar == Some(bar))
        {
            self.queues.forget(device);
            self.bench.restart(device, Device::reset);
        }
        if offset == COMMAND {
            self.queues.disturbed(device);
            let on = value & BUS_MASTER != 0;
            self.bench.input(device, Cause::Release, |device, now| device.set_bus_master(on, now));
        }
        let resets = self.resets(function, offset, value);
        if resets != Some(false) {
            self.queues.forget(device);
        }
        match resets {
            Some(true) => self.bench.restart(device, Device::reset),
            None => self.bench.restart(device, Device::forget),
            Some(false) => {}
        }
        if !self.contents.traced.control {
            self.control_untraced(function, device);
        }
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
        self.queues.control(device, bits.0);
        self.bench
            .input(device, Cause::Release, |device, now| device.control(Some(write), bits, now));
    }

    fn control(&mut self, name: &str, enabled: bool, masked: bool) {
        let functions = &self.contents.functions;
        let cause = self.last_write.take();
        let cause = cause.filter(|last| last.explains(functions, name, self.bench.now.line));
        let function = cause.map(|last| last.function).or_else(|| functions.only_named(name));
        let capability = function.and_then(|f| functions.get(f)).and_then(|f| f.of.msix);
        let cause = cause.filter(|last| Some(last.capability()) == capability);
        let device = match function.map(|f| self.device_of.get(f).copied().flatten()) {
            Some(None) => return, // nothing else of its MSI-X is in the log
            Some(device) => device,
            None => None,
        };
        let Some(device) = device else {
            let line = self.bench.now.line;
            self.bench.warnings.push(format!(
                "line {line}: no configuration write before it tells which {name} \
                 msix_write_config speaks of: the control bits of all of them are unknown"
            ));
            let named = |device: &Device| device.report.name == name;
            let all: Vec<usize> =
                (0..).zip(&self.bench.devices).filter(|(_, d)| named(d)).map(|(i, _)| i).collect();
            for device in all {
                self.queues.forget(device);
                self.bench.restart(device, Device::forget);
            }
            return;
        };
        self.queues.control(device, enabled);
        let answer = self.bench.input(device, Cause::Release, |device, now| {
            device.control(cause, (enabled, masked), now)
        });
        if let Some(Err(made)) = answer {
            if let Some(device) = self.bench.devices.get_mut(device) {
                device.report.control_mismatched += 1;
            }
            let bits = |(enabled, masked): (bool, bool)| {
                format!("enabled {} masked {}", u8::from(enabled), u8::from(masked))
            };
            let both = [bits(made), bits((enabled, masked))];
            self.bench.mismatch(device, None, self.bench.now, both);
        }
    }

    /// The device whose table the access is in, and the offset in the table.
    fn located(&self, access: &MemoryAccess) -> Option<(usize, u64)> {
        let place = self.places.get(&access.mr)?;
        let bar = place.bar.and_then(|bar| self.bars.get(place.function)?.base(bar));
        let begin = bar.unwrap_or(place.first_base).checked_add(place.offset)?;
        let offset = access.address.checked_sub(begin)?;
        let device = self.device_of.get(place.function).copied().flatten()?;
        let vectors = self.bench.devices.get(device)?.vectors();
        (offset < u64::from(vectors) * 16).then_some((device, offset))
    }

    fn table_write(&mut self, access: &MemoryAccess) {
        let Some((device, offset)) = self.located(access) else {
            self.bench.unattributed.writes += 1;
            return;
        };
        self.queues.disturbed(device);
        let value = access.value.to_le_bytes();
        let bytes = value.get(..usize::from(access.size)).unwrap_or_default();
        let touched = self
            .bench
            .input(device, Cause::Release, |device, now| device.write(offset, bytes, now));
        self.bench.touched(device, touched.into_iter().flatten());
    }

    fn table_read(&mut self, access: &MemoryAccess) {
        let Some((index, offset)) = self.located(access) else {
            self.bench.unattributed.reads += 1;
            return;
        };
        let value = access.value.to_le_bytes();
        let bytes = value.get(..usize::from(access.size)).unwrap_or_default();
        let Some(device) = self.bench.devices.get_mut(index) else { return };
        if let Compared::Differs { vector, offset, expected } = device.read(offset, bytes) {
            let expected = format!("{expected:#x} read at +{offset:#x} of the entry");
            let both = [expected, format!("{:#x}", access.value)];
            self.bench.mismatch(index, Some(vector), self.bench.now, both);
        }
    }
}

impl<P: FnMut(u64) -> bool> LogVisitor for Replay<'_, P> {
    type Format = QemuTrace;
    type Error = Unusable;

    fn event(&mut self, line: u64, event: &TraceEvent<'_>) -> Result<(), Unusable> {
        let since = self.contents.started.zip(event.time);
        let at = since.map_or(line, |(started, time)| time.saturating_sub(started));
        self.bench.now = Moment { line, at };
        self.bench.expire();
        while let Some(overdue) = self.queues.overdue(line) {
            self.perhaps_lost(overdue);
        }
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
            What::QueueNotify { queue } => self.queue(*queue),
            What::Raise { event, vector } => self.raise(event, *vector),
        }
        match self.bench.failed.take() {
            Some(source) => Err(Unusable::Backend { line, source }),
            None => Ok(()),
        }
    }

    fn progress(&mut self, lines: u64, bytes: u64) -> Result<(), Unusable> {
        if (self.go_on)(bytes) { Ok(()) } else { Err(Unusable::Interrupted { line: lines }) }
    }
}

/// Messages are writes to 'apic-msi', as they are in the entry.
const FORMAT: MessageFormat =
    MessageFormat { shown: std::convert::identity, text: super::messages::shown, patience: 0 };
/// Offset of the COMMAND register.
const COMMAND: u16 = 4;
/// Bus Master Enable in COMMAND.
const BUS_MASTER: u32 = 4;
