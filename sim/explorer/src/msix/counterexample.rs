//! A way through the state space as a script: the engine's inputs as lines, what the host did as
//! comments.

use super::alphabet::Event;
use super::engine::Input;
use super::node::Node;
use super::transition::{begin, step};
use super::way::Way;
use super::world::MsixWorld;
use crate::script::ScriptInput as _;
use msix_core::Storage;
use msix_core::operation::Operation;
use std::fmt::Write as _;

/// Writes the script of `way`.
pub(crate) fn script<S: Storage + Clone>(world: &MsixWorld<S>, policy: &str, way: &Way) -> String {
    let mut text = format!("msix-script 1\nvectors {}\npolicy {policy}\n", world.vectors());
    // Writing to a String does not fail.
    let found = &way.found;
    let _ = writeln!(text, "# violated: {} ({})", found.property, found.property.text());
    let mut node = Node::start(world);
    for (event, fail) in &way.steps {
        write_step(&mut text, world, &node, *event, *fail);
        if let Some(Ok(next)) = step(world, &node, *event, *fail) {
            node = next;
        }
    }
    if let Some(tried) = &way.tried {
        let _ = writeln!(text, "# {tried}");
    }
    let _ = writeln!(text, "# {}", found.detail);
    text
}

fn write_step<S: Storage + Clone>(
    text: &mut String,
    world: &MsixWorld<S>,
    node: &Node<S>,
    event: Event,
    fail: u8,
) {
    let _ = match event {
        Event::Input(operation) => write_fields(text, operation),
        event => writeln!(text, "# {}", name(world, event, 0)),
    };
    let mut host = node.host;
    if let Some(Some(Input::Operation(operation))) = begin(world, &node.registers, &mut host, event)
    {
        let _ = writeln!(text, "{}", operation.line());
    }
    for (index, v) in world.at.iter().enumerate() {
        if fail >> index & 1 != 0 {
            let _ = writeln!(text, "# the host fails to arm {v}");
        }
    }
}

/// An event in a few words.
pub(crate) fn name<S: Storage + Clone>(world: &MsixWorld<S>, event: Event, fail: u8) -> String {
    let vector = |index: usize| world.at.get(index).map_or(0, |v| v.index());
    let mut text = match event {
        Event::Input(operation) => operation.line(),
        Event::Load(which) => world
            .snapshots
            .get(which)
            .map_or(String::new(), |snapshot| format!("load a snapshot of {}", snapshot.name)),
        Event::Hold(index) => format!("the host holds an event of {}", vector(index)),
        Event::Take(index) => format!("userspace takes the event held for {}", vector(index)),
        Event::Answer(index) => format!("the host answers the Poll of {}", vector(index)),
        Event::AnswerAll => "the host answers all Polls".to_owned(),
        Event::Report(index) => format!("the host says that {} failed", vector(index)),
    };
    for index in (0..world.at.len()).filter(|index| fail >> index & 1 != 0) {
        let _ = write!(text, "; the host fails to arm {}", vector(index));
    }
    text
}

/// Names what a register write means.
fn write_fields(text: &mut String, operation: Operation) -> std::fmt::Result {
    match operation {
        Operation::WriteConfig { value, .. } => {
            let enable = if value & 0x8000 != 0 { "enabled" } else { "disabled" };
            let mask = if value & 0x4000 != 0 { ", function masked" } else { "" };
            writeln!(text, "# MSI-X {enable}{mask}")
        }
        Operation::WriteTable { offset, len, value } => {
            let (v, mask) = (offset / 16, if len == 8 { value >> 32 } else { value } & 1);
            let what = match (offset % 16, len) {
                (0, 8) => "the address",
                (0, _) => "the low address",
                (4, _) => "the high address",
                (8, 4) => "the data",
                _ if mask != 0 => "the mask, set,",
                _ => "the mask, clear,",
            };
            writeln!(text, "# {what} of {v}")
        }
        _ => Ok(()),
    }
}
