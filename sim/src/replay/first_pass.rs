//! The first pass over a log: which functions have an MSI-X table, where it is, how large it is.

mod capabilities;
mod logged_function;
mod tables;

use super::displaced::Displaced;
use super::functions::{Functions, LastWrite};
use super::unusable::Unusable;
use crate::report::Warnings;
pub(crate) use capabilities::{ConfigSpace, Found, MSI, MSIX, PCIE as EXPRESS};
pub(crate) use logged_function::{Express, LoggedFunction};
use msix_peers::trace::{
    LogEnd, LogVisitor, QemuTrace, RaiseEvent, TraceEvent, TracedRegion, What,
};
use std::collections::HashSet;
pub(crate) use tables::{Place, Table};
use tables::{Reach, Tables};

/// What the first pass found.
#[derive(Debug)]
pub(crate) struct LogContents {
    pub(crate) functions: Functions<LoggedFunction>,
    /// Sorted by memory region.
    pub(crate) tables: Vec<Table>,
    pub(crate) end: LogEnd,
    /// Time of the first event, if all events have one.
    pub(crate) started: Option<u64>,
    pub(crate) traced: Traced,
    pub(crate) warnings: Warnings,
}

/// What the log holds at all.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traced {
    /// Writes to 'apic-msi'.
    pub(crate) messages: bool,
    /// `msix_write_config`.
    pub(crate) control: bool,
    /// Each of [`RaiseEvent::ALL`].
    pub(crate) raises: [bool; RaiseEvent::ALL.len()],
}

/// The first pass.
pub(crate) struct FirstPass<P> {
    go_on: P,
    bytes: u64,
    functions: Functions<LoggedFunction>,
    tables: Tables,
    last: Option<LastWrite>,
    /// Names in `msix_write_config` lines without a configuration write before them.
    bare: HashSet<String>,
    unnamed: bool,
    /// The log shows BARs being placed from reset on.
    fresh: bool,
    writes: u64,
    events: u64,
    timed: u64,
    started: Option<u64>,
    traced: Traced,
    displaced: Displaced,
}

impl<P: FnMut(u64) -> bool> FirstPass<P> {
    pub(crate) fn new(go_on: P) -> Self {
        Self {
            go_on,
            bytes: 0,
            functions: Functions::default(),
            tables: Tables::default(),
            last: None,
            bare: HashSet::new(),
            unnamed: false,
            fresh: false,
            writes: 0,
            events: 0,
            timed: 0,
            started: None,
            traced: Traced::default(),
            displaced: Displaced::default(),
        }
    }

    fn control(&mut self, line: u64, name: &str) {
        self.traced.control = true;
        let cause = self.last.take().filter(|last| last.explains(&self.functions, name, line));
        let Some(last) = cause else {
            if self.bare.len() < MAX_BARE {
                self.bare.insert(name.to_owned());
            }
            return;
        };
        let Some(function) = self.functions.get_mut(last.function) else { return };
        let facts = &mut function.of;
        facts.controlled = true;
        facts.msix.get_or_insert(last.capability());
        if let Some(size) = last.size_written()
            && facts.sizes.len() < MAX_SIZES
            && !facts.sizes.contains(&size)
        {
            facts.sizes.push(size);
        }
    }

    /// Ends the pass.
    pub(crate) fn finish(mut self, end: LogEnd) -> Result<LogContents, Unusable> {
        let line = end.lines.max(1);
        if self.tables.is_empty() {
            let reason = match (self.unnamed, self.traced.control) {
                (true, _) => NO_NAMES,
                (false, true) => NO_TABLE,
                (false, false) => NO_MSIX,
            };
            return Err(Unusable::NoTable { line, reason: self.displaced.beside(reason) });
        }
        for name in &self.bare {
            let known = match self.functions.only_named(name) {
                Some(index) => index,
                None if self.functions.iter().any(|function| function.name == *name) => continue,
                None => self.functions.known(name, None, line)?,
            };
            if let Some(function) = self.functions.get_mut(known) {
                function.of.controlled = true;
            }
        }
        for function in self.functions.iter_mut() {
            let facts = &mut function.of;
            if let (None, Found::At(at)) = (facts.msix, facts.space.capability(MSIX)) {
                facts.msix = Some(at);
            }
            facts.express = match facts.space.capability(EXPRESS) {
                Found::Unknown => Express::Unknown,
                Found::Absent => Express::Absent,
                Found::At(at) => Express::At(at),
            };
        }
        let mut warnings = Warnings::default();
        self.displaced.warn(&mut warnings);
        let tables = self.tables.place(&mut self.functions, &mut warnings);
        for function in self.functions.iter_mut() {
            let facts = &mut function.of;
            facts.bars = facts.bars.rewound();
            if facts.controlled && facts.vectors.is_none() {
                facts.vectors = facts.vectors_said(1);
            }
        }
        let vectors = self.functions.iter().filter_map(|function| function.of.vectors);
        if vectors.map(usize::from).sum::<usize>() > MAX_VECTORS {
            let what = "vectors of all functions together";
            return Err(Unusable::TooMany { line, what, limit: MAX_VECTORS });
        }
        // Table writes are in it, so that event was recorded, and the messages are the same event.
        if !self.traced.messages {
            warnings.push("no write to 'apic-msi' is in the log: if they were filtered out, no message can match");
        }
        let started = self.started.filter(|_| self.timed == self.events);
        let Self { functions, traced, .. } = self;
        Ok(LogContents { functions, tables, end, started, traced, warnings })
    }
}

impl<P: FnMut(u64) -> bool> LogVisitor for FirstPass<P> {
    type Format = QemuTrace;
    type Error = Unusable;

    fn event(&mut self, line: u64, event: &TraceEvent<'_>) -> Result<(), Unusable> {
        self.events += 1;
        if let Some(time) = event.time {
            self.timed += 1;
            self.started.get_or_insert(time);
        }
        match event.what {
            What::ConfigWrite(write) => {
                let function = self.functions.known(write.name, Some(write.bdf), line)?;
                self.writes += 1;
                if let Some(function) = self.functions.get_mut(function) {
                    function.of.bars.write(write.offset, write.value, self.writes);
                    self.fresh |= function.of.bars.placed_from_reset();
                }
                let (offset, value) = (write.offset, write.value);
                self.last = Some(LastWrite { function, offset, value, line });
            }
            What::ConfigRead(read) => {
                let function = self.functions.known(read.name, Some(read.bdf), line)?;
                if let Some(function) = self.functions.get_mut(function) {
                    function.of.space.read(read.offset, read.value);
                    function.of.bars.read(read.offset, read.value);
                }
            }
            What::Control { name, .. } => self.control(line, name),
            What::QueueNotify { .. } => {}
            What::Read(access) | What::Write(access) => match access.region {
                TracedRegion::Table => {
                    let reach = Reach { from: access.address, len: u64::from(access.size) };
                    self.tables.access(line, access.mr, reach, &self.functions, self.fresh)?;
                }
                TracedRegion::Messages => self.traced.messages = true,
                TracedRegion::Unnamed => self.unnamed = true,
                TracedRegion::Other => {}
            },
            What::Raise { event, .. } => {
                for (seen, known) in self.traced.raises.iter_mut().zip(&RaiseEvent::ALL) {
                    *seen |= known == event;
                }
            }
        }
        Ok(())
    }

    fn displaced(&mut self, line: u64, event: &'static str) {
        self.displaced.note(line, event);
    }

    fn progress(&mut self, lines: u64, bytes: u64) -> Result<(), Unusable> {
        self.bytes += bytes;
        if self.events == 0 && self.bytes > LOOK {
            return Err(Unusable::NoTable {
                line: lines.max(1),
                reason: self.displaced.beside(NO_EVENT),
            });
        }
        if (self.go_on)(bytes) { Ok(()) } else { Err(Unusable::Interrupted { line: lines }) }
    }
}

/// Bytes after which a text without any event is no log.
const LOOK: u64 = 16 << 20;
const NO_EVENT: &str = "there is no event of a log in its first 16 MiB: record with \
    -trace msix_write_config -trace pci_cfg_write -trace memory_region_ops_read \
    -trace memory_region_ops_write";
/// As many as 128 functions with full tables have: some 200 bytes are kept of each.
const MAX_VECTORS: usize = 128 * 2048;
const MAX_SIZES: usize = 16;
const MAX_BARE: usize = 256;
const NO_NAMES: &str = "its memory_region_ops lines do not name the region, so no MSI-X table can \
    be found: record with a QEMU that prints names (7.0 or newer)";
const NO_TABLE: &str = "MSI-X is configured but no access to an MSI-X table is recorded: record \
    with -trace memory_region_ops_read -trace memory_region_ops_write";
const NO_MSIX: &str = "there is no MSI-X in it: record with -trace msix_write_config \
    -trace pci_cfg_write -trace memory_region_ops_read -trace memory_region_ops_write";
