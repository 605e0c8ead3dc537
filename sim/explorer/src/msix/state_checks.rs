//! What is tried in every state without leaving it: inputs that must be refused, snapshots that
//! are no snapshots, reads of every width, and whether everything that waits gets delivered.

use super::host::Failure;
use super::property::{Found, Property, must};
use super::subject::{Input, List};
use super::transition::{Node, step};
use super::world::{Event, Setup};
use msix_core::operation::{Answer, Operation};
use msix_core::policy::TableAccess;
use msix_core::{Access, Effect, EffectSink, Storage, Vector, Vectors};

/// A property that does not hold in a state, and the steps from there that show it.
#[derive(Debug)]
pub(crate) struct Probed {
    pub(crate) found: Found,
    pub(crate) steps: Vec<(Event, u8)>,
    /// What was tried last, when that is no step.
    pub(crate) tried: Option<String>,
}

impl From<Found> for Probed {
    fn from(found: Found) -> Self {
        Self { found, steps: Vec::new(), tried: None }
    }
}

/// Tries everything in state `node`.
pub(crate) fn check<S: Storage + Clone>(setup: &Setup<S>, node: &Node<S>) -> Result<(), Probed> {
    let engine = node.subject.engine();
    must(engine.check().is_ok(), Property::Engine, || format!("{:?}", engine.check()))?;
    idle(setup, node)?;
    reads(setup, node)?;
    refused(setup, node)?;
    delivered(setup, node)
}

/// The vectors that nobody touches.
fn idle<S: Storage + Clone>(setup: &Setup<S>, node: &Node<S>) -> Result<(), Found> {
    let ours = |word: u16| {
        let of_word = setup.at.iter().map(|v| Vectors::one(*v)).filter(|one| one.word() == word);
        of_word.fold(0, |bits, one| bits | one.bits())
    };
    for word in 0..setup.vectors().div_ceil(64) {
        let foreign = node.subject.pba(word) & !ours(word);
        must(foreign == 0, Property::Idle, || format!("pending in word {word}: {foreign:#x}"))?;
    }
    for v in (0..setup.vectors()).map(Vector::new).filter(|v| !setup.at.contains(v)) {
        let entry = node.subject.entry(v);
        let uses = node.subject.engine().claims(v);
        must(entry == [0, 1 << 32] && uses == Some(0), Property::Idle, || {
            format!("vector {v} has entry {entry:x?} and {uses:?} uses")
        })?;
    }
    Ok(())
}

/// Reads of every width agree with those that the registers were taken from (A1, A3, A5).
fn reads<S: Storage + Clone>(setup: &Setup<S>, node: &Node<S>) -> Result<(), Found> {
    let engine = node.subject.engine();
    for (v, entry) in setup.at.iter().zip(&node.registers.entries) {
        let offset = u64::from(v.index()) * 16;
        let dwords = [0, 4, 8, 12].map(|field| {
            let mut bytes = [0; 4];
            let _ = engine.read_table(offset + field, &mut bytes);
            u64::from(u32::from_le_bytes(bytes))
        });
        let address = dwords[0] | dwords[1] << 32;
        let same = address == entry.address
            && (dwords[2], dwords[3]) == (entry.data.into(), entry.control.into());
        must(same, Property::Registers, || format!("vector {v} reads {dwords:x?} by DWORDs"))?;
        let mut bytes = [0; 4];
        let _ = engine.read_pba(u64::from(v.index()) / 32 * 4, &mut bytes);
        let bit = u32::from_le_bytes(bytes) >> (v.index() % 32) & 1 != 0;
        must(bit == entry.pending, Property::Registers, || {
            format!("vector {v} reads {bit} in a DWORD of the PBA")
        })?;
    }
    let mut bytes = [0; 12];
    engine.read_config(0, &mut bytes);
    let size = u16::from_le_bytes([bytes[2], bytes[3]]) & 0x3fff;
    must(bytes[0] == 0x11 && size == setup.vectors() - 1, Property::Registers, || {
        format!("the capability reads {bytes:x?}")
    })
}

/// Inputs that must change nothing and emit nothing (I7).
fn refused<S: Storage + Clone>(setup: &Setup<S>, node: &Node<S>) -> Result<(), Probed> {
    let mut subject = node.subject.clone();
    let inputs = refusable(setup, node);
    let mut last = 0;
    for (index, operation) in inputs.iter().enumerate() {
        let mut fx = List::new();
        let answer = subject.input(Input::Operation(*operation), &mut fx);
        last = index;
        if !fx.is_empty() || matches!(answer, Answer::Written(Access::Done)) {
            break;
        }
    }
    if last + 1 != inputs.len() || subject != node.subject {
        // Which one it was is found by trying each alone.
        for operation in inputs {
            let mut subject = node.subject.clone();
            let mut fx = List::new();
            let answer = subject.input(Input::Operation(operation), &mut fx);
            if !fx.is_empty()
                || matches!(answer, Answer::Written(Access::Done))
                || subject != node.subject
            {
                let detail = "an input that must be ignored is not".to_owned();
                let found = Found { property: Property::Refused, detail };
                let steps = vec![(Event::Input(operation), 0)];
                return Err(Probed { found, steps, tried: None });
            }
        }
    }
    let mut full = List::new();
    full.push(Effect::IntxDeassert);
    for event in setup.events.iter().take(BUSY) {
        if let Event::Input(operation) = event {
            subject.input(Input::Operation(*operation), &mut full);
        }
    }
    must(full.iter().count() == 1 && subject == node.subject, Property::Refused, || {
        "an input was carried out although the list of the last one was not".to_owned()
    })?;
    for (name, control, bytes) in broken(setup) {
        let loaded = match control {
            None => subject.load_native(&bytes),
            Some(control) => subject.load_qemu(control, &bytes),
        };
        if loaded || subject != node.subject {
            let detail = format!("a load of {name} is taken or changes something");
            let found = Found { property: Property::Refused, detail };
            return Err(Probed { found, steps: Vec::new(), tried: Some(format!("load {name}")) });
        }
    }
    Ok(())
}

/// How many inputs are tried with a list that is not carried out.
const BUSY: usize = 8;

fn refusable<S: Storage + Clone>(setup: &Setup<S>, node: &Node<S>) -> Vec<Operation> {
    let n = setup.vectors();
    let past = Vector::new(n);
    let mut inputs = vec![
        Operation::WriteConfig { offset: 0, len: 3, value: u64::MAX },
        Operation::WriteConfig { offset: 4, len: 8, value: u64::MAX },
        Operation::WriteConfig { offset: 12, len: 4, value: u64::MAX },
        Operation::WriteTable { offset: n * 16, len: 4, value: u64::MAX },
        Operation::WritePba { offset: 0, len: 8 },
        Operation::Notify(past),
        Operation::Withdraw(past),
        Operation::Claim(past),
        Operation::Unclaim(past),
        Operation::SetMask(past, false),
        Operation::SetMessage(past, super::world::OTHER),
        Operation::ReportHeld(Vectors::new(n.div_ceil(64), u64::MAX)),
        Operation::ReportFailed(Vectors::new(n.div_ceil(64), u64::MAX)),
    ];
    for (index, v) in setup.at.iter().enumerate() {
        let entry = v.index() * 16;
        for (offset, len) in [(0, 1), (8, 2), (12, 1), (13, 2), (10, 4)] {
            inputs.push(Operation::WriteTable { offset: entry + offset, len, value: u64::MAX });
        }
        if setup.policy.table_access == TableAccess::Aligned {
            for (offset, len) in [(4, 8), (11, 8), (9, 7)] {
                inputs.push(Operation::WriteTable { offset: entry + offset, len, value: u64::MAX });
            }
        }
        let line = &node.host.lines[index];
        if !line.told {
            inputs.push(Operation::ReportFailed(Vectors::one(*v))); // too late: released by now
        }
        if node.registers.entries[index].uses == 0 && !setup.policy.drain {
            inputs.push(Operation::Unclaim(*v));
        }
    }
    inputs
}

/// Bytes that are no snapshot, with Message Control for those in QEMU's encoding.
fn broken<S: Storage + Clone>(setup: &Setup<S>) -> Vec<(&'static str, Option<u16>, Vec<u8>)> {
    let [_, native, qemu] = setup.snapshots.as_slice() else { return Vec::new() };
    let mut flipped = native.bytes().to_vec();
    if let Some(byte) = flipped.get_mut(12) {
        *byte ^= 1;
    }
    let short = |bytes: &[u8]| bytes.get(1..).unwrap_or_default().to_vec();
    let control = setup.vectors() - 1;
    vec![
        ("a snapshot with a wrong checksum", None, flipped),
        ("a snapshot cut short", None, short(native.bytes())),
        ("a QEMU field cut short", Some(control), short(qemu.bytes())),
        ("a QEMU field with a reserved control bit", Some(control | 0x800), qemu.bytes().to_vec()),
        ("a QEMU field of another size", Some(control ^ 1), qemu.bytes().to_vec()),
    ]
}

/// From here the guest unmasks everything, the platform resumes and the host answers: whatever was
/// pending, held or under way is then delivered, and nothing is left.
fn delivered<S: Storage + Clone>(setup: &Setup<S>, start: &Node<S>) -> Result<(), Probed> {
    let mut node = start.clone();
    let mut steps = Vec::new();
    let mut got = 0;
    let mut waiting = 0;
    for (index, line) in start.host.lines.iter().enumerate() {
        let waits = line.held || line.answer || start.registers.entries[index].pending;
        waiting |= u8::from(waits) << index;
    }
    for event in closing(setup, start) {
        let Some(result) = step(setup, &node, event, 0) else { continue };
        steps.push((event, 0));
        match result {
            Ok(stepped) => {
                got |= stepped.done.sent | stepped.done.delivered;
                node = stepped.node;
            }
            Err(_) => return Ok(()), // the search takes this step too, and a shorter way to it
        }
    }
    let mut left = 0;
    for (index, line) in node.host.lines.iter().enumerate() {
        let waits = line.held || line.answer || node.registers.entries[index].pending;
        left |= u8::from(waits) << index;
    }
    must(left == 0 && waiting & !got == 0, Property::Delivered, || {
        format!("{waiting:#b} of the vectors had events, {got:#b} got a message, {left:#b} wait")
    })
    .map_err(|found| Probed { found, steps, tried: None })
}

/// What the guest and the host do when they behave.
fn closing<S: Storage + Clone>(setup: &Setup<S>, start: &Node<S>) -> Vec<Event> {
    let input = Event::Input;
    let count = setup.at.len();
    let mut events = vec![input(Operation::SetBusMaster(true))];
    for (index, v) in setup.at.iter().enumerate() {
        if start.registers.entries[index].uses == 0 {
            events.push(input(Operation::Claim(*v)));
        }
        if start.host.lines[index].failure == Failure::Unreported {
            events.push(Event::Report(index));
        }
    }
    events.extend([input(Operation::Resume), input(Operation::Attach)]);
    events.extend((0..count).map(Event::Answer));
    events.push(input(Operation::WriteConfig { offset: 2, len: 2, value: 0x8000 }));
    for v in &setup.at {
        let offset = v.index() * 16 + 12;
        events.push(input(Operation::WriteTable { offset, len: 4, value: 0 }));
    }
    events.extend((0..count).map(Event::Take));
    events
}
