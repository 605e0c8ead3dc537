//! What is tried in every state without leaving it: inputs that must be refused, snapshots that
//! are no snapshots, reads of every width, and whether everything that waits gets delivered.

use super::alphabet::Event;
use super::host::Failure;
use super::node::Node;
use super::property::{Found, Property, must};
use super::refusals;
use super::transition::step_to;
use super::way::Way;
use super::world::MsixWorld;
use msix_core::operation::Operation;
use msix_core::{Storage, Vector, Vectors};

/// Tries everything in state `node`. What does not hold comes with the steps from there that show it.
pub(crate) fn check<S: Storage + Clone>(world: &MsixWorld<S>, node: &Node<S>) -> Result<(), Way> {
    let msix = node.engine.msix();
    must(msix.check().is_ok(), Property::Engine, || format!("{:?}", msix.check()))?;
    idle(world, node)?;
    reads(world, node)?;
    refusals::check(world, node)?;
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
        must(entry == [0, 0, 0, 1] && claims == Some(0), Property::Idle, || {
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
        let qwords = [0, 8].map(|field| {
            let mut bytes = [0; 8];
            let _ = msix.read_table(offset + field, &mut bytes);
            u64::from_le_bytes(bytes)
        });
        let rest = u64::from(entry.data) | u64::from(entry.control) << 32;
        must(qwords == [entry.address, rest], Property::Registers, || {
            format!("vector {v} reads {qwords:x?} by QWORDs")
        })?;
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

/// From here the guest unmasks everything, the platform resumes and the host answers: whatever was
/// pending, held or under way is then delivered, and nothing is left.
fn delivered<S: Storage + Clone>(world: &MsixWorld<S>, start: &Node<S>) -> Result<(), Way> {
    let (mut node, mut next) = (start.clone(), start.clone());
    let mut steps = Vec::new();
    let mut got = 0;
    let mut waiting = 0;
    for (index, line) in start.host.lines.iter().enumerate() {
        let waits = line.held || line.answer || start.registers.entries[index].pending;
        waiting |= u8::from(waits) << index;
    }
    for event in closing(world, start) {
        let Some(result) = step_to(&mut next, world, &node, event, 0) else { continue };
        steps.push((event, 0));
        match result {
            Ok(done) => {
                got |= done.sent | done.delivered;
                std::mem::swap(&mut node, &mut next);
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
