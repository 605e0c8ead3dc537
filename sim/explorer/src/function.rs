//! Every reachable state of a whole function: INTx, MSI and MSI-X with two vectors each, and the
//! switching between them.
//!
//! The world here is smaller than that of [`crate::explore`](fn@crate::explore), which explores what MSI-X does with
//! messages, uses and late answers: the host may say of any live vector that it failed, and of any
//! other that it held an event, at any time, so it needs no state of its own. A guest writes every
//! bit that decides a mode, a mask or what may be sent, and half of MSI's address; MSI-X messages stay as
//! they are, and its vectors in use.

mod defect;
mod moment;

pub use defect::FunctionDefect;

use crate::peer::Peer;
use moment::{Found, Moment};
use msix_core::operation::FunctionOperation;
use msix_core::{
    BarIndex, Effects, Function, FunctionEffect, Inline, IntxSource, Layout, Mode, MsiCapability,
    Parts, Policy, Vector, Vectors,
};
use rustc_hash::FxHashSet;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

/// The function under exploration.
pub(crate) type Explored = Function<Inline<2, 1>>;

/// What to explore.
#[derive(Debug, Clone, Copy)]
pub struct FunctionOptions {
    /// How many vectors of MSI and of MSI-X anything happens to, 1 or 2.
    pub vectors: u8,
    /// Which policy the function runs.
    pub policy: Peer,
    /// Where the pin's level comes from.
    pub physical: bool,
    /// The search ends with this many states, complete or not.
    pub max_states: usize,
    /// A defect to put into the function.
    pub defect: Option<FunctionDefect>,
}

/// What came of it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct FunctionOutcome {
    /// Which policy the function ran.
    pub policy: &'static str,
    /// How many vectors of MSI and of MSI-X.
    pub vectors: u8,
    /// Where the pin's level came from.
    pub pin: &'static str,
    /// The defect put into the function, if any.
    pub defect: Option<&'static str>,
    /// States found.
    pub states: usize,
    /// Steps taken.
    pub transitions: u64,
    /// Steps from the start to the farthest state.
    pub depth: u32,
    /// Whether every state was left by every step.
    pub complete: bool,
    /// Seconds it took.
    pub seconds: f64,
    /// The first violation, if there is one.
    pub violation: Option<FunctionViolation>,
}

/// A property that does not hold, and the shortest way to see it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct FunctionViolation {
    /// Name of the property.
    pub property: &'static str,
    /// What was seen.
    pub detail: String,
    /// The inputs that lead there.
    pub inputs: Vec<String>,
}

/// Where a state was found from.
#[derive(Debug, Clone, Copy)]
struct Parent {
    state: u32,
    event: u16,
}

/// Visits every state reachable from the reset state, nearest first. `progress` is told of states
/// found and depth, now and then.
pub fn explore_function(
    options: &FunctionOptions,
    mut progress: impl FnMut(usize, u32),
) -> FunctionOutcome {
    let begun = Instant::now();
    let source = if options.physical { IntxSource::Physical } else { IntxSource::Emulated };
    let (name, policy) = options.policy.policy();
    let start = Moment::new(fresh(policy, source));
    let events = events(u16::from(options.vectors), source);
    let mut outcome = FunctionOutcome {
        policy: name,
        vectors: options.vectors,
        pin: if options.physical { "physical" } else { "emulated" },
        defect: options.defect.map(FunctionDefect::text),
        states: 1,
        transitions: 0,
        depth: 0,
        complete: false,
        seconds: 0.0,
        violation: None,
    };
    let mut seen = FxHashSet::default();
    seen.insert(key(&start));
    let mut parents = vec![Parent { state: 0, event: 0 }];
    let mut frontier = VecDeque::from([(start, 0_u32, 0_u32)]);
    let mut left = 0_u64;
    'search: while let Some((moment, index, depth)) = frontier.pop_front() {
        outcome.depth = depth;
        if left.is_multiple_of(4096) {
            progress(parents.len(), depth);
        }
        left += 1;
        for (number, event) in events.iter().enumerate() {
            if !moment.can(event) {
                continue;
            }
            outcome.transitions += 1;
            let next = moment.after(event, options.defect);
            let found = next.and_then(|next| {
                if seen.insert(key(&next)) {
                    next.probe(options.defect)?;
                    let event = u16::try_from(number).unwrap_or(u16::MAX);
                    parents.push(Parent { state: index, event });
                    let index = u32::try_from(parents.len() - 1).unwrap_or(u32::MAX);
                    frontier.push_back((next, index, depth + 1));
                }
                Ok(())
            });
            if let Err(Found { property, detail }) = found {
                let mut inputs = way(&events, &parents, index);
                inputs.push(format!("{event:?}"));
                outcome.violation = Some(FunctionViolation { property, detail, inputs });
                break 'search;
            }
            if parents.len() >= options.max_states {
                break 'search;
            }
        }
    }
    outcome.states = parents.len();
    outcome.complete = outcome.violation.is_none() && parents.len() < options.max_states;
    outcome.seconds = begun.elapsed().as_secs_f64();
    outcome
}

fn way(events: &[FunctionOperation], parents: &[Parent], mut state: u32) -> Vec<String> {
    let mut inputs = Vec::new();
    while state != 0 {
        let Some(parent) = parents.get(state as usize) else { break };
        inputs.extend(events.get(usize::from(parent.event)).map(|event| format!("{event:?}")));
        state = parent.state;
    }
    inputs.reverse();
    inputs
}

/// A state as 128 bits: that two of some millions are taken for one is out of the question.
fn key(moment: &Moment) -> u128 {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        moment.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

/// A function with two vectors of each kind, after reset.
fn fresh(policy: Policy, source: IntxSource) -> Explored {
    let made = || {
        let parts = Parts {
            msi: Some(MsiCapability::new(2).ok()?.with_masks()),
            msix: Some(Layout::exclusive_bar(2, BarIndex::new(0).ok()?).ok()?),
            pin: Some(source),
        };
        let mut function = Function::new(parts, policy).ok()?;
        for v in [0, 1].map(Vector::new) {
            function.claim(v, &mut Effects::<14, FunctionEffect>::new()).ok()?;
        }
        Some(function)
    };
    made().unwrap_or_else(|| unreachable!("two vectors fit everything"))
}

/// The alphabet.
fn events(vectors: u16, source: IntxSource) -> Vec<FunctionOperation> {
    let mut events = Vec::new();
    for value in [0x00, 0x01, 0x10, 0x11] {
        events.push(FunctionOperation::WriteMsi { offset: 2, len: 2, value });
    }
    for value in [0, 0x40] {
        events.push(FunctionOperation::WriteMsi { offset: 4, len: 2, value }); // half an address
    }
    events.push(FunctionOperation::WriteMsi { offset: 8, len: 2, value: 0 }); // and the data
    for value in 0..1 << vectors {
        events.push(FunctionOperation::WriteMsi { offset: 12, len: 4, value });
    }
    for value in [0, 0x4000, 0x8000, 0xc000] {
        events.push(FunctionOperation::WriteMsix { offset: 2, len: 2, value });
    }
    for value in [0, 0x0004, 0x0400, 0x0404] {
        events.push(FunctionOperation::WriteCommand { offset: 0, len: 2, value });
    }
    for v in (0..vectors).map(Vector::new) {
        events.extend([
            FunctionOperation::WriteTable { offset: v.index() * 16 + 12, len: 4, value: 0 },
            FunctionOperation::WriteTable { offset: v.index() * 16 + 12, len: 4, value: 1 },
            FunctionOperation::Notify(v),
        ]);
        for mode in [Mode::Msi, Mode::MsiX] {
            events.extend([
                FunctionOperation::Withdraw(mode, v),
                FunctionOperation::ReportFailed(mode, Vectors::one(v)),
                FunctionOperation::ReportHeld(mode, Vectors::one(v)),
            ]);
        }
    }
    match source {
        IntxSource::Emulated => {
            events.extend([true, false].map(FunctionOperation::SetLevel));
        }
        IntxSource::Physical => events.push(FunctionOperation::ReportFired),
    }
    events.extend([
        FunctionOperation::Eoi,
        FunctionOperation::ReportFailed(Mode::Intx, Vectors::new(0, 0)),
        FunctionOperation::PollMsi { offset: 16, len: 4 },
        FunctionOperation::PollPba { offset: 0, len: 8 },
        FunctionOperation::Attach,
        FunctionOperation::Detach,
        FunctionOperation::Reset,
        FunctionOperation::PrepareSave,
        FunctionOperation::SaveAndLoad,
        FunctionOperation::Resume,
    ]);
    events
}
