//! One step of the engine and the host around it.

use super::alphabet::Event;
use super::engine::{Input, List};
use super::host::{Done, Failure, Host};
use super::node::Node;
use super::property::Found;
use super::registers::Registers;
use super::step_checks::{self, Step};
use super::world::MsixWorld;
use msix_core::operation::Operation;
use msix_core::{Storage, Vectors};
use std::ops::ControlFlow;

/// A step: the event with this number in the world's alphabet, and which of the Arms and Reroutes that
/// it brings about fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) event: u16,
    pub(crate) fail: u8,
}

/// What `event` gives the engine in `host`, and what the host does first; `None` when it cannot
/// happen.
pub(crate) fn begin<'a, S: Storage + Clone>(
    world: &'a MsixWorld<S>,
    registers: &Registers,
    host: &mut Host,
    event: Event,
) -> Option<Option<Input<'a>>> {
    let vector = |index: usize| world.at.get(index).copied();
    let operation = match event {
        Event::Input(Operation::Claim(v)) => {
            let index = world.at.iter().position(|at| *at == v)?;
            if registers.entries[index].claims >= MOST_CLAIMS {
                return None;
            }
            Operation::Claim(v)
        }
        Event::Input(operation) => operation,
        Event::Load(which) => return world.snapshots.get(which).map(|s| Some(Input::Load(s))),
        Event::Hold(index) => {
            let line = &mut host.lines[index];
            if !host.attached || line.delivers() || line.held {
                return None;
            }
            line.held = true;
            return Some(None);
        }
        Event::Take(index) => {
            let line = &mut host.lines[index];
            if line.failure != Failure::Reported || !line.held {
                return None;
            }
            line.held = false;
            Operation::Notify(vector(index)?)
        }
        Event::Answer(index) => {
            if !std::mem::take(&mut host.lines[index].answer) {
                return None;
            }
            Operation::ReportHeld(Vectors::one(vector(index)?))
        }
        Event::AnswerAll => {
            let due = |index: &usize| host.lines[*index].answer;
            let first = (0..world.at.len()).find(due)?;
            let word = world.at[first].index() / 64;
            let all: Vec<usize> = (0..world.at.len())
                .filter(due)
                .filter(|index| world.at[*index].index() / 64 == word)
                .collect();
            if all.len() < 2 {
                return None;
            }
            let mut bits = 0;
            for index in all {
                host.lines[index].answer = false;
                bits |= Vectors::one(world.at[index]).bits();
            }
            Operation::ReportHeld(Vectors::new(word, bits))
        }
        Event::Report(index) => {
            let line = &mut host.lines[index];
            if line.failure != Failure::Unreported {
                return None;
            }
            line.failure = Failure::Reported;
            Operation::ReportFailed(Vectors::one(vector(index)?))
        }
    };
    Some(Some(Input::Operation(operation)))
}

/// Lets `event` happen; the Arms and Reroutes of `fail` fail. `None` when it cannot happen.
pub(crate) fn step<S: Storage + Clone>(
    world: &MsixWorld<S>,
    before: &Node<S>,
    event: Event,
    fail: u8,
) -> Option<Result<Node<S>, Found>> {
    let mut node = before.clone();
    let done = step_to(&mut node, world, before, event, fail)?;
    Some(done.map(|_| node))
}

/// As [`step`], over what `node` was, with what the host did.
pub(crate) fn step_to<S: Storage + Clone>(
    node: &mut Node<S>,
    world: &MsixWorld<S>,
    before: &Node<S>,
    event: Event,
    fail: u8,
) -> Option<Result<Done, Found>> {
    let mut host = before.host;
    let input = begin(world, &before.registers, &mut host, event)?;
    node.engine.become_as(&before.engine);
    (node.host, node.registers) = (host, before.registers);
    Some(match input {
        Some(input) => give(world, before, node, input, fail),
        None => Ok(Done::default()),
    })
}

/// Takes every step that is possible in `before`: each event without a failure, then with every set of
/// the failures that it could have. The state that a step leads to is lent: a state is larger than all
/// else, and most were met before.
pub(crate) fn steps<S: Storage + Clone>(
    world: &MsixWorld<S>,
    before: &Node<S>,
    mut taken: impl FnMut(Move, Result<&Node<S>, Found>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut node = before.clone();
    for (event, number) in world.events.iter().zip(0..) {
        let (mut fail, mut could_fail) = (0, 0);
        while let Some(result) = step_to(&mut node, world, before, *event, fail) {
            if fail == 0 {
                could_fail = result.as_ref().map_or(0, |done| done.could_fail);
            }
            taken(Move { event: number, fail }, result.map(|_| &node))?;
            // The next subset of what could fail.
            fail = fail.wrapping_sub(could_fail) & could_fail;
            if fail == 0 {
                break;
            }
        }
    }
    ControlFlow::Continue(())
}

fn give<S: Storage + Clone>(
    world: &MsixWorld<S>,
    before: &Node<S>,
    node: &mut Node<S>,
    input: Input<'_>,
    fail: u8,
) -> Result<Done, Found> {
    let mut fx = List::new();
    let answer = node.engine.input(input, &mut fx);
    match input {
        Input::Operation(Operation::Attach) => node.host.attached = true,
        Input::Operation(Operation::Detach) => node.host.attached = false,
        Input::Operation(Operation::SetBusMaster(on)) => node.host.bus_master = on,
        Input::Operation(Operation::Resume | Operation::Reset) => node.host.loading = false,
        Input::Operation(Operation::SaveAndLoad | Operation::SaveAndLoadQemu) | Input::Load(_) => {
            node.host.loading = true;
            node.host.lines.iter_mut().for_each(|line| line.rewriting = false);
        }
        Input::Operation(_) => {}
    }
    let mut done = Done::default();
    node.host.carry_out(world, &node.engine, &mut fx, fail, &mut done)?;
    node.registers = node.engine.registers(&world.at);
    if !node.host.loading {
        node.host.intx_told = node.registers.enabled;
    }
    let step = Step { world, before, input, answer, done: &done };
    step.rewrites(node);
    step_checks::check(&step, node)?;
    Ok(done)
}

/// Claims of a vector that are distinguished: none, the last one, and one that is not the last.
const MOST_CLAIMS: u16 = 2;
