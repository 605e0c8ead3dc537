//! The first pass over a recording: which functions have MSI-X, and where.

use super::accesses::{ConfigCycle, ConfigDecoder};
use super::machine::{Machine, MachineFunction, TableAt};
use crate::replay::displaced::Displaced;
use crate::replay::first_pass::{ConfigSpace, EXPRESS, Express, Found, MSI, MSIX};
use crate::replay::placed_bars::PlacedBars;
use crate::replay::unusable::Unusable;
use crate::report::Warnings;
use msix_peers::kernel_trace::{KernelEvent, KernelTrace, KernelWhat};
use msix_peers::trace::{Bdf, LogEnd, LogVisitor};
use std::collections::BTreeMap;

/// What the first pass found.
#[derive(Debug)]
pub(in crate::replay) struct KernelContents {
    /// By BDF.
    pub(super) functions: Vec<KernelFunction>,
    /// MSI capabilities.
    pub(super) msi: Vec<(Bdf, u16)>,
    pub(super) ecam: Option<u64>,
    /// Whether every function with MSI-X is in `functions`.
    pub(super) complete: bool,
    /// Whether `kvm_apic_accept_irq` is recorded.
    pub(super) accepts: bool,
    pub(super) end: LogEnd,
    /// Time of the first event, if all events have one.
    pub(super) started: Option<u64>,
    pub(super) warnings: Warnings,
}

/// A function that is replayed.
#[derive(Debug)]
pub(super) struct KernelFunction {
    pub(super) bdf: Bdf,
    pub(super) name: String,
    pub(super) vectors: u16,
    /// Where the MSI-X capability begins.
    pub(super) capability: Option<u16>,
    pub(super) express: Express,
    pub(super) table: TableAt,
    pub(super) pba: Option<TableAt>,
    /// Types known; addresses as they were given.
    pub(super) bars: PlacedBars,
    pub(super) control: Option<(bool, bool)>,
}

/// A function as the recording shows it.
#[derive(Debug, Default)]
struct Shown {
    space: ConfigSpace,
    bars: PlacedBars,
}

/// The first pass.
pub(in crate::replay) struct KernelFirstPass<'a, P> {
    machine: &'a Machine,
    go_on: P,
    bytes: u64,
    config: ConfigDecoder,
    functions: BTreeMap<Bdf, Shown>,
    /// Ids were read.
    enumerated: bool,
    accesses: bool,
    messages: bool,
    accepts: bool,
    missing: Option<u64>,
    displaced: Displaced,
    events: u64,
    timed: u64,
    started: Option<u64>,
    warnings: Warnings,
}

impl<'a, P: FnMut(u64) -> bool> KernelFirstPass<'a, P> {
    pub(in crate::replay) fn new(machine: &'a Machine, go_on: P) -> Self {
        Self {
            machine,
            go_on,
            bytes: 0,
            config: ConfigDecoder::new(machine.ecam),
            functions: BTreeMap::new(),
            enumerated: false,
            accesses: false,
            messages: false,
            accepts: false,
            missing: None,
            displaced: Displaced::default(),
            events: 0,
            timed: 0,
            started: None,
            warnings: Warnings::default(),
        }
    }

    fn config(&mut self, line: u64, cycle: &ConfigCycle, write: bool) -> Result<(), Unusable> {
        let absent = !write && cycle.bytes().iter().all(|&byte| byte == 0xff);
        if !self.functions.contains_key(&cycle.bdf) {
            if absent || write {
                return Ok(()); // nothing is there
            }
            if self.functions.len() >= MAX_FUNCTIONS {
                let what = "PCI functions";
                return Err(Unusable::TooMany { line, what, limit: MAX_FUNCTIONS });
            }
        }
        let shown = self.functions.entry(cycle.bdf).or_default();
        self.enumerated |= cycle.offset == 0 && !write;
        if !write && !absent {
            shown.space.told(cycle.offset, &cycle.bytes());
        }
        if cycle.bar().is_some() {
            if write {
                shown.bars.write(cycle.offset, cycle.value, line);
            } else {
                shown.bars.told(cycle.offset, cycle.value, line);
            }
        }
        Ok(())
    }

    /// Ends the pass.
    pub(in crate::replay) fn finish(mut self, end: LogEnd) -> Result<KernelContents, Unusable> {
        let line = end.lines.max(1);
        let mut complete = self.machine.all || self.enumerated;
        let mut functions: Vec<KernelFunction> =
            self.machine.functions.iter().map(|given| self.given(given)).collect();
        for (bdf, shown) in &self.functions {
            if functions.iter().any(|function| function.bdf == *bdf) {
                continue;
            }
            match shown.replayed(*bdf) {
                Ok(function) => functions.extend(function),
                Err(what) => {
                    complete = false;
                    self.warnings.push(format!(
                        "{} has MSI-X, but the recording does not tell {what}: give the guest's \
                         lspci -vvv (--lspci)",
                        shown.title(*bdf)
                    ));
                }
            }
        }
        functions.sort_by_key(|function| function.bdf);
        if functions.is_empty() {
            return Err(Unusable::NoTable { line, reason: self.displaced.beside(self.without()) });
        }
        let vectors = functions.iter().map(|function| usize::from(function.vectors));
        if vectors.sum::<usize>() > MAX_VECTORS {
            let what = "vectors of all functions together";
            return Err(Unusable::TooMany { line, what, limit: MAX_VECTORS });
        }
        self.warn_of_gaps(complete);
        let capability = |(bdf, shown): (&Bdf, &Shown)| match shown.space.capability(MSI) {
            Found::At(at) => Some((*bdf, at)),
            Found::Unknown | Found::Absent => None,
        };
        Ok(KernelContents {
            msi: self.functions.iter().filter_map(capability).collect(),
            functions,
            ecam: self.machine.ecam,
            complete,
            accepts: self.accepts,
            end,
            started: self.started.filter(|_| self.timed == self.events),
            warnings: self.warnings,
        })
    }

    fn warn_of_gaps(&mut self, complete: bool) {
        if !self.messages {
            self.warnings.push(
                "no kvm_msi_set_irq is in the recording: if it was not recorded, no message can match",
            );
        } else if !self.accepts {
            self.warnings.push(
                "no kvm_apic_accept_irq is in the recording: every kvm_msi_set_irq is taken for a \
                 delivery, though KVM emits it too when it only looks at a route",
            );
        }
        if let Some(line) = self.missing {
            self.warnings.push(format!(
                "line {line}: events are missing: what was known before is forgotten. Record into \
                 larger buffers"
            ));
        }
        if !complete {
            self.warnings.push(
                "not all functions with MSI-X are known: a message that is wrong for those that are \
                 may be another's, and is undecided",
            );
        }
        self.displaced.warn(&mut self.warnings);
    }

    fn given(&self, given: &MachineFunction) -> KernelFunction {
        let shown = self.functions.get(&given.bdf);
        let mut bars = shown.map(|shown| shown.bars.rewound()).unwrap_or_default();
        for (bar, address) in (0..).zip(given.bars) {
            bars.given(bar, address);
        }
        let name = match (&*given.name, shown) {
            ("", Some(shown)) => shown.name(),
            ("", None) => "function".to_owned(),
            (name, _) => name.to_owned(),
        };
        let told = shown.map_or(Express::Unknown, Shown::express);
        KernelFunction {
            bdf: given.bdf,
            name,
            vectors: given.vectors,
            capability: given.capability.or_else(|| shown?.msix()),
            express: given.express.map_or(told, Express::At),
            table: given.table,
            pba: given.pba,
            bars,
            control: given.control,
        }
    }

    /// Why there is nothing to replay.
    fn without(&self) -> &'static str {
        if self.functions.is_empty() && self.accesses {
            NO_CONFIG
        } else if self.functions.is_empty() {
            NO_ACCESSES
        } else {
            NO_MSIX
        }
    }
}

impl Shown {
    fn msix(&self) -> Option<u16> {
        match self.space.capability(MSIX) {
            Found::At(at) => Some(at),
            Found::Unknown | Found::Absent => None,
        }
    }

    fn express(&self) -> Express {
        match self.space.capability(EXPRESS) {
            Found::Unknown => Express::Unknown,
            Found::Absent => Express::Absent,
            Found::At(at) => Express::At(at),
        }
    }

    /// The function, if it has MSI-X; or what of it the recording does not tell.
    fn replayed(&self, bdf: Bdf) -> Result<Option<KernelFunction>, &'static str> {
        let Some(capability) = self.msix() else { return Ok(None) };
        let control = self.space.word(capability + 2).ok_or("how many vectors it has")?;
        let place =
            |value: u32| TableAt::Bar { bar: (value & 7) as u8, offset: (value & !7).into() };
        let table = self.space.dword(capability + 4).map(place).ok_or("where its table is")?;
        Ok(Some(KernelFunction {
            bdf,
            name: self.name(),
            vectors: (control & 0x7ff) + 1, // A1
            capability: Some(capability),
            express: self.express(),
            table,
            pba: self.space.dword(capability + 8).map(place),
            bars: self.bars.rewound(),
            control: None,
        }))
    }

    /// Vendor and device, by name where they are common.
    fn name(&self) -> String {
        let ids = (self.space.word(0).unwrap_or(0), self.space.word(2).unwrap_or(0));
        match ids {
            (0x1af4, 0x1000 | 0x1041) => "virtio-net".to_owned(),
            (0x1af4, 0x1001 | 0x1042) => "virtio-blk".to_owned(),
            (0x1af4, 0x1003 | 0x1043) => "virtio-console".to_owned(),
            (0x1af4, 0x1005 | 0x1044) => "virtio-rng".to_owned(),
            (0x1af4, 0x1004 | 0x1048) => "virtio-scsi".to_owned(),
            (0x1af4, 0x1049 | 0x1009) => "virtio-9p".to_owned(),
            (0x1af4, 0x1053) => "virtio-vsock".to_owned(),
            (0x1af4, 0x105a) => "virtio-fs".to_owned(),
            (0, 0) => "function".to_owned(),
            (vendor, device) => format!("{vendor:04x}:{device:04x}"),
        }
    }

    fn title(&self, bdf: Bdf) -> String {
        format!("{} {bdf}", self.name())
    }
}

impl<P: FnMut(u64) -> bool> LogVisitor for KernelFirstPass<'_, P> {
    type Format = KernelTrace;
    type Error = Unusable;

    fn event(&mut self, line: u64, event: &KernelEvent) -> Result<(), Unusable> {
        if event.what == KernelWhat::Missing {
            self.missing.get_or_insert(line);
            return Ok(());
        }
        self.events += 1;
        if let Some(time) = event.time {
            self.timed += 1;
            self.started.get_or_insert(time);
        }
        let (cycle, write) = match &event.what {
            KernelWhat::Out(access) => (self.config.port(access, true), true),
            KernelWhat::In(access) => (self.config.port(access, false), false),
            KernelWhat::Write(access) => (self.config.memory(access, true), true),
            KernelWhat::Read(access) => (self.config.memory(access, false), false),
            KernelWhat::Message(_) => {
                self.messages = true;
                (None, false)
            }
            KernelWhat::Accepted { .. } => {
                self.accepts = true;
                (None, false)
            }
            _ => (None, false),
        };
        self.accesses |= matches!(event.what, KernelWhat::Write(_) | KernelWhat::Read(_));
        cycle.map_or(Ok(()), |cycle| self.config(line, &cycle, write))
    }

    fn displaced(&mut self, line: u64, event: &'static str) {
        self.displaced.note(line, event);
    }

    fn progress(&mut self, lines: u64, bytes: u64) -> Result<(), Unusable> {
        self.bytes += bytes;
        if (self.go_on)(bytes) { Ok(()) } else { Err(Unusable::Interrupted { line: lines }) }
    }
}

/// Bounds what a hostile recording can make us remember.
const MAX_FUNCTIONS: usize = 4096;
/// As many as 128 functions with full tables have: some 200 bytes are kept of each.
const MAX_VECTORS: usize = 128 * 2048;
const NO_ACCESSES: &str = "there is no access of a guest in it: record the events kvm:kvm_mmio, \
    kvm:kvm_pio, kvm:kvm_msi_set_irq and kvm:kvm_apic_accept_irq";
const NO_CONFIG: &str = "it shows no configuration space: record kvm:kvm_pio from the guest's start, or \
    give the guest's lspci -vvv (--lspci) or where its configuration space is (--ecam)";
const NO_MSIX: &str = "no function in it has an MSI-X capability that the guest looked for: record from \
    the guest's start, or give the guest's lspci -vvv (--lspci)";
