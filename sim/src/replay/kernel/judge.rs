//! The second pass over a recording of the kernel's events.

use super::accesses::{ConfigCycle, ConfigDecoder};
use super::contents::{KernelContents, KernelFunction};
use super::deliveries::Candidate;
use super::flight::{Flights, Target};
use super::machine::TableAt;
use super::past::Past;
use super::sources::Sources;
use super::{decoded, text};
use crate::replay::backend::Backend;
use crate::replay::bench::{Bench, MessageFormat};
use crate::replay::device::{Compared, Device};
use crate::replay::first_pass::Express;
use crate::replay::ledger::Cause;
use crate::replay::placed_bars::{Change, PlacedBars};
use crate::replay::unusable::Unusable;
use crate::report::{DeviceReport, KernelFacts, LostShows, ReplayReport, Unit, Warnings};
use crate::timeline::{Moment, Timeline};
use msix_explorer::Peer;
use msix_peers::kernel_trace::{KernelEvent, KernelTrace, KernelWhat, MmioAccess};
use msix_peers::trace::LogVisitor;
use std::collections::BTreeMap;

/// The second pass. Device `n` of the bench is function `n` of the contents.
pub(in crate::replay) struct KernelReplay<'a, P> {
    pub(super) contents: &'a KernelContents,
    go_on: P,
    pub(in crate::replay) bench: Bench,
    config: ConfigDecoder,
    bars: Vec<Bars>,
    /// Where tables and PBAs are: from, to, and whose.
    places: BTreeMap<u64, Place>,
    pub(super) flights: Flights,
    pub(super) past: Past,
    pub(super) sources: Sources,
    /// By thread: a message that was taken apart and not accepted yet.
    pub(super) candidates: BTreeMap<u32, Candidate>,
    /// Messages taken apart that no local APIC took.
    pub(super) looked: u64,
    /// Whether every function with MSI-X is known.
    pub(super) complete: bool,
    accesses: u64,
}

#[derive(Debug)]
struct Bars {
    placed: PlacedBars,
    sizing: [bool; 6],
}

#[derive(Debug, Clone, Copy)]
struct Place {
    end: u64,
    device: usize,
    is_pba: bool,
}

impl<'a, P: FnMut(u64) -> bool> KernelReplay<'a, P> {
    pub(in crate::replay) fn new(
        contents: &'a KernelContents,
        peer: Peer,
        watch: bool,
        backend: Option<Box<dyn Backend>>,
        go_on: P,
    ) -> Self {
        let report = |function: &KernelFunction| DeviceReport {
            name: function.name.clone(),
            bdf: function.bdf.to_string(),
            vectors: function.vectors,
            ..DeviceReport::default()
        };
        let unit = contents.started.map_or(Unit::Lines, |_| Unit::Seconds);
        let format = MessageFormat {
            shown: decoded,
            text,
            patience: if unit == Unit::Seconds { PATIENCE } else { 0 },
        };
        let reports = contents.functions.iter().map(report);
        let bars =
            |function: &KernelFunction| Bars { placed: function.bars.clone(), sizing: [false; 6] };
        let mut replay = Self {
            contents,
            go_on,
            bench: Bench::new(peer, unit, format, watch, backend, reports),
            config: ConfigDecoder::new(contents.ecam),
            bars: contents.functions.iter().map(bars).collect(),
            places: BTreeMap::new(),
            flights: Flights::default(),
            past: Past::default(),
            sources: Sources::new(contents.msi.iter().copied()),
            candidates: BTreeMap::new(),
            looked: 0,
            complete: contents.complete,
            accesses: 0,
        };
        replay.place();
        for (index, function) in (0..).zip(&contents.functions) {
            if let Some(bits) = function.control {
                replay.bench.input(index, Cause::Release, |device, now| {
                    // Nothing was known that it could contradict.
                    let _ = device.control(None, bits, now);
                });
            }
        }
        replay
    }

    /// Finds where all tables and PBAs are.
    fn place(&mut self) {
        self.places.clear();
        for (device, (function, bars)) in (0..).zip(self.contents.functions.iter().zip(&self.bars))
        {
            let at = |place: TableAt| match place {
                TableAt::Address(address) => Some(address),
                TableAt::Bar { bar, offset } => bars.placed.base(bar)?.checked_add(offset),
            };
            let vectors = u64::from(function.vectors);
            let table = (at(function.table), vectors * 16, false);
            let pba = (function.pba.and_then(at), vectors.div_ceil(64) * 8, true);
            for (begin, len, is_pba) in [table, pba] {
                let Some(begin) = begin else { continue };
                let end = begin.saturating_add(len);
                self.places.entry(begin).or_insert(Place { end, device, is_pba });
            }
        }
    }

    /// What an access is to, and the offset in it.
    fn located(&self, access: &MmioAccess) -> Option<(Place, u64)> {
        let (&begin, &place) = self.places.range(..=access.address).next_back()?;
        (access.address < place.end).then_some((place, access.address - begin))
    }

    fn config(&mut self, thread: u32, cycle: &ConfigCycle, write: bool) -> Result<(), Unusable> {
        self.sources.config(cycle);
        let functions = &self.contents.functions;
        let found = functions.binary_search_by_key(&cycle.bdf, |function| function.bdf);
        let Ok(index) = found else { return Ok(()) };
        let Some(function) = functions.get(index) else { return Ok(()) };
        if write {
            self.flights.begin(thread, index, Target::Function, self.bench.now.line)?;
        }
        self.bar(index, function, cycle, write);
        if let Some(command) = cycle.byte(COMMAND) {
            let on = command & BUS_MASTER != 0;
            let told = self.bench.devices.get(index).is_some_and(Device::knows_bus_master);
            if write || !told {
                self.bench.input(index, Cause::Release, |device, now| {
                    device.set_bus_master(on, now);
                });
            }
        }
        if write && let Some(known) = reset(function, cycle) {
            self.restart(index, if known { Device::reset } else { Device::forget });
        }
        let control = function.capability.and_then(|at| cycle.byte(at + 3));
        if let Some(control) = control {
            self.control(index, (control & 0x80 != 0, control & 0x40 != 0), write);
        }
        Ok(())
    }

    /// A BAR register.
    fn bar(&mut self, index: usize, function: &KernelFunction, cycle: &ConfigCycle, write: bool) {
        let (Some(bar), Some(bars)) = (cycle.bar(), self.bars.get_mut(index)) else { return };
        self.accesses += 1;
        let mut change = Change::None;
        if write {
            change = bars.placed.write(cycle.offset, cycle.value, self.accesses);
        } else {
            bars.placed.told(cycle.offset, cycle.value, self.accesses);
        }
        let sized = bars.sizing.get_mut(usize::from(bar)).is_some_and(|sizing| {
            let before = *sizing;
            *sizing = if write { cycle.sizes() } else { before };
            before && !*sizing
        });
        let holds = |bar| matches!(function.table, TableAt::Bar { bar: of, .. } if of == bar);
        // Guests size BARs when they begin: the function may have been reset since.
        match change {
            Change::Fresh(fresh) if holds(fresh) => self.restart(index, Device::reset),
            _ if sized && holds(bar) => self.restart(index, Device::forget),
            _ => {}
        }
        self.place();
    }

    fn control(&mut self, index: usize, bits: (bool, bool), write: bool) {
        let answer = self.bench.input(index, Cause::Release, |device, now| {
            if write { device.control(None, bits, now) } else { device.control_read(bits, now) }
        });
        if let Some(Err(made)) = answer {
            if let Some(device) = self.bench.devices.get_mut(index) {
                device.report.control_mismatched += 1;
            }
            let text = |(enabled, masked): (bool, bool)| {
                format!("enabled {} masked {}", u8::from(enabled), u8::from(masked))
            };
            let both = [format!("{} read", text(made)), text(bits)];
            self.bench.mismatch(index, None, self.bench.now, both);
        }
    }

    fn restart(&mut self, index: usize, how: impl FnOnce(&mut Device, Moment)) {
        self.bench.restart(index, how);
        self.past.forget(index);
        let vectors = self.bench.devices.get(index).map_or(0, Device::vectors);
        self.remember(index, (0..vectors).map(Some));
    }

    /// Entries of a device may have been rewritten.
    fn remember(&mut self, index: usize, vectors: impl IntoIterator<Item = Option<u16>>) {
        let Some(device) = self.bench.devices.get(index) else { return };
        for vector in vectors.into_iter().flatten() {
            let pair = device.rewritten(vector);
            let pair = pair.map(|(before, now)| (decoded(before), decoded(now)));
            self.past.update(index, vector, pair);
        }
    }

    fn write(&mut self, thread: u32, access: &MmioAccess) -> Result<(), Unusable> {
        self.sources.write(access);
        let Some((place, offset)) = self.located(access) else { return Ok(()) };
        if place.is_pba {
            return Ok(()); // which nothing can change (A4)
        }
        let value = access.value.to_le_bytes();
        let bytes = value.get(..usize::from(access.size)).unwrap_or_default();
        let touched = self
            .bench
            .input(place.device, Cause::Release, |device, now| device.write(offset, bytes, now));
        let Some(touched) = touched else { return Ok(()) };
        let line = self.bench.now.line;
        self.flights.begin(thread, place.device, Target::Entries(touched), line)?;
        self.bench.touched(place.device, touched);
        self.remember(place.device, touched);
        Ok(())
    }

    fn read(&mut self, access: &MmioAccess) {
        let Some((place, offset)) = self.located(access) else { return };
        let index = place.device;
        let value = access.value.to_le_bytes();
        let bytes = value.get(..usize::from(access.size)).unwrap_or_default();
        if place.is_pba {
            let found = self
                .bench
                .input(index, Cause::Raise, |device, now| device.read_pba(offset, bytes, now));
            for vector in found.into_iter().flat_map(|found| found.lies) {
                let both = ["its pending bit to read 1".to_owned(), "0".to_owned()];
                self.bench.mismatch(index, Some(vector), self.bench.now, both);
            }
            return;
        }
        let Some(device) = self.bench.devices.get_mut(index) else { return };
        match device.read(offset, bytes) {
            Compared::Same => {}
            Compared::Differs { vector, offset, expected } => {
                let expected = format!("{expected:#x} read at +{offset:#x} of the entry");
                let both = [expected, format!("{:#x}", access.value)];
                self.bench.mismatch(index, Some(vector), self.bench.now, both);
            }
            Compared::Undecided => {
                let touched = self
                    .bench
                    .input(index, Cause::Release, |device, now| device.learn(offset, bytes, now));
                if let Some(touched) = touched {
                    self.bench.touched(index, touched);
                    self.remember(index, touched);
                }
            }
        }
    }

    /// Events are missing: anything may have happened.
    fn missing(&mut self) {
        self.config = ConfigDecoder::new(self.contents.ecam);
        self.flights.forget();
        self.candidates.clear();
        self.complete = false;
        for index in 0..self.bench.devices.len() {
            self.restart(index, Device::forget);
        }
    }

    pub(in crate::replay) fn finish(mut self, last: u64) -> (ReplayReport, Option<Timeline>) {
        for (_, candidate) in std::mem::take(&mut self.candidates) {
            self.looked_at(&candidate);
        }
        for device in &mut self.bench.devices {
            if device.report.raises.pending > 0 {
                device.report.lost_shows = LostShows::Some;
            }
        }
        let mut warnings = Warnings::default();
        if let Some(reason) = &self.contents.end.dropped {
            warnings.push(format!("line {}: cut short and dropped: {reason}", last + 1));
        }
        let before = [warnings.list(), self.contents.warnings.list()].concat();
        let (mut report, timeline) = self.bench.finish(last, before);
        report.kernel = Some(KernelFacts {
            accepts_recorded: self.contents.accepts,
            not_accepted: self.looked,
        });
        (report, timeline)
    }
}

/// Whether a write resets the function, by its function level reset (PCI Express capability, Device
/// Control bit 15). `Some(false)` if it may.
fn reset(function: &KernelFunction, cycle: &ConfigCycle) -> Option<bool> {
    match function.express {
        Express::At(at) => (cycle.byte(at + 9)? & 0x80 != 0).then_some(true),
        Express::Absent => None,
        Express::Unknown => {
            let capability =
                (0x40..0x100).contains(&cycle.offset) && cycle.offset.is_multiple_of(4);
            let word = cycle.size == 2 && cycle.value & 0x8000 != 0;
            let ours = function.capability == Some(cycle.offset);
            (capability && word && !ours).then_some(false)
        }
    }
}

impl<P: FnMut(u64) -> bool> LogVisitor for KernelReplay<'_, P> {
    type Format = KernelTrace;
    type Error = Unusable;

    fn event(&mut self, line: u64, event: &KernelEvent) -> Result<(), Unusable> {
        let since = self.contents.started.zip(event.time);
        let at = since.map_or(line, |(started, time)| time.saturating_sub(started));
        self.bench.now = Moment { line, at };
        self.bench.expire();
        let thread = event.thread;
        if matches!(
            event.what,
            KernelWhat::Write(_)
                | KernelWhat::Read(_)
                | KernelWhat::ReadBegins
                | KernelWhat::Out(_)
                | KernelWhat::In(_)
                | KernelWhat::Runs
        ) {
            self.flights.land(thread);
        }
        match &event.what {
            KernelWhat::Out(access) => {
                if let Some(cycle) = self.config.port(access, true) {
                    self.config(thread, &cycle, true)?;
                }
            }
            KernelWhat::In(access) => {
                if let Some(cycle) = self.config.port(access, false) {
                    self.config(thread, &cycle, false)?;
                }
            }
            KernelWhat::Write(access) => match self.config.memory(access, true) {
                Some(cycle) => self.config(thread, &cycle, true)?,
                None => self.write(thread, access)?,
            },
            KernelWhat::Read(access) => match self.config.memory(access, false) {
                Some(cycle) => self.config(thread, &cycle, false)?,
                None => self.read(access),
            },
            KernelWhat::Message(message) => self.message(thread, *message)?,
            KernelWhat::Accepted { vector } => self.accepted(thread, *vector),
            KernelWhat::Missing => self.missing(),
            KernelWhat::Gsi { .. } | KernelWhat::ReadBegins | KernelWhat::Runs => {}
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

/// Microseconds that a VMM may take to send what was pending.
const PATIENCE: u64 = 100_000;
/// Offset of the COMMAND register.
const COMMAND: u16 = 4;
/// Bus Master Enable in COMMAND.
const BUS_MASTER: u8 = 4;
