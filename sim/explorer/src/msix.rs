//! The exploration of MSI-X alone.

mod counterexample;
mod defect;
mod host;
mod property;
mod registers;
mod search;
mod state_checks;
#[cfg(feature = "stateright")]
mod stateright_model;
mod step_checks;
mod subject;
mod transition;
mod world;

pub use defect::MsixDefect;
pub use property::Property;
pub use search::Reached;

use crate::peer::Peer;
use msix_core::{BarIndex, Inline, Layout, Msix, Storage, Vector};
#[cfg(feature = "stateright")]
use std::net::SocketAddr;
use std::time::Instant;
use world::Setup;

/// Most vectors that are explored at once.
pub const MOST: usize = 3;

/// What to explore.
#[derive(Debug, Clone)]
pub struct MsixOptions {
    /// The vectors that anything happens to, 1 to [`MOST`], all below 66; the others of the
    /// table must stay as they are.
    pub at: Vec<u16>,
    /// Which policy the engine runs.
    pub policy: Peer,
    /// Whether states that differ only in the order of the vectors are one. Sound only for an
    /// engine that does not tell its vectors apart, so it is off where it is not needed.
    pub symmetry: bool,
    /// The search ends with this many states, complete or not.
    pub max_states: usize,
    /// A defect to put into the engine.
    pub defect: Option<MsixDefect>,
}

impl Default for MsixOptions {
    fn default() -> Self {
        Self {
            at: placed(1),
            policy: Peer::Spec,
            symmetry: false,
            max_states: u32::MAX as usize,
            defect: None,
        }
    }
}

/// Where `vectors` vectors are explored unless it is said: in both halves of a word, because a
/// half is where 32-bit arithmetic ends; three of them side by side.
#[must_use]
pub fn placed(vectors: usize) -> Vec<u16> {
    match vectors {
        1 => vec![40],
        2 => vec![0, 40],
        _ => (0..3).collect(),
    }
}

/// What came of it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct MsixOutcome {
    /// Which policy the engine ran.
    pub policy: &'static str,
    /// Vectors of the table.
    pub vectors: u16,
    /// Those that were explored.
    pub at: Vec<u16>,
    /// Whether states that differ only in the order of the vectors are one.
    pub symmetry: bool,
    /// The defect put into the engine, if any.
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
    /// The properties that were checked.
    pub properties: Vec<&'static str>,
    /// The first violation, if there is one.
    pub violation: Option<MsixViolation>,
}

/// A property that does not hold, and the shortest way to see it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct MsixViolation {
    /// Name of the property.
    pub property: &'static str,
    /// What was seen.
    pub detail: String,
    /// Steps of the engine and the world.
    pub steps: usize,
    /// The steps as a script.
    pub script: String,
}

/// The options name vectors that cannot be explored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("1 to {MOST} different vectors below {END} can be explored")]
pub struct Unexplorable;

/// End of the largest table that is explored.
const END: u16 = 66;

/// Explores. `progress` is called now and then.
///
/// # Errors
/// [`Unexplorable`].
pub fn explore_msix(
    options: &MsixOptions,
    progress: impl FnMut(Reached),
) -> Result<MsixOutcome, Unexplorable> {
    with_setup(options, Search(options, progress))
}

#[cfg(feature = "stateright")]
/// Explores with [Stateright](https://www.stateright.rs) instead of the packed search: how many
/// states there are, and the names of the properties that are violated.
///
/// # Errors
/// [`Unexplorable`].
pub fn check_with_stateright(
    options: &MsixOptions,
) -> Result<(usize, Vec<&'static str>), Unexplorable> {
    with_setup(options, Check)
}

#[cfg(feature = "stateright")]
/// Serves Stateright's web page, on which a browser can walk through the states. Returns when the
/// server ends.
///
/// # Errors
/// [`Unexplorable`].
pub fn serve_with_stateright(
    options: &MsixOptions,
    address: SocketAddr,
) -> Result<(), Unexplorable> {
    with_setup(options, Serve(address))
}

/// Something to do with a setup, whatever its table's size.
trait Job {
    type Result;
    fn run<S: Storage + Clone + Send + Sync + 'static>(self, setup: Setup<S>) -> Self::Result;
}

struct Search<'a, F>(&'a MsixOptions, F);

impl<F: FnMut(Reached)> Job for Search<'_, F> {
    type Result = MsixOutcome;
    fn run<S: Storage + Clone + Send + Sync + 'static>(self, setup: Setup<S>) -> MsixOutcome {
        searched(&setup, self.0, self.1)
    }
}

#[cfg(feature = "stateright")]
struct Check;

#[cfg(feature = "stateright")]
impl Job for Check {
    type Result = (usize, Vec<&'static str>);
    fn run<S: Storage + Clone + Send + Sync + 'static>(self, setup: Setup<S>) -> Self::Result {
        stateright_model::check(setup)
    }
}

#[cfg(feature = "stateright")]
struct Serve(SocketAddr);

#[cfg(feature = "stateright")]
impl Job for Serve {
    type Result = ();
    fn run<S: Storage + Clone + Send + Sync + 'static>(self, setup: Setup<S>) {
        stateright_model::serve(setup, self.0);
    }
}

/// Does `job` with the smallest table that has the vectors.
fn with_setup<J: Job>(options: &MsixOptions, job: J) -> Result<J::Result, Unexplorable> {
    let at = vectors(&options.at)?;
    Ok(match at.last().map_or(0, |v| v.index()) {
        0..4 => job.run(setup(engine::<4, 1>(options.policy)?, at, options)),
        4..41 => job.run(setup(engine::<41, 1>(options.policy)?, at, options)),
        _ => job.run(setup(engine::<66, 2>(options.policy)?, at, options)),
    })
}

fn setup<S: Storage + Clone>(msix: Msix<S>, at: Vec<Vector>, options: &MsixOptions) -> Setup<S> {
    Setup::new(msix, at, options.symmetry, options.defect)
}

fn vectors(at: &[u16]) -> Result<Vec<Vector>, Unexplorable> {
    let mut sorted = at.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let fits = (1..=MOST).contains(&sorted.len()) && sorted.iter().all(|v| *v < END);
    if fits && sorted.len() == at.len() {
        Ok(sorted.into_iter().map(Vector::new).collect())
    } else {
        Err(Unexplorable)
    }
}

fn engine<const N: usize, const W: usize>(peer: Peer) -> Result<Msix<Inline<N, W>>, Unexplorable> {
    let vectors = u32::try_from(N).map_err(|_| Unexplorable)?;
    let bar = BarIndex::new(0).map_err(|_| Unexplorable)?;
    let layout = Layout::exclusive_bar(vectors, bar).map_err(|_| Unexplorable)?;
    Msix::new(layout, peer.policy().1).map_err(|_| Unexplorable)
}

fn searched<S: Storage + Clone>(
    setup: &Setup<S>,
    options: &MsixOptions,
    progress: impl FnMut(Reached),
) -> MsixOutcome {
    let begun = Instant::now();
    let closure = search::search_told(setup, options.max_states, progress);
    let (name, _) = options.policy.policy();
    let violation = closure.violation.map(|(found, way)| MsixViolation {
        property: found.property.name(),
        script: counterexample::script(setup, name, &found, &way),
        detail: found.detail,
        steps: way.steps.len(),
    });
    MsixOutcome {
        policy: name,
        vectors: setup.vectors(),
        at: setup.at.iter().map(|v| v.index()).collect(),
        symmetry: options.symmetry,
        defect: options.defect.map(MsixDefect::text),
        states: closure.states,
        transitions: closure.transitions,
        depth: closure.depth,
        complete: closure.complete,
        seconds: begun.elapsed().as_secs_f64(),
        properties: Property::ALL.iter().map(|(_, name, _)| *name).collect(),
        violation,
    }
}
