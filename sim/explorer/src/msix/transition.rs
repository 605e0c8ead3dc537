//! One step of the engine and the host around it.

use super::host::{Done, Failure, Host};
use super::property::Found;
use super::registers::Registers;
use super::step_checks::{self, Step};
use super::subject::{Input, List, Subject};
use super::world::{Event, Setup};
use msix_core::operation::Operation;
use msix_core::{Storage, Vectors};

/// A state: the engine, the host, and what the guest would read.
#[derive(Debug, Clone)]
pub(crate) struct Node<S> {
    pub(crate) subject: Subject<S>,
    pub(crate) host: Host,
    pub(crate) registers: Registers,
}

impl<S: Storage + Clone> Node<S> {
    pub(crate) fn start(setup: &Setup<S>) -> Self {
        let subject = setup.start.clone();
        let registers = Registers::read(&setup.at, &subject);
        Self { subject, host: Host::START, registers }
    }

    /// The state as a number: equal numbers, same future. 13 bits a vector, 5 of the function, and
    /// what a seeded defect remembers.
    ///
    /// Of the messages only counts whether the host was told another address low, address high or
    /// data than the table holds: the engine compares messages and never looks into them, so
    /// exchanging the two values of a dword everywhere changes nothing else. After a load even
    /// that is forgotten, because the resume, as well as a reset, tells everything anew (H15).
    pub(crate) fn key(&self, setup: &Setup<S>) -> u64 {
        let mut parts = [0_u64; super::MOST];
        let lines = self.host.lines.iter().zip(&self.registers.entries);
        for (part, (line, entry)) in parts.iter_mut().zip(lines).take(setup.at.len()) {
            let mut bits = Bits(0);
            bits.push(1, entry.masked().into());
            bits.push(1, entry.pending.into());
            bits.push(2, entry.uses.into());
            bits.push(1, line.told.into());
            bits.push(2, line.failure as u64);
            bits.push(1, line.held.into());
            bits.push(1, line.answer.into());
            let (old, new) = (line.message, entry.message(&setup.policy));
            let address =
                if line.told && !self.host.loading { old.address ^ new.address } else { 0 };
            bits.push(1, (address & 0xffff_ffff != 0).into());
            bits.push(1, (address >> 32 != 0).into());
            bits.push(1, (line.told && !self.host.loading && old.data != new.data).into());
            bits.push(1, (line.rewriting && !self.host.loading).into());
            *part = bits.0;
        }
        if setup.symmetry {
            parts.sort_unstable();
        }
        let mut bits = Bits(0);
        parts.iter().for_each(|part| bits.push(13, *part));
        for flag in [
            self.registers.enabled,
            self.registers.function_masked,
            self.host.attached,
            self.host.bus_master,
            self.host.loading,
        ] {
            bits.push(1, flag.into());
        }
        bits.push(16, self.subject.memory.into());
        bits.0
    }
}

struct Bits(u64);

impl Bits {
    fn push(&mut self, width: u32, value: u64) {
        debug_assert!(value >> width == 0, "{value} has more than {width} bits");
        self.0 = self.0 << width | value;
    }
}

/// What a step led to.
#[derive(Debug)]
pub(crate) struct Stepped<S> {
    pub(crate) node: Node<S>,
    pub(crate) done: Done,
}

/// What `event` gives the engine in `host`, and what the host does first; `None` when it cannot
/// happen.
pub(crate) fn begin<'a, S: Storage + Clone>(
    setup: &'a Setup<S>,
    node: &mut Node<S>,
    event: Event,
) -> Option<Option<Input<'a>>> {
    let vector = |index: usize| setup.at.get(index).copied();
    let host = &mut node.host;
    let operation = match event {
        Event::Input(Operation::Claim(v)) => {
            let index = setup.at.iter().position(|at| *at == v)?;
            if node.registers.entries[index].uses >= MOST_USES {
                return None;
            }
            Operation::Claim(v)
        }
        Event::Input(operation) => operation,
        Event::Load(which) => return setup.snapshots.get(which).map(|s| Some(Input::Load(s))),
        Event::Hold(index) => {
            let line = &mut host.lines[index];
            if !host.attached || line.armed() || line.held {
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
            let first = (0..setup.at.len()).find(due)?;
            let word = setup.at[first].index() / 64;
            let all: Vec<usize> = (0..setup.at.len())
                .filter(due)
                .filter(|index| setup.at[*index].index() / 64 == word)
                .collect();
            if all.len() < 2 {
                return None;
            }
            let mut bits = 0;
            for index in all {
                host.lines[index].answer = false;
                bits |= Vectors::one(setup.at[index]).bits();
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

/// Lets `event` happen; the Uses and Reroutes of `fail` fail. `None` when it cannot happen.
pub(crate) fn step<S: Storage + Clone>(
    setup: &Setup<S>,
    before: &Node<S>,
    event: Event,
    fail: u8,
) -> Option<Result<Stepped<S>, Found>> {
    let mut node = before.clone();
    let input = begin(setup, &mut node, event)?;
    let Some(input) = input else { return Some(Ok(Stepped { node, done: Done::default() })) };
    Some(give(setup, before, node, input, fail))
}

fn give<S: Storage + Clone>(
    setup: &Setup<S>,
    before: &Node<S>,
    mut node: Node<S>,
    input: Input<'_>,
    fail: u8,
) -> Result<Stepped<S>, Found> {
    let mut fx = List::new();
    let answer = node.subject.input(input, &mut fx);
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
    let done = node.host.carry_out(setup, &node.subject, &mut fx, fail)?;
    node.registers = Registers::read(&setup.at, &node.subject);
    let step = Step { setup, before, input, answer, done };
    step.rewrites(&mut node);
    step_checks::check(&step, &node)?;
    Ok(Stepped { node, done })
}

/// Uses of a vector that are told apart: none, the last one, and one that is not the last.
const MOST_USES: u16 = 2;
