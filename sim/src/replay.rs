//! The second pass: every access and event of the log goes through the engine, and what the
//! device did is compared with what the engine would have done.
//!
//! What is compared, and what is only counted as undecided:
//!
//! - A *read* of a dword that the log has written, or that is in its reset state, is compared.
//!   Reset is known when a BAR comes back from sizing with address 0, or by a function level
//!   reset. Any other dword is undecided until it is written.
//! - A *named raise* goes into the engine. A message that the engine then sends, at once or when
//!   the vector is unmasked, must appear in the log within [`WINDOW`] lines, or it is lost.
//! - A *message* that is not due and equals exactly one live entry is a raise the log did not
//!   name, unless the device names all its raises: then it is unexpected. One that equals only
//!   masked entries is unexpected if a raise of one of them was latched, otherwise undecided
//!   (another device may own it). One that equals no entry is not ours.
//!
//! With a [`Backend`] every input of an engine is also given to a function that really delivers, and
//! what the engine sent must arrive there: the messages that are compared with the log.

mod backend;
pub(crate) mod device;
mod knowledge;
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
mod kvm;
mod ledger;
mod messages;
mod recorder;

use crate::bars::{Bars, Change};
use crate::functions::LastWrite;
use crate::report::{
    DeviceReport, MAX_LISTED, Mismatch, ReplayReport, Unattributed, Unit, Warnings,
};
use crate::survey::{Express, Place, Survey, Surveyor};
use crate::timeline::{Mark, Timeline};
pub use crate::unusable::Unusable;
pub use backend::{Backend, DeliveryDifference, DeliveryOutcome};
use device::{Compared, Device, Takers};
#[cfg(all(feature = "kvm", target_arch = "x86_64"))]
pub use kvm::{Kvm, OpenError};
use ledger::Ledger;
use messages::Entries;
use msix_backends::Route;
use msix_core::Vector;
pub use msix_explorer::Peer;
use msix_peers::trace::{
    ConfigAccess, LogError, LogVisitor, MemoryAccess, TraceEvent, TracedRegion, What, walk,
};
use std::collections::HashMap;
use std::io::{self, BufRead, Cursor, Seek};

/// Lines within which a message follows its cause. In the embedded recording it is always the
/// next line; threads of a real machine may print some between.
pub const WINDOW: u64 = 64;

/// A point in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Line, from 1.
    pub(crate) line: u64,
    /// Microseconds since the first event if all events have timestamps, else the line.
    pub(crate) at: u64,
}

/// Replays a log. It is read twice, in bounded memory; `progress` is called now and then with the
/// number of bytes read since the last call. With `watch`, a [`Timeline`] is recorded.
///
/// # Errors
/// [`Unusable`] when it cannot be replayed.
pub fn replay(
    log: impl BufRead + Seek,
    peer: Peer,
    watch: bool,
    progress: impl FnMut(u64),
) -> Result<(ReplayReport, Option<Timeline>), Unusable> {
    replay_on(None, log, peer, watch, progress)
}

/// [`replay`], and a backend that delivers too: what arrives there is compared with what the engine
/// sent.
///
/// # Errors
/// As [`replay`]; [`Unusable::Backend`] when the system fails the backend.
pub fn replay_on(
    backend: Option<Box<dyn Backend>>,
    mut log: impl BufRead + Seek,
    peer: Peer,
    watch: bool,
    mut progress: impl FnMut(u64),
) -> Result<(ReplayReport, Option<Timeline>), Unusable> {
    let start = |source| Unusable::Log(LogError::Read { line: 1, source });
    log.rewind().map_err(start)?;
    let mut surveyor = Surveyor::new(&mut progress);
    let end = walk(&mut log, &mut surveyor)?;
    let survey = surveyor.finish(end)?;
    log.rewind().map_err(start)?;
    let mut replay = Replay::new(&survey, peer, watch, backend, progress);
    let last = walk(&mut log, &mut replay)?.lines;
    let failed = |source| Unusable::Backend { line: last, source };
    let delivered = replay.finish_backend().map_err(failed)?;
    let (mut report, timeline) = replay.finish(last);
    report.backend = delivered;
    Ok((report, timeline))
}

/// Replays a log that is in memory.
///
/// # Errors
/// As [`replay`].
pub fn replay_bytes(log: &[u8], peer: Peer) -> Result<ReplayReport, Unusable> {
    replay(Cursor::new(log), peer, false, |_| {}).map(|(report, _)| report)
}

struct Replay<'a, P> {
    survey: &'a Survey,
    progress: P,
    peer: Peer,
    bars: Vec<Bars>,
    /// Index into `devices`, by function.
    device_of: Vec<Option<usize>>,
    places: HashMap<u64, Place>,
    devices: Vec<Device>,
    backend: Option<Box<dyn Backend>>,
    /// How the backend failed.
    failed: Option<io::Error>,
    entries: Entries,
    ledger: Ledger,
    last_write: Option<LastWrite>,
    writes: u64,
    mismatches: u64,
    mismatch_list: Vec<Mismatch>,
    not_ours: u64,
    unattributed: Unattributed,
    warnings: Warnings,
    timeline: Option<Timeline>,
    now: Moment,
}

impl<'a, P: FnMut(u64)> Replay<'a, P> {
    fn new(
        survey: &'a Survey,
        peer: Peer,
        watch: bool,
        mut backend: Option<Box<dyn Backend>>,
        progress: P,
    ) -> Self {
        let (_, policy) = peer.policy();
        let mut order: Vec<_> = (0..).zip(survey.functions.iter()).collect();
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
        let places = survey.tables.iter().filter_map(|table| Some((table.mr, table.place?)));
        let titles = devices.iter().map(|device| (device.title(), device.vectors()));
        let unit = survey.started.map_or(Unit::Lines, |_| Unit::Seconds);
        Self {
            survey,
            progress,
            peer,
            bars: survey.functions.iter().map(|function| function.of.bars.clone()).collect(),
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
    fn input<T>(
        &mut self,
        index: usize,
        cause: ledger::Cause,
        input: impl FnOnce(&mut Device, Moment) -> T,
    ) -> Option<T> {
        let now = self.now;
        let device = self.devices.get_mut(index)?;
        let answer = input(device, now);
        let inputs = device.take_inputs();
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

    fn mismatch(
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
        let Some(function) = self.survey.functions.find(write.name, Some(write.bdf)) else {
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
            self.input(device, ledger::Cause::Release, |device, now| {
                device.set_bus_master(on, now)
            });
        }
        match self.resets(function, offset, value) {
            Some(true) => self.restart(device, Device::reset),
            None => self.restart(device, Device::forget),
            Some(false) => {}
        }
        if !self.survey.traced.control {
            self.control_untraced(function, device);
        }
    }

    fn restart(&mut self, index: usize, how: impl FnOnce(&mut Device, Moment)) {
        self.entries.forget(index);
        self.input(index, ledger::Cause::Release, how);
    }

    /// Whether the write is a function level reset (PCI Express capability, Device Control bit
    /// 15); `None` if it may be one.
    fn resets(&self, function: usize, offset: u16, value: u32) -> Option<bool> {
        let facts = &self.survey.functions.get(function)?.of;
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
        let capability = self.survey.functions.get(function).and_then(|f| f.of.msix);
        let Some(write) = self.last_write.filter(|w| Some(w.capability()) == capability) else {
            return;
        };
        let (offset, bytes) = write.control_bytes();
        let byte = 3_usize.checked_sub(offset).and_then(|at| bytes.get(at)).copied();
        let Some(byte) = byte.filter(|_| offset != 1) else { return };
        let bits = (byte & 0x80 != 0, byte & 0x40 != 0);
        self.input(device, ledger::Cause::Release, |device, now| {
            device.control(Some(write), bits, now)
        });
    }

    fn control(&mut self, name: &str, enabled: bool, masked: bool) {
        let functions = &self.survey.functions;
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
        let answer = self.input(device, ledger::Cause::Release, |device, now| {
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
        let touched = self
            .input(device, ledger::Cause::Release, |device, now| device.write(offset, bytes, now));
        let Some(of) = self.devices.get(device) else { return };
        for vector in touched.into_iter().flatten().flatten() {
            self.entries.update(device, vector, of.message(vector));
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

    fn finish(mut self, last: u64) -> (ReplayReport, Option<Timeline>) {
        self.settle_at_end(last);
        let now = Moment { line: last.max(self.now.line), ..self.now };
        let now = if self.survey.started.is_some() { now } else { Moment { at: now.line, ..now } };
        for device in &mut self.devices {
            device.end(now);
        }
        let unit = self.survey.started.map_or(Unit::Lines, |_| Unit::Seconds);
        let mut warnings = Warnings::default();
        if let Some(reason) = &self.survey.end.dropped {
            warnings.push(format!("line {}: cut short and dropped: {reason}", last + 1));
        }
        let lists = [warnings.list(), self.survey.warnings.list(), self.warnings.list()];
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
            warnings: lists.concat(),
            backend: None,
        };
        (report, self.timeline.map(|timeline| timeline.end(now)))
    }
}

impl<P: FnMut(u64)> LogVisitor for Replay<'_, P> {
    type Error = Unusable;

    fn event(&mut self, line: u64, event: &TraceEvent<'_>) -> Result<(), Unusable> {
        let since = self.survey.started.zip(event.time);
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

    fn progress(&mut self, bytes: u64) {
        (self.progress)(bytes);
    }
}

/// Offset of the COMMAND register.
const COMMAND: u16 = 4;
/// Bus Master Enable in COMMAND.
const BUS_MASTER: u32 = 4;
