//! The exploration of a whole function: INTx, MSI and MSI-X with up to two vectors each, and the
//! switching between them.
//!
//! The environment is smaller than that of MSI-X alone, which explores messages, claims and late answers.
//! Here the host may report at any time that any live vector failed, and that it held an event of any
//! other, so it needs no state of its own. A guest writes every bit that decides a mode, a mask or what
//! may be sent, and half of MSI's address. MSI-X messages do not change, and its vectors stay claimed.

mod alphabet;
mod counterexample;
mod defect;
mod explored;
mod moment;

pub use defect::FunctionDefect;

use crate::peer::Peer;
use crate::search::{Extent, Reached, World, search};
use alphabet::events;
use counterexample::script;
use explored::fresh;
use moment::{Found, Moment};
use msix_core::IntxSource;
use msix_core::operation::FunctionOperation;
use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;
use twox_hash::XxHash3_128;

/// Which function to explore, and how far.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct FunctionOptions {
    /// How many vectors of MSI and of MSI-X are explored, 1 or 2.
    pub vectors: u8,
    /// Which policy the function runs.
    pub policy: Peer,
    /// Whether the pin's level is that of a passed-through device, whose line is masked when it fires.
    pub physical: bool,
    /// The search ends with this many states, complete or not.
    pub max_states: usize,
    /// A defect to put into the function.
    pub defect: Option<FunctionDefect>,
}

impl Default for FunctionOptions {
    /// One vector of each, [`Peer::Spec`], an emulated pin, no defect, and all states.
    fn default() -> Self {
        Self {
            vectors: 1,
            policy: Peer::Spec,
            physical: false,
            max_states: u32::MAX as usize,
            defect: None,
        }
    }
}

/// What an exploration of a function found.
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
    /// How much was seen.
    #[serde(flatten)]
    pub extent: Extent,
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
    /// Length of the way: inputs.
    pub steps: usize,
    /// The way as a [`script`](crate::script), with what it leads to as comments.
    pub script: String,
}

/// Visits every state that a function can reach from reset, nearest first, and checks what must hold in
/// it. Calls `go_on` now and then, which says whether to go on.
pub fn explore_function(
    options: &FunctionOptions,
    go_on: impl FnMut(Reached) -> bool,
) -> FunctionOutcome {
    let source = if options.physical { IntxSource::Physical } else { IntxSource::Emulated };
    let (name, policy) = options.policy.policy();
    let world = FunctionWorld {
        start: Moment::new(fresh(policy, source)),
        events: events(u16::from(options.vectors), source),
        defect: options.defect,
    };
    let closure = search(&world, options.max_states, go_on);
    let violation = closure.violation.map(|(found, way)| {
        let before = way.into_iter().filter_map(|step| world.events.get(usize::from(step)));
        let inputs: Vec<_> = before.chain(&found.tried).collect();
        let steps = inputs.len();
        let script = script(fresh(policy, source), name, &found, inputs.into_iter());
        FunctionViolation { property: found.property, detail: found.detail, steps, script }
    });
    FunctionOutcome {
        policy: name,
        vectors: options.vectors,
        pin: if options.physical { "physical" } else { "emulated" },
        defect: options.defect.map(FunctionDefect::text),
        extent: closure.extent,
        violation,
    }
}

/// A function, and everything that can happen to it.
struct FunctionWorld {
    start: Moment,
    events: Vec<FunctionOperation>,
    defect: Option<FunctionDefect>,
}

impl World for FunctionWorld {
    type State = Moment;
    type Key = u128;
    type Step = u16;
    type Found = Found;

    fn start(&self) -> Moment {
        self.start.clone()
    }

    /// The state as 128 bits; a collision among millions of states is negligible.
    fn key(&self, moment: &Moment) -> u128 {
        let mut all = Hashed(Vec::with_capacity(512));
        moment.hash(&mut all);
        XxHash3_128::oneshot(&all.0)
    }

    fn check(&self, moment: &Moment) -> Result<(), Found> {
        moment.delivers(self.defect)
    }

    fn steps(
        &self,
        moment: &Moment,
        mut taken: impl FnMut(u16, Result<&Moment, Found>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let possible = (0..).zip(&self.events).filter(|(_, event)| moment.can(event));
        for (number, event) in possible {
            match moment.after(event, self.defect) {
                Ok(next) => taken(number, Ok(&next))?,
                Err(found) => taken(number, Err(found))?,
            }
        }
        ControlFlow::Continue(())
    }

    fn again(&self, moment: &Moment, step: u16) -> Moment {
        let event = self.events.get(usize::from(step));
        let next = event.and_then(|event| moment.after(event, self.defect).ok());
        next.unwrap_or_else(|| unreachable!("event {step} was taken here before"))
    }
}

/// What is hashed of a state, to be hashed at once: a state has many small parts.
struct Hashed(Vec<u8>);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Nobody asks for it.
    fn finish(&self) -> u64 {
        0
    }
}
