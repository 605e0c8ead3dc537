//! One function of the log: the engine, what is known about it, and its part of the report.

mod told;
mod watched;

use super::entries::{Bearing, Held};
use super::functions::LastWrite;
use super::knowledge::Knowledge;
use super::recorder::Recorder;
use crate::report::DeviceReport;
use crate::timeline::{Band, Moment, Shown};
use msix_backends::carry_out;
use msix_core::operation::{Answer, Operation};
use msix_core::spec::{CONTROL_ENABLE, CONTROL_FUNCTION_MASK};
use msix_core::{
    Access, BarIndex, Boxed, Delivery, Effects, Layout, MAX_EFFECTS, Message, Msix, Policy, Vector,
};
use msix_peers::trace::RaiseEvent;
use watched::Watched;

/// A function that is replayed.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) report: DeviceReport,
    msix: Msix<Boxed>,
    fx: Effects<MAX_EFFECTS>,
    host: Recorder,
    known: Knowledge,
    watched: Vec<Watched>,
    /// Vectors that bear on their message otherwise since they were last taken.
    turned: Vec<u16>,
    /// How many vectors may send a message that is not known.
    opaque: usize,
    /// Which of the events that name raises it has.
    names: Option<usize>,
    /// State changes since they were last taken, if someone takes them.
    changes: Option<Vec<(u16, Shown)>>,
    /// The engine's inputs since they were last taken, if someone takes them.
    inputs: Option<Vec<Operation>>,
}

/// Who takes what a device notes down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Takers {
    /// [`Device::take_changes`] is called.
    pub(crate) changes: bool,
    /// [`Device::take_inputs`] is called.
    pub(crate) inputs: bool,
}

/// Whether a vector's message can be its device's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It sends at once.
    Live,
    /// It does not send.
    Blocked,
    /// The log does not tell.
    Unknown,
}

/// A message the engine sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) vector: u16,
    pub(crate) message: Message,
    /// Whether the log must show it.
    pub(crate) firm: bool,
}

/// How a read of the table compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Compared {
    Same,
    Differs { vector: u16, offset: u64, expected: u64 },
    Undecided,
}

impl Device {
    /// A function about which nothing is known yet. All its vectors are in use, and a host
    /// listens. `None` for a number of vectors that no function has.
    pub(crate) fn new(report: DeviceReport, policy: Policy, takers: Takers) -> Option<Self> {
        let vectors = report.vectors;
        let layout = Layout::exclusive_bar(u32::from(vectors), BarIndex::new(0).ok()?).ok()?;
        let named = |event: &RaiseEvent| event.devices.contains(&&*report.name);
        let names = RaiseEvent::ALL.iter().position(named);
        let mut device = Self {
            report,
            msix: Msix::boxed(layout, policy),
            fx: Effects::new(),
            host: Recorder::default(),
            known: Knowledge::none(vectors),
            watched: vec![Watched::NOTHING; usize::from(vectors)],
            turned: Vec::new(),
            opaque: usize::from(vectors),
            names,
            changes: takers.changes.then(Vec::new),
            inputs: None,
        };
        device.apply(Operation::Attach);
        device.inputs = takers.inputs.then(Vec::new); // which begin with a host attached
        device.use_all();
        Some(device)
    }

    pub(crate) fn vectors(&self) -> u16 {
        self.msix.vectors()
    }

    /// Name and place, for people.
    pub(crate) fn title(&self) -> String {
        let DeviceReport { name, bdf, .. } = &self.report;
        if bdf.is_empty() { name.clone() } else { format!("{name} {bdf}") }
    }

    /// Gives the engine an input and carries out what that emits.
    fn apply(&mut self, operation: Operation) -> Answer {
        let answer = operation.apply(&mut self.msix, &mut [], &mut self.fx);
        carry_out(&mut self.msix, &mut self.fx, &mut self.host);
        self.report.effects = self.host.counts;
        if let Some(inputs) = &mut self.inputs {
            inputs.push(operation);
        }
        answer
    }

    fn use_all(&mut self) {
        for index in 0..self.vectors() {
            self.apply(Operation::Claim(Vector::new(index)));
        }
    }

    /// The function was reset, and the log shows it (A13).
    pub(crate) fn reset(&mut self, now: Moment) {
        // What a log that begins with a fresh function says of COMMAND came after the reset.
        let bus_master = self.known.bus_master.filter(|_| !self.known.control).unwrap_or(false);
        self.restart(bus_master, now);
        self.known = Knowledge::fresh(self.vectors());
        self.known.bus_master = Some(bus_master);
        self.observe_all(now);
    }

    /// The function may have been reset.
    pub(crate) fn forget(&mut self, now: Moment) {
        self.restart(true, now);
        self.known = Knowledge::none(self.vectors());
        for watched in &mut self.watched {
            watched.forget();
        }
        self.observe_all(now);
    }

    fn restart(&mut self, bus_master: bool, now: Moment) {
        self.apply(Operation::Reset);
        self.apply(Operation::SetBusMaster(bus_master));
        self.observe_all(now);
    }

    /// A write of the COMMAND register.
    pub(crate) fn set_bus_master(&mut self, on: bool, now: Moment) {
        self.known.bus_master = Some(on);
        self.apply(Operation::SetBusMaster(on));
        self.observe_all(now);
    }

    /// The control bits were written; the log says what they are now. `Err` when the write says
    /// something else: what it should have made of them.
    pub(crate) fn control(
        &mut self,
        cause: Option<LastWrite>,
        logged: (bool, bool),
        now: Moment,
    ) -> Result<(), (bool, bool)> {
        if let Some(cause) = cause {
            let (offset, bytes) = cause.control_bytes();
            self.write_config(offset, &bytes);
        }
        self.known.control = true;
        let made = self.control_bits();
        if made != logged {
            self.write_config(3, &[u8::from(logged.0) << 7 | u8::from(logged.1) << 6]);
        }
        self.observe_all(now);
        if cause.is_none() || made == logged { Ok(()) } else { Err(made) }
    }

    /// `offset` is one of the control bits' dword.
    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        let (len, value) = little_endian(bytes);
        let offset = u8::try_from(offset).unwrap_or(u8::MAX);
        self.apply(Operation::WriteConfig { offset, len, value });
    }

    fn control_bits(&self) -> (bool, bool) {
        let control = self.msix.control();
        (control & CONTROL_ENABLE != 0, control & CONTROL_FUNCTION_MASK != 0)
    }

    /// A write to the table. Returns the vectors whose entries it touched.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8], now: Moment) -> [Option<u16>; 2] {
        self.report.table_writes += 1;
        let last = offset.saturating_add((bytes.len() as u64).saturating_sub(1));
        let touched = [offset / 16, last / 16].map(|index| self.in_table(index));
        let before = touched.map(|vector| vector.map(|vector| self.entry(vector)));
        let live = touched.map(|vector| vector.is_some_and(|v| self.standing(v) == Standing::Live));
        let (len, value) = little_endian(bytes);
        let done = u16::try_from(offset).is_ok_and(|offset| {
            let written = self.apply(Operation::WriteTable { offset, len, value });
            written == Answer::Written(Access::Done)
        });
        for dword in offset / 4..=last / 4 {
            let whole = dword * 4 >= offset && dword * 4 + 3 <= last;
            // What the policy ignores is not what QEMU may have done.
            self.known.set_dword(dword, done && (whole || self.known.dword(dword)));
        }
        for ((vector, before), live) in touched.into_iter().zip(before).zip(live) {
            let Some(vector) = vector else { continue };
            let after = self.entry(vector);
            let pending = self.is_pending(vector);
            if let (Some(before), Some(known)) = (before, self.known.of_mut(vector)) {
                known.rewritten |= live && before != after;
                let cleared = after.is_some_and(|message| message.address == 0);
                known.doubtful |= pending && before != after && cleared; // T4
            }
            self.observe(vector, now);
        }
        touched
    }

    fn in_table(&self, index: u64) -> Option<u16> {
        u16::try_from(index).ok().filter(|&vector| vector < self.vectors())
    }

    fn entry(&self, vector: u16) -> Option<Message> {
        self.msix.message(Vector::new(vector))
    }

    /// What the vector's entry holds, if the log told all of its message and it is one.
    pub(crate) fn held(&self, vector: u16) -> Option<Held> {
        let message = self.entry(vector).filter(|message| message.address != 0)?;
        let held = Held { message, bearing: self.bearing(vector), names: self.names };
        self.known.message(vector).then_some(held)
    }

    /// Which of the events that name raises it has, as an index into [`RaiseEvent::ALL`].
    pub(crate) const fn names(&self) -> Option<usize> {
        self.names
    }

    /// A read of the table that gave `bytes`.
    pub(crate) fn read(&mut self, offset: u64, bytes: &[u8]) -> Compared {
        let last = offset.saturating_add((bytes.len() as u64).saturating_sub(1));
        let inside = self.in_table(last / 16).is_some();
        if !inside || !(offset / 4..=last / 4).all(|dword| self.known.dword(dword)) {
            self.report.undecided.reads += 1;
            return Compared::Undecided;
        }
        let mut expected = [0; 8];
        let Some(of_engine) = expected.get_mut(..bytes.len()) else { return Compared::Undecided };
        self.msix.read_table(offset, of_engine);
        self.report.table_reads.compared += 1;
        if of_engine == bytes {
            return Compared::Same;
        }
        self.report.table_reads.mismatched += 1;
        let vector = self.in_table(offset / 16).unwrap_or_default();
        Compared::Differs { vector, offset: offset % 16, expected: u64::from_le_bytes(expected) }
    }

    /// Whether the function's state is known well enough to feed a raise of `vector`.
    pub(crate) fn can_raise(&self, vector: u16) -> bool {
        vector < self.vectors() && self.known.mask(vector) && self.known.message(vector)
    }

    /// The device has an event. A named one that becomes pending is due once it is unmasked.
    pub(crate) fn raise(&mut self, vector: u16, now: Moment) -> Option<Delivery> {
        if let Some(known) = self.known.of_mut(vector) {
            known.doubtful = false;
        }
        let answer = self.apply(Operation::Notify(Vector::new(vector)));
        self.observe(vector, now);
        if let Answer::Event(delivery) = answer { Some(delivery) } else { None }
    }

    /// An event of `vector` may have come that was not fed.
    pub(crate) fn doubt_pending(&mut self, vector: u16) {
        if self.standing(vector) != Standing::Live
            && let Some(known) = self.known.of_mut(vector)
        {
            known.pending_unknown_until = u64::MAX;
        }
    }

    /// Whether a message of `vector` on this line can be for an event that the log does not show.
    pub(crate) fn may_owe(&self, vector: u16, now: Moment) -> bool {
        self.known.of(vector).is_none_or(|known| now.line <= known.pending_unknown_until)
    }

    /// A message of this device was seen: messages can leave.
    pub(crate) fn saw_message(&mut self) {
        self.known.bus_master.get_or_insert(true);
    }

    fn is_pending(&self, vector: u16) -> bool {
        self.msix.is_pending(Vector::new(vector)) == Some(true)
    }

    /// Whether the vector's message was changed while it was live (A9).
    fn is_rewritten(&self, vector: u16) -> bool {
        self.known.of(vector).is_some_and(|known| known.rewritten)
    }

    fn standing(&self, vector: u16) -> Standing {
        let control = self.msix.control();
        if !self.known.control {
            return Standing::Unknown;
        }
        if control & (CONTROL_ENABLE | CONTROL_FUNCTION_MASK) != CONTROL_ENABLE {
            return Standing::Blocked; // whatever the vector's own mask is
        }
        match self.msix.is_masked(Vector::new(vector)) {
            _ if !self.known.mask(vector) => Standing::Unknown,
            Some(false) if self.can_leave() => Standing::Live,
            _ => Standing::Blocked,
        }
    }

    fn bearing(&self, vector: u16) -> Bearing {
        match self.standing(vector) {
            Standing::Live if !self.is_rewritten(vector) => Bearing::Live,
            Standing::Live | Standing::Unknown => Bearing::Open,
            Standing::Blocked if self.is_pending(vector) => Bearing::Pending,
            Standing::Blocked => Bearing::Blocked,
        }
    }

    fn can_leave(&self) -> bool {
        self.known.bus_master != Some(false) // A11
    }

    pub(crate) fn band(&self) -> Band {
        match self.control_bits() {
            _ if !self.known.control => Band::Unknown,
            (false, _) => Band::Disabled,
            (true, true) => Band::FunctionMasked,
            (true, false) if !self.can_leave() => Band::BusMasterOff,
            (true, false) => Band::Enabled,
        }
    }

    /// The messages the engine sent since this was last asked.
    pub(crate) fn take_sent(&mut self) -> Vec<Sent> {
        let sent = std::mem::take(&mut self.host.sends);
        sent.into_iter()
            .map(|route| {
                let vector = route.vector.index();
                let known = self.known.message(vector) && self.known.bus_master.is_some();
                let firm = known
                    && can_be_seen(route.message)
                    && self
                        .known
                        .of(vector)
                        .is_some_and(|v| !v.doubtful && !v.rewritten && !v.delivered);
                if let Some(known) = self.known.of_mut(vector) {
                    (known.doubtful, known.delivered) = (false, false);
                }
                Sent { vector, message: route.message, firm }
            })
            .collect()
    }

    /// The engine's inputs since this was last asked.
    pub(crate) fn take_inputs(&mut self) -> Vec<Operation> {
        self.inputs.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// Length and value of the bytes of an access, at most 8.
fn little_endian(bytes: &[u8]) -> (u8, u64) {
    let value = bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
    (u8::try_from(bytes.len()).unwrap_or(u8::MAX), value)
}

/// Whether a message arrives at 'apic-msi' as it is in the entry. Outside the interrupt range it
/// is a write to memory; in remappable format an IOMMU changes it on the way (K11).
fn can_be_seen(message: Message) -> bool {
    message.address >> 20 == 0xfee && message.address & 0x10 == 0
}
