//! The exploration of MSI-X alone.

mod alphabet;
mod counterexample;
mod defect;
mod engine;
mod host;
mod node;
mod property;
mod refusals;
mod registers;
mod searched;
mod snapshots;
mod state_checks;
#[cfg(feature = "stateright")]
mod stateright_model;
mod step_checks;
mod tampering;
mod transition;
mod way;
mod world;

pub use defect::MsixDefect;
pub use property::Property;
pub use registers::MAX_EXPLORED;

use crate::peer::Peer;
use crate::search::{Extent, Reached};
use msix_core::{BarIndex, Inline, Layout, Msix, Storage, Vector};
use searched::searched;
#[cfg(feature = "stateright")]
use std::net::SocketAddr;
use world::MsixWorld;

/// Which part of MSI-X to explore, and how far.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MsixOptions {
    /// The explored vectors: 1 to [`MAX_EXPLORED`] of them, all below 66. The others of the table must
    /// stay as they are.
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

/// Returns good places in the table for 1 to 3 explored vectors. One or two lie in the halves of a
/// 64-bit word, because 32-bit arithmetic goes wrong between them; three lie side by side.
#[must_use]
pub fn placed(vectors: usize) -> Vec<u16> {
    match vectors {
        1 => vec![40],
        2 => vec![0, 40],
        _ => (0..3).collect(),
    }
}

/// What an exploration of MSI-X found.
#[derive(Debug, Clone, serde::Serialize)]
pub struct MsixOutcome {
    /// Which policy the engine ran.
    pub policy: &'static str,
    /// Vectors of the table.
    pub vectors: u16,
    /// The explored ones.
    pub at: Vec<u16>,
    /// Whether states that differ only in the order of the vectors are one.
    pub symmetry: bool,
    /// The defect put into the engine, if any.
    pub defect: Option<&'static str>,
    /// How much was seen.
    #[serde(flatten)]
    pub extent: Extent,
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
#[error("1 to {MAX_EXPLORED} different vectors below {END} can be explored")]
pub struct Unexplorable;

/// End of the largest table that is explored.
const END: u16 = 66;

/// Visits every state that the engine and its environment can reach from reset, nearest first, and
/// checks every [`Property`] in it. Calls `go_on` now and then, which says whether to go on.
///
/// # Errors
/// [`Unexplorable`].
pub fn explore_msix(
    options: &MsixOptions,
    go_on: impl FnMut(Reached) -> bool,
) -> Result<MsixOutcome, Unexplorable> {
    with_world(options, Search(options, go_on))
}

/// Visits the same states with [Stateright](https://www.stateright.rs) instead of the packed search.
/// Returns how many there are, and the names of the properties that are violated.
///
/// # Errors
/// [`Unexplorable`].
#[cfg(feature = "stateright")]
pub fn check_with_stateright(
    options: &MsixOptions,
) -> Result<(usize, Vec<&'static str>), Unexplorable> {
    with_world(options, Check)
}

/// Serves Stateright's web page, on which a browser walks through the states. Returns when the
/// server ends.
///
/// # Errors
/// [`Unexplorable`].
#[cfg(feature = "stateright")]
pub fn serve_with_stateright(
    options: &MsixOptions,
    address: SocketAddr,
) -> Result<(), Unexplorable> {
    with_world(options, Serve(address))
}

/// Something to do with a world, whatever its table's size.
trait Job {
    type Result;
    fn run<S: Storage + Clone + Send + Sync + 'static>(self, world: MsixWorld<S>) -> Self::Result;
}

struct Search<'a, F>(&'a MsixOptions, F);

impl<F: FnMut(Reached) -> bool> Job for Search<'_, F> {
    type Result = MsixOutcome;
    fn run<S: Storage + Clone + Send + Sync + 'static>(self, world: MsixWorld<S>) -> MsixOutcome {
        let Self(options, go_on) = self;
        let (extent, found) = searched(&world, options.max_states, go_on);
        let (policy, _) = options.policy.policy();
        MsixOutcome {
            policy,
            vectors: world.vectors(),
            at: world.at.iter().map(|v| v.index()).collect(),
            symmetry: options.symmetry,
            defect: options.defect.map(MsixDefect::text),
            extent,
            properties: Property::ALL.iter().map(|(_, name, _)| *name).collect(),
            violation: found.map(|way| MsixViolation {
                property: way.found.property.name(),
                script: counterexample::script(&world, policy, &way),
                detail: way.found.detail,
                steps: way.steps.len(),
            }),
        }
    }
}

#[cfg(feature = "stateright")]
struct Check;

#[cfg(feature = "stateright")]
impl Job for Check {
    type Result = (usize, Vec<&'static str>);
    fn run<S: Storage + Clone + Send + Sync + 'static>(self, world: MsixWorld<S>) -> Self::Result {
        stateright_model::check(world)
    }
}

#[cfg(feature = "stateright")]
struct Serve(SocketAddr);

#[cfg(feature = "stateright")]
impl Job for Serve {
    type Result = ();
    fn run<S: Storage + Clone + Send + Sync + 'static>(self, world: MsixWorld<S>) {
        stateright_model::serve(world, self.0);
    }
}

/// Does `job` with the smallest table that has the vectors.
fn with_world<J: Job>(options: &MsixOptions, job: J) -> Result<J::Result, Unexplorable> {
    let at = vectors(&options.at)?;
    Ok(match at.last().map_or(0, |v| v.index()) {
        0..4 => job.run(world(engine::<4, 1>(options.policy)?, at, options)),
        4..41 => job.run(world(engine::<41, 1>(options.policy)?, at, options)),
        _ => job.run(world(engine::<66, 2>(options.policy)?, at, options)),
    })
}

fn world<S: Storage + Clone>(
    msix: Msix<S>,
    at: Vec<Vector>,
    options: &MsixOptions,
) -> MsixWorld<S> {
    MsixWorld::new(msix, at, options.symmetry, options.defect)
}

fn vectors(at: &[u16]) -> Result<Vec<Vector>, Unexplorable> {
    let mut sorted = at.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let fits = (1..=MAX_EXPLORED).contains(&sorted.len()) && sorted.iter().all(|v| *v < END);
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
