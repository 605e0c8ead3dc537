//! What somebody who looks from outside wants to know: with feature `tracing`, events of that crate.

use msix_core::{LoadError, Mode};
use std::io;

/// Something that happened.
#[derive(Debug)]
#[cfg_attr(not(feature = "tracing"), expect(dead_code, reason = "nobody looks"))]
pub(crate) enum Happening<'a> {
    /// KVM took a route table.
    Committed {
        /// Routes in it, those that belong to no vector included.
        routes: usize,
        /// How many it has taken, with this one.
        generation: u64,
    },
    /// A system call failed. What it was for goes another way, or is tried again.
    CallFailed { call: &'static str, error: &'a io::Error },
    /// KVM delivers this vector no more until the next Arm: userspace does.
    FellBack { function: u64, mode: Mode, vector: u16 },
    /// A snapshot was loaded.
    Loaded { function: u64 },
    /// One was refused, and the function is as it was.
    LoadRefused { function: u64, error: &'a LoadError },
    /// A load has ended: the function delivers again.
    Resumed { function: u64 },
}

/// Tells of it. Locks may be held here, and what is done here must be done to the end: a subscriber's
/// panic ends with the event.
pub(crate) fn tell(happening: &Happening<'_>) {
    #[cfg(feature = "tracing")]
    crate::panics::Panics::default().catch(|| emit(happening)).unwrap_or_default();
    #[cfg(not(feature = "tracing"))]
    let _ = happening;
}

/// Tells of a system call that failed.
pub(crate) fn failed(call: &'static str) -> impl Fn(&io::Error) {
    move |error| tell(&Happening::CallFailed { call, error })
}

#[cfg(feature = "tracing")]
fn emit(happening: &Happening<'_>) {
    use tracing::{debug, info, warn};
    match *happening {
        Happening::Committed { routes, generation } => {
            debug!(target: TARGET, routes, generation, "routes committed");
        }
        Happening::CallFailed { call, error } => {
            warn!(target: TARGET, call, %error, "system call failed");
        }
        Happening::FellBack { function, mode, vector } => {
            warn!(target: TARGET, function, ?mode, vector, "vector fell back to userspace");
        }
        Happening::Loaded { function } => info!(target: TARGET, function, "snapshot loaded"),
        Happening::LoadRefused { function, error } => {
            warn!(target: TARGET, function, %error, "snapshot refused");
        }
        Happening::Resumed { function } => info!(target: TARGET, function, "resumed"),
    }
}

#[cfg(feature = "tracing")]
const TARGET: &str = "msix_backends";
