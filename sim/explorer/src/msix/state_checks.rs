//! What is tried in every state without leaving it: inputs that must be refused, snapshots that
//! are no snapshots, reads of every width, and whether everything that waits gets delivered.

use super::alphabet::Event;
use super::engine::{Input, List};
use super::host::Failure;
use super::node::Node;
use super::property::{Found, Property, must};
use super::transition::step;
use super::way::Way;
use super::world::MsixWorld;
use msix_core::operation::{Answer, Operation};
use msix_core::policy::TableAccess;
use msix_core::{Access, Effect, EffectSink, Storage, Vector, Vectors};

/// Tries everything in state `node`. What does not hold comes with the steps from there that show it.
pub(crate) fn check<S: Storage + Clone>(world: &MsixWorld<S>, node: &Node<S>) -> Result<(), Way> {
    let msix = node.engine.msix();
    must(msix.check().is_ok(), Property::Engine, || format!("{:?}", msix.check()))?;
    idle(world, node)?;
    reads(world, node)?;
    refused(world, node)?;
    delivered(world, node)
}

/// The vectors that nobody touches.
fn idle<S: Storage + Clone>(world: &MsixWorld<S>, node: &Node<S>) -> Result<(), Found> {
    let ours = |word: u16| {
        let of_word = world.at.iter().map(|v| Vectors::one(*v)).filter(|one| one.word() == word);
        of_word.fold(0, |bits, one| bits | one.bits())
    };
    for word in 0..world.vectors().div_ceil(64) {
        let foreign = node.engine.pba(word) & !ours(word);
        must(foreign == 0, Property::Idle, || format!("pending in word {word}: {foreign:#x}"))?;
    }
    for v in (0..world.vectors()).map(Vector::new).filter(|v| !world.at.contains(v)) {
        let entry = node.engine.entry(v);
        let claims = node.engine.msix().claims(v);
        must(entry == [0, 1 << 32] && claims == Some(0), Property::Idle, || {
            format!("vector {v} has entry {entry:x?} and {claims:?} claims")
        })?;
    }
    Ok(())
}

/// Reads of every width agree with those that the registers were taken from (A1, A3, A5).
fn reads<S: Storage + Clone>(world: &MsixWorld<S>, node: &Node<S>) -> Result<(), Found> {
    let msix = node.engine.msix();
    for (v, entry) in world.at.iter().zip(&node.registers.entries) {
        let offset = u64::from(v.index()) * 16;
        let dwords = [0, 4, 8, 12].map(|field| {
            let mut bytes = [0; 4];
            let _ = msix.read_table(offset + field, &mut bytes);
            u64::from(u32::from_le_bytes(bytes))
        });
        let address = dwords[0] | dwords[1] << 32;
        let same = address == entry.address
            && (dwords[2], dwords[3]) == (entry.data.into(), entry.control.into());
        must(same, Property::Registers, || format!("vector {v} reads {dwords:x?} by DWORDs"))?;
        let mut bytes = [0; 4];
        let _ = msix.read_pba(u64::from(v.index()) / 32 * 4, &mut bytes);
        let bit = u32::from_le_bytes(bytes) >> (v.index() % 32) & 1 != 0;
        must(bit == entry.pending, Property::Registers, || {
            format!("vector {v} reads {bit} in a DWORD of the PBA")
        })?;
    }
    let mut bytes = [0; 12];
    msix.read_config(0, &mut bytes);
    let size = u16::from_le_bytes([bytes[2], bytes[3]]) & 0x3fff;
    must(bytes[0] == 0x11 && size == world.vectors() - 1, Property::Registers, || {
        format!("the capability reads {bytes:x?}")
    })
}

/// Inputs that must change nothing and emit nothing (I7).
fn refused<S: Storage + Clone>(world: &MsixWorld<S>, node: &Node<S>) -> Result<(), Way> {
    let mut engine = node.engine.clone();
    let inputs = refusable(world, node);
    let mut last = 0;
    for (index, operation) in inputs.iter().enumerate() {
        let mut fx = List::new();
        let answer = engine.input(Input::Operation(*operation), &mut fx);
        last = index;
        if !fx.is_empty() || matches!(answer, Answer::Written(Access::Done)) {
            break;
        }
    }
    if last + 1 != inputs.len() || engine != node.engine {
        // Which one it was is found by trying each alone.
        for operation in inputs {
            let mut engine = node.engine.clone();
            let mut fx = List::new();
            let answer = engine.input(Input::Operation(operation), &mut fx);
            if !fx.is_empty()
                || matches!(answer, Answer::Written(Access::Done))
                || engine != node.engine
            {
                let detail = "an input that must be ignored is not".to_owned();
                let found = Found { property: Property::Refused, detail };
                let steps = vec![(Event::Input(operation), 0)];
                return Err(Way { found, steps, tried: None });
            }
        }
    }
    let mut full = List::new();
    full.push(Effect::IntxDeassert);
    for event in world.events.iter().take(BUSY) {
        if let Event::Input(operation) = event {
            engine.input(Input::Operation(*operation), &mut full);
        }
    }
    must(full.iter().count() == 1 && engine == node.engine, Property::Refused, || {
        "an input was carried out although the list of the last one was not".to_owned()
    })?;
    for (name, control, bytes) in broken(world) {
        let loaded = match control {
            None => engine.load_native(&bytes),
            Some(control) => engine.load_qemu(control, &bytes),
        };
        if loaded || engine != node.engine {
            let detail = format!("a load of {name} is taken or changes something");
            let found = Found { property: Property::Refused, detail };
            return Err(Way { found, steps: Vec::new(), tried: Some(format!("load {name}")) });
        }
    }
    Ok(())
}

/// How many inputs are tried with a list that is not carried out.
const BUSY: usize = 8;

fn refusable<S: Storage + Clone>(world: &MsixWorld<S>, node: &Node<S>) -> Vec<Operation> {
    let n = world.vectors();
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
        Operation::SetMessage(past, super::alphabet::OTHER),
        Operation::ReportHeld(Vectors::new(n.div_ceil(64), u64::MAX)),
        Operation::ReportFailed(Vectors::new(n.div_ceil(64), u64::MAX)),
    ];
    for (index, v) in world.at.iter().enumerate() {
        let entry = v.index() * 16;
        for (offset, len) in [(0, 1), (8, 2), (12, 1), (13, 2), (10, 4)] {
            inputs.push(Operation::WriteTable { offset: entry + offset, len, value: u64::MAX });
        }
        if world.policy.table_access == TableAccess::Aligned {
            for (offset, len) in [(4, 8), (11, 8), (9, 7)] {
                inputs.push(Operation::WriteTable { offset: entry + offset, len, value: u64::MAX });
            }
        }
        let line = &node.host.lines[index];
        if !line.armed {
            inputs.push(Operation::ReportFailed(Vectors::one(*v))); // too late: disarmed by now
        }
        if node.registers.entries[index].claims == 0 && !world.policy.drain {
            inputs.push(Operation::Unclaim(*v));
        }
    }
    inputs
}

/// Bytes that are no snapshot, with Message Control for those in QEMU's encoding.
fn broken<S: Storage + Clone>(world: &MsixWorld<S>) -> Vec<(&'static str, Option<u16>, Vec<u8>)> {
    let [_, native, qemu] = world.snapshots.as_slice() else { return Vec::new() };
    let mut flipped = native.bytes().to_vec();
    if let Some(byte) = flipped.get_mut(12) {
        *byte ^= 1;
    }
    let short = |bytes: &[u8]| bytes.get(1..).unwrap_or_default().to_vec();
    let control = world.vectors() - 1;
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
fn delivered<S: Storage + Clone>(world: &MsixWorld<S>, start: &Node<S>) -> Result<(), Way> {
    let mut node = start.clone();
    let mut steps = Vec::new();
    let mut got = 0;
    let mut waiting = 0;
    for (index, line) in start.host.lines.iter().enumerate() {
        let waits = line.held || line.answer || start.registers.entries[index].pending;
        waiting |= u8::from(waits) << index;
    }
    for event in closing(world, start) {
        let Some(result) = step(world, &node, event, 0) else { continue };
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
    .map_err(|found| Way { found, steps, tried: None })
}

/// What the guest and the host do when they behave.
fn closing<S: Storage + Clone>(world: &MsixWorld<S>, start: &Node<S>) -> Vec<Event> {
    let input = Event::Input;
    let count = world.at.len();
    let mut events = vec![input(Operation::SetBusMaster(true))];
    for (index, v) in world.at.iter().enumerate() {
        if start.registers.entries[index].claims == 0 {
            events.push(input(Operation::Claim(*v)));
        }
        if start.host.lines[index].failure == Failure::Unreported {
            events.push(Event::Report(index));
        }
    }
    events.extend([input(Operation::Resume), input(Operation::Attach)]);
    events.extend((0..count).map(Event::Answer));
    events.push(input(Operation::WriteConfig { offset: 2, len: 2, value: 0x8000 }));
    for v in &world.at {
        let offset = v.index() * 16 + 12;
        events.push(input(Operation::WriteTable { offset, len: 4, value: 0 }));
    }
    events.extend((0..count).map(Event::Take));
    events
}
