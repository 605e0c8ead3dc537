//! A device beside the models that it may agree with.

use super::Disagreement;
use super::expected::{Due, Expected, Side};
use super::kernel::{Asked, polled, shown};
use crate::adapter::{Device, HostCall, IntxCall, Message, Refused};
use crate::caught;
use crate::choices::Choices;
use msix_core::operation::Operation;
use msix_core::{Vector, Vectors};
use std::collections::{BTreeSet, VecDeque};

pub(super) struct Beside {
    device: Box<dyn Device>,
    vectors: u16,
    shows: fn(Message) -> bool,
    sides: Vec<Side>,
    asked: Asked,
    /// Vectors that the host cannot arm.
    failing: BTreeSet<u16>,
    /// The capability in its power-on state.
    capability: [u8; 12],
    loading: bool,
}

/// What the device showed of one operation.
#[derive(Debug, Default)]
struct Seen {
    read: Option<u64>,
    /// Whether the call was refused, and the reason.
    refused: Option<String>,
    messages: Vec<Message>,
    intx: Option<Vec<IntxCall>>,
    calls: Option<Vec<HostCall>>,
    claims: Option<u32>,
    field: Option<Vec<u8>>,
}

/// What was compared, what was expected, and what was seen.
type Difference = (&'static str, String, String);

impl Beside {
    pub(super) fn new(
        mut device: Box<dyn Device>,
        vectors: u16,
        choices: &Choices,
        shows: fn(Message) -> bool,
    ) -> Self {
        let sides = Side::all(vectors, choices, device.claims().is_some());
        let mut capability = [0; 12];
        device.read_config(0, &mut capability);
        let mut beside = Self {
            device,
            vectors,
            shows,
            sides,
            asked: Asked::default(),
            failing: BTreeSet::new(),
            capability,
            loading: false,
        };
        // What was sent, logged or asked for before the first operation.
        beside.collect(&mut Seen::default());
        if let Some(log) = beside.device.backend_log() {
            log.calls();
        }
        beside
    }

    /// Gives `operations` to both until they differ.
    pub(super) fn follow(&mut self, operations: &[Operation]) -> Option<Disagreement> {
        operations.iter().enumerate().find_map(|(at, operation)| {
            let (what, expected, got) = self.step(operation)?;
            Some(Disagreement { at, what, expected, got })
        })
    }

    fn step(&mut self, operation: &Operation) -> Option<Difference> {
        let operation = self.possible(operation)?;
        let seen = match caught(|| self.ask(&operation)) {
            Ok(Ok(seen)) => seen,
            Ok(Err(difference)) => return Some(difference),
            Err(panic) => return Some(("a panic", "none".into(), panic)),
        };
        if let Some(calls) = &seen.calls
            && let Err((what, got)) = self.asked.follow(calls)
        {
            return Some((what, "that".into(), got));
        }
        if let Some(log) = self.device.backend_log() {
            let calls = log.calls();
            if let Err((what, got)) = self.asked.follow_kernel(&operation, &calls) {
                return Some((what, "that".into(), got));
            }
        }
        let mut first = None;
        let mut sides = std::mem::take(&mut self.sides);
        sides.retain_mut(|side| {
            let expected = side.apply(&operation, &self.failing);
            let difference = self.difference(&operation, side, &expected, &seen);
            let agrees = difference.is_none();
            first = first.take().or(difference);
            agrees
        });
        self.sides = sides;
        if self.sides.is_empty() { first } else { None }
    }

    /// The operation, or what of it the device can be given now.
    fn possible(&self, operation: &Operation) -> Option<Operation> {
        match *operation {
            Operation::ReportHeld(set) => {
                let taken = |v: &Vector| self.sides.iter().all(|side| side.takes_signal(*v));
                let bits = set.iter().filter(taken).map(|v| 1_u64 << (v.index() % 64)).sum();
                (bits != 0).then(|| Operation::ReportHeld(Vectors::new(set.word(), bits)))
            }
            Operation::Resume if !self.loading => None,
            Operation::SaveAndLoadQemu if self.loading => None,
            _ => Some(*operation),
        }
    }

    /// Gives the operation to the device.
    fn ask(&mut self, operation: &Operation) -> Result<Seen, Difference> {
        let mut seen = Seen::default();
        let device = self.device.as_mut();
        let bytes = |len: u8, value: u64| value.to_le_bytes()[..usize::from(len)].to_vec();
        let mut read = |len: u8, read: &mut dyn FnMut(&mut [u8])| {
            let mut bytes = [0; 8];
            bytes[..usize::from(len)].fill(0x5a);
            read(&mut bytes[..usize::from(len)]);
            seen.read = Some(u64::from_le_bytes(bytes));
        };
        let about = |v: Vector| u32::from(v.index());
        let mut asked: Result<(), Refused> = Ok(());
        match *operation {
            Operation::WriteConfig { offset, len, value } => {
                device.write_config(usize::from(offset), &bytes(len, value));
            }
            Operation::ReadConfig { offset, len } => {
                read(len, &mut |bytes| device.read_config(usize::from(offset), bytes));
            }
            Operation::WriteTable { offset, len, value } => {
                device.write_table(u64::from(offset), &bytes(len, value));
            }
            Operation::ReadTable { offset, len } => {
                read(len, &mut |bytes| device.read_table(u64::from(offset), bytes));
            }
            Operation::ReadPba { offset, len } => {
                read(len, &mut |bytes| device.read_pba(u64::from(offset), bytes));
            }
            Operation::WritePba { offset, len } => {
                device.write_pba(u64::from(offset), &bytes(len, u64::MAX));
            }
            Operation::Notify(v) => asked = device.fire(about(v)),
            Operation::Withdraw(v) => {
                asked = offered(device.withdrawal())?.withdraw(about(v));
            }
            Operation::Claim(v) => asked = offered(device.claims())?.claim(about(v)),
            Operation::Unclaim(v) => asked = offered(device.claims())?.unclaim(about(v)),
            Operation::SetMask(v, masked) => {
                asked = offered(device.side_channel())?.set_mask(about(v), masked);
            }
            Operation::SetMessage(v, message) => {
                asked = offered(device.side_channel())?.set_message(about(v), message);
            }
            Operation::Attach => offered(device.attachment())?.attach(),
            Operation::Detach => offered(device.attachment())?.detach(),
            Operation::ReportFailed(set) => self.fail(set)?,
            Operation::ReportHeld(set) => {
                let script = offered(device.host_script())?;
                set.iter().for_each(|v| script.signal(v.index()));
            }
            Operation::SetBusMaster(on) => offered(device.bus_master())?.set_bus_master(on),
            Operation::Reset => {
                offered(device.function_reset())?.reset();
                self.loading = false;
            }
            Operation::SaveAndLoad => self.save_and_load()?,
            Operation::Resume => {
                offered(device.snapshots())?.resume();
                self.loading = false;
            }
            Operation::SaveAndLoadQemu => seen.field = Some(self.save_and_load_field()?),
            Operation::PrepareSave | Operation::PollPba { .. } | Operation::UnclaimAll => {}
        }
        seen.refused = asked.err().map(|Refused(why)| why);
        if let Operation::Claim(v) | Operation::Unclaim(v) = *operation {
            seen.claims = offered(self.device.claims())?.count(about(v)).ok();
        }
        self.collect(&mut seen);
        Ok(seen)
    }

    /// From now on the host arms the vectors of a word that are not in `set`, and no others.
    fn fail(&mut self, set: Vectors) -> Result<(), Difference> {
        let script = offered(self.device.host_script())?;
        for bit in 0..64 {
            let v = u32::from(set.word()) * 64 + bit;
            let Some(v) = u16::try_from(v).ok().filter(|v| *v < self.vectors) else { break };
            let fails = set.bits() >> bit & 1 != 0;
            script.fail_arm(v, fails);
            if fails {
                self.failing.insert(v)
            } else {
                self.failing.remove(&v)
            };
        }
        Ok(())
    }

    fn save_and_load(&mut self) -> Result<(), Difference> {
        let saved = offered(self.device.snapshots())?.save();
        // What is no snapshot changes nothing (C43).
        if let Some((_, short)) = saved.split_last() {
            let before = self.registers();
            let loaded = offered(self.device.snapshots())?.load(short).is_ok();
            if loaded || before != self.registers() {
                let got = if loaded { "it was loaded" } else { "refused, and registers changed" };
                let what = "a snapshot without its last byte (C43)";
                return Err((what, "refused, and nothing changed".into(), got.into()));
            }
        }
        let snapshots = offered(self.device.snapshots())?;
        snapshots.load(&saved).map_err(|Refused(why)| ("a load", "loaded".into(), why))?;
        self.loading = true;
        Ok(())
    }

    /// The capability and the table, which can be read without a call to the host.
    fn registers(&mut self) -> ([u8; 12], Vec<[u8; 4]>) {
        let mut capability = [0; 12];
        self.device.read_config(0, &mut capability);
        let dword = |at| {
            let mut bytes = [0; 4];
            self.device.read_table(4 * at, &mut bytes);
            bytes
        };
        (capability, (0..4 * u64::from(self.vectors)).map(dword).collect())
    }

    fn save_and_load_field(&mut self) -> Result<Vec<u8>, Difference> {
        let qemu = offered(self.device.qemu_field())?;
        let field = qemu.save_field();
        let mut control = [0; 2];
        self.device.read_config(2, &mut control);
        let qemu = offered(self.device.qemu_field())?;
        let loaded = qemu.load_field(u16::from_le_bytes(control), &field);
        loaded.map_err(|Refused(why)| ("a load of QEMU's field", "loaded".into(), why))?;
        qemu.resume_field();
        Ok(field)
    }

    /// Takes what the device logged since the last time.
    fn collect(&mut self, seen: &mut Seen) {
        let device = self.device.as_mut();
        seen.messages = device.messages();
        seen.intx = device.intx().map(|log| log.calls());
        seen.calls = device.host_log().map(|log| log.calls());
    }

    fn difference(
        &mut self,
        operation: &Operation,
        side: &Side,
        expected: &Expected,
        seen: &Seen,
    ) -> Option<Difference> {
        self.difference_of_answers(operation, expected, seen).or_else(|| {
            if !self.are_sent(expected, &seen.messages) {
                let due: Vec<Message> = expected.messages.iter().map(|due| due.either[0]).collect();
                return Some(("messages", listed(&due), listed(&seen.messages)));
            }
            if let Some(calls) = &seen.calls {
                if !self.asked.is_as_in(side) {
                    let got = shown(&self.asked.armed.0);
                    return Some(("vectors that the host delivers (I1)", shown(&side.armed), got));
                }
                let polled = polled(calls);
                let reads = matches!(operation, Operation::ReadPba { .. });
                if reads && polled != expected.polled {
                    let (due, got) = (format!("{:?}", expected.polled), format!("{polled:?}"));
                    return Some(("vectors polled (C36)", due, got));
                }
            }
            let intx = seen.intx.as_ref().filter(|calls| **calls != expected.intx)?;
            Some(("INTx", shown(&expected.intx), shown(intx)))
        })
    }

    fn difference_of_answers(
        &self,
        operation: &Operation,
        expected: &Expected,
        seen: &Seen,
    ) -> Option<Difference> {
        let outside = match *operation {
            Operation::Notify(v)
            | Operation::Withdraw(v)
            | Operation::Claim(v)
            | Operation::Unclaim(v)
            | Operation::SetMask(v, _)
            | Operation::SetMessage(v, _) => v.index() >= self.vectors,
            _ => false,
        };
        match (&seen.refused, outside) {
            (None, true) => return Some(("the call", "refused (C25)".into(), "accepted".into())),
            (Some(why), false) => return Some(("the call", "accepted".into(), why.clone())),
            _ => {}
        }
        if let (Some(due), Some(got)) = (expected.read, seen.read) {
            let due = self.with_own_bytes(operation, due);
            if due != got {
                return Some(("value read", format!("{due:#x}"), format!("{got:#x}")));
            }
        }
        if expected.claims.is_some() && expected.claims != seen.claims {
            return Some(("claims", shown(&expected.claims), shown(&seen.claims)));
        }
        let (Some(due), Some(got)) = (&expected.field, &seen.field) else { return None };
        let differ = due.iter().zip(got).position(|(due, got)| due != got);
        let at = differ.or((due.len() != got.len()).then_some(due.len().min(got.len())))?;
        let byte = |field: &[u8]| format!("{:x?} at byte {at:#x}", field.get(at));
        Some(("QEMU's field", byte(due), byte(got)))
    }

    /// The value of a read of the capability, with the link to the next one and the places of table and
    /// PBA as this device has them: they never change (A1).
    fn with_own_bytes(&self, operation: &Operation, value: u64) -> u64 {
        let Operation::ReadConfig { offset, len } = *operation else { return value };
        let mut bytes = value.to_le_bytes();
        for (at, byte) in (usize::from(offset)..).zip(&mut bytes[..usize::from(len)]) {
            if let (1 | 4.., Some(own)) = (at, self.capability.get(at)) {
                *byte = *own;
            }
        }
        u64::from_le_bytes(bytes)
    }

    /// Whether these messages were sent and no others, but for those that cannot be seen.
    fn are_sent(&mut self, expected: &Expected, seen: &[Message]) -> bool {
        let has_host = self.device.host_script().is_some();
        let shown = seen.iter().copied().filter(|message| (self.shows)(*message));
        let mut seen: VecDeque<Message> = shown.collect();
        let mut take = |due: &Due| {
            let most = if has_host && expected.in_any_order { seen.len() } else { 1 };
            let at = seen.iter().take(most).position(|message| due.either.contains(message));
            at.and_then(|at| seen.remove(at)).is_some()
        };
        for due in &expected.messages {
            let surely = due.either.iter().all(|message| (self.shows)(*message));
            if !take(due) && surely {
                return false;
            }
        }
        for due in expected.messages.iter().filter(|due| has_host && due.perhaps_twice) {
            take(due);
        }
        seen.is_empty()
    }
}

fn offered<T: ?Sized>(group: Option<&mut T>) -> Result<&mut T, Difference> {
    group.ok_or_else(|| ("a group", "offered as before".into(), "no longer offered".into()))
}

fn listed(messages: &[Message]) -> String {
    let one = |m: &Message| format!("{:#x} <- {:#x}", m.address, m.data);
    if messages.is_empty() {
        "none".into()
    } else {
        messages.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}
