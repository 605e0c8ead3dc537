//! Every reachable state of the engine together with the world around it.
//!
//! The *world* is a host that can fail any Arm, hold events of vectors it does not deliver, and
//! answer late; a guest that writes every register bit; a device; and a platform that attaches,
//! detaches, saves, loads, resumes and resets at any point. [`explore_msix`] visits all states, nearest
//! first, and checks every [`Property`] in each and in every step; a violation comes with the
//! shortest script that shows it.
//!
//! # What the world is
//! Every dword of a message has two values that differ in every bit, a vector has at most two uses,
//! and the host's events of one vector are one, as in an eventfd (K8). What is loaded is the
//! engine's own snapshot, in both encodings, or one of three that another engine saved; broken ones
//! are tried in every state, as are accesses of other widths and vectors that do not exist. The host
//! says that an Arm failed as late as it likes, but not after the Disarm of that Arm.
//!
//! # What is folded
//! Two states are one when only the values of their messages differ, not whether the host knows
//! them, and with [`MsixOptions::symmetry`] when only the order of their vectors does. That this is
//! sound, states with one key having successors with the same keys, is tested on random walks.
//!
//! ```
//! use msix_explorer::{MsixOptions, explore_msix};
//!
//! let outcome = explore_msix(&MsixOptions { max_states: 1000, ..MsixOptions::default() }, |_| ())?;
//! assert!(outcome.violation.is_none());
//! # Ok::<(), msix_explorer::Unexplorable>(())
//! ```

mod function;
mod msix;
mod peer;
pub mod script;

pub use function::{
    FunctionDefect, FunctionOptions, FunctionOutcome, FunctionViolation, explore_function,
};
pub use msix::{
    MOST, MsixDefect, MsixOptions, MsixOutcome, MsixViolation, Property, Reached, Unexplorable,
    explore_msix, placed,
};
#[cfg(feature = "stateright")]
pub use msix::{check_with_stateright, serve_with_stateright};
pub use peer::Peer;
